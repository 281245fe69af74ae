//! Purification (report, section 2): repetition, truncated answers, broken formulas, missing images.

use crate::ledger::{Fault, Reason};
use crate::record::{Body, Record, Role};
use crate::tokenizer::{THINK, THINK_END};
use crate::words::{ngrams, words};
use regex::Regex;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

/// Drops records that would teach a broken habit. Each check can be switched off.
///
/// Reasoning that doubts itself ("Wait, ...") is not repetition: a loop is the same words over and over on
/// end, or a text most of which was said before.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Purify {
    /// Drops `repetition`; by default true.
    pub repetition: bool,
    /// Drops `truncated`; by default true.
    pub truncation: bool,
    /// Drops `bad-latex`; by default true.
    pub latex: bool,
    /// Drops `needs-image`; by default true.
    pub images: bool,
    /// A loop is a passage said at least four times on end, of at least this many words together; by
    /// default 64.
    pub loop_words: usize,
    /// The largest share of an answer's 16-word passages that may have occurred in it before; by default
    /// 0.5.
    pub repeated_share: f64,
}

impl Default for Purify {
    fn default() -> Purify {
        Purify {
            repetition: true,
            truncation: true,
            latex: true,
            images: true,
            loop_words: 64,
            repeated_share: 0.5,
        }
    }
}

static IMAGE: LazyLock<Regex> = LazyLock::new(|| {
    let figure = r"(?:figure|diagram|image|picture|graph|photo|illustration|plot)";
    let pattern = [
        r"\[asy\]".to_owned(),
        r"!\[[^\]]*\]\([^)]+\)".into(),
        r"(?i)<img\b|\\includegraphics\b".into(),
        format!(
            r"(?i)\b(?:as |is |are )?(?:shown|depicted|pictured|illustrated) (?:in|by) (?:the|this) (?:following )?{figure}\b"
        ),
        format!(
            r"(?i)\b(?:see|refer to|look at|in|from|based on) the (?:{figure} (?:below|above|shown)|(?:following|attached|given) {figure})\b"
        ),
        format!(r"(?i)\bthe {figure} (?:shown )?(?:below|above)\b"),
        "如[上下]?图[所，,]|[见在由据][上下]图|[上下]图(?:中|所示)".into(),
    ];
    Regex::new(&pattern.join("|")).expect("a valid pattern")
});

/// A last word after which a sentence goes on.
static DANGLING: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)(?:\b(?:thus|therefore|hence|so|because|since|and|or|but|then|the|of|that|which|where|with)\s*[,:]?|,)$")
        .expect("a valid pattern")
});

/// Words of a passage in the search for loops.
const PASSAGE: usize = 8;
/// Words of a passage in the repeated share.
const LONG_PASSAGE: usize = 16;

impl Purify {
    pub(super) fn fault(&self, record: &Record) -> Option<Fault> {
        let answers: Vec<&str> = match &record.body {
            Body::Text(text) => vec![text],
            Body::Chat(chat) => {
                let said = chat.turns.iter().filter(|turn| turn.role == Role::Assistant);
                said.map(|turn| turn.text.as_str()).collect()
            }
            // The rejected answer may be bad; that is what it is for.
            Body::Pair { chosen, .. } => vec![chosen],
        };
        let asked = match &record.body {
            Body::Text(_) => String::new(),
            body => body.prompt().unwrap_or_default(),
        };
        self.image(&asked)
            .or_else(|| answers.iter().find_map(|answer| self.truncated(answer)))
            .or_else(|| answers.iter().find_map(|answer| self.latex(answer)))
            .or_else(|| answers.iter().find_map(|answer| self.repetition(answer)))
    }

    fn image(&self, asked: &str) -> Option<Fault> {
        let found = IMAGE.find(asked).filter(|_| self.images)?;
        let start = asked[..found.start()].char_indices().rev().nth(40).map_or(0, |(at, _)| at);
        Some(Fault::new(Reason::NeedsImage, &asked[start..found.end()]))
    }

    fn truncated(&self, answer: &str) -> Option<Fault> {
        let said = answer.rsplit_once(THINK_END).map_or(answer, |(_, said)| said).trim();
        let open = answer.matches(THINK).count() > answer.matches(THINK_END).count();
        let why = if open {
            "the thought is not closed"
        } else if said.is_empty() {
            "nothing after the thought"
        } else if said.matches("```").count() % 2 == 1 {
            "a code block is not closed"
        } else if said.matches("\\[").count() > said.matches("\\]").count() {
            "a formula is not closed"
        } else if said.split_whitespace().nth(8).is_some() && DANGLING.is_match(said) {
            "the last sentence is not finished"
        } else {
            return None;
        };
        let fault = || Fault::new(Reason::Truncated, format!("{why}: …{}", tail(answer, 80)));
        self.truncation.then(fault)
    }

    fn latex(&self, answer: &str) -> Option<Fault> {
        let said = answer.rsplit_once(THINK_END).map_or(answer, |(_, said)| said);
        let count = |text: &str| said.matches(text).count();
        let why = if count("\\begin{") != count("\\end{") {
            "\\begin without \\end, or the other way round"
        } else if said.split("\\boxed{").skip(1).any(|inside| !closes(inside)) {
            "\\boxed{ is not closed"
        } else {
            return None;
        };
        self.latex.then(|| Fault::new(Reason::BadLatex, format!("{why}: …{}", tail(said, 80))))
    }

