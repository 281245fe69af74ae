//! The command line: `run`, `plan`, `show`, `score`, `chat`. Results go to stdout, progress to stderr.

pub mod chat;
pub mod error;
pub mod plan;
pub mod run;
pub mod score;
pub mod show;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};

/// Forges a compact reasoning model that keeps its everyday skills: data, two SFT stages, DPO, evaluation and
/// release, from one recipe file.
#[derive(Debug, Parser)]
#[command(
    name = "ringsmith",
    version,
    after_help = "Examples:\n  ringsmith run recipes/tiny.toml\n  ringsmith plan recipes/tiny.toml\n  \
        ringsmith show report --json\n  ringsmith chat\n\n\
        Exit status: 0 done, 1 the answer is no or something was left out, 2 wrong usage or input, 130 stopped.\n\
        NO_COLOR is respected."
)]
pub struct Args {
    /// Folder of finished stages
    #[arg(long, global = true, value_name = "DIR", default_value = "store")]
    pub store: PathBuf,

    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    Run(run::Args),
    Plan(plan::Args),
    Show(show::Args),
    Score(score::Args),
    Chat(chat::Args),
}

/// How a verb ended, short of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Done,
    /// The answer is no, or something was left out.
    No,
    /// Stopped by Ctrl-C after a checkpoint.
    Stopped,
}

impl Args {
    /// Does what the command line says.
    pub fn run(&self) -> Result<End> {
        match &self.verb {
            Verb::Run(args) => run::run(args, &self.store),
            Verb::Plan(args) => plan::run(args, &self.store),
            Verb::Show(args) => show::run(args, &self.store),
            Verb::Score(args) => score::run(args),
            Verb::Chat(args) => chat::run(args, &self.store),
        }
    }
}

/// Reads a recipe and refuses one that would train on a benchmark, or whose files are here but cannot be read.
fn guarded_recipe(
    file: &Path,
    store: &crate::store::Store,
    data_root: &Path,
) -> Result<crate::recipe::Recipe> {
    let recipe = crate::recipe::Recipe::read(file)?;
    let mut bench = crate::plan::Bench::new(&recipe, store, data_root);
    let refusal = match crate::guard::leak(&mut bench)? {
        None => crate::guard::unreadable(&bench),
        leak => leak,
    };
    bench.save()?;
    if let Some(refusal) = refusal {
        let text = std::fs::read_to_string(file)?;
        let fault = crate::recipe::Fault::at_path(file.to_owned(), &text, &refusal.place, refusal.message);
        return Err(fault.into());
    }
    Ok(recipe)
}
