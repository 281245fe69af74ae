//! The report: every model by task, as JSON, as a table and as a page.

use super::{Context, Outcome, eval};
use crate::{
    recipe::Phase,
    stage::{Input, Stage},
    store::write_durably,
};
use anyhow::{Context as _, Result};
use ringsmith_data::ledger::Counts;
use ringsmith_eval::{
    html::{Curve, LedgerEntry, ReportInputs, SampleAnswer, html},
    question::questions,
    report::{ModelScore, Report, table},
    run::Scored,
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead, BufReader},
    path::Path,
};

/// Questions of each benchmark that the page shows with every model's answer.
const SHOWN: usize = 2;

pub fn make(context: &Context<'_>) -> Result<Outcome> {
    let recipe = context.recipe;
    let mut runs: Vec<(Phase, Vec<Scored>)> = Vec::new();
    for phase in recipe.phases() {
        let answers = context.bench.artifact(&Stage::Eval(phase))?;
        let implemented = recipe.eval.benchmarks.iter().filter(|b| b.kind.is_implemented());
        let scored = implemented.map(|b| eval::read(&answers.path(&format!("{}.json", b.name))));
        runs.push((phase, scored.collect::<Result<_>>()?));
    }
    let report = Report {
        recipe: recipe.name.clone(),
        models: runs.iter().map(|(phase, scored)| ModelScore::new(phase.label(), scored)).collect(),
    };
    let (mut curves, mut ledger, mut provenance) = (Vec::new(), Vec::new(), Vec::new());
    for input in Stage::Report.inputs(recipe) {
        let Input::Stage(stage) = input else { continue };
        let artifact = context.bench.artifact(&stage)?;
        provenance.push((stage.to_string(), artifact.manifest.key.to_string()));
        match stage {
            Stage::Train(_) => curves.push(curve(&stage, &artifact.path("metrics.jsonl"))?),
            Stage::Data(_) | Stage::Rows(_) => {
                ledger.extend(counts(&stage, &artifact.path("counts.json"))?);
            }
            Stage::Preference => ledger.extend(verdicts(&artifact.path("verdicts.json"))?),
            _ => {}
        }
    }
    let page = html(&ReportInputs {
        report: &report,
        curves: &curves,
        ledger: &ledger,
        samples: &samples(context, &runs)?,
        recipe_text: &toml::to_string_pretty(recipe)?,
        provenance: &provenance,
    });
    let mut json = serde_json::to_string_pretty(&report)?;
    json.push('\n');
    for (name, text) in [("report.json", &json), ("report.txt", &table(&report)), ("report.html", &page)] {
        write_durably(&context.dir.join(name), text.as_bytes())?;
    }
    Ok(Outcome::Done(None))
}

/// A training stage's loss, step by step.
fn curve(stage: &Stage, metrics: &Path) -> Result<Curve> {
    let at = || metrics.display().to_string();
    let mut points = Vec::new();
    for line in BufReader::new(File::open(metrics).with_context(at)?).lines() {
        let line: Value = serde_json::from_str(&line.with_context(at)?).with_context(at)?;
        if let (Some(step), Some(loss)) = (line["step"].as_u64(), line["loss"].as_f64()) {
            points.push((step, loss));
        }
    }
    Ok(Curve { stage: stage.to_string(), points })
}

/// What became of every source's records in a stage.
fn counts(stage: &Stage, path: &Path) -> Result<Vec<LedgerEntry>> {
    let at = || path.display().to_string();
    let counts: Counts = serde_json::from_slice(&fs::read(path).with_context(at)?).with_context(at)?;
    let mut entries: Vec<LedgerEntry> = Vec::new();
    for count in &counts.rows {
        let drops = count.dropped.iter().map(|(reason, n)| (reason.name(), *n));
        match entries.iter_mut().find(|e| e.source == count.source) {
            Some(entry) => {
                entry.kept = count.kept;
                entry.drops.extend(drops);
            }
            None => entries.push(LedgerEntry {
                data: stage.to_string(),
                source: count.source.clone(),
                read: count.read,
                kept: count.kept,
                drops: drops.collect(),
            }),
        }
    }
    Ok(entries)
}

/// What became of every prompt that a preference pair was sought for.
fn verdicts(path: &Path) -> Result<Vec<LedgerEntry>> {
    let at = || path.display().to_string();
    let kinds: BTreeMap<String, BTreeMap<String, u64>> =
        serde_json::from_slice(&fs::read(path).with_context(at)?).with_context(at)?;
    let entry = |(source, counts): (String, BTreeMap<String, u64>)| {
        let is_pair = |verdict: &str| matches!(verdict, "wrong" | "think" | "longer");
        let (pairs, drops): (Vec<_>, Vec<_>) = counts.into_iter().partition(|(verdict, _)| is_pair(verdict));
        let kept = pairs.iter().map(|(_, n)| n).sum();
        let dropped: u64 = drops.iter().map(|(_, n)| n).sum();
        LedgerEntry { data: Stage::Preference.to_string(), source, read: kept + dropped, kept, drops }
    };
    Ok(kinds.into_iter().map(entry).collect())
}

/// The first questions of every benchmark with what each model said.
fn samples(context: &Context<'_>, runs: &[(Phase, Vec<Scored>)]) -> Result<Vec<SampleAnswer>> {
    let mut samples = Vec::new();
    let implemented = context.recipe.eval.benchmarks.iter().filter(|b| b.kind.is_implemented());
    for (i, benchmark) in implemented.enumerate() {
        let asked = questions(benchmark, &context.bench.data_root, context.recipe.seed)?;
        for (n, question) in asked.iter().take(SHOWN).enumerate() {
            for (phase, scored) in runs {
                let Some(item) = scored[i].items.get(n * benchmark.samples) else { continue };
                samples.push(SampleAnswer {
                    benchmark: benchmark.name.clone(),
                    model: phase.label().into(),
                    question: question.text.clone(),
                    answer: item.answer.clone(),
                    class: item.class,
                });
            }
        }
    }
    Ok(samples)
}
