//! `ringsmith run`: makes every stage that is not in the store.

use super::{End, guarded_recipe, show::counts};
use crate::{
    plan::{Bench, Plan, Resolved},
    progress::span,
    stage::{Input, Stage, stages},
    stages::{self, Context, Outcome},
    store::Store,
};
use anyhow::{Context as _, Result, bail};
use ringsmith_data::ledger::Total;
use std::{
    collections::HashSet,
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

/// Run a recipe: every stage that is not in the store yet, in order.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Stopped at any moment, the same command goes on where it was and ends with the same \
    weights. Ctrl-C writes a checkpoint first.\n\nExamples:\n  ringsmith run recipes/tiny.toml\n  \
    ringsmith run recipes/real-small.toml --data-root ../datasets --store /tmp/real"
)]
pub struct Args {
    /// The recipe file
    recipe: PathBuf,
    /// Folder that the recipe's file names start from
    #[arg(long, value_name = "DIR", default_value = ".")]
    data_root: PathBuf,
    /// Threads to use; all processors if not said. The result does not depend on it
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Seconds between checkpoints, the most work that a kill can lose
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0)]
    checkpoint_every: f64,
}

pub fn run(args: &Args, root: &Path) -> Result<End> {
    let store = Store::open(root)?;
    let recipe = guarded_recipe(&args.recipe, &store, &args.data_root)?;
    let mut bench = Bench::new(&recipe, &store, &args.data_root);
    let plan = Plan::new(&mut bench)?;
    bench.save()?;
    let missing = plan.missing();
    if !missing.is_empty() {
        bail!(
            "{}: input files are not under {} (--data-root says where they are): {}",
            args.recipe.display(),
            args.data_root.display(),
            missing.join(", ")
        );
    }
    let mut out = std::io::stdout().lock();
    if plan.is_fresh() {
        writeln!(out, "everything is fresh: all {} stages are in {}", plan.stages.len(), root.display())?;
        bench.remember()?;
        closing(&bench, root, &mut out)?;
        return Ok(End::Done);
    }
    stages::use_threads(args.threads)?;
    let stop = stop_flag()?;
    let mut verified = HashSet::new();
    let begun = Instant::now();
    let mut made = 0;
    let checkpoint_every =
        Duration::try_from_secs_f64(args.checkpoint_every).context("--checkpoint-every")?;
    for (stage, item) in stages(&recipe).into_iter().zip(&plan.stages) {
        let manifest = match bench.resolve(&stage)? {
            Resolved::Ready(manifest) => manifest,
            Resolved::Waiting(stages) => bail!("stage {stage} comes before {}", stages[0]),
            Resolved::Missing(files) => bail!("stage {stage}: input {} is gone", files.join(", ")),
        };
        if bench.find(&stage, &manifest)?.is_some() {
            continue;
        }
        if let Some(artifact) = store.recover(&manifest.stage, &manifest.key)? {
            bench.finished(&stage, artifact);
            made += 1;
            writeln!(out, "{stage}: was done already, and is published now")?;
            continue;
        }
        for input in stage.inputs(&recipe) {
            if let Input::Stage(before) = input
                && verified.insert(before.clone())
            {
                bench.artifact(&before)?.verify()?;
            }
        }
        eprintln!("{}", super::plan::line(item));
        let start = Instant::now();
        let work = store.begin(*manifest)?;
        let context =
            Context { recipe: &recipe, bench: &bench, stop: &stop, dir: &work.dir, checkpoint_every };
        let outcome = stages::make(&stage, &context).with_context(|| format!("stage {stage}"))?;
        let Outcome::Done(note) = outcome else {
            eprintln!("{stage}: stopped; the same command goes on from here");
            return Ok(End::Stopped);
        };
        let artifact = store.publish(work, start.elapsed().as_secs_f64())?;
        verified.insert(stage.clone());
        made += 1;
        writeln!(
            out,
            "{stage}: done in {}{}",
            span(artifact.manifest.seconds),
            note.map(|n| format!(": {n}")).unwrap_or_default()
        )?;
        bench.finished(&stage, artifact);
    }
    bench.save()?;
    bench.remember()?;
    writeln!(out, "\n{made} stages made in {}\n", span(begun.elapsed().as_secs_f64()))?;
    closing(&bench, root, &mut out)?;
    Ok(End::Done)
}

/// The records, the table, and where to go from here.
fn closing(bench: &Bench<'_>, root: &Path, out: &mut impl Write) -> Result<()> {
    let mut all = Total::default();
    for stage in stages(bench.recipe).into_iter().filter(|stage| matches!(stage, Stage::Data(_))) {
        let total = counts(bench.artifact(&stage)?)?.total();
        writeln!(out, "{stage}: {total}")?;
        all.add(&total);
    }
    writeln!(out, "all data: {all}\n")?;
    if let Ok(report) = bench.artifact(&Stage::Report) {
        let table = report.path("report.txt");
        write!(out, "{}", std::fs::read_to_string(&table).with_context(|| table.display().to_string())?)?;
        writeln!(out, "\nreport: {}", report.path("report.html").display())?;
    }
    if let Ok(release) = bench.artifact(&Stage::Release) {
        writeln!(out, "model:  {}", release.dir.display())?;
        let store =
            if root == Path::new("store") { String::new() } else { format!(" --store {}", root.display()) };
        writeln!(out, "talk to it: ringsmith chat{store}")?;
    }
    Ok(())
}

/// Set by the first Ctrl-C (or SIGTERM); a second one ends the program at once.
fn stop_flag() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, stop.clone())?;
        signal_hook::flag::register(signal, stop.clone())?;
    }
    Ok(stop)
}
