//! Whoever answers conversations: the local engine, an endpoint, or scripted answers in tests.

use crate::record::Conversation;
use serde::{Deserialize, Serialize};

/// How answers are sampled. `temperature` 0 is greedy.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    /// Most tokens an answer may have.
    pub max_tokens: usize,
    pub temperature: f32,
    pub top_p: f32,
    pub seed: u64,
}

/// An answer as the model wrote it, without the stop token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub text: String,
    /// The answer was cut at `max_tokens` or at the context length, before the stop token.
    pub truncated: bool,
}

/// Answers conversations, one answer each, in order. The answer to a conversation does not depend on
/// what else is in the list except for its index, which (with the seed) chooses its random lane.
pub trait Solver {
    fn answer(&mut self, questions: &[Conversation], sampling: &Sampling) -> anyhow::Result<Vec<Answer>>;
}
