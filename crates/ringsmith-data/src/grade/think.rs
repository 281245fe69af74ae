//! The `<think>` pair: taking it off and saying what is wrong with it.

use serde::{Deserialize, Serialize};

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// How the tags of an answer stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThinkPair {
    /// Exactly one `<think>`, at the start, exactly one `</think>` after it and a non-empty answer after that.
    Ok,
    /// Neither tag.
    Missing,
    /// `</think>` alone.
    MissingOpen,
    /// `<think>` alone.
    MissingClose,
    /// A tag more than once.
    Redundant,
    /// One of each, but text before `<think>` or `</think>` first.
    Misplaced,
    /// A right pair with nothing after it.
    EmptyAnswer,
}

/// An answer without its thought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stripped<'a> {
    /// What follows the last `</think>`; the whole text without tags; nothing when a thought never ends.
    pub body: &'a str,
    pub think: ThinkPair,
}

/// Takes everything up to the last `</think>` off an answer.
pub fn strip(answer: &str) -> Stripped<'_> {
    let opens = answer.matches(OPEN).count();
    let closes = answer.matches(CLOSE).count();
    let body = match answer.rfind(CLOSE) {
        Some(at) => &answer[at + CLOSE.len()..],
        None if opens > 0 => "",
        None => answer,
    };
    let think = match (opens, closes) {
        (0, 0) => ThinkPair::Missing,
        (0, 1) => ThinkPair::MissingOpen,
        (1, 0) => ThinkPair::MissingClose,
        (1, 1) if !answer.trim_start().starts_with(OPEN) => ThinkPair::Misplaced,
        (1, 1) if body.trim().is_empty() => ThinkPair::EmptyAnswer,
        (1, 1) => ThinkPair::Ok,
        (_, 0) => ThinkPair::MissingClose,
        _ => ThinkPair::Redundant,
    };
    Stripped { body, think }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_stand() {
        for (text, body, think) in [
            ("<think> a</think> b", " b", ThinkPair::Ok),
            (" b", " b", ThinkPair::Missing),
            (" a</think> b", " b", ThinkPair::MissingOpen),
            ("<think> a b", "", ThinkPair::MissingClose),
            ("<think> a</think></think> b", " b", ThinkPair::Redundant),
            ("<think><think> a</think> b", " b", ThinkPair::Redundant),
            ("a <think> b</think> c", " c", ThinkPair::Misplaced),
            ("</think> a<think> b", " a<think> b", ThinkPair::Misplaced),
            ("<think> a</think> ", " ", ThinkPair::EmptyAnswer),
        ] {
            assert_eq!(strip(text), Stripped { body, think }, "{text}");
        }
    }
}
