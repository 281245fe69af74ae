//! Held-out items never occur in the training data of the miniature: neither their content nor their wording.

use ringsmith::{recipe::Recipe, stages::data::order};
use ringsmith_data::{
    record::{Body, Conversation, Record},
    workbook::{self, Order, Split, Task},
};
use ringsmith_eval::question::questions;
use std::{collections::HashSet, path::Path};

fn tiny() -> Recipe {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes/tiny.toml");
    Recipe::read(&path).unwrap()
}

/// Task and content of a record. `pick` and `tool` ask about the same requests.
fn content(record: &Record) -> Option<(String, String)> {
    let task = record.task.clone()?;
    let task = if task == "pick" { "tool".into() } else { task };
    Some((task, workbook::key(record)?))
}

fn wording(question: &Conversation) -> String {
    question.turns.iter().map(|turn| turn.text.as_str()).collect::<Vec<_>>().join("\n")
}

#[test]
fn no_content_and_no_wording_is_in_both() {
    let recipe = tiny();
    let mut contents = HashSet::new();
    let mut prompts = HashSet::new();
    for benchmark in &recipe.eval.benchmarks {
        let task = benchmark.workbook_task().unwrap();
        let order =
            Order::new(task, benchmark.split.unwrap_or(Split::Test), benchmark.count.unwrap(), recipe.seed);
        let records = workbook::generate(&order).unwrap();
        contents.extend(records.iter().filter_map(content));
        let asked = questions(benchmark, Path::new("."), recipe.seed).unwrap();
        assert_eq!(asked.len(), records.len());
        for (question, record) in asked.iter().zip(&records) {
            // The benchmark asks just these records, so their contents are the held-out ones.
            assert_eq!(Some(&question.conversation), workbook::question(record).map(|(q, _)| q).as_ref());
            prompts.insert(wording(&question.conversation));
        }
    }
    assert!(contents.len() > 800, "only {} held-out contents", contents.len());
    let mut checked = 0;
    for (set, data) in &recipe.data {
        for source in &data.sources {
            let task = source.workbook.unwrap();
            // The base is to know every fact: what is held out is being asked for it later.
            if set == "pretrain" && matches!(task, Task::Facts | Task::FactDocuments) {
                continue;
            }
            for record in workbook::generate(&order(recipe.seed, set, source, task)).unwrap() {
                if let Some(content) = content(&record) {
                    assert!(!contents.contains(&content), "{set}: {}: {content:?} is held out", record.id);
                    checked += 1;
                }
                if let Body::Chat(_) = &record.body {
                    let (question, _) = workbook::question(&record).unwrap();
                    assert!(
                        !prompts.contains(&wording(&question)),
                        "{set}: {} is asked in a benchmark",
                        record.id
                    );
                }
            }
        }
    }
    assert!(checked > 30_000, "only {checked} records have a content");
}
