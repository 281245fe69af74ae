//! `ringsmith show`: what is in the store.

use super::End;
use crate::store::{Artifact, Store};
use anyhow::{Context, Result, bail};
use ringsmith_data::ledger::{Counts, Total};
use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Write},
    path::Path,
};

/// Show what is in the store: the report, the ledger of dropped records, or a stage's manifest.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  ringsmith show report\n  ringsmith show report --json\n  \
    ringsmith show ledger data.reasoning\n  ringsmith show stage dpo --json")]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// The last run's report: every model by task, with counts and 95 % intervals
    Report {
        /// Print report.json as it is
        #[arg(long)]
        json: bool,
    },
    /// Every record that was dropped, with the reason and the evidence, and counts that add up
    Ledger {
        /// A stage, such as data.reasoning or rows.dpo; all of them if not said
        stage: Option<String>,
        /// Print the ledger's lines as they are
        #[arg(long)]
        json: bool,
    },
    /// A stage's manifest: key, settings, inputs, outputs
    Stage {
        /// The stage's name, as plan prints it; all of them if not said
        name: Option<String>,
        /// Print the manifest as JSON
        #[arg(long)]
        json: bool,
    },
}

pub fn run(args: &Args, root: &Path) -> Result<End> {
    let store = Store::look(root);
    let mut out = io::stdout().lock();
    match &args.what {
        What::Report { json } => {
            let report = current(&store, "report")?;
            let path = report.path(if *json { "report.json" } else { "report.txt" });
            let mut file = File::open(&path).with_context(|| path.display().to_string())?;
            io::copy(&mut file, &mut out)?;
        }
        What::Ledger { stage, json } => {
            let names = match stage {
                Some(name) => vec![name.clone()],
                None => stage_names(root)?,
            };
            let mut ledgers = Vec::new();
            for name in names {
                let artifact = current(&store, &name)?;
                if artifact.manifest.outputs.contains_key("ledger.jsonl") {
                    ledger(&artifact, *json, &mut out)?;
                    ledgers.push(artifact);
                } else if stage.is_some() {
                    bail!("stage {name} keeps no ledger");
                }
            }
            if !json {
                summary(&ledgers, &mut out)?;
            }
        }
        What::Stage { name, json } => {
            let names = match name {
                Some(name) => vec![name.clone()],
                None => stage_names(root)?,
            };
            for name in names {
                let manifest = current(&store, &name)?.manifest;
                if *json {
                    writeln!(out, "{}", serde_json::to_string_pretty(&manifest)?)?;
                    continue;
                }
                writeln!(out, "{name}  {}  {:.1} s", manifest.key, manifest.seconds)?;
                for (file, output) in &manifest.outputs {
                    writeln!(out, "  {file}  {} bytes", output.bytes)?;
                }
            }
        }
    }
    Ok(End::Done)
}

fn ledger(artifact: &Artifact, json: bool, out: &mut impl Write) -> Result<()> {
    let path = artifact.path("ledger.jsonl");
    let file = BufReader::new(File::open(&path).with_context(|| path.display().to_string())?);
    for line in file.lines() {
        let line = line.with_context(|| path.display().to_string())?;
        if json {
            writeln!(out, "{line}")?;
            continue;
        }
        let dropped: ringsmith_data::ledger::Dropped =
            serde_json::from_str(&line).with_context(|| path.display().to_string())?;
        let (id, step, evidence) = (&dropped.id, &dropped.step, &dropped.evidence);
        writeln!(out, "{}  {id}  {step}  {}  {evidence:?}", artifact.manifest.stage, dropped.reason.name())?;
    }
    Ok(())
}

/// What each stage read, kept and dropped, source by source, and all data sets together.
fn summary(ledgers: &[Artifact], out: &mut impl Write) -> Result<()> {
    let mut all = Total::default();
    for artifact in ledgers {
        let (stage, counts) = (&artifact.manifest.stage, counts(artifact)?);
        writeln!(out, "\n{stage}: {}", counts.total())?;
        for (source, total) in counts.sources() {
            writeln!(out, "  {source}: {total}")?;
        }
        if stage.starts_with("data.") {
            all.add(&counts.total());
        }
    }
    if ledgers.len() > 1 {
        writeln!(out, "\nall data: {all}")?;
    }
    Ok(())
}

/// The counts of a stage that keeps a ledger.
pub fn counts(artifact: &Artifact) -> Result<Counts> {
    let path = artifact.path("counts.json");
    let at = || path.display().to_string();
    serde_json::from_slice(&fs::read(&path).with_context(at)?).with_context(at)
}

/// The current artifact of a stage.
pub fn current(store: &Store, stage: &str) -> Result<Artifact> {
    store.current(stage).with_context(|| {
        format!(
            "store {} has no finished stage \"{stage}\" (--store says where to look)",
            store.root().display()
        )
    })
}

/// The stages of which the store has something finished.
fn stage_names(root: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(root).with_context(|| format!("store {}", root.display()))?;
    let store = Store::look(root);
    let mut names: Vec<String> = entries
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .filter(|name| store.current(name).is_some())
        .collect();
    names.sort();
    Ok(names)
}
