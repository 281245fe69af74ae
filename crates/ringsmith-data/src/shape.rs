//! The shapes in which people keep training rows, and what each means as a record.

mod chat;
mod pair;
mod single;

use crate::ledger::{Fault, Reason};
use crate::record::{Body, Conversation, Record, Role};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A row's columns.
type Columns = Map<String, Value>;

/// Which columns hold what, for rows whose names are none of the usual. A name with dots reaches into
/// nested objects (`reward_model.ground_truth`). Only the columns named here are read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fields {
    /// The question, as text or as a list of messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// The assistant's full answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// The final answer alone; the assistant's text too where `answer` is not given.
    #[serde(default, rename = "final", skip_serializing_if = "Option::is_none")]
    pub final_answer: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
}

impl Fields {
    /// The row with its columns under the usual names.
    fn rename(&self, row: &Columns) -> Result<Columns, Fault> {
        let mut out = Columns::new();
        for (from, to) in [
            (&self.prompt, "prompt"),
            (&self.answer, "completion"),
            (&self.final_answer, "answer"),
            (&self.system, "system"),
            (&self.messages, "messages"),
            (&self.text, "text"),
            (&self.chosen, "chosen"),
            (&self.rejected, "rejected"),
            (&self.task, "task"),
            (&self.level, "level"),
        ] {
            let Some(from) = from else { continue };
            let mut steps = from.split('.');
            let first = steps.next().and_then(|step| row.get(step));
            let value = row.get(from).or_else(|| steps.try_fold(first?, |value, step| value.get(step)));
            let value = value.ok_or_else(|| unknown(format!("no column {from}; {}", keys(row))))?;
            out.insert(to.into(), value.clone());
        }
        Ok(out)
    }
}

/// Reads a row as a record with the given source name and id. The faults are `unknown-shape` (the evidence
/// lists the columns), `empty-prompt`, `empty-answer` and `needs-image`.
pub fn record(row: &Value, source: &str, id: String, fields: Option<&Fields>) -> Result<Record, Fault> {
    let row = row.as_object().ok_or_else(|| unknown(format!("not an object: {row}")))?;
    let renamed = fields.map(|fields| fields.rename(row)).transpose()?;
    let row = renamed.as_ref().unwrap_or(row);
    let (body, answer) = if row.contains_key("chosen") || row.contains_key("rejected") {
        (pair::body(row)?, None)
    } else if let Some(turns) = ["messages", "conversations"].iter().find_map(|key| row.get(*key)) {
        (Body::Chat(chat::conversation(row, turns)?), None)
    } else if let Some(found) = single::body(row)? {
        found
    } else if let Some(text) = row.get("text").and_then(Value::as_str) {
        (Body::Text(text.into()), None)
    } else if single::has_columns(row) {
        return Err(Fault::new(Reason::EmptyPrompt, keys(row)));
    } else {
        return Err(unknown(keys(row)));
    };
    check(&body)?;
    Ok(Record { id, source: source.into(), body, answer, task: task(row), level: level(row) })
}

fn unknown(evidence: impl Into<String>) -> Fault {
    Fault::new(Reason::UnknownShape, evidence)
}

fn keys(row: &Columns) -> String {
    format!("columns: {}", row.keys().map(String::as_str).collect::<Vec<_>>().join(", "))
}

/// A record without a question or without an answer teaches nothing.
fn check(body: &Body) -> Result<(), Fault> {
    let empty = |text: &str| text.trim().is_empty();
    let asks = |chat: &Conversation| {
        if chat.turns.iter().any(|turn| turn.role == Role::User && !empty(&turn.text)) {
            return Ok(());
        }
        Err(Fault::new(Reason::EmptyPrompt, "no user turn with text"))
    };
    match body {
        Body::Text(text) if empty(text) => Err(Fault::new(Reason::EmptyAnswer, "empty text")),
        Body::Text(_) => Ok(()),
        Body::Chat(chat) => {
            asks(chat)?;
            match chat.turns.last() {
                Some(turn) if turn.role != Role::Assistant => {
                    Err(Fault::new(Reason::EmptyAnswer, format!("the last turn is of {:?}", turn.role)))
                }
                Some(turn) if empty(&turn.text) => {
                    Err(Fault::new(Reason::EmptyAnswer, "the last turn is empty"))
                }
                _ => Ok(()),
            }
        }
        Body::Pair { prompt, chosen, rejected } => {
            asks(prompt)?;
            if let Some(turn) =
                prompt.turns.last().filter(|turn| !matches!(turn.role, Role::User | Role::Tool))
            {
                return Err(unknown(format!("the prompt ends with a turn of {:?}", turn.role)));
            }
            for (name, text) in [("chosen", chosen), ("rejected", rejected)] {
                if empty(text) {
                    return Err(Fault::new(Reason::EmptyAnswer, format!("{name} is empty")));
                }
            }
            Ok(())
        }
    }
}

fn task(row: &Columns) -> Option<String> {
    let names = ["task", "type", "subject", "topic", "category"];
    names.iter().find_map(|key| row.get(*key).and_then(Value::as_str)).map(str::to_owned)
}

/// `level` or `difficulty`, as a number or as text such as `Level 3`.
fn level(row: &Columns) -> Option<u8> {
    ["level", "difficulty"].iter().find_map(|key| {
        let number = match row.get(*key)? {
            Value::Number(number) => number.as_f64()?,
            Value::String(text) => {
                text.trim().trim_start_matches(|c: char| !c.is_ascii_digit()).parse().ok()?
            }
            _ => return None,
        };
        (0.0..256.0).contains(&number).then_some(number as u8)
    })
}

/// The text of a cell: a string as it is, nothing for null, anything else as JSON.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
