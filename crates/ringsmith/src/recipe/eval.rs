//! Benchmarks, how they are sampled, and what is released.

use serde::{Deserialize, Serialize};

/// `[eval]`: every model of the recipe answers every benchmark.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Eval {
    /// Most tokens of an answer, where the benchmark says nothing else.
    #[serde(default = "max_tokens")]
    pub max_tokens: usize,
    /// Sampling temperature; 0 is greedy.
    #[serde(default)]
    pub temperature: f64,
    #[serde(default = "top_p")]
    pub top_p: f64,
    #[serde(default)]
    pub benchmarks: Vec<Benchmark>,
}

/// One benchmark.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Benchmark {
    pub name: String,
    pub kind: String,
    pub group: Group,
    /// Files under the data root.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// File of the answers, where they do not stand beside the questions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<String>,
    /// Items asked: the first so many of the files, or so many generated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<usize>,
    /// Samples an item; the score is their mean.
    #[serde(default = "one")]
    pub samples: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
}

/// Which mean a benchmark enters. `think` counts wrong `<think>` pairs and enters neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    Reasoning,
    General,
    Think,
}

/// `[release]`: the folder that is published, in Hugging Face layout with a model card.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    pub model: super::train::Phase,
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
fn max_tokens() -> usize {
    512
}
fn top_p() -> f64 {
    1.0
}
fn one() -> usize {
    1
}

impl Benchmark {
    /// Every file it reads, questions and answers.
    pub fn every_file(&self) -> impl Iterator<Item = &str> {
        self.files.iter().chain(&self.answers).map(String::as_str)
    }
}
