//! Multiple choice: the letter an answer settles on (MMLU, GPQA: `Answer: X`).

use super::math::boxed;
use regex::Regex;
use std::sync::LazyLock;

static STATED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i:\banswer)(?i:\s+is)?\s*(?i:option\s*)?[:\s]\s*[*$(\[{\\a-z]*?([A-J])(?:[^A-Za-z]|$)")
        .unwrap()
});

/// The chosen letter: the last `\boxed{X}`, else the last `Answer: X` (or `answer is X`), else the whole
/// body when it is one letter. A capital somewhere in a sentence is not a choice.
pub fn letter(body: &str) -> Option<char> {
    let alone = |text: &str| {
        let text =
            text.trim().trim_start_matches("\\text{").trim_matches(['(', ')', '.', '*', '{', '}', ' ']);
        let mut chars = text.chars();
        match (chars.next(), chars.next()) {
            (Some(c @ 'A'..='J'), None) => Some(c),
            _ => None,
        }
    };
    if let Some(inner) = boxed(body) {
        return alone(inner);
    }
    match STATED.captures_iter(body).last() {
        Some(found) => found[1].chars().next(),
        None => alone(body),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters() {
        for (text, expected) in [
            ("Since A is wrong.\nAnswer: B", Some('B')),
            ("**Answer: C**", Some('C')),
            ("the answer is (D).", Some('D')),
            ("Answer: $\\text{B}$", Some('B')),
            ("Answer: A ... no. Answer: B", Some('B')),
            ("\\boxed{\\text{(E)}}", Some('E')),
            (" C.", Some('C')),
            ("A cat sat on the mat", None),
            ("I do not know", None),
            ("Answer: Because", None),
        ] {
            assert_eq!(letter(text), expected, "{text}");
        }
    }
}
