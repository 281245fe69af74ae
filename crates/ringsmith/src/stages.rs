//! The stages: each reads finished artifacts, writes into its own unfinished folder, and takes up what it
//! finds there.

pub mod answer;
pub mod data;
pub mod eval;
pub mod model;
pub mod preference;
pub mod records;
pub mod reference;
pub mod release;
pub mod report;
pub mod rows;
pub mod tokenizer;
pub mod train;

use crate::{plan::Bench, recipe::Recipe, stage::Stage};
use anyhow::{Context as _, Result};
use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

/// What a stage works with.
pub struct Context<'a> {
    pub recipe: &'a Recipe,
    /// The finished stages before this one.
    pub bench: &'a Bench<'a>,
    /// Set when the run should checkpoint and stop.
    pub stop: &'a AtomicBool,
    /// The stage's own folder.
    pub dir: &'a Path,
    /// At most this much training is lost to a kill.
    pub checkpoint_every: Duration,
}

/// How a stage ended, short of an error.
pub enum Outcome {
    /// Finished, with a word on what came out.
    Done(Option<String>),
    /// Stopped; what was done is in its folder.
    Stopped,
}

impl Context<'_> {
    /// A file of a finished stage.
    pub fn file(&self, stage: Stage, name: &str) -> Result<PathBuf> {
        Ok(self.bench.artifact(&stage)?.path(name))
    }

    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Makes one stage.
pub fn make(stage: &Stage, context: &Context<'_>) -> Result<Outcome> {
    match stage {
        Stage::Data(name) => data::make(context, name),
        Stage::Tokenizer => tokenizer::make(context),
        Stage::Rows(phase) => rows::make(context, *phase),
        Stage::Train(phase) => train::make(context, *phase),
        Stage::Preference => preference::make(context),
        Stage::Reference => reference::make(context),
        Stage::Eval(phase) => eval::make(context, *phase),
        Stage::Report => report::make(context),
        Stage::Release => release::make(context),
    }
}

/// Sets the number of threads for everything that follows; all processors if not said.
pub fn use_threads(threads: Option<usize>) -> Result<()> {
    let mut pool = rayon::ThreadPoolBuilder::new();
    if let Some(threads) = threads {
        anyhow::ensure!((1..=1024).contains(&threads), "--threads {threads}: it must be 1 to 1024");
        pool = pool.num_threads(threads);
        ringsmith_model::team::set_threads(threads);
    }
    pool.build_global().context("starting threads")
}
