//! Graders: is this answer right? Curation and evaluation ask the same question here.
//!
//! An answer is graded in two steps: [`think::strip`] takes the thought off and says how its tags stand,
//! then a grader judges the body. An answer that never left its thought, or was cut, is wrong in its own
//! class and never reaches a grader.

pub mod bfcl;
pub mod choice;
pub mod expression;
pub mod ifeval;
pub mod language;
pub mod math;
pub mod number;
pub mod python;
pub mod think;
pub mod workbook;

use crate::solver::Answer;
use serde::{Deserialize, Serialize};
use think::ThinkPair;

/// Why an answer counts or does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    Right,
    Wrong,
    /// `<think>` was opened and never closed, so there is no answer.
    MissingClose,
    /// Cut at the token limit before the stop token.
    Truncated,
    /// Nothing stands after the thought.
    Empty,
}

/// Grades an answer: failure classes first, then `right` judges the body without its thought.
pub fn grade(answer: &Answer, right: impl FnOnce(&str) -> bool) -> Class {
    let stripped = think::strip(&answer.text);
    if answer.truncated {
        Class::Truncated
    } else if stripped.think == ThinkPair::MissingClose {
        Class::MissingClose
    } else if stripped.body.trim().is_empty() {
        Class::Empty
    } else if right(stripped.body) {
        Class::Right
    } else {
        Class::Wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_classes_come_before_the_grader() {
        let answer = |text: &str, truncated| Answer { text: text.into(), truncated };
        let nine = |body: &str| body.trim() == "9";
        assert_eq!(grade(&answer("<think> 4+5</think> 9", false), nine), Class::Right);
        assert_eq!(grade(&answer("<think> 4+5</think> 8", false), nine), Class::Wrong);
        assert_eq!(grade(&answer("<think> 9", false), nine), Class::MissingClose);
        assert_eq!(grade(&answer("<think> 4", true), nine), Class::Truncated);
        assert_eq!(grade(&answer(" 9", true), nine), Class::Truncated);
        assert_eq!(grade(&answer("<think> 9</think>", false), nine), Class::Empty);
        assert_eq!(grade(&answer("4+5</think> 9", false), nine), Class::Right);
    }

    #[test]
    fn no_text_breaks_a_grader() {
        let pieces = [
            "<think>",
            "</think>",
            "\\boxed{",
            "}",
            "{",
            "\\frac",
            "\\sqrt[",
            "]",
            "(",
            ")",
            "[",
            "1",
            "-",
            "2.5",
            ",",
            "e",
            "é",
            "安",
            "\\text{",
            "\\",
            "^",
            "_",
            "%",
            "$",
            "|",
            "'",
            "\"",
            "f(a=",
            "=",
            " ",
            "\n",
            "***",
            "\\pm",
            "!",
            "\\cup",
            "\\in",
            "Answer:",
            "<<",
            ">>",
            "\\begin{pmatrix}",
            "\\end{pmatrix}",
            "&",
            "\\u12",
            "\\log",
            "9999999999",
        ];
        let mut rng = crate::workbook::Rng::new(&[b"garbage"]);
        let mut draw = || (0..1 + rng.below(12)).map(|_| *rng.pick(&pieces)).collect::<String>();
        for _ in 0..20_000 {
            let (text, other) = (draw(), draw());
            let body = think::strip(&text).body;
            choice::letter(body);
            bfcl::calls(body);
            number::last_number(body);
            language::detect(body);
            let answer = math::boxed(body).unwrap_or(body);
            assert_eq!(math::equal(answer, &other), math::equal(&other, answer), "{answer:?} and {other:?}");
            for id in ifeval::INSTRUCTIONS {
                let _ = ifeval::follows(id, &serde_json::Map::new(), body);
            }
        }
    }
}
