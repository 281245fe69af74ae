//! How a model is trained: pretraining and the two SFT stages share one table; DPO has its own.

use super::{fault::unknown, range};
use ringsmith_model::{head::Divergence, preference::PairLoss};
use serde::{Deserialize, Deserializer, Serialize, de};
use std::{collections::BTreeMap, fmt};

/// One of the recipe's four models. Its label in the report is `base`, `stage1`, `stage2` or `dpo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Phase {
    #[serde(rename = "base")]
    Base,
    #[serde(rename = "sft.reason")]
    Reason,
    #[serde(rename = "sft.general")]
    General,
    #[serde(rename = "dpo")]
    Dpo,
}

impl Phase {
    pub const ALL: [Phase; 4] = [Phase::Base, Phase::Reason, Phase::General, Phase::Dpo];

    /// The model's name in a recipe (`from = ...`).
    pub fn name(self) -> &'static str {
        match self {
            Phase::Base => "base",
            Phase::Reason => "sft.reason",
            Phase::General => "sft.general",
            Phase::Dpo => "dpo",
        }
    }

    /// The model's name in the report.
    pub fn label(self) -> &'static str {
        match self {
            Phase::Base => "base",
            Phase::Reason => "stage1",
            Phase::General => "stage2",
            Phase::Dpo => "dpo",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One data set of a mix and how many of its records are taken (all, if not said).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    pub data: String,
    /// This many records, drawn without repetition in an order set by the recipe's seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub take: Option<usize>,
}

/// The data of a training stage: `"name"`, or `[{ data = "name", take = 1000 }, ...]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Mix(pub Vec<Part>);

impl<'de> Deserialize<'de> for Mix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Mix, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Mix;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a data set's name, or a list of { data = \"name\", take = number }")
            }
            fn visit_str<E: de::Error>(self, name: &str) -> Result<Mix, E> {
                Ok(Mix(vec![Part { data: name.to_owned(), take: None }]))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Mix, A::Error> {
                let mut parts = Vec::new();
                while let Some(part) = seq.next_element()? {
                    parts.push(part);
                }
                Ok(Mix(parts))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// `[pretrain]`, `[sft.reason]` and `[sft.general]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// The model to start from; pretraining starts from random weights and has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Phase>,
    pub data: Mix,
    /// Passes over the data, each in an order of its own.
    #[serde(default = "one")]
    pub epochs: u32,
    /// Rows a step; the loss is the mean over the step's supervised tokens.
    pub batch: usize,
    /// Tokens a row; a longer document goes to the ledger.
    pub length: usize,
    /// Peak learning rate.
    pub lr: f64,
    /// Share of the steps over which the rate rises linearly to its peak.
    #[serde(default = "warmup")]
    pub warmup: f64,
    /// The rate at the end of the cosine, as a share of the peak.
    #[serde(default = "final_lr")]
    pub final_lr: f64,
    #[serde(default = "beta1")]
    pub beta1: f64,
    #[serde(default = "beta2")]
    pub beta2: f64,
    #[serde(default = "eps")]
    pub eps: f64,
    #[serde(default = "weight_decay")]
    pub weight_decay: f64,
    /// Whether norm weights and biases decay too.
    #[serde(default)]
    pub decay_norms: bool,
    /// Largest gradient norm of a step.
    #[serde(default = "clip")]
    pub clip: f64,
    #[serde(default)]
    pub terms: Terms,
}

/// What is added to the loss, each with its weight; all zero unless the recipe says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Terms {
    /// Switch-style router balance.
    pub balance: f64,
    /// Router z-loss.
    pub z: f64,
    /// Squared distance to the starting weights (L2-SP).
    pub l2_sp: f64,
    /// KL divergence to a frozen model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kl: Option<Kl>,
    /// Weight of a source's tokens in the loss; 1 for a source not named.
    pub weights: BTreeMap<String, f64>,
}

impl Terms {
    /// Refuses weights that are no weights, and names that are none of the `sources` the stage reads.
    pub(super) fn check(&self, sources: &[&str]) -> Result<(), (String, String)> {
        let weight = |x: f64| x >= 0.0 && x.is_finite();
        range(&[
            ("balance", self.balance, weight(self.balance)),
            ("z", self.z, weight(self.z)),
            ("l2_sp", self.l2_sp, weight(self.l2_sp)),
        ])?;
        for (name, value) in &self.weights {
            let place = format!("weights.{name}");
            if !sources.contains(&name.as_str()) {
                return Err((place, unknown("source", name, sources)));
            }
            range(&[(&place, *value, weight(*value))])?;
        }
        let Some(kl) = &self.kl else { return Ok(()) };
        range(&[("kl.weight", kl.weight, weight(kl.weight))])?;
        for (i, name) in kl.sources.iter().enumerate() {
            if !sources.contains(&name.as_str()) {
                return Err((format!("kl.sources.{i}"), unknown("source", name, sources)));
            }
        }
        Ok(())
    }
}

/// Keeps the student near a frozen model on the documents of some sources.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kl {
    pub weight: f64,
    /// The frozen model.
    pub to: Phase,
    /// `forward` (the default), `reverse`, `jsd` or `k3`.
    #[serde(default)]
    pub divergence: Divergence,
    /// Sources it applies to; every source if empty.
    #[serde(default)]
    pub sources: Vec<String>,
}

/// `[sft]`: the two supervised stages.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sft {
    /// Stage 1, reasoning-oriented.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Training>,
    /// Stage 2, generalisation-oriented.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub general: Option<Training>,
}

/// `[dpo]`: preference training on pairs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dpo {
    /// The model to start from, which is also the reference.
    pub from: Phase,
    #[serde(default = "one")]
    pub epochs: u32,
    /// Pairs a step.
    pub batch: usize,
    /// Most tokens of a pair's two documents together; a longer pair goes to the ledger.
    pub length: usize,
    pub lr: f64,
    #[serde(default = "dpo_beta")]
    pub beta: f64,
    /// `sigmoid`, `robust`, `hinge` or `ipo`.
    #[serde(default)]
    pub loss: PairLoss,
    #[serde(default)]
    pub label_smoothing: f64,
    /// Weight of the chosen answers' negative log-likelihood per token.
    #[serde(default)]
    pub nll: f64,
    /// Mean instead of sum over an answer's tokens.
    #[serde(default)]
    pub average: bool,
    /// Restrict the log-ratios to the answer's format tokens.
    #[serde(default)]
    pub format_mask: bool,
    #[serde(default = "dpo_warmup")]
    pub warmup: f64,
    #[serde(default)]
    pub final_lr: f64,
    #[serde(default = "beta1")]
    pub beta1: f64,
    #[serde(default = "beta2")]
    pub beta2: f64,
    #[serde(default = "eps")]
    pub eps: f64,
    #[serde(default)]
    pub weight_decay: f64,
    #[serde(default)]
    pub decay_norms: bool,
    #[serde(default = "clip")]
    pub clip: f64,
    #[serde(default)]
    pub terms: Terms,
}

// The defaults are the Ling report's AdamW and the usual schedule; `ringsmith plan` prints them.
fn one() -> u32 {
    1
}
fn warmup() -> f64 {
    0.03
}
fn final_lr() -> f64 {
    0.1
}
fn beta1() -> f64 {
    0.9
}
fn beta2() -> f64 {
    0.95
}
fn eps() -> f64 {
    1e-8
}
fn weight_decay() -> f64 {
    0.1
}
fn clip() -> f64 {
    1.0
}
fn dpo_beta() -> f64 {
    0.1
}
fn dpo_warmup() -> f64 {
    0.1
}
