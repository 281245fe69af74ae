//! One training step (forward, backward, AdamW) of each preset, on one thread and on two.

#[path = "preset/mod.rs"]
mod preset;

use divan::counter::ItemsCount;
use preset::Step;
use ringsmith_model::team::Team;
use std::sync::Arc;

fn main() {
    divan::main();
}

#[divan::bench(args = [("nano", 1), ("nano", 2), ("tiny", 1), ("tiny", 2)], sample_count = 10, sample_size = 1)]
fn step(bencher: divan::Bencher<'_, '_>, (name, threads): (&str, usize)) {
    let team = Arc::new(Team::new(threads));
    let mut step = Step::new(name);
    let tokens = ItemsCount::new(step.batch.len());
    bencher.counter(tokens).bench_local(|| team.install(|| step.run()));
}
