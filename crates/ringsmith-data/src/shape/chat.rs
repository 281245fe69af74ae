//! Conversations: OpenAI `messages` and ShareGPT `conversations`.

use super::{Columns, text, unknown};
use crate::ledger::{Fault, Reason};
use crate::record::{Conversation, Role, Turn};
use serde_json::{Value, json};

/// The turns of a list in either form, after the row's own `system` text and its `tools`.
pub(super) fn conversation(row: &Columns, turns: &Value) -> Result<Conversation, Fault> {
    let written = nested(turns);
    let turns = written.as_ref().unwrap_or(turns);
    let turns = turns.as_array().ok_or_else(|| unknown(format!("the turns are no list: {turns}")))?;
    let mut turns = turns.iter().map(turn).collect::<Result<Vec<_>, _>>()?;
    let own = row.get("system").map(text).unwrap_or_default();
    let tools = row.get("tools").and_then(tools).unwrap_or_default();
    let said = match turns.first() {
        Some(turn) if turn.role == Role::System => turns.remove(0).text,
        _ => String::new(),
    };
    let parts: Vec<&str> =
        [&own, &said, &tools].map(|s| s.trim()).into_iter().filter(|s| !s.is_empty()).collect();
    if !parts.is_empty() {
        turns.insert(0, Turn::new(Role::System, parts.join("\n\n")));
    }
    Ok(Conversation { turns })
}

/// Turns that a cell holds as JSON text, as CSV files must: a list of them, or a single one.
pub(super) fn nested(cell: &Value) -> Option<Value> {
    let text = cell.as_str()?.trim();
    let value: Value = text.starts_with(['[', '{']).then(|| serde_json::from_str(text).ok())??;
    let is_turn = |turn: &Value| turn.get("role").or_else(|| turn.get("from")).is_some_and(Value::is_string);
    match &value {
        Value::Array(turns) => !turns.is_empty() && turns.iter().all(is_turn),
        turn => is_turn(turn),
    }
    .then_some(value)
}

/// What the system turn says of the tools on offer, if there are any.
fn tools(tools: &Value) -> Option<String> {
    let list = text(tools);
    let none = matches!(list.trim(), "" | "[]" | "{}");
    (!none).then(|| format!("You can call these tools:\n{}", list.trim()))
}

/// One turn: `{role, content}` or `{from, value}`.
pub(super) fn turn(turn: &Value) -> Result<Turn, Fault> {
    let name = turn.get("role").or_else(|| turn.get("from")).and_then(Value::as_str);
    let name = name.ok_or_else(|| unknown(format!("a turn without role: {turn}")))?;
    let role = match name.to_ascii_lowercase().as_str() {
        "system" | "developer" => Role::System,
        "user" | "human" => Role::User,
        "assistant" | "gpt" | "bot" | "model" | "function_call" => Role::Assistant,
        "tool" | "function" | "observation" | "ipython" => Role::Tool,
        _ => return Err(unknown(format!("role {name}"))),
    };
    let said = match turn.get("content").or_else(|| turn.get("value")) {
        Some(value) => content(value)?,
        None if turn.get("tool_calls").is_some() => String::new(),
        None => return Err(unknown(format!("a turn without content: {turn}"))),
    };
    let calls = turn.get("tool_calls").and_then(calls);
    let parts: Vec<&str> = [Some(said.as_str()), calls.as_deref()].into_iter().flatten().collect();
    Ok(Turn::new(role, parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")))
}

/// A message's content: text, null, or a list of parts that are all text.
fn content(value: &Value) -> Result<String, Fault> {
    let Some(parts) = value.as_array() else { return Ok(text(value)) };
    let mut out = String::new();
    for part in parts {
        let kind = part.get("type").and_then(Value::as_str).unwrap_or("text");
        if kind.contains("image") {
            return Err(Fault::new(Reason::NeedsImage, format!("a part of type {kind}")));
        }
        match part.get("text").or_else(|| part.get("value")).unwrap_or(part) {
            Value::String(text) => out += text,
            _ => return Err(unknown(format!("a content part without text: {part}"))),
        }
    }
    Ok(out)
}

/// OpenAI tool calls as the JSON text that the assistant says: one object, or a list of several.
fn calls(calls: &Value) -> Option<String> {
    let mut said: Vec<Value> = calls
        .as_array()?
        .iter()
        .map(|call| {
            let function = call.get("function").unwrap_or(call);
            let arguments = match function.get("arguments") {
                // OpenAI writes the arguments as JSON inside a string.
                Some(Value::String(inner)) => {
                    serde_json::from_str(inner).unwrap_or_else(|_| Value::from(inner.as_str()))
                }
                Some(arguments) => arguments.clone(),
                None => json!({}),
            };
            json!({"name": function.get("name"), "arguments": arguments})
        })
        .collect();
    match said.len() {
        0 => None,
        1 => said.pop().map(|call| call.to_string()),
        _ => Some(Value::Array(said).to_string()),
    }
}
