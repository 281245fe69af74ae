//! What becomes of the thought in a source's answers.

use crate::ledger::{Fault, Reason};
use crate::record::{Body, Record, Role};
use crate::tokenizer::{THINK, THINK_END};
use regex::Regex;
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;

/// How a source's answers are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Think {
    /// As the row has it.
    #[default]
    Keep,
    /// A worked solution becomes the thought and its final answer the boxed answer. A bare final answer is
    /// boxed without a thought; an answer that has a thought already stays. A row without a final answer is
    /// dropped as `no-final-answer`.
    Wrap,
    /// The thought is taken out.
    Strip,
}

/// GSM8K's notes to a calculator, `<<48/2=24>>`.
static CALCULATOR: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"<<[^<>]*>>").expect("a valid pattern"));

impl Think {
    /// Rewrites the last assistant turn, and both answers of a pair when stripping.
    pub fn apply(self, record: &mut Record) -> Result<(), Fault> {
        match self {
            Think::Keep => Ok(()),
            Think::Wrap => {
                let stated = record.answer.clone();
                let Body::Chat(chat) = &mut record.body else { return Ok(()) };
                let Some(turn) = chat.turns.last_mut().filter(|turn| turn.role == Role::Assistant) else {
                    return Ok(());
                };
                if turn.text.contains(THINK) {
                    return Ok(());
                }
                let (text, answer) = wrap(&turn.text, stated)?;
                turn.text = text;
                record.answer = Some(answer);
                Ok(())
            }
            Think::Strip => {
                let texts: Vec<&mut String> = match &mut record.body {
                    Body::Text(_) => vec![],
                    Body::Chat(chat) => {
                        let turns = chat.turns.iter_mut().filter(|turn| turn.role == Role::Assistant);
                        turns.map(|turn| &mut turn.text).collect()
                    }
                    Body::Pair { chosen, rejected, .. } => vec![chosen, rejected],
                };
                for text in texts {
                    if let Some((_, after)) = text.rsplit_once(THINK_END) {
                        *text = after.trim_start().to_owned();
                    }
                    if text.trim().is_empty() {
                        return Err(Fault::new(Reason::EmptyAnswer, "nothing is left without the thought"));
                    }
                }
                Ok(())
            }
        }
    }
}

/// The wrapped text and the final answer.
fn wrap(solution: &str, stated: Option<String>) -> Result<(String, String), Fault> {
    let (worked, marked) = match solution.rsplit_once("####") {
        Some((worked, last)) => (worked, Some(last.trim().to_owned())),
        None => (solution, None),
    };
    let answer = stated.or(marked).or_else(|| last_boxed(worked).map(str::to_owned));
    let Some(answer) = answer.filter(|answer| !answer.is_empty()) else {
        let end: Vec<char> = solution.trim().chars().rev().take(80).collect();
        return Err(Fault::new(Reason::NoFinalAnswer, end.into_iter().rev().collect::<String>()));
    };
    let worked = CALCULATOR.replace_all(worked, "");
    let worked = worked.trim();
    if worked.is_empty() || worked == answer {
        return Ok((format!("\\boxed{{{answer}}}"), answer));
    }
    Ok((format!("{THINK}\n{worked}\n{THINK_END}\n\n\\boxed{{{answer}}}"), answer))
}

/// What stands in the last `\boxed{...}`, if its braces close.
fn last_boxed(text: &str) -> Option<&str> {
    const BOXED: &str = "\\boxed{";
    let inside = &text[text.rfind(BOXED)? + BOXED.len()..];
    let mut depth = 1;
    for (at, byte) in inside.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(&inside[..at]);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape;
    use serde_json::{Value, json};

    fn apply(think: Think, row: Value) -> Result<(String, Option<String>), Fault> {
        let mut record = shape::record(&row, "s", "s:1".into(), None)?;
        think.apply(&mut record)?;
        match record.body {
            Body::Chat(chat) => Ok((chat.turns.last().unwrap().text.clone(), record.answer)),
            Body::Pair { chosen, rejected, .. } => Ok((format!("{chosen}|{rejected}"), record.answer)),
            Body::Text(text) => Ok((text, record.answer)),
        }
    }

    #[test]
    fn wrapping() {
        for (row, text, answer) in [
            (
                json!({"question": "Q", "answer": "48/2 = <<48/2=24>>24 clips.\nSo 72.\n#### 72"}),
                "<think>\n48/2 = 24 clips.\nSo 72.\n</think>\n\n\\boxed{72}",
                "72",
            ),
            (json!({"problem": "Q", "answer": "\\frac{1}{2}"}), "\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
            (
                json!({"problem": "Q", "solution": "It is $\\boxed{\\sqrt{3}}$."}),
                "<think>\nIt is $\\boxed{\\sqrt{3}}$.\n</think>\n\n\\boxed{\\sqrt{3}}",
                "\\sqrt{3}",
            ),
            (
                json!({"problem": "Q", "solution": "W", "answer": "7"}),
                "<think>\nW\n</think>\n\n\\boxed{7}",
                "7",
            ),
            (
                json!({"question": "Q", "model_completion": "<think>\nt\n</think>\n7", "answer": "7"}),
                "<think>\nt\n</think>\n7",
                "7",
            ),
        ] {
            let got = apply(Think::Wrap, row).unwrap();
            assert_eq!(got, (text.to_owned(), Some(answer.to_owned())));
        }
        let fault = apply(Think::Wrap, json!({"question": "Why?", "answer": "Because."})).unwrap_err();
        assert_eq!((fault.reason, fault.evidence.as_str()), (Reason::NoFinalAnswer, "Because."));
    }

    #[test]
    fn keeping_and_stripping() {
        let row = json!({"question": "Q", "response": "<think>\nt\n</think>\n\nA"});
        assert_eq!(apply(Think::Keep, row.clone()).unwrap().0, "<think>\nt\n</think>\n\nA");
        assert_eq!(apply(Think::Strip, row).unwrap().0, "A");
        let pair = json!({"prompt": "Q", "chosen": "<think>t</think>C", "rejected": "R"});
        assert_eq!(apply(Think::Strip, pair).unwrap().0, "C|R");
        let nothing = json!({"question": "Q", "response": "<think>\nt\n</think>\n"});
        assert_eq!(apply(Think::Strip, nothing).unwrap_err().reason, Reason::EmptyAnswer);
    }
}
