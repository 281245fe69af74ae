//! BFCL's AST checker for one call (category `simple_python`), after `ast_checker.py` of the
//! Berkeley Function-Calling Leaderboard.

use super::python::{self, Call};
use anyhow::{Context, Result, ensure};
use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::sync::LazyLock;

/// An item: the function that may be called (`name`, `description`, `parameters`) and what the right call
/// may look like, `{name: {parameter: [accepted values]}}`, where `""` means that it may be left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Item {
    pub function: Value,
    pub possible: Map<String, Value>,
}

static CODE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?s)^```[a-z_]*\s*(.*?)\s*```$").unwrap());

/// The calls of a response: Python `[f(a=1)]`, or JSON `{"name", "arguments"}` alone or in a list, bare, in
/// a code fence or in `<tool_call>` tags. `None` when it is anything else.
pub fn calls(response: &str) -> Option<Vec<Call>> {
    let mut text = response.trim();
    if let Some(inner) = text.strip_prefix("<tool_call>") {
        text = inner.strip_suffix("</tool_call>").unwrap_or(inner).trim();
    }
    if let Some(found) = CODE.captures(text) {
        text = found.get(1)?.as_str();
    }
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Array(list)) => list.iter().map(json_call).collect(),
        Ok(value) => Some(vec![json_call(&value)?]),
        Err(_) => python::calls(text),
    }
}

fn json_call(value: &Value) -> Option<Call> {
    let arguments = match value.get("arguments").or_else(|| value.get("parameters"))? {
        Value::Object(arguments) => arguments.clone(),
        // OpenAI's wire format carries them as a text.
        Value::String(text) => serde_json::from_str(text).ok()?,
        _ => return None,
    };
    Some(Call { name: value.get("name")?.as_str()?.to_string(), arguments })
}

/// The response is exactly one call, and it is right.
///
/// # Errors
/// An item that lacks a name, parameters or a possible answer.
pub fn right(item: &Item, response: &str) -> Result<bool> {
    let calls = calls(response);
    match calls.as_deref() {
        Some([call]) => matches(item, call),
        _ => Ok(false),
    }
}

fn matches(item: &Item, call: &Call) -> Result<bool> {
    let name = item.function["name"].as_str().context("BFCL function without a name")?;
    let parameters = &item.function["parameters"];
    let properties = parameters["properties"].as_object();
    let properties = properties.with_context(|| format!("BFCL function {name} has no properties"))?;
    ensure!(
        item.possible.len() == 1,
        "BFCL function {name}: {} possible answers, not one",
        item.possible.len()
    );
    let accepted = item.possible.values().next().and_then(Value::as_object);
    let accepted =
        accepted.with_context(|| format!("BFCL function {name}: the possible answer is no object"))?;
    let required: Vec<&str> =
        parameters["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let named = call.name == name && required.iter().all(|key| call.arguments.contains_key(*key));
    let given = call.arguments.iter().all(|(key, value)| match (properties.get(key), accepted.get(key)) {
        (Some(schema), Some(Value::Array(options))) => fits(value, schema, options),
        _ => false,
    });
    let left_out =
        accepted.iter().all(|(key, options)| call.arguments.contains_key(key) || optional(options));
    Ok(named && given && left_out)
}

fn optional(options: &Value) -> bool {
    options.as_array().is_some_and(|options| options.iter().any(|option| option == ""))
}

/// The value has the parameter's type and is one of the accepted ones.
fn fits(value: &Value, schema: &Value, options: &[Value]) -> bool {
    let kind = schema["type"].as_str().unwrap_or("any");
    let typed = match kind {
        "integer" => value.is_i64() || value.is_u64(),
        "float" | "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "array" | "tuple" => value.as_array().is_some_and(|list| {
            let items = schema["items"]["type"].as_str();
            items.is_none_or(|kind| list.iter().all(|element| element_fits(element, kind)))
        }),
        "dict" => value.is_object(),
        _ => true,
    };
    // A value of another type passes only where the answers list that very type (a variable, say).
    if !typed && !options.iter().any(|option| option != "" && same_type(option, value)) {
        return false;
    }
    options.iter().any(|option| same(value, option))
}

fn element_fits(element: &Value, kind: &str) -> bool {
    match kind {
        "integer" => element.is_i64() || element.is_u64(),
        "float" | "number" => element.is_number(),
        "boolean" => element.is_boolean(),
        "string" => element.is_string(),
        "array" | "tuple" => element.is_array(),
        "dict" => element.is_object(),
        _ => true,
    }
}

fn same_type(a: &Value, b: &Value) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b) && a.is_f64() == b.is_f64()
}

/// Equal as the checker means it: texts without regard to case, blanks and ` ,./-_*^`; numbers by value;
/// lists in order; in objects each key has its own list of accepted values.
fn same(value: &Value, option: &Value) -> bool {
    match (value, option) {
        (Value::String(a), Value::String(b)) => plain(a) == plain(b),
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            let given = a.iter().all(|(key, value)| match b.get(key) {
                Some(Value::Array(options)) => options.iter().any(|option| same(value, option)),
                _ => false,
            });
            given && b.iter().all(|(key, options)| a.contains_key(key) || optional(options))
        }
        (a, b) => a == b,
    }
}

fn plain(text: &str) -> String {
    let kept = text.chars().filter(|c| !matches!(c, ' ' | ',' | '.' | '/' | '-' | '_' | '*' | '^'));
    kept.collect::<String>().to_lowercase().replace('\'', "\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn item() -> Item {
        let properties = json!({
            "base": {"type": "integer"},
            "scale": {"type": "float"},
            "unit": {"type": "string"},
            "stops": {"type": "array", "items": {"type": "string"}},
            "where": {"type": "dict"}
        });
        let possible = json!({"area.of": {
            "base": [10],
            "scale": [2.0, ""],
            "unit": ["square units", ""],
            "stops": [["Rome", "Oslo"], ""],
            "where": [{"age": [1, 2], "kind": ["a", ""]}, ""]
        }});
        Item {
            function: json!({"name": "area.of", "parameters": {"properties": properties, "required": ["base"]}}),
            possible: possible.as_object().unwrap().clone(),
        }
    }

    #[test]
    fn right_calls() {
        for response in [
            "[area.of(base=10)]",
            "area.of(base=10, scale=2)",
            "area.of(base=10, scale=2.0, unit='Square-Units')",
            "```python\n[area.of(base=10, stops=['rome', 'Oslo'])]\n```",
            "area.of(base=10, where={'age': 2})",
            r#"{"name": "area.of", "arguments": {"base": 10}}"#,
            r#"[{"name": "area.of", "arguments": "{\"base\": 10}"}]"#,
            r#"<tool_call>{"name": "area.of", "arguments": {"base": 10}}</tool_call>"#,
        ] {
            assert!(right(&item(), response).unwrap(), "{response}");
        }
    }

    #[test]
    fn wrong_calls() {
        for response in [
            "[area(base=10)]",
            "area.of(base=11)",
            "area.of(base=10.0)",
            "area.of(base='10')",
            "area.of(base=True)",
            "area.of()",
            "area.of(base=10, colour='red')",
            "area.of(base=10, unit='miles')",
            "area.of(base=10, stops=['Oslo', 'Rome'])",
            "area.of(base=10, where={'kind': 'a'})",
            "area.of(base=10, where={'age': 2, 'name': 'x'})",
            "[area.of(base=10), area.of(base=10)]",
            "The call is area.of(base=10)",
            "area.of(10)",
            "",
        ] {
            assert!(!right(&item(), response).unwrap(), "{response}");
        }
    }
}
