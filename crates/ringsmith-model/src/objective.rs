//! What a training step minimises: the main objective and the terms that a recipe joins to it.

use crate::adamw::AdamW;
use crate::backward::{RouterLoss, RouterStats, Work, backward};
use crate::batch::Batch;
use crate::buffer::Buffer;
use crate::forward::{Acts, forward};
use crate::head::{self, Divergence, Places, Pull, places_of_docs};
use crate::ling::Ling;
use crate::preference::Dpo;
use crate::simd::{axpy, simd};
use crate::team::{Parts, share_blocks};

/// The main objective. Pretraining is SFT with every token supervised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Objective {
    /// Cross-entropy, Σ over supervised tokens divided by their count in the global batch.
    Sft,
    /// A preference loss over pairs of documents.
    Dpo(Dpo),
}

/// Joined terms; all zero (or one, for weights) unless a recipe says otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    /// Factor of every source's cross-entropy, or of its pairs' loss; the count it is divided by stays that of all
    /// tokens, so one source's weight does not move the others.
    pub weights: Vec<f32>,
    /// Router balance loss (Ling pre-training used 0.015).
    pub balance: f64,
    /// Router z-loss (Ling pre-training used 1e-4).
    pub z: f64,
    /// Half of this times the squared distance to the starting weights (L2-SP, Li et al. 2018).
    pub l2_sp: f64,
    pub kl: Option<Kl>,
}

impl Terms {
    /// No terms, for `sources` sources.
    pub fn none(sources: usize) -> Terms {
        Terms { weights: vec![1.0; sources], balance: 0.0, z: 0.0, l2_sp: 0.0, kl: None }
    }
}

/// Divergence from a frozen model, mean over the supervised tokens of the named sources.
#[derive(Clone, Debug, PartialEq)]
pub struct Kl {
    pub weight: f64,
    pub divergence: Divergence,
    /// Whether it acts on each source.
    pub sources: Vec<bool>,
}

/// Tokens of a micro-batch; a longer document is one by itself.
const MICRO: usize = 4096;

/// What a step found. Every part is reported alone, before its weight.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Losses {
    /// The weighted sum that was minimised.
    pub total: f64,
    /// Cross-entropy a supervised token (of the chosen answers in a preference batch).
    pub nll: f64,
    /// Preference loss, reward accuracy and margin.
    pub preference: Option<(f64, f64, f64)>,
    pub kl: f64,
    pub l2_sp: f64,
    pub balance: f64,
    pub z: f64,
    /// Supervised tokens and their summed cross-entropy, by source.
    pub sources: Vec<(usize, f64)>,
    /// Tokens of every expert, by mixture layer.
    pub load: Vec<Vec<usize>>,
}

/// Buffers of a step, kept from one to the next.
pub struct Bench {
    acts: Acts,
    teacher: Option<Acts>,
    work: Work,
    pub grads: Buffer,
}

impl Bench {
    pub fn new(model: &Ling) -> Bench {
        Bench {
            acts: Acts::new(model.config()),
            teacher: None,
            work: Work::default(),
            grads: Buffer::zeros(model.layout().len),
        }
    }

