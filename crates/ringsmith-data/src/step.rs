//! Curation: steps that keep or drop records, in the order of the recipe.
//!
//! A step is row-local (a record's verdict depends on the record alone) or keyed (records of one key meet).
//! Either way the verdicts depend on the records and their order, never on threads.

mod decontaminate;
mod dedup;
mod length;
mod purify;

pub use decontaminate::{BenchmarkItem, Decontaminate};
pub use dedup::{Dedup, Key};
pub use length::Length;
pub use purify::Purify;

use crate::ledger::{Dropped, Fault, Ledger};
use crate::record::Record;
use anyhow::Result;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// One curation step as it stands in a recipe, for example `{ decontaminate = { ngram = 8 } }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    Dedup(Dedup),
    Decontaminate(Decontaminate),
    Purify(Purify),
    Length(Length),
}

impl Step {
    /// The step's name in the recipe.
    pub fn name(&self) -> &'static str {
        match self {
            Step::Dedup(_) => "dedup",
            Step::Decontaminate(_) => "decontaminate",
            Step::Purify(_) => "purify",
            Step::Length(_) => "length",
        }
    }

    /// Why each record is dropped, if it is.
    fn faults(&self, records: &[Record], benchmarks: &[BenchmarkItem]) -> Result<Vec<Option<Fault>>> {
        let each =
            |fault: &(dyn Fn(&Record) -> Option<Fault> + Sync)| records.par_iter().map(fault).collect();
        Ok(match self {
            Step::Dedup(dedup) => dedup.faults(records),
            Step::Decontaminate(decontaminate) => {
                let index = decontaminate.index(benchmarks)?;
                each(&|record| index.fault(record))
            }
            Step::Purify(purify) => each(&|record| purify.fault(record)),
            Step::Length(length) => each(&|record| length.fault(record)),
        })
    }
}

/// Runs the steps over the records and returns those that are kept, in their order. What is dropped goes to
/// the ledger under the step's place and name, for example `2.purify`.
pub fn curate(
    records: impl IntoIterator<Item = Record>,
    steps: &[Step],
    benchmarks: &[BenchmarkItem],
    ledger: &mut Ledger,
) -> Result<Vec<Record>> {
    let mut records: Vec<Record> = records.into_iter().collect();
    for (i, step) in steps.iter().enumerate() {
        let name = format!("{}.{}", i + 1, step.name());
        let faults = step.faults(&records, benchmarks)?;
        let mut kept = Vec::with_capacity(records.len());
        for (record, fault) in records.into_iter().zip(faults) {
            match fault {
                None => {
                    ledger.keep(&record.source, &name);
                    kept.push(record);
                }
                Some(fault) => ledger.drop(&Dropped::new(&record.source, &record.id, &name, fault))?,
            }
        }
        records = kept;
    }
    Ok(records)
}

/// Records for the steps' tests.
#[cfg(test)]
mod testing {
    use crate::record::{Body, Conversation, Record, Role, Turn};

    pub fn record(id: &str, prompt: &str, answer: &str) -> Record {
        let turns = vec![Turn::new(Role::User, prompt), Turn::new(Role::Assistant, answer)];
        Record {
            id: id.into(),
            source: id.split(':').next().unwrap_or_default().into(),
            body: Body::Chat(Conversation { turns }),
            answer: None,
            task: None,
            level: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::record;
    use super::*;
    use serde_json::json;

    #[test]
    fn steps_run_in_order_and_the_counts_add_up() {
        let steps: Vec<Step> = serde_json::from_value(json!([
            {"dedup": {}}, {"decontaminate": {"ngram": 4}}, {"purify": {}}, {"length": {"max_chars": 200}}
        ]))
        .unwrap();
        let records = vec![
            record("a:1", "How many legs have seven spiders?", "Fifty-six."),
            record("b:1", "How many  legs have seven spiders?", "Fifty-six."),
            record("a:2", "The benchmark asks this very question here.", "Yes."),
            record("a:3", "Why?", "<think>Since"),
            record("b:2", "Tell me everything.", &"I know something else. ".repeat(3)),
            record("b:3", "Tell me.", &(0..90).map(|i| format!("{i} ")).collect::<String>()),
        ];
        let items = [BenchmarkItem {
            benchmark: "bench".into(),
            id: "7".into(),
            text: "the benchmark asks this very question".into(),
        }];
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.jsonl");
        let mut ledger = Ledger::create(&path).unwrap();
        let kept = curate(records, &steps, &items, &mut ledger).unwrap();
        let ids: Vec<_> = kept.iter().map(|record| record.id.as_str()).collect();
        assert_eq!(ids, ["a:1", "b:2"]);
        ledger.finish().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let dropped: Vec<Dropped> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let dropped: Vec<_> =
            dropped.iter().map(|d| format!("{} {} {}", d.id, d.step, d.reason.name())).collect();
        assert_eq!(
            dropped,
            [
                "b:1 1.dedup duplicate",
                "a:2 2.decontaminate contaminated",
                "a:3 3.purify truncated",
                "b:3 4.length too-long"
            ]
        );
    }

    #[test]
    fn a_misspelt_step_or_key_is_an_error() {
        for bad in [json!({"dedupe": {}}), json!({"dedup": {"kee": "text"}}), json!({"purify": {"loops": 1}})]
        {
            assert!(serde_json::from_value::<Step>(bad.clone()).is_err(), "{bad}");
        }
        // Every default is written out, so a plan can print what a step means.
        let step: Step = serde_json::from_value(json!({"dedup": {}})).unwrap();
        assert_eq!(serde_json::to_value(&step).unwrap(), json!({"dedup": {"key": "text"}}));
    }
}
