//! IFEval's 25 instruction checkers (Zhou et al. 2023, arXiv 2311.07911), strict and loose.
//!
//! They follow the published checkers, with two known differences: sentences and capitalised words are
//! counted with rules of our own where the original uses NLTK, and the response language comes from
//! [`language::detect`](super::language::detect) where the original uses `langdetect`.

use super::language;
use anyhow::{Context, Result, bail};
use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::sync::LazyLock;

/// One item of `ifeval.jsonl`: the prompt with its instructions and their arguments, side by side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Item {
    pub prompt: String,
    pub instruction_id_list: Vec<String>,
    pub kwargs: Vec<Map<String, Value>>,
}

/// The instruction ids that [`follows`] knows.
pub const INSTRUCTIONS: [&str; 25] = [
    "keywords:existence",
    "keywords:frequency",
    "keywords:forbidden_words",
    "keywords:letter_frequency",
    "language:response_language",
    "length_constraints:number_sentences",
    "length_constraints:number_paragraphs",
    "length_constraints:number_words",
    "length_constraints:nth_paragraph_first_word",
    "detectable_content:number_placeholders",
    "detectable_content:postscript",
    "detectable_format:number_bullet_lists",
    "detectable_format:constrained_response",
    "detectable_format:number_highlighted_sections",
    "detectable_format:multiple_sections",
    "detectable_format:json_format",
    "detectable_format:title",
    "combination:two_responses",
    "combination:repeat_prompt",
    "startend:end_checker",
    "change_case:capital_word_frequency",
    "change_case:english_capital",
    "change_case:english_lowercase",
    "punctuation:no_comma",
    "startend:quotation",
];

/// Which instructions the response follows as it stands, in order.
///
/// # Errors
/// An unknown instruction or one without its arguments.
pub fn strict(item: &Item, response: &str) -> Result<Vec<bool>> {
    verdicts(item, &[response.to_string()])
}

/// Which instructions it follows in any of the eight readings of the original: with or without the first
/// line, the last line and asterisks.
///
/// # Errors
/// As [`strict`].
pub fn loose(item: &Item, response: &str) -> Result<Vec<bool>> {
    let lines: Vec<&str> = response.split('\n').collect();
    let part = |from: usize, to: usize| {
        lines.get(from..to).map_or(String::new(), |l| l.join("\n").trim().to_string())
    };
    let n = lines.len();
    let cut = [response.to_string(), part(1, n), part(0, n - 1), part(1, n - 1)];
    let bare = cut.clone().map(|text| text.replace('*', ""));
    verdicts(item, &[cut, bare].concat())
}

fn verdicts(item: &Item, readings: &[String]) -> Result<Vec<bool>> {
    if item.instruction_id_list.len() != item.kwargs.len() {
        bail!("{} instructions with {} sets of arguments", item.instruction_id_list.len(), item.kwargs.len());
    }
    let both = item.instruction_id_list.iter().zip(&item.kwargs);
    both.map(|(id, arguments)| {
        let mut followed = false;
        for reading in readings {
            followed |= follows(id, arguments, reading)? && !reading.trim().is_empty();
        }
        Ok(followed)
    })
    .collect()
}

/// The arguments of one instruction, with errors that name it.
struct Arguments<'a> {
    id: &'a str,
    values: &'a Map<String, Value>,
}

impl Arguments<'_> {
    fn get(&self, key: &str) -> Result<&Value> {
        let value = self.values.get(key).filter(|value| !value.is_null());
        value.with_context(|| format!("instruction {} lacks its argument `{key}`", self.id))
    }

    fn text(&self, key: &str) -> Result<&str> {
        self.get(key)?.as_str().with_context(|| format!("instruction {}: `{key}` is not a text", self.id))
    }

    fn number(&self, key: &str) -> Result<usize> {
        let value = self.get(key)?;
        let number = value.as_u64().or_else(|| value.as_f64().filter(|n| *n >= 0.0).map(|n| n as u64));
        Ok(number.with_context(|| format!("instruction {}: `{key}` is not a count", self.id))? as usize)
    }

    fn texts(&self, key: &str) -> Result<Vec<&str>> {
        let list = self.get(key)?.as_array().and_then(|list| list.iter().map(Value::as_str).collect());
        list.with_context(|| format!("instruction {}: `{key}` is not a list of texts", self.id))
    }

    /// `count` stands in the relation (`less than` or `at least`) to the bound.
    fn related(&self, count: usize, relation: &str, bound: &str) -> Result<bool> {
        let bound = self.number(bound)?;
        match self.text(relation)? {
            "less than" => Ok(count < bound),
            "at least" => Ok(count >= bound),
            other => bail!("instruction {}: unknown relation `{other}`", self.id),
        }
    }
}