    fn repetition(&self, answer: &str) -> Option<Fault> {
        if !self.repetition {
            return None;
        }
        let words = words(answer);
        if let Some((at, period, times)) = looped(&words, self.loop_words) {
            let passage = words[at..at + period.min(24)].join(" ");
            return Some(Fault::new(Reason::Repetition, format!("{times} times on end: {passage}")));
        }
        let passages = ngrams(&words, LONG_PASSAGE);
        let mut seen = HashSet::new();
        let again = passages.iter().filter(|passage| !seen.insert(**passage)).count();
        let share = again as f64 / passages.len().max(1) as f64;
        let fault = || format!("{:.0} % of its passages occurred before", 100.0 * share);
        (words.len() >= self.loop_words && share > self.repeated_share)
            .then(|| Fault::new(Reason::Repetition, fault()))
    }
}

/// The first passage that is said at least four times on end and fills at least `least` words: where it
/// stands, its words and its times.
///
/// While a text repeats itself with a period, the distance from each passage to its last occurrence stays
/// the same; so one walk finds every period.
fn looped(words: &[String], least: usize) -> Option<(usize, usize, usize)> {
    let mut last: HashMap<u64, usize> = HashMap::new();
    let (mut period, mut run) = (0, 0);
    for (at, passage) in ngrams(words, PASSAGE).into_iter().enumerate() {
        let distance = last.insert(passage, at).map_or(0, |before| at - before);
        run = if distance != 0 && distance == period { run + 1 } else { 1 };
        period = distance;
        let filled = period + run + PASSAGE - 1;
        if period != 0 && filled >= least.max(4 * period) {
            return Some((at + PASSAGE - filled, period, filled / period));
        }
    }
    None
}

/// Whether the brace opened just before `text` is closed in it.
fn closes(text: &str) -> bool {
    let mut depth = 1;
    text.bytes().any(|byte| {
        depth += i32::from(byte == b'{') - i32::from(byte == b'}');
        depth == 0
    })
}

/// The last `n` characters.
fn tail(text: &str, n: usize) -> &str {
    let text = text.trim_end();
    text.char_indices().rev().nth(n - 1).map_or(text, |(at, _)| &text[at..])
}

#[cfg(test)]
mod tests {
    use super::super::testing::record;
    use super::*;

    fn reason(prompt: &str, answer: &str) -> Option<Reason> {
        Purify::default().fault(&record("a:1", prompt, answer)).map(|fault| fault.reason)
    }

    #[test]
    fn loops_are_found_and_doubts_are_not() {
        for period in [3, 7, 20, 90] {
            let phrase: String = (0..period).map(|i| format!("word{i} ")).collect();
            let start: String = (0..300).map(|i| format!("start{i} ")).collect();
            let times = 4.max(64 / period + 1);
            let looped = format!("{start}{} The end.", phrase.repeat(times));
            assert_eq!(reason("Q", &looped), Some(Reason::Repetition), "{period}");
            let twice = format!("{start}{} The end.", phrase.repeat(2));
            assert_eq!(reason("Q", &twice), None, "{period}");
        }
        let paragraphs: Vec<String> =
            (0..4).map(|i| (0..40).map(|j| format!("p{i}w{j} ")).collect()).collect();
        let shuffled: String =
            (0..40).map(|i| format!("step{i} {}", paragraphs[(i * i + i / 3) % 4])).collect();
        assert_eq!(reason("Q", &shuffled), Some(Reason::Repetition));
        let doubts: String =
            (0..60).map(|i| format!("Wait, no, let me check {i}+{} again. ", i * 3)).collect();
        assert_eq!(reason("Q", &doubts), None);
        let table = format!("| a | b |\n|{}|\n| 1 | 2 |\n", "-".repeat(200));
        assert_eq!(reason("Q", &table), None);
        let fault = Purify::default().fault(&record("a:1", "Q", &"Wait, no, wait. ".repeat(40))).unwrap();
        assert!(fault.evidence.contains("times on end: wait no wait"), "{}", fault.evidence);
        assert_eq!(
            Purify { repetition: false, ..Purify::default() }.fault(&record("a:1", "Q", &doubts.repeat(9))),
            None
        );
    }

    #[test]
    fn truncated_answers() {
        for answer in [
            "<think>Since it is",
            "<think>t</think>  \n",
            "Here is the code that you asked for:\n```python\nprint(1)",
            "We add the two numbers and get the sum of both. Thus,",
            "The first of the two numbers is larger than the",
            "Then the value is \\[ x = ",
        ] {
            assert_eq!(reason("Q", answer), Some(Reason::Truncated), "{answer}");
        }
        for answer in
            ["Blue", "and", "<think>Thus,</think> 7", "```\nx\n```", "It is done (mostly)", "- a\n- b"]
        {
            assert_eq!(reason("Q", answer), None, "{answer}");
        }
    }

    #[test]
    fn broken_formulas() {
        for answer in ["\\begin{cases} 1", "It is \\boxed{\\frac{1}{2}", "\\boxed{1} and \\boxed{2"] {
            assert_eq!(reason("Q", answer), Some(Reason::BadLatex), "{answer}");
        }
        assert_eq!(reason("Q", "\\boxed{\\frac{1}{2}} \\begin{cases} 1 \\end{cases}"), None);
    }

    #[test]
    fn questions_that_need_an_image() {
        for prompt in [
            "Find x. [asy] draw((0,0)--(1,1)); [/asy]",
            "What is this? ![alt](http://x.org/a.png)",
            "<img src='a.png'> What is this?",
            "Triangle ABC is as shown in the figure. Find its area.",
            "In the diagram below, find x.",
            "The graph shown below has a hole.",
            "如图，求面积。",
        ] {
            assert_eq!(reason(prompt, "7"), Some(Reason::NeedsImage), "{prompt}");
        }
        for prompt in [
            "将以下图像描述一下。",
            "Draw the graph of f.",
            "Describe an image of a sunset.",
            "Figure out the answer.",
        ] {
            assert_eq!(reason(prompt, "7"), None, "{prompt}");
        }
    }
}
