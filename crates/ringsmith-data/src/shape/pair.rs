//! Preference rows: `chosen` and `rejected`.

use super::{Columns, chat, keys, single, text, unknown};
use crate::ledger::Fault;
use crate::record::{Body, Conversation, Role, Turn};
use serde_json::Value;

/// The answers are texts, messages, or whole conversations that share their beginning.
pub(super) fn body(row: &Columns) -> Result<Body, Fault> {
    let (Some(chosen), Some(rejected)) = (row.get("chosen"), row.get("rejected")) else {
        return Err(unknown(keys(row)));
    };
    let (chosen_start, chosen) = side(chosen)?;
    let (rejected_start, rejected) = side(rejected)?;
    if chosen_start != rejected_start {
        return Err(unknown("chosen and rejected begin with different turns"));
    }
    let turns = ["messages", "conversations"].iter().find_map(|key| row.get(*key));
    let prompt = match (turns, single::prompt(row)?) {
        (Some(turns), _) => Some(chat::conversation(row, turns)?),
        (None, prompt) => prompt,
    };
    let prompt = match prompt {
        // Whole conversations hold the prompt already, also where it stands in a column of its own.
        Some(prompt) if chosen_start.is_empty() => prompt,
        Some(prompt) if prompt.turns.iter().any(|turn| turn.role == Role::System) => {
            let said = chosen_start.into_iter().filter(|turn| turn.role != Role::System);
            let system = prompt.turns.into_iter().filter(|turn| turn.role == Role::System);
            Conversation { turns: system.chain(said).collect() }
        }
        _ if !chosen_start.is_empty() => Conversation { turns: chosen_start },
        _ => return Err(unknown(keys(row))),
    };
    Ok(Body::Pair { prompt, chosen, rejected })
}

/// The turns before an answer, and the answer.
fn side(value: &Value) -> Result<(Vec<Turn>, String), Fault> {
    let written = chat::nested(value);
    let value = written.as_ref().unwrap_or(value);
    match value {
        Value::Object(_) => Ok((Vec::new(), chat::turn(value)?.text)),
        Value::Array(turns) => {
            let mut turns = turns.iter().map(chat::turn).collect::<Result<Vec<_>, _>>()?;
            let last = turns.pop().map(|turn| turn.text).unwrap_or_default();
            Ok((turns, last))
        }
        other => Ok((Vec::new(), text(other))),
    }
}
