//! What changed between a manifest in the store and the one a stage would have now.

use crate::store::Manifest;
use serde_json::Value;
use std::collections::BTreeSet;

/// Every difference that moves the key, in words.
pub fn manifest(before: &Manifest, now: &Manifest) -> Vec<String> {
    let mut said = config(&before.config, &now.config);
    if before.version != now.version {
        said.push(format!("version {} -> {}", before.version, now.version));
    }
    let names: BTreeSet<&String> = before.inputs.keys().chain(now.inputs.keys()).collect();
    for name in names {
        match (before.inputs.get(name), now.inputs.get(name)) {
            (Some(a), Some(b)) if a == b => {}
            (Some(_), Some(_)) => said.push(format!("input {name} changed")),
            (None, _) => said.push(format!("input {name} added")),
            (_, None) => said.push(format!("input {name} removed")),
        }
    }
    said
}

/// The outermost table of these stages' configs says no more than the stage's name, so it is left out.
const OWN_TABLES: [&str; 6] = ["training", "dpo", "preference", "tokenizer", "eval", "release"];

/// The settings that differ: `lr 5e-5 -> 3e-5`, by dotted name.
pub fn config(before: &Value, now: &Value) -> Vec<String> {
    let mut said = Vec::new();
    compare(&mut Vec::new(), before, now, &mut said);
    said
}

fn compare(path: &mut Vec<String>, before: &Value, now: &Value, said: &mut Vec<String>) {
    match (before, now) {
        (a, b) if a == b => {}
        (Value::Object(a), Value::Object(b)) => {
            let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for name in names {
                path.push(name.clone());
                compare(path, a.get(name).unwrap_or(&Value::Null), b.get(name).unwrap_or(&Value::Null), said);
                path.pop();
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                let name = b.get("name").or(b.get("data")).and_then(Value::as_str);
                let name = name.map_or(i.to_string(), str::to_owned);
                path.push(name);
                compare(path, a, b, said);
                path.pop();
            }
        }
        (a, b) => {
            let shown = match path.first() {
                Some(first) if path.len() > 1 && OWN_TABLES.contains(&first.as_str()) => &path[1..],
                _ => &path[..],
            };
            said.push(format!("{} {} -> {}", shown.join("."), short(a), short(b)));
        }
    }
}

/// A value as a recipe would write it, cut where it gets long.
fn short(value: &Value) -> String {
    let text = match value {
        Value::Null => "(none)".into(),
        other => plain(other),
    };
    if text.chars().count() <= 60 { text } else { text.chars().take(57).collect::<String>() + "..." }
}

/// A value as a recipe would write it.
pub fn plain(value: &Value) -> String {
    match value {
        Value::Number(n) => match n.as_f64() {
            Some(x) if n.is_f64() && x != 0.0 && (x.abs() < 1e-3 || x.abs() >= 1e9) => format!("{x:e}"),
            _ => n.to_string(),
        },
        Value::Array(items) => format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(", ")),
        Value::Object(map) if map.is_empty() => "{}".into(),
        Value::Object(map) => {
            let inner: Vec<String> = map.iter().map(|(k, v)| format!("{k} = {}", plain(v))).collect();
            format!("{{ {} }}", inner.join(", "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn changed_settings_are_named() {
        let a = json!({"seed": 1, "dpo": {"lr": 5e-5, "beta": 0.1}, "sources": [{"name": "x", "count": 1}]});
        let b = json!({"seed": 2, "dpo": {"lr": 3e-5, "beta": 0.1, "nll": 0.05}, "sources": [{"name": "x", "count": 2}]});
        assert_eq!(
            config(&a, &b),
            ["lr 5e-5 -> 3e-5", "nll (none) -> 0.05", "seed 1 -> 2", "sources.x.count 1 -> 2"]
        );
        assert!(config(&a, &a).is_empty());
    }
}