macro_rules! pattern {
    ($name:ident, $text:expr) => {
        static $name: LazyLock<Regex> = LazyLock::new(|| Regex::new($text).unwrap());
    };
}

pattern!(WORD, r"\w+");
pattern!(TOKEN, r"\w+(?:[-'’.]\w+)*");
pattern!(PLACEHOLDER, r"\[.*?\]");
pattern!(DIVIDER, r"\s?\*\*\*\s?");
pattern!(STAR_BULLET, r"(?m)^\s*\*[^\*].*$");
pattern!(DASH_BULLET, r"(?m)^\s*-.*$");
pattern!(HIGHLIGHT, r"\*[^\n\*]*\*");
pattern!(DOUBLE_HIGHLIGHT, r"\*\*[^\n\*]*\*\*");
pattern!(TITLE, r"<<[^\n]+>>");
pattern!(SENTENCE_END, r#"[.!?。！？]+["'”’)\]]*(?:\s+|$)"#);

/// Whether a response follows one instruction.
///
/// # Errors
/// An unknown instruction or a missing argument.
pub fn follows(id: &str, values: &Map<String, Value>, response: &str) -> Result<bool> {
    let arguments = Arguments { id, values };
    let lower = response.to_lowercase();
    Ok(match id {
        "keywords:existence" => {
            arguments.texts("keywords")?.iter().all(|word| lower.contains(&word.to_lowercase()))
        }
        "keywords:frequency" => {
            let count = lower.matches(&arguments.text("keyword")?.trim().to_lowercase()).count();
            arguments.related(count, "relation", "frequency")?
        }
        "keywords:forbidden_words" => {
            let mut absent = true;
            for word in arguments.texts("forbidden_words")? {
                let pattern = format!(r"\b{}\b", regex::escape(word));
                absent &= !RegexBuilder::new(&pattern).case_insensitive(true).build()?.is_match(response);
            }
            absent
        }
        "keywords:letter_frequency" => {
            let count = lower.matches(&arguments.text("letter")?.to_lowercase()).count();
            arguments.related(count, "let_relation", "let_frequency")?
        }
        "language:response_language" => {
            // The original also lets a text pass that its detector cannot place.
            let wanted = arguments.text("language")?;
            language::detect(response).is_none_or(|found| found == wanted)
        }
        "length_constraints:number_sentences" => {
            arguments.related(sentences(response), "relation", "num_sentences")?
        }
        "length_constraints:number_paragraphs" => {
            let parts: Vec<&str> = DIVIDER.split(response).collect();
            let blank = |part: &str| part.trim().is_empty();
            let inner_blank = parts.len() > 2 && parts[1..parts.len() - 1].iter().any(|part| blank(part));
            let count = parts.iter().filter(|part| !blank(part)).count();
            !inner_blank && count == arguments.number("num_paragraphs")?
        }
        "length_constraints:number_words" => {
            arguments.related(WORD.find_iter(response).count(), "relation", "num_words")?
        }
        "length_constraints:nth_paragraph_first_word" => {
            let parts: Vec<&str> = response.split("\n\n").collect();
            let count = parts.iter().filter(|part| !part.trim().is_empty()).count();
            let nth = arguments.number("nth_paragraph")?;
            let word = if nth == 0 || nth > count { None } else { parts[nth - 1].split_whitespace().next() };
            let bare = word.unwrap_or("").trim_start_matches('\'').trim_start_matches('"');
            let end = bare.find(['.', ',', '?', '!', '\'', '"']).unwrap_or(bare.len());
            count == arguments.number("num_paragraphs")?
                && bare[..end].to_lowercase() == arguments.text("first_word")?.to_lowercase()
        }
        "detectable_content:number_placeholders" => {
            PLACEHOLDER.find_iter(response).count() >= arguments.number("num_placeholders")?
        }
        "detectable_content:postscript" => {
            let pattern = match arguments.text("postscript_marker")?.trim() {
                "P.P.S" => r"p\.\s?p\.\s?s".to_string(),
                "P.S." => r"p\.\s?s\.".to_string(),
                marker => regex::escape(&marker.to_lowercase()),
            };
            Regex::new(&pattern)?.is_match(&lower)
        }
        "detectable_format:number_bullet_lists" => {
            let count = STAR_BULLET.find_iter(response).count() + DASH_BULLET.find_iter(response).count();
            count == arguments.number("num_bullets")?
        }
        "detectable_format:constrained_response" => {
            ["My answer is yes.", "My answer is no.", "My answer is maybe."]
                .iter()
                .any(|a| response.contains(a))
        }
        "detectable_format:number_highlighted_sections" => {
            let filled = |text: &str, marks: &str| {
                let inner = text.strip_prefix(marks).and_then(|text| text.strip_suffix(marks));
                !inner.unwrap_or("").trim().is_empty()
            };
            let single = HIGHLIGHT.find_iter(response).filter(|m| filled(m.as_str(), "*")).count();
            let double = DOUBLE_HIGHLIGHT.find_iter(response).filter(|m| filled(m.as_str(), "**")).count();
            single + double >= arguments.number("num_highlights")?
        }
        "detectable_format:multiple_sections" => {
            let splitter = regex::escape(arguments.text("section_spliter")?.trim());
            let count = Regex::new(&format!(r"\s?{splitter}\s?\d+\s?"))?.find_iter(response).count();
            count >= arguments.number("num_sections")?
        }
        "detectable_format:json_format" => {
            let mut text = response.trim();
            for fence in ["```json", "```Json", "```JSON", "```"] {
                text = text.strip_prefix(fence).unwrap_or(text);
            }
            serde_json::from_str::<Value>(text.strip_suffix("```").unwrap_or(text).trim()).is_ok()
        }
        "detectable_format:title" => TITLE
            .find_iter(response)
            .any(|m| !m.as_str().trim_start_matches('<').trim_end_matches('>').trim().is_empty()),
        "combination:two_responses" => {
            let parts: Vec<&str> = response.split("******").collect();
            let inner_blank =
                parts.len() > 2 && parts[1..parts.len() - 1].iter().any(|part| part.trim().is_empty());
            let filled: Vec<&str> =
                parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty()).collect();
            !inner_blank && filled.len() == 2 && filled[0] != filled[1]
        }
        "combination:repeat_prompt" => {
            lower.trim().starts_with(&arguments.text("prompt_to_repeat")?.trim().to_lowercase())
        }
        "startend:end_checker" => {
            let phrase = arguments.text("end_phrase")?.trim().to_lowercase();
            lower.trim().trim_matches('"').ends_with(&phrase)
        }
        "startend:quotation" => {
            let text = response.trim();
            text.chars().count() > 1 && text.starts_with('"') && text.ends_with('"')
        }
        "change_case:capital_word_frequency" => {
            let count = TOKEN.find_iter(response).filter(|word| upper(word.as_str())).count();
            arguments.related(count, "capital_relation", "capital_frequency")?
        }
        "change_case:english_capital" => upper(response) && english(&lower),
        "change_case:english_lowercase" => {
            response == lower && response.chars().any(char::is_lowercase) && english(response)
        }
        "punctuation:no_comma" => !response.contains(','),
        other => bail!("unknown IFEval instruction `{other}`"),
    })
}

