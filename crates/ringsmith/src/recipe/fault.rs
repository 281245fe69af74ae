//! Where a recipe is wrong: file, line, column, and the nearest valid key.

use std::{fmt, ops::Range, path::PathBuf};
use toml::de::{DeTable, DeValue};

/// A fault in a recipe file, at a 1-based line and column (in characters).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub file: PathBuf,
    pub line: usize,
    pub column: usize,
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file.display(), self.line, self.column, self.message)
    }
}

impl std::error::Error for Fault {}

/// Names from other tools, and what they are called here.
const ALIASES: &[(&str, &str)] = &[
    ("learning_rate", "lr"),
    ("batch_size", "batch"),
    ("num_epochs", "epochs"),
    ("num_train_epochs", "epochs"),
    ("max_length", "length"),
    ("cutoff_len", "length"),
    ("seq_len", "length"),
    ("warmup_ratio", "warmup"),
    ("max_grad_norm", "clip"),
    ("dataset", "data"),
    ("pref_loss", "loss"),
    ("pref_beta", "beta"),
    ("max_new_tokens", "max_tokens"),
];

impl Fault {
    /// What the TOML reader or serde said, in our words, at its place.
    pub fn from_toml(file: PathBuf, text: &str, error: &toml::de::Error) -> Fault {
        let span = error.span().unwrap_or(0..0);
        let table = table_of(text, &span);
        let place = if table.is_empty() { "at the top level".into() } else { format!("in [{table}]") };
        let message = match Unknown::read(error.message()) {
            Some(unknown) => unknown.describe(&place),
            None if error.message().starts_with("missing field") => {
                let name = quoted(error.message()).first().copied().unwrap_or_default().to_owned();
                let table = enclosing(text, &span);
                let place =
                    if table.is_empty() { "at the top level".into() } else { format!("in [{table}]") };
                format!("missing key \"{name}\" {place}")
            }
            None if error.message() == "duplicate key" => {
                format!("duplicate key \"{}\"", &text[span.clone()])
            }
            None if table.is_empty() => error.message().replace('`', "\""),
            None => format!("{} {place}", error.message().replace('`', "\"")),
        };
        Fault::at(file, text, span.start, message)
    }

    /// A fault of meaning, at the value that `path` (dotted, array places as numbers) leads to, or as near as
    /// the file goes along that path.
    pub fn at_path(file: PathBuf, text: &str, path: &str, message: String) -> Fault {
        let offset = DeTable::parse(text).ok().and_then(|t| locate(t.get_ref(), path)).unwrap_or(0);
        Fault::at(file, text, offset, format!("{path}: {message}"))
    }

    fn at(file: PathBuf, text: &str, offset: usize, message: String) -> Fault {
        let before = &text[..floor_boundary(text, offset)];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Fault { file, line, column, message }
    }
}

fn floor_boundary(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

/// serde's "unknown field" and "unknown variant".
struct Unknown<'a> {
    noun: &'static str,
    given: &'a str,
    valid: Vec<&'a str>,
}

impl<'a> Unknown<'a> {
    fn read(message: &'a str) -> Option<Unknown<'a>> {
        let noun = if message.starts_with("unknown field") {
            "key"
        } else if message.starts_with("unknown variant") {
            "value"
        } else {
            return None;
        };
        let mut names = quoted(message);
        if names.is_empty() {
            return None;
        }
        let given = names.remove(0);
        Some(Unknown { noun, given, valid: names })
    }

    fn describe(&self, place: &str) -> String {
        let mut said = format!("unknown {} \"{}\" {place}", self.noun, self.given);
        if let Some(near) = nearest(self.given, &self.valid) {
            said += &format!("; did you mean \"{near}\"?");
        } else if !self.valid.is_empty() {
            said += &format!("; valid here: {}", self.valid.join(", "));
        }
        said
    }
}

/// The texts between backticks, in order.
fn quoted(message: &str) -> Vec<&str> {
    message.split('`').skip(1).step_by(2).collect()
}

/// The valid name nearest to `given`, if any is near at all. Names of other tools count as near.
pub fn nearest<'a>(given: &str, valid: &[&'a str]) -> Option<&'a str> {
    let score = |name: &str| strsim::jaro_winkler(&given.to_lowercase(), name);
    let direct = valid.iter().map(|v| (score(v), *v));
    let through = ALIASES
        .iter()
        .filter_map(|(other, ours)| valid.iter().find(|v| *v == ours).map(|v| (score(other), *v)));
    direct
        .chain(through)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(score, _)| *score >= 0.7)
        .map(|(_, name)| name)
}

