//! Preference pairs: sampled from a model by rule, broken on purpose in their format, or read from files.

use super::train::{Mix, Phase};
use serde::{Deserialize, Serialize};

/// `[preference]`. At least one of the three kinds is given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preference {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Rule>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// Data sets whose records are pairs already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pairs: Option<Mix>,
}

/// Rule pairs: one sample of a model for each prompt; rejected when it is wrong, has a wrong `<think>` pair,
/// or is longer than the record's own answer, which is the chosen one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The model that is sampled.
    pub from: Phase,
    /// Records whose questions are asked.
    pub prompts: Mix,
    /// Pairs kept, at most.
    pub pairs: usize,
    pub max_tokens: usize,
    #[serde(default = "one")]
    pub temperature: f64,
    #[serde(default = "one")]
    pub top_p: f64,
}

/// Format pairs: the record's own answer against the same answer with broken or missing tags.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Format {
    pub prompts: Mix,
    /// Pairs made, at most.
    pub pairs: usize,
}

fn one() -> f64 {
    1.0
}
