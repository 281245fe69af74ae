//! One model answers every benchmark; answers are kept benchmark by benchmark, so a stopped run goes on.

use super::{Context, Outcome, answer, model};
use crate::{recipe::Phase, stage::Stage, store::write_durably};
use anyhow::{Context as _, Result};
use ringsmith_data::{
    record::Conversation,
    solver::{Answer, Sampling, Solver},
};
use ringsmith_eval::{
    question::questions,
    run::{Scored, run},
};
use std::{fs, path::Path};

pub fn make(context: &Context<'_>, phase: Phase) -> Result<Outcome> {
    let recipe = context.recipe;
    let tokenizer = &context.bench.artifact(&Stage::Tokenizer)?.dir;
    let mut solver = answer::Local::new(model::load(context, phase)?, tokenizer, context.stop)?;
    let mut left_out = Vec::new();
    let mut right = (0, 0);
    for benchmark in &recipe.eval.benchmarks {
        if !benchmark.kind.is_implemented() {
            left_out.push(benchmark.name.as_str());
            continue;
        }
        let path = context.dir.join(format!("{}.json", benchmark.name));
        let scored = match read(&path) {
            Ok(scored) => scored,
            // Not there, or cut by a kill: asked again.
            Err(_) => {
                solver.name = format!("{} {}", Stage::Eval(phase), benchmark.name);
                let questions = questions(benchmark, &context.bench.data_root, recipe.seed)?;
                let mut asked = Stoppable { solver: &solver, stopped: false };
                let scored = run(benchmark, &questions, &mut asked, recipe.seed);
                if asked.stopped {
                    return Ok(Outcome::Stopped);
                }
                let scored = scored?;
                write_durably(&path, &serde_json::to_vec(&scored)?)?;
                scored
            }
        };
        right = (right.0 + scored.correct(), right.1 + scored.items.len());
    }
    let mut note = format!("{} of {} right", right.0, right.1);
    if !left_out.is_empty() {
        note += &format!("; left out, as they cannot be run yet: {}", left_out.join(", "));
    }
    Ok(Outcome::Done(Some(note)))
}

/// A benchmark's graded answers.
pub fn read(path: &Path) -> Result<Scored> {
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    serde_json::from_slice(&bytes).with_context(|| path.display().to_string())
}

/// Remembers that the answers are missing because the run was stopped, not because something failed.
struct Stoppable<'a> {
    solver: &'a answer::Local<'a>,
    stopped: bool,
}

impl Solver for Stoppable<'_> {
    fn answer(&mut self, questions: &[Conversation], sampling: &Sampling) -> Result<Vec<Answer>> {
        let answers = self.solver.try_answer(questions, sampling)?;
        self.stopped = answers.is_none();
        answers.context("stopped")
    }
}
