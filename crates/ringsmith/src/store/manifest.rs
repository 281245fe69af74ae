//! What a finished stage says of itself, and the key it lies under.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{collections::BTreeMap, fmt};

/// The identity of a stage's result before it is made: a digest of stage, version, config and input digests.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(String);

impl Key {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `manifest.json`. The config is there in full, so that a later plan can say what changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub stage: String,
    pub key: Key,
    /// The stage's hand-bumped version: raised when its meaning changes.
    pub version: u32,
    pub config: Value,
    /// Input name (a stage, or `file <path>`) to digest.
    pub inputs: BTreeMap<String, String>,
    pub outputs: BTreeMap<String, Output>,
    /// Digest of the outputs, without notes such as `metrics.jsonl`; what later stages' keys are made of.
    pub output: String,
    /// Milliseconds since 1970.
    pub created_ms: u64,
    /// Wall-clock seconds of the run that finished it.
    pub seconds: f64,
    /// The program that made it: provenance, never part of a key.
    pub program: String,
}

/// One output file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    pub bytes: u64,
    pub digest: String,
}

impl Manifest {
    /// A manifest before its stage has run: everything the key is made of.
    pub fn new(stage: &str, version: u32, config: Value, inputs: BTreeMap<String, String>) -> Manifest {
        let mut hasher = blake3::Hasher::new();
        for part in [stage, &version.to_string(), &canonical(&config)] {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
        }
        for (name, digest) in &inputs {
            for part in [name, digest] {
                hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
            }
        }
        Manifest {
            stage: stage.to_owned(),
            key: Key(hasher.finalize().to_hex()[..24].to_owned()),
            version,
            config,
            inputs,
            outputs: BTreeMap::new(),
            output: String::new(),
            created_ms: 0,
            seconds: 0.0,
            program: format!("ringsmith {}", env!("CARGO_PKG_VERSION")),
        }
    }

    pub(super) fn output_digest(&self, notes: &[&str]) -> String {
        let mut hasher = blake3::Hasher::new();
        for (name, output) in &self.outputs {
            if !notes.contains(&name.as_str()) {
                hasher.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes());
                hasher.update(output.digest.as_bytes());
            }
        }
        hasher.finalize().to_hex().to_string()
    }
}

/// JSON with sorted keys, so that the order of fields in a struct never moves a key.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<_, _> = map.iter().collect();
            let inner: Vec<String> =
                sorted.iter().map(|(k, v)| format!("{}:{}", Value::from(k.as_str()), canonical(v))).collect();
            format!("{{{}}}", inner.join(","))
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(","))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_key_is_what_determines_the_result_and_nothing_else() {
        let inputs = |d: &str| BTreeMap::from([("rows".to_owned(), d.to_owned())]);
        let base = Manifest::new("dpo", 1, json!({"a": 1, "b": 2}), inputs("x"));
        assert_eq!(base.key, Manifest::new("dpo", 1, json!({"b": 2, "a": 1}), inputs("x")).key);
        for other in [
            Manifest::new("sft", 1, json!({"a": 1, "b": 2}), inputs("x")),
            Manifest::new("dpo", 2, json!({"a": 1, "b": 2}), inputs("x")),
            Manifest::new("dpo", 1, json!({"a": 1, "b": 3}), inputs("x")),
            Manifest::new("dpo", 1, json!({"a": 1, "b": 2}), inputs("y")),
            Manifest::new("dpo", 1, json!({"a": 1, "b": 2}), BTreeMap::new()),
        ] {
            assert_ne!(base.key, other.key);
        }
    }
}