/// Python's `isupper`: some letter has case, and none is lower case.
fn upper(text: &str) -> bool {
    text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase)
}

fn english(text: &str) -> bool {
    language::detect(text).is_none_or(|found| found == "en")
}

/// Sentences end with a mark before a blank or the end; abbreviations, initials and list numbers do not count.
fn sentences(text: &str) -> usize {
    let mut count = 0;
    let mut start = 0;
    for end in SENTENCE_END.find_iter(text) {
        let before = &text[start..end.start()];
        let word = before.rsplit(|c: char| c.is_whitespace() || c == '(').next().unwrap_or("");
        let dot = end.as_str().trim_end() == ".";
        let short = ["mr", "mrs", "ms", "dr", "prof", "st", "vs", "e.g", "i.e", "etc", "jr", "sr", "no"];
        let initial = word.chars().count() == 1 && word.chars().all(char::is_uppercase) && word != "I";
        let number = !word.is_empty() && word.chars().all(|c| c.is_ascii_digit()) && before.trim() == word;
        if dot
            && end.end() < text.len()
            && (short.contains(&word.to_lowercase().as_str()) || initial || number)
        {
            continue;
        }
        if before.chars().any(char::is_alphanumeric) {
            count += 1;
        }
        start = end.end();
    }
    count + usize::from(text[start..].chars().any(char::is_alphanumeric))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(id: &str, arguments: Value, yes: &[&str], no: &[&str]) {
        let arguments = arguments.as_object().unwrap();
        for text in yes {
            assert!(follows(id, arguments, text).unwrap(), "{id}: {text}");
        }
        for text in no {
            assert!(!follows(id, arguments, text).unwrap(), "{id}: {text}");
        }
    }

    #[test]
    fn every_instruction() {
        check("keywords:existence", json!({"keywords": ["Fox", "dog"]}), &["A fox, two DOGS"], &["A fox"]);
        let frequency = |relation| json!({"keyword": "ha", "relation": relation, "frequency": 2});
        check("keywords:frequency", frequency("at least"), &["ha HA"], &["ha"]);
        check("keywords:frequency", frequency("less than"), &["ha"], &["ha ha"]);
        check(
            "keywords:forbidden_words",
            json!({"forbidden_words": ["cat"]}),
            &["concatenate"],
            &["My Cat."],
        );
        let letters = json!({"letter": "e", "let_relation": "at least", "let_frequency": 2});
        check("keywords:letter_frequency", letters, &["Eel"], &["elk"]);
        check(
            "language:response_language",
            json!({"language": "ko"}),
            &["안녕하세요"],
            &["hello to the world"],
        );
        let sentences = json!({"relation": "less than", "num_sentences": 3});
        check(
            "length_constraints:number_sentences",
            sentences,
            &["Dr. Who is here. Yes!"],
            &["A b. C d. E f."],
        );
        let paragraphs = json!({"num_paragraphs": 2});
        let (yes, no) = (["a\n***\nb", "a *** b\n***\n"], ["a", "a\n***\n***\nb", "a\n***\nb\n***\nc"]);
        check("length_constraints:number_paragraphs", paragraphs, &yes, &no);
        let words = json!({"relation": "at least", "num_words": 3});
        check("length_constraints:number_words", words, &["one two, three"], &["one two"]);
        let first = json!({"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "then"});
        let id = "length_constraints:nth_paragraph_first_word";
        check(id, first, &["a\n\n\"Then, b"], &["a\n\nb", "then", "a\n\nthen\n\nc"]);
        check(
            "detectable_content:number_placeholders",
            json!({"num_placeholders": 2}),
            &["[a] [b]"],
            &["[a]"],
        );
        check(
            "detectable_content:postscript",
            json!({"postscript_marker": "P.S."}),
            &["x\nP.S. y"],
            &["x PS y"],
        );
        check(
            "detectable_content:postscript",
            json!({"postscript_marker": "P.P.S"}),
            &["p.p.s y"],
            &["P.S. y"],
        );
        let bullets = json!({"num_bullets": 2});
        check("detectable_format:number_bullet_lists", bullets, &["* a\n- b"], &["* a", "* a\n* b\n* c"]);
        check(
            "detectable_format:constrained_response",
            json!({}),
            &["My answer is no."],
            &["My answer is no"],
        );
        let highlights = json!({"num_highlights": 2});
        check("detectable_format:number_highlighted_sections", highlights, &["*a* b *c*"], &["*a*", "** **"]);
        let sections = json!({"section_spliter": "SECTION", "num_sections": 2});
        check(
            "detectable_format:multiple_sections",
            sections,
            &["SECTION 1 a\nSECTION 2 b"],
            &["SECTION 1 a"],
        );
        check("detectable_format:json_format", json!({}), &["```json\n{\"a\": 1}\n```", "[1]"], &["{a}"]);
        check("detectable_format:title", json!({}), &["<<A title>>\ntext"], &["<< >>", "<title>"]);
        check(
            "combination:two_responses",
            json!({}),
            &["a\n******\nb"],
            &["a", "a******a", "a******b******c"],
        );
        check(
            "combination:repeat_prompt",
            json!({"prompt_to_repeat": "Say it"}),
            &["say it: x"],
            &["x say it"],
        );
        check("startend:end_checker", json!({"end_phrase": "Bye."}), &["ok. bye.\" "], &["bye. ok"]);
        check("startend:quotation", json!({}), &["\"a\""], &["\"a", "\"", "a"]);
        let capitals = json!({"capital_relation": "at least", "capital_frequency": 2});
        check("change_case:capital_word_frequency", capitals, &["NASA and ESA"], &["NASA and Esa"]);
        check("change_case:english_capital", json!({}), &["THE CAT IS ON THE MAT."], &["The cat", "123"]);
        check("change_case:english_lowercase", json!({}), &["the cat is on the mat."], &["The cat", "123"]);
        check("punctuation:no_comma", json!({}), &["a b"], &["a, b"]);
    }

    #[test]
    fn every_listed_instruction_is_known_and_others_are_refused() {
        for id in INSTRUCTIONS {
            if let Err(error) = follows(id, &Map::new(), "x") {
                assert!(error.to_string().contains("lacks its argument"), "{error}");
            }
        }
        assert!(follows("poetry:rhyme", &Map::new(), "x").unwrap_err().to_string().contains("poetry:rhyme"));
    }

    #[test]
    fn loose_forgives_an_opening_line() {
        let item = Item {
            prompt: "p".into(),
            instruction_id_list: vec!["startend:quotation".into(), "punctuation:no_comma".into()],
            kwargs: vec![Map::new(), Map::new()],
        };
        let response = "Sure, here it is:\n\"quoted\"";
        assert_eq!(strict(&item, response).unwrap(), [false, false]);
        assert_eq!(loose(&item, response).unwrap(), [true, true]);
        assert_eq!(strict(&item, "").unwrap(), [false, false]);
    }
}
