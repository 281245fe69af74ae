//! Lists under checkable constraints.

use super::{Item, Rng};
use regex::Regex;
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;

/// The closed categories: singular, plural and eight members in the teacher's cyclic order.
pub(super) const CATEGORIES: [(&str, &str, [&str; 8]); 5] = [
    ("animal", "animals", ["cat", "dog", "fox", "owl", "bear", "wolf", "horse", "mouse"]),
    ("color", "colors", ["red", "blue", "green", "black", "white", "brown", "pink", "gray"]),
    ("food", "foods", ["bread", "rice", "soup", "cake", "cheese", "apple", "fish", "corn"]),
    ("metal", "metals", ["iron", "gold", "tin", "lead", "zinc", "copper", "silver", "nickel"]),
    ("thing", "things", ["drum", "chair", "boat", "clock", "lamp", "door", "bell", "rope"]),
];
const CLOSINGS: [&str; 3] = ["done", "over", "thanks"];

/// How the members of a list are separated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Separator {
    Blank,
    Commas,
    Bars,
}

impl Separator {
    fn text(self) -> &'static str {
        match self {
            Separator::Blank => " ",
            Separator::Commas => ", ",
            Separator::Bars => " | ",
        }
    }
}

/// What an instruct prompt asks for. It stands as compact JSON in the record's `answer`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Constraints {
    /// Plural name of the category, e.g. `metals`.
    pub category: String,
    pub count: usize,
    pub separator: Separator,
    pub capitals: bool,
    /// The first word, where one is asked for.
    pub first: Option<String>,
    /// The closing word after the list, where one is asked for.
    pub closing: Option<String>,
}

impl Constraints {
    /// All of them hold for `text`: count, separator, case, distinct members of the category, first and
    /// closing word. Blanks around the text do not matter.
    pub fn hold(&self, text: &str) -> bool {
        let Some((.., members)) = CATEGORIES.iter().find(|c| c.1 == self.category) else { return false };
        let text = text.trim();
        let cased = if self.capitals { text.to_uppercase() } else { text.to_lowercase() };
        if text != cased {
            return false;
        }
        let lower = text.to_lowercase();
        let list = match &self.closing {
            None => lower.as_str(),
            Some(closing) => match lower.strip_suffix(closing).and_then(|list| list.strip_suffix(' ')) {
                Some(list) => list,
                None => return false,
            },
        };
        let words: Vec<&str> = list.split(self.separator.text()).collect();
        let distinct = words.iter().enumerate().all(|(i, word)| !words[..i].contains(word));
        words.len() == self.count
            && distinct
            && words.iter().all(|word| members.contains(word))
            && self.first.as_deref().is_none_or(|first| words[0] == first)
    }

    fn teacher(&self) -> String {
        let members = CATEGORIES.iter().find(|c| c.1 == self.category).map_or([""; 8], |c| c.2);
        let first = self.first.as_deref().and_then(|w| members.iter().position(|m| *m == w)).unwrap_or(0);
        let words: Vec<&str> = (0..self.count).map(|i| members[(first + i) % 8]).collect();
        let closing = self.closing.as_ref().map_or(String::new(), |word| format!(" {word}"));
        let text = format!(" {}{closing}", words.join(self.separator.text()));
        if self.capitals { text.to_uppercase() } else { text }
    }

    fn json(&self) -> String {
        serde_json::to_string(self).expect("constraints are plain data")
    }
}

pub(super) fn item(level: u8, rng: &mut Rng) -> Item {
    let (singular, plural, members) = rng.pick(&CATEGORIES);
    let count = if level == 1 { rng.within(1, 5) } else { rng.within(4, 8) } as usize;
    let constraints = Constraints {
        category: plural.to_string(),
        count,
        separator: *rng.pick(&[Separator::Blank, Separator::Commas, Separator::Bars]),
        capitals: rng.chance(0.4),
        first: rng.chance(0.5).then(|| rng.pick(members).to_string()),
        closing: rng.chance(0.6).then(|| rng.pick(&CLOSINGS).to_string()),
    };
    let mut clauses = Vec::new();
    match constraints.separator {
        Separator::Blank => {}
        Separator::Commas => clauses.push("with commas".to_string()),
        Separator::Bars => clauses.push("with bars".to_string()),
    }
    if constraints.capitals {
        clauses.push("in capitals".into());
    }
    clauses.extend(constraints.first.iter().map(|word| format!("starting with {word}")));
    clauses.extend(constraints.closing.iter().map(|word| format!("ending with {word}")));
    rng.shuffle(&mut clauses);
    let verb = rng.pick(&["List", "Name", "Give"]);
    let noun = if count == 1 { singular } else { plural };
    let mut prompt = format!(" {verb} {count} {noun}");
    for clause in clauses {
        prompt.push_str(", ");
        prompt.push_str(&clause);
    }
    prompt.push('.');
    let json = constraints.json();
    let reply = constraints.teacher();
    Item { key: json.clone(), system: None, prompt, thought: String::new(), reply, answer: Some(json) }
}

static HEAD: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^ \w+ (\d+) (\w+)[,.]").unwrap());

/// The constraints that a prompt states, as JSON.
pub(super) fn read_key(prompt: &str) -> Option<String> {
    let head = HEAD.captures(prompt)?;
    let category = CATEGORIES.iter().find(|c| c.0 == &head[2] || c.1 == &head[2])?.1;
    let mut constraints = Constraints {
        category: category.into(),
        count: head[1].parse().ok()?,
        separator: Separator::Blank,
        capitals: false,
        first: None,
        closing: None,
    };
    for clause in prompt.trim_end_matches('.').split(", ").skip(1) {
        match clause.rsplit_once(' ')? {
            ("with", "commas") => constraints.separator = Separator::Commas,
            ("with", "bars") => constraints.separator = Separator::Bars,
            ("in", "capitals") => constraints.capitals = true,
            ("starting with", word) => constraints.first = Some(word.into()),
            ("ending with", word) => constraints.closing = Some(word.into()),
            _ => return None,
        }
    }
    Some(constraints.json())
}