/// What is said of a name that leads nowhere: `no source "fcts"; did you mean "facts"?`.
pub fn unknown(noun: &str, given: &str, valid: &[&str]) -> String {
    match nearest(given, valid) {
        Some(near) => format!("no {noun} \"{given}\"; did you mean \"{near}\"?"),
        None => format!("no {noun} \"{given}\"; there are: {}", valid.join(", ")),
    }
}

/// The dotted name of the table that holds the key or value at `span`.
fn table_of(text: &str, span: &Range<usize>) -> String {
    let Ok(table) = DeTable::parse(text) else { return String::new() };
    let mut path = Vec::new();
    if find(table.get_ref(), span, &mut path) {
        path.pop();
    }
    path.join(".")
}

/// The dotted name of the table that starts at `span` (for a missing key, which has no place of its own).
fn enclosing(text: &str, span: &Range<usize>) -> String {
    let Ok(table) = DeTable::parse(text) else { return String::new() };
    let mut path = Vec::new();
    find(table.get_ref(), span, &mut path);
    path.join(".")
}

fn find(table: &DeTable<'_>, span: &Range<usize>, path: &mut Vec<String>) -> bool {
    for (key, value) in table {
        path.push(key.get_ref().to_string());
        if key.span() == *span || find_value(value, span, path) {
            return true;
        }
        path.pop();
    }
    false
}

fn find_value(value: &toml::Spanned<DeValue<'_>>, span: &Range<usize>, path: &mut Vec<String>) -> bool {
    if value.span() == *span {
        return true;
    }
    match value.get_ref() {
        DeValue::Table(table) => find(table, span, path),
        DeValue::Array(array) => array.iter().any(|item| find_value(item, span, path)),
        _ => false,
    }
}

fn locate(table: &DeTable<'_>, path: &str) -> Option<usize> {
    let mut offset = None;
    let mut parts = path.split('.');
    let (key, mut value) = table.iter().find(|(k, _)| Some(k.get_ref().as_ref()) == parts.clone().next())?;
    parts.next();
    offset.replace(key.span().start);
    for part in parts {
        match value.get_ref() {
            DeValue::Table(inner) => {
                let Some((key, next)) = inner.iter().find(|(k, _)| k.get_ref().as_ref() == part) else {
                    break;
                };
                offset = Some(key.span().start);
                value = next;
            }
            DeValue::Array(items) => {
                let Some(next) = part.parse::<usize>().ok().and_then(|i| items.get(i)) else { break };
                offset = Some(next.span().start);
                value = next;
            }
            _ => break,
        }
    }
    offset
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_knows_typos_and_other_tools_names() {
        let valid = ["lr", "length", "batch", "epochs", "warmup"];
        assert_eq!(nearest("lerning_rate", &valid), Some("lr"));
        assert_eq!(nearest("learning_rate", &valid), Some("lr"));
        assert_eq!(nearest("batch_size", &valid), Some("batch"));
        assert_eq!(nearest("epoch", &valid), Some("epochs"));
        assert_eq!(nearest("zzz", &valid), None);
    }

    #[test]
    fn a_path_is_found_through_tables_and_arrays() {
        let text = "[data.a]\nsources = [\n  { name = \"x\" },\n  { name = \"y\" },\n]\n";
        let fault = Fault::at_path("r.toml".into(), text, "data.a.sources.1.name", "twice".into());
        assert_eq!((fault.line, fault.column), (4, 5));
        let fault = Fault::at_path("r.toml".into(), text, "data.a.nothing", "gone".into());
        assert_eq!(fault.line, 1);
    }
}
