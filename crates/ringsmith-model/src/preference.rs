//! Preference losses (DPO and its relatives) over pairs of documents, chosen first.

use crate::batch::{Batch, FORMAT};
use crate::head::{Places, places_of_docs};
use serde::{Deserialize, Serialize};

/// The loss of a pair, by h = (chosen - its reference) - (rejected - its reference), all log-probabilities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PairLoss {
    /// -ln σ(βh) (Rafailov et al. 2023), with label smoothing.
    #[default]
    Sigmoid,
    /// The unbiased version under label noise (Chowdhury et al. 2024).
    Robust,
    /// max(0, 1 - βh) (SLiC).
    Hinge,
    /// (h - 1/(2β))² (Azar et al. 2023).
    Ipo,
}

/// Preference optimisation as a recipe states it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dpo {
    pub loss: PairLoss,
    pub beta: f64,
    pub label_smoothing: f64,
    /// Mean instead of sum over an answer's tokens.
    pub average: bool,
    /// Only tokens that carry the format flag count.
    pub format_only: bool,
    /// Weight of the chosen answers' negative log-likelihood a token.
    pub nll: f64,
}

/// What a batch of pairs says; losses are means over the pairs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pairs {
    pub loss: f64,
    pub per_pair: Vec<f64>,
    /// β times each answer's gain over the reference.
    pub chosen_rewards: Vec<f64>,
    pub rejected_rewards: Vec<f64>,
    /// Mean negative log-likelihood a token of the chosen answers.
    pub nll: f64,
}

impl Pairs {
    /// Share of pairs whose chosen answer has the greater reward.
    pub fn accuracy(&self) -> f64 {
        let right = self.chosen_rewards.iter().zip(&self.rejected_rewards).filter(|(c, r)| c > r).count();
        right as f64 / self.chosen_rewards.len().max(1) as f64
    }

    /// Mean difference of the rewards.
    pub fn margin(&self) -> f64 {
        let sum: f64 = self.chosen_rewards.iter().zip(&self.rejected_rewards).map(|(c, r)| c - r).sum();
        sum / self.chosen_rewards.len().max(1) as f64
    }
}

impl Dpo {
    /// The log-probability of every document's answer (their sum or mean, or that of the format tokens only), from
    /// those of the batch's places.
    pub fn sequences(&self, batch: &Batch, places: &Places, logprobs: &[f32]) -> Vec<f64> {
        let docs = places_of_docs(batch, places);
        let one = |range: std::ops::Range<usize>| {
            let counted = range.filter(|p| self.counts(batch, places, *p));
            let (sum, n) = counted.fold((0f64, 0), |(s, n), p| (s + logprobs[p] as f64, n + 1));
            if self.average { sum / n.max(1) as f64 } else { sum }
        };
        docs.into_iter().map(one).collect()
    }

    fn counts(&self, batch: &Batch, places: &Places, place: usize) -> bool {
        !self.format_only || batch.mask[places.rows[place] as usize + 1] & FORMAT != 0
    }

    /// The pairs' losses, and every place's weight for [`crate::head::backward`]. `reference` has one value a
    /// document, made by [`Dpo::sequences`]. `pairs` and `tokens` count the pairs and the chosen answers' tokens of
    /// the global batch.
    pub fn weigh(
        &self,
        batch: &Batch,
        places: &Places,
        logprobs: &[f32],
        reference: &[f64],
        pairs: usize,
        tokens: usize,
    ) -> (Pairs, Vec<f32>) {
        let docs = places_of_docs(batch, places);
        assert!(docs.len().is_multiple_of(2) && reference.len() == docs.len(), "documents come in pairs");
        let sequences = self.sequences(batch, places, logprobs);
        let mut weights = vec![0f32; places.len()];
        let mut found = Pairs::default();
        for (pair, docs) in docs.chunks(2).enumerate() {
            let gain = |side: usize| sequences[2 * pair + side] - reference[2 * pair + side];
            let (chosen, rejected) = (gain(0), gain(1));
            let (loss, slope) = self.pair(chosen - rejected);
            found.per_pair.push(loss);
            found.chosen_rewards.push(self.beta * chosen);
            found.rejected_rewards.push(self.beta * rejected);
            for (side, range) in docs.iter().enumerate() {
                let sign = if side == 0 { -1.0 } else { 1.0 };
                let counted = range.clone().filter(|p| self.counts(batch, places, *p));
                let n = if self.average { counted.clone().count().max(1) } else { 1 };
                for place in counted {
                    weights[place] += (sign * slope / (pairs * n) as f64) as f32;
                }
            }
            for place in docs[0].clone() {
                weights[place] += (self.nll / tokens as f64) as f32;
                found.nll -= logprobs[place] as f64 / tokens as f64;
            }
        }
        found.loss = found.per_pair.iter().sum::<f64>() / pairs as f64;
        (found, weights)
    }

    /// Loss and its slope at h.
    fn pair(&self, h: f64) -> (f64, f64) {
        let (b, s) = (self.beta, self.label_smoothing);
        // -ln σ(x) and its slope, safe at both ends.
        let soft = |x: f64| ((-x.abs()).exp().ln_1p() + (-x).max(0.0), -1.0 / (1.0 + x.exp()));
        match self.loss {
            PairLoss::Sigmoid | PairLoss::Robust => {
                let ((up, du), (down, dd)) = (soft(b * h), soft(-b * h));
                let (sign, scale) =
                    if self.loss == PairLoss::Robust { (-1.0, 1.0 / (1.0 - 2.0 * s)) } else { (1.0, 1.0) };
                (scale * ((1.0 - s) * up + sign * s * down), scale * b * ((1.0 - s) * du - sign * s * dd))
            }
            PairLoss::Hinge => {
                let loss = (1.0 - b * h).max(0.0);
                (loss, if loss > 0.0 { -b } else { 0.0 })
            }
            PairLoss::Ipo => {
                let apart = h - 1.0 / (2.0 * b);
                (apart * apart, 2.0 * apart)
            }
        }
    }
}
