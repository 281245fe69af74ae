//! Benchmarks, and what is released.

use super::train::Phase;
use ringsmith_eval::benchmark::Benchmark;
use serde::{Deserialize, Serialize};

/// `[eval]`: every model of the recipe answers every benchmark.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Eval {
    #[serde(default)]
    pub benchmarks: Vec<Benchmark>,
}

impl Eval {
    /// Names are unique and each benchmark has what its kind needs.
    pub(super) fn check(&self) -> Result<(), (String, String)> {
        for (i, benchmark) in self.benchmarks.iter().enumerate() {
            let at = format!("benchmarks.{i}");
            if self.benchmarks[..i].iter().any(|b| b.name == benchmark.name) {
                return Err((at, format!("benchmark {} is named twice", benchmark.name)));
            }
            benchmark.check().map_err(|e| (at, e.to_string()))?;
        }
        Ok(())
    }
}

/// `[release]`: the folder that is published, in Hugging Face layout with a model card.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    pub model: Phase,
    /// A paragraph for the model card.
    #[serde(default)]
    pub about: String,
    /// Licence named in the model card.
    #[serde(default = "license")]
    pub license: String,
}

fn license() -> String {
    "apache-2.0".into()
}