    /// Losses and gradients of a global batch. `reference` has one value a document for a preference objective;
    /// `frozen` is the divergence term's teacher; `start` the starting weights for L2-SP.
    pub fn gradients(
        &mut self,
        model: &Ling,
        objective: &Objective,
        terms: &Terms,
        batch: &Batch,
        reference: &[f64],
        frozen: Option<&Ling>,
        start: Option<&[f32]>,
    ) -> Losses {
        let places = Places::supervised(batch);
        let docs = places_of_docs(batch, &places);
        let pulled =
            |source: u16| terms.kl.as_ref().is_some_and(|k| k.weight != 0.0 && k.sources[source as usize]);
        let count = |wanted: &dyn Fn(usize) -> bool| -> usize {
            (0..docs.len()).filter(|n| wanted(*n)).map(|n| docs[n].len()).sum()
        };
        let pairs = docs.len() / 2;
        let supervised = match objective {
            Objective::Sft => count(&|_| true),
            Objective::Dpo(_) => count(&|n| n % 2 == 0),
        };
        let pulled_tokens = count(&|n| pulled(batch.source[n]));
        let mut losses = Losses { sources: vec![(0, 0.0); terms.weights.len()], ..Losses::default() };
        let mut sums = (0f64, 0f64, 0f64);
        for (n, range) in micro(batch, matches!(objective, Objective::Dpo(_))).into_iter().enumerate() {
            let part = batch.slice(range.clone());
            let share = part.len() as f64 / batch.len() as f64;
            let places = Places::supervised(&part);
            let docs = places_of_docs(&part, &places);
            forward(model, &part, &mut self.acts, None);
            let weights = match objective {
                Objective::Sft => {
                    let mut weights = vec![0f32; places.len()];
                    for (doc, source) in docs.iter().zip(&part.source) {
                        weights[doc.clone()].fill(terms.weights[*source as usize] / supervised as f32);
                    }
                    weights
                }
                Objective::Dpo(dpo) => {
                    let logprobs = head::logprobs(model, &self.acts, &places);
                    let reference = &reference[range.clone()];
                    let (found, mut weights) =
                        dpo.weigh(&part, &places, &logprobs, reference, pairs, supervised);
                    losses.total += found.loss + dpo.nll * found.nll;
                    // A source's weight is that of its pairs, of their likelihood term too.
                    for (pair, docs) in docs.chunks(2).enumerate() {
                        let weight = terms.weights[part.source[2 * pair] as usize];
                        if weight != 1.0 {
                            weights[docs[0].start..docs[1].end].iter_mut().for_each(|w| *w *= weight);
                            let nll: f64 = logprobs[docs[0].clone()].iter().map(|l| -*l as f64).sum();
                            let loss =
                                found.per_pair[pair] / pairs as f64 + dpo.nll * nll / supervised as f64;
                            losses.total += (weight as f64 - 1.0) * loss;
                        }
                    }
                    let share = found.per_pair.len() as f64 / pairs as f64;
                    sums = (
                        sums.0 + found.loss,
                        sums.1 + found.accuracy() * share,
                        sums.2 + found.margin() * share,
                    );
                    weights
                }
            };
            let strengths = self.teach(terms, frozen, &part, places.len(), &docs, pulled_tokens);
            let pull = strengths.as_ref().map(|weights| Pull {
                teacher: frozen.expect("a divergence term has a frozen model"),
                acts: self.teacher.as_ref().expect("the teacher has run"),
                divergence: terms.kl.as_ref().expect("the term is there").divergence,
                weights,
            });
            let (work, grads) = (&mut self.work, &mut self.grads);
            let found =
                head::backward(model, &self.acts, &places, &weights, pull.as_ref(), work, grads, n > 0);
            for (doc, (range, source)) in docs.iter().zip(&part.source).enumerate() {
                let nll: f64 = found.logprobs[range.clone()].iter().map(|l| -*l as f64).sum();
                let of = &mut losses.sources[*source as usize];
                if *objective == Objective::Sft || doc % 2 == 0 {
                    *of = (of.0 + range.len(), of.1 + nll);
                    losses.nll += nll / supervised.max(1) as f64;
                }
                if *objective == Objective::Sft {
                    losses.total += terms.weights[*source as usize] as f64 * nll / supervised.max(1) as f64;
                }
            }
            if let Some(strengths) = &strengths {
                let kl = terms.kl.as_ref().expect("the term is there").weight;
                let sum: f64 =
                    found.divergence.iter().zip(strengths).map(|(d, s)| *d as f64 * *s as f64).sum();
                losses.kl += sum / kl;
                losses.total += sum;
            }
            let stats = RouterStats::of(model, &self.acts);
            losses.balance += share * stats.balance;
            losses.z += share * stats.z;
            if losses.load.is_empty() {
                losses.load = stats.load;
            } else {
                for (all, more) in losses.load.iter_mut().flatten().zip(stats.load.iter().flatten()) {
                    *all += more;
                }
            }
            let router = RouterLoss { balance: (terms.balance * share) as f32, z: (terms.z * share) as f32 };
            backward(model, &part, &mut self.acts, &mut self.work, router, &mut self.grads, n > 0);
        }
        losses.total += terms.balance * losses.balance + terms.z * losses.z;
        if let Objective::Dpo(_) = objective {
            losses.preference = Some(sums);
        }
        if let Some(start) = start.filter(|_| terms.l2_sp != 0.0) {
            losses.l2_sp = l2_sp(terms.l2_sp as f32, model.params(), start, &mut self.grads);
            losses.total += terms.l2_sp * losses.l2_sp;
        }
        losses
    }

