//! Data sets: sources read or generated, then curated; every record is kept or in the ledger.

use super::{Context, Outcome, records};
use crate::recipe::Source;
use anyhow::{Context as _, Result, ensure};
use ringsmith_data::{
    ledger::Ledger,
    record::Record,
    source::{Files, READ},
    step::{BenchmarkItem, curate},
    workbook::{self, Order, Split, Task},
};
use ringsmith_eval::{benchmark::Benchmark, question};
use std::fs;

pub fn make(context: &Context<'_>, name: &str) -> Result<Outcome> {
    let data = &context.recipe.data[name];
    let mut ledger = Ledger::create(&context.dir.join("ledger.jsonl"))?;
    let mut all = Vec::new();
    for source in &data.sources {
        all.extend(read(context, name, source, &mut ledger)?);
        if context.stopped() {
            return Ok(Outcome::Stopped);
        }
    }
    let benchmarks = if data.decontaminates() { benchmark_items(context)? } else { Vec::new() };
    let read = all.len();
    let kept = curate(all, &data.steps, &benchmarks, &mut ledger)?;
    records::write(&context.dir.join("records.jsonl"), &kept)?;
    let counts = ledger.finish()?;
    fs::write(context.dir.join("counts.json"), serde_json::to_vec_pretty(&counts)?)?;
    let ledger = context.dir.join("ledger.jsonl");
    ensure!(!kept.is_empty(), "none of {read} records was kept; {} says why", ledger.display());
    Ok(Outcome::Done(Some(counts.total().to_string())))
}

/// The records of one source.
fn read(context: &Context<'_>, set: &str, source: &Source, ledger: &mut Ledger) -> Result<Vec<Record>> {
    let Some(task) = source.workbook else {
        let files = Files {
            files: source.files.iter().map(Into::into).collect(),
            fields: source.fields.clone().map(Box::new),
            think: source.think.unwrap_or_default(),
            system: source.system.clone(),
            take: source.take,
        };
        return files.read(&source.name, &context.bench.data_root, ledger);
    };
    let order = order(context.recipe.seed, set, source, task);
    let mut records = workbook::generate(&order).with_context(|| format!("source {}", source.name))?;
    for (i, record) in records.iter_mut().enumerate() {
        record.source.clone_from(&source.name);
        record.id = format!("{}:{}", source.name, i + 1);
        ledger.keep(&source.name, READ);
    }
    Ok(records)
}

/// What a workbook source of a data set orders. Two sources that agree in everything else still draw different
/// problems.
pub fn order(seed: u64, set: &str, source: &Source, task: Task) -> Order {
    let lane = blake3::hash(format!("{set}\0{}", source.name).as_bytes());
    let lane = lane.as_bytes()[..8].iter().fold(0, |lane, byte| lane << 8 | u64::from(*byte));
    Order {
        task,
        style: source.style.unwrap_or(task.default_style()),
        split: source.split.unwrap_or(Split::Train),
        level: source.level.unwrap_or(1),
        count: source.count.unwrap_or(0),
        seed,
        lane,
    }
}

/// The wordings of every benchmark's items that can be read; a kind that cannot run yet has none.
fn benchmark_items(context: &Context<'_>) -> Result<Vec<BenchmarkItem>> {
    let mut items = Vec::new();
    for benchmark in &context.recipe.eval.benchmarks {
        if !benchmark.kind.is_implemented() {
            continue;
        }
        // All of its items, also those that this recipe does not ask.
        let whole = Benchmark { limit: None, ..benchmark.clone() };
        let prompts = question::prompts(&whole, &context.bench.data_root, context.recipe.seed)?;
        items.extend(prompts.into_iter().map(|(id, text)| BenchmarkItem {
            benchmark: benchmark.name.clone(),
            id,
            text,
        }));
    }
    Ok(items)
}
