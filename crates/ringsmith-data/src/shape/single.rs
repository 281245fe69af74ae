//! Rows with a question and an answer in columns: Alpaca, self-instruct, GSM8K, MATH, prompt/completion.

use super::{Columns, chat, text, unknown};
use crate::ledger::Fault;
use crate::record::{Body, Conversation, Role, Turn};
use serde_json::Value;

/// Columns that hold the question, the more telling first.
const PROMPTS: [&str; 6] = ["problem", "instruction", "question", "prompt", "query", "input"];
/// Columns that hold the assistant's text, the longest form first.
const ANSWERS: [&str; 6] = ["model_completion", "completion", "response", "output", "solution", "answer"];

/// The conversation and the final answer it states; none when the row has no question or no answer column.
pub(super) fn body(row: &Columns) -> Result<Option<(Body, Option<String>)>, Fault> {
    let Some(mut chat) = prompt(row)? else { return Ok(None) };
    let filled = ANSWERS.iter().find(|key| row.get(**key).is_some_and(|value| !value.is_null()));
    let column = filled.or_else(|| ANSWERS.iter().find(|key| row.contains_key(**key)));
    let said = match (column, row.get("instances")) {
        (_, Some(instances)) => {
            let (input, output) = instance(instances)?;
            join(&mut chat, &input);
            output
        }
        (Some(column), None) => match &row[*column] {
            // A completion may be a list with the assistant's message.
            Value::Array(turns) if turns.iter().all(Value::is_object) => {
                turns.last().map(chat::turn).transpose()?.map(|turn| turn.text).unwrap_or_default()
            }
            value => text(value),
        },
        (None, None) => return Ok(None),
    };
    let stated = row.get("answer").map(text).map(|answer| answer.trim().to_owned());
    let answer = match column {
        // GSM8K ends its worked answers with `#### x`.
        Some(&"answer") if said.contains("####") => {
            said.rsplit_once("####").map(|(_, last)| last.trim().to_owned())
        }
        // In a question-and-answer row the answer may be prose; beside a problem, or as a bare number, it is
        // the final answer.
        Some(&"answer") => stated.filter(|answer| row.contains_key("problem") || is_number(answer)),
        _ => stated,
    };
    chat.turns.push(Turn::new(Role::Assistant, said));
    Ok(Some((Body::Chat(chat), answer.filter(|answer| !answer.is_empty()))))
}

fn is_number(text: &str) -> bool {
    text.parse::<f64>().is_ok_and(f64::is_finite)
}

/// Whether the row has columns for a question and an answer, be they null.
pub(super) fn has_columns(row: &Columns) -> bool {
    let has = |keys: &[&str]| keys.iter().any(|key| row.contains_key(*key));
    has(&PROMPTS) && has(&ANSWERS)
}

/// The question with what belongs before it: system text, Alpaca's `history` and `input`.
pub(super) fn prompt(row: &Columns) -> Result<Option<Conversation>, Fault> {
    let Some(key) = PROMPTS.iter().find(|key| row.get(**key).is_some_and(|value| !value.is_null())) else {
        return Ok(None);
    };
    if let turns @ Value::Array(_) = &row[*key] {
        return chat::conversation(row, turns).map(Some);
    }
    let mut turns = Vec::new();
    let system = row.get("system").map(text).unwrap_or_default();
    if !system.trim().is_empty() {
        turns.push(Turn::new(Role::System, system));
    }
    if let Some(Value::Array(history)) = row.get("history") {
        for exchange in history {
            match exchange.as_array().map(Vec::as_slice) {
                Some([asked, said]) => {
                    turns.push(Turn::new(Role::User, text(asked)));
                    turns.push(Turn::new(Role::Assistant, text(said)));
                }
                _ => return Err(unknown(format!("an exchange of history: {exchange}"))),
            }
        }
    }
    turns.push(Turn::new(Role::User, text(&row[*key])));
    let mut chat = Conversation { turns };
    if *key == "instruction" {
        let input = row.get("input").or_else(|| row.get("context")).map(text).unwrap_or_default();
        join(&mut chat, &input);
    }
    Ok(Some(chat))
}

/// Adds an instruction's input to the question.
fn join(chat: &mut Conversation, input: &str) {
    if let Some(turn) = chat.turns.last_mut()
        && !input.trim().is_empty()
    {
        turn.text = format!("{}\n{input}", turn.text);
    }
}

/// The first instance of a self-instruct task that has an output.
fn instance(instances: &Value) -> Result<(String, String), Fault> {
    let instances = instances.as_array().ok_or_else(|| unknown("instances is no list"))?;
    let cell = |instance: &Value, key| instance.get(key).map(text).unwrap_or_default();
    let mut pairs = instances.iter().map(|instance| (cell(instance, "input"), cell(instance, "output")));
    Ok(pairs.find(|(_, output)| !output.trim().is_empty()).unwrap_or_default())
}