    /// Runs the frozen model where its divergence acts; every place's strength.
    fn teach(
        &mut self,
        terms: &Terms,
        frozen: Option<&Ling>,
        part: &Batch,
        places: usize,
        docs: &[std::ops::Range<usize>],
        tokens: usize,
    ) -> Option<Vec<f32>> {
        let kl = terms.kl.as_ref().filter(|k| k.weight != 0.0)?;
        let mut strengths = vec![0f32; places];
        for (doc, source) in docs.iter().zip(&part.source) {
            if kl.sources[*source as usize] {
                strengths[doc.clone()].fill((kl.weight / tokens as f64) as f32);
            }
        }
        if strengths.iter().all(|s| *s == 0.0) {
            return None;
        }
        let frozen = frozen.expect("a divergence term has a frozen model");
        let acts = self.teacher.get_or_insert_with(|| Acts::new(frozen.config()));
        forward(frozen, part, acts, None);
        Some(strengths)
    }

    /// The gradients' norm, then one optimizer step at rate `lr`.
    pub fn step(&mut self, model: &mut Ling, adamw: &mut AdamW, hyper: &crate::adamw::Hyper, lr: f64) -> f64 {
        let norm = adamw.norm(&self.grads);
        if norm.is_finite() {
            model.update(|_, params| adamw.update(hyper, lr, norm, &self.grads, params));
        }
        norm
    }
}

/// Documents in micro-batches; pairs stay together.
fn micro(batch: &Batch, pairs: bool) -> Vec<std::ops::Range<usize>> {
    let unit = if pairs { 2 } else { 1 };
    let mut parts = Vec::new();
    let (mut start, mut tokens) = (0, 0);
    for at in (0..batch.docs.len()).step_by(unit) {
        let len: usize = batch.docs[at..at + unit].iter().sum();
        if tokens > 0 && tokens + len > MICRO {
            parts.push(start..at);
            (start, tokens) = (at, 0);
        }
        tokens += len;
    }
    if tokens > 0 {
        parts.push(start..batch.docs.len());
    }
    parts
}

/// Adds `weight` * (params - start) to the gradients; half the squared distance.
fn l2_sp(weight: f32, params: &[f32], start: &[f32], grads: &mut [f32]) -> f64 {
    const PIECE: usize = 1 << 14;
    let mut sums = vec![0f64; params.len().div_ceil(PIECE)];
    let (out, grads) = (Parts::new(&mut sums), Parts::new(grads));
    share_blocks(params.len(), PIECE, |r| {
        // SAFETY: every task has its own piece and sum.
        let (sum, grads) = unsafe { (out.part(r.start / PIECE..r.start / PIECE + 1), grads.part(r.clone())) };
        let mut apart = params[r.clone()].to_vec();
        subtract(&start[r], &mut apart);
        sum[0] = crate::simd::sum_squares(&apart);
        axpy(weight, &apart, grads);
    });
    0.5 * sums.iter().sum::<f64>()
}

simd! {
    fn subtract(x: &[f32], y: &mut [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y -= x;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::SUPERVISED;
    use crate::config::Config;
    use crate::preference::{Dpo, PairLoss};

    #[test]
    fn a_sources_weight_is_that_of_its_pairs() {
        let model = Ling::init(&Config::example(), 5);
        let dpo = Dpo {
            loss: PairLoss::Sigmoid,
            beta: 0.1,
            label_smoothing: 0.0,
            average: false,
            format_only: false,
            nll: 0.5,
        };
        let pair = |batch: &mut Batch, source: u16, seed: u32| {
            for side in 0..2 {
                let tokens: Vec<u32> = (0..6).map(|i| (seed + 7 * i + 3 * side) % 64).collect();
                batch.push(&tokens, &[0, 0, 0, SUPERVISED, SUPERVISED, SUPERVISED], source);
            }
        };
        let (mut both, mut first) = (Batch::default(), Batch::default());
        pair(&mut both, 0, 3);
        pair(&mut first, 0, 3);
        pair(&mut both, 1, 11);
        let gradients = |batch: &Batch, weights: [f32; 2]| {
            let terms = Terms { weights: weights.to_vec(), ..Terms::none(2) };
            let mut bench = Bench::new(&model);
            let reference = vec![-11.0; batch.docs.len()];
            let losses = bench.gradients(&model, &Objective::Dpo(dpo), &terms, batch, &reference, None, None);
            (losses.total, bench.grads.to_vec())
        };
        // Twice the one and nothing of the other, over two pairs, is the one alone.
        let (loss, grads) = gradients(&both, [2.0, 0.0]);
        let (alone, expected) = gradients(&first, [1.0, 1.0]);
        assert!((loss - alone).abs() < 1e-9, "{loss} {alone}");
        let apart = grads.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        assert!(apart < 1e-6, "{apart}");
        assert!((gradients(&both, [1.0, 1.0]).0 - alone).abs() > 1e-6);
    }
}
