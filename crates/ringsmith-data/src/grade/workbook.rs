//! Answers to the workbook's items.

use super::math;
use super::think::{self, ThinkPair};
use crate::workbook::{Constraints, Task, value_kind};
use anyhow::{Context, Result};
use serde_json::Value;

/// The body (without its thought) answers the item rightly. `reference` is the record's `answer`.
///
/// Reasoning: the last `\boxed{}` equals it. Instruct: all constraints hold. Tool: the JSON is equal.
/// Pick: exact. Facts: the value is named and no other of its kind.
///
/// # Errors
/// A reference that is not what the task needs, or a task without answers to grade.
pub fn right(task: Task, reference: &str, body: &str) -> Result<bool> {
    Ok(match task {
        Task::Chain | Task::Eq | Task::Word | Task::Mod => {
            math::boxed(body).is_some_and(|answer| math::equal(answer, reference))
        }
        Task::Instruct => serde_json::from_str::<Constraints>(reference)
            .with_context(|| format!("instruct reference {reference}"))?
            .hold(body),
        Task::Tool => {
            let expected: Value =
                serde_json::from_str(reference).with_context(|| format!("tool reference {reference}"))?;
            serde_json::from_str::<Value>(body.trim()).is_ok_and(|call| call == expected)
        }
        Task::Pick => body.trim() == reference,
        Task::Facts => {
            let kind = value_kind(reference).with_context(|| format!("facts reference {reference}"))?;
            let words: Vec<&str> = body.split(|c: char| !c.is_alphanumeric()).collect();
            kind.iter().all(|value| words.contains(value) == (*value == reference))
        }
        Task::Subjective | Task::FactDocuments | Task::Sums => {
            anyhow::bail!("workbook task {task} has no answer to grade")
        }
    })
}

/// The whole answer to a subjective query has a right `<think>` pair.
pub fn pair(answer: &str) -> bool {
    think::strip(answer).think == ThinkPair::Ok
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workbook::{Order, Rng, Split, Style, break_think, generate, question};

    #[test]
    fn the_teacher_is_always_right() {
        for task in Task::ALL.into_iter().filter(|task| !task.is_text() && *task != Task::Subjective) {
            for level in 1..=task.levels() {
                for split in [Split::Train, Split::Test] {
                    for record in generate(&Order { level, ..Order::new(task, split, 200, 3) }).unwrap() {
                        let (_, answer) = question(&record).unwrap();
                        let body = think::strip(answer).body;
                        assert!(right(task, record.answer.as_deref().unwrap(), body).unwrap(), "{record:?}");
                        assert!(!right(task, record.answer.as_deref().unwrap(), " pardon").unwrap());
                    }
                }
            }
        }
    }

    #[test]
    fn pairs_are_right_until_broken() {
        let mut rng = Rng::new(&[b"pairs"]);
        for record in generate(&Order::new(Task::Subjective, Split::Train, 200, 3)).unwrap() {
            let (_, answer) = question(&record).unwrap();
            assert!(pair(answer));
            assert!(!pair(&break_think(answer, &mut rng)));
        }
        let plain = Order { style: Style::Plain, ..Order::new(Task::Subjective, Split::Train, 5, 3) };
        assert!(generate(&plain).unwrap().iter().all(|record| !pair(question(record).unwrap().1)));
    }

    #[test]
    fn each_constraint_is_checked() {
        let reference = r#"{"category":"things","count":4,"separator":"bars","capitals":false,"first":"drum","closing":"thanks"}"#;
        let check = |body: &str| right(Task::Instruct, reference, body).unwrap();
        assert!(check(" drum | chair | boat | clock thanks"));
        assert!(check(" drum | rope | bell | lamp thanks"));
        for wrong in [
            " drum | chair | boat thanks",
            " drum, chair, boat, clock thanks",
            " DRUM | CHAIR | BOAT | CLOCK THANKS",
            " drum | chair | drum | clock thanks",
            " chair | drum | boat | clock thanks",
            " drum | chair | boat | clock",
            " drum | chair | boat | fox thanks",
            " drum | chair | boat | clockthanks",
        ] {
            assert!(!check(wrong), "{wrong}");
        }
        let capitals = r#"{"category":"metals","count":2,"separator":"blank","capitals":true,"first":null,"closing":null}"#;
        assert!(right(Task::Instruct, capitals, "IRON GOLD").unwrap());
        assert!(!right(Task::Instruct, capitals, "iron gold").unwrap());
    }

    #[test]
    fn calls_choices_and_facts() {
        let call = r#"{"name":"pay","args":{"to":"Eva","sum":40}}"#;
        assert!(right(Task::Tool, call, r#" {"args": {"sum": 40, "to": "Eva"}, "name": "pay"}"#).unwrap());
        assert!(!right(Task::Tool, call, r#" {"name": "pay", "args": {"to": "Eva", "sum": "40"}}"#).unwrap());
        assert!(!right(Task::Tool, call, r#" {"name": "pay", "args": {"to": "Eva", "sum": 40}"#).unwrap());
        assert!(right(Task::Pick, "none", " none").unwrap());
        assert!(!right(Task::Pick, "none", " none of them").unwrap());
        assert!(right(Task::Facts, "red", " It is red.").unwrap());
        assert!(!right(Task::Facts, "red", " red or blue").unwrap());
        assert!(!right(Task::Facts, "red", " bored").unwrap());
        assert!(right(Task::Sums, "1", "1").is_err());
    }
}
