//! The head: final norm, NormHead, logits, and what the losses say about them. Logits exist for the supervised
//! tokens only, and for one chunk of them at a time.
//!
//! NormHead divides each hidden column of the head's weight by its norm over the vocabulary, and no gradient flows
//! through that norm. Here the division is applied to the hidden state instead, which is the same product.

use crate::backward::{HeadWork, Work};
use crate::batch::{Batch, SUPERVISED};
use crate::buffer::Buffer;
use crate::forward::{Acts, scratch, wide};
use crate::gemm::{Left, Right, gemm};
use crate::ling::Ling;
use crate::ops::{rmsnorm, softmax};
use crate::simd::mul;
use crate::team::{Parts, share_blocks};
use crate::weights::{norm_backward, weight_backward};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Rows of logits that a task takes.
const BLOCK: usize = 48;
/// Floats of logits at a time (16 MiB).
const LOGITS: usize = 4 << 20;

/// Places where a token is predicted: the row that predicts, and the token to come.
#[derive(Clone, Debug, Default)]
pub struct Places {
    pub rows: Vec<u32>,
    pub targets: Vec<u32>,
}

impl Places {
    /// The supervised tokens of a batch, in order.
    pub fn supervised(batch: &Batch) -> Places {
        Places::of(batch, |i| batch.mask[i] & SUPERVISED != 0)
    }

    /// Every token but the documents' first ones.
    pub fn all(batch: &Batch) -> Places {
        Places::of(batch, |_| true)
    }

    fn of(batch: &Batch, wanted: impl Fn(usize) -> bool) -> Places {
        let mut places = Places::default();
        for range in batch.ranges() {
            for i in range.skip(1).filter(|i| wanted(*i)) {
                places.rows.push(i as u32 - 1);
                places.targets.push(batch.tokens[i]);
            }
        }
        places
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// How far a student's distribution p is from a frozen teacher's q, at one place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Divergence {
    /// KL(q ‖ p): covers what the teacher may say.
    #[default]
    Forward,
    /// KL(p ‖ q): seeks the teacher's modes.
    Reverse,
    /// Half KL(p ‖ m) plus half KL(q ‖ m), m their mean.
    Jsd,
    /// Schulman's k3 estimate of KL(p ‖ q) at the target token: r - 1 - ln r, r = q / p.
    K3,
}

/// A pull towards a frozen model, on some places.
pub struct Pull<'a> {
    pub teacher: &'a Ling,
    /// The teacher's pass over the same batch.
    pub acts: &'a Acts,
    pub divergence: Divergence,
    /// Weight of every place (0 where the pull does not act).
    pub weights: &'a [f32],
}

/// What the head found at every place.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Natural log of the target's probability.
    pub logprobs: Vec<f32>,
    /// Divergence from the teacher (0 without one, or where its weight is 0).
    pub divergence: Vec<f32>,
}

/// Rows of the head's input: normed hidden states with NormHead's division applied. Fills the rows' 1/rms.
fn inputs(model: &Ling, out_td: &[f32], rows: &[u32], rstd: &mut [f32], x: &mut [f32]) {
    let c = model.config();
    let d = c.hidden_size;
    let norm = &model.params()[model.layout().norm..][..d];
    for ((x, t), rstd) in x.chunks_exact_mut(d).zip(rows).zip(rstd) {
        *rstd = rmsnorm::forward(&out_td[*t as usize * d..][..d], norm, c.rms_norm_eps, x);
        if c.norm_head {
            mul(&model.packed().head_scale, x);
        }
    }
}

/// Logits of some rows, [rows, vocab].
pub fn logits(model: &Ling, out_td: &[f32], rows: &[u32], logits: &mut [f32]) {
    let (d, v) = (model.config().hidden_size, model.config().vocab_size);
    let head = Right::Packed(model.packed().get(model.layout().head));
    let out = Parts::new(logits);
    share_blocks(rows.len(), BLOCK, |r| {
        scratch(r.len() * (d + 1), |x| {
            let (x, rstd) = x.split_at_mut(r.len() * d);
            inputs(model, out_td, &rows[r.clone()], rstd, x);
            // SAFETY: every block has its own rows.
            gemm(r.len(), v, d, Left::rows(x, d), head, unsafe { out.part(wide(&r, v)) }, v, false);
        });
    });
}

/// The targets' log-probabilities.
pub fn logprobs(model: &Ling, acts: &Acts, places: &Places) -> Vec<f32> {
    let v = model.config().vocab_size;
    let mut found = vec![0.0; places.len()];
    let chunk = chunk(v);
    let mut buffer = Buffer::zeros(chunk.min(places.len()) * v);
    for start in (0..places.len()).step_by(chunk) {
        let range = start..places.len().min(start + chunk);
        let n = range.len();
        logits(model, &acts.out_td, &places.rows[range.clone()], &mut buffer[..n * v]);
        let (rows, out) = (Parts::new(&mut buffer[..n * v]), Parts::new(&mut found[range.clone()]));
        let targets = &places.targets[range];
        share_blocks(n, BLOCK, |r| {
            for i in r {
                // SAFETY: every row has its own part.
                let (row, out) = unsafe { (rows.part(i * v..(i + 1) * v), out.part(i..i + 1)) };
                let target = row[targets[i] as usize];
                out[0] = target - softmax::softmax(1.0, row);
            }
        });
    }
    found
}

fn chunk(vocab: usize) -> usize {
    (LOGITS / vocab / BLOCK * BLOCK).clamp(BLOCK, 4096 / BLOCK * BLOCK)
}

/// The loss Σ weight * -logprob + Σ pull, backwards: fills `work.dx_td` and the gradients of the head and the final
/// norm, and says what it found on the way.
pub fn backward(
    model: &Ling,
    acts: &Acts,
    places: &Places,
    weights: &[f32],
    pull: Option<&Pull<'_>>,
    work: &mut Work,
    grads: &mut [f32],
    accumulate: bool,
) -> Found {
    let c = model.config();
    let (d, v, n) = (c.hidden_size, c.vocab_size, places.len());
    assert_eq!(weights.len(), n);
    work.dx_td.resize(acts.out_td.len());
    work.dx_td.fill(0.0);
    let mut found = Found { logprobs: vec![0.0; n], divergence: vec![0.0; n] };
    let chunk = chunk(v);
    let HeadWork { x_nd, out_nd, dnormed_nd, rstd_n, dlogits_nv } = &mut work.head;
    x_nd.resize(n * d);
    out_nd.resize(n * d);
    dnormed_nd.resize(n * d);
    rstd_n.resize(n);
    dlogits_nv.resize(chunk.min(n) * v);
    let (norm_at, head_at) = (model.layout().norm, model.layout().head);
    let norm = &model.params()[norm_at..norm_at + d];
    let head = &model.params()[head_at..head_at + v * d];
    let packed = Right::Packed(model.packed().get(head_at));
    if n == 0 {
        weight_backward(head_at, (v, d, 0), &[], &[], grads, accumulate);
    }
    for start in (0..n).step_by(chunk) {
        let range = start..n.min(start + chunk);
        {
            let (logprobs, apart) = (Parts::new(&mut found.logprobs), Parts::new(&mut found.divergence));
            let (x, out, dnormed) = (Parts::new(x_nd), Parts::new(out_nd), Parts::new(dnormed_nd));
            let (rstd, dlogits, dx) =
                (Parts::new(rstd_n), Parts::new(dlogits_nv), Parts::new(&mut work.dx_td));
            share_blocks(range.len(), BLOCK, |block| {
                let r = start + block.start..start + block.end;
                // SAFETY: every block has its own places, and a place its own row.
                let (x, out, dnormed, rstd, logits, logprobs, apart) = unsafe {
                    (
                        x.part(wide(&r, d)),
                        out.part(wide(&r, d)),
                        dnormed.part(wide(&r, d)),
                        rstd.part(r.clone()),
                        dlogits.part(wide(&block, v)),
                        logprobs.part(r.clone()),
                        apart.part(r.clone()),
                    )
                };
                let rows = &places.rows[r.clone()];
                inputs(model, &acts.out_td, rows, rstd, x);
                gemm(r.len(), v, d, Left::rows(x, d), packed, logits, v, false);
                let mut place = |teacher: &mut [f32]| {
                    for (i, at) in r.clone().enumerate() {
                        let (row, target) = (&mut logits[i * v..(i + 1) * v], places.targets[at] as usize);
                        let logit = row[target];
                        logprobs[i] = logit - softmax::softmax(1.0, row);
                        let q = if teacher.is_empty() { &mut [] } else { &mut teacher[i * v..(i + 1) * v] };
                        let strength = pull.map_or(0.0, |p| p.weights[at]);
                        let divergence = pull.map(|p| p.divergence).filter(|_| strength != 0.0);
                        apart[i] = dlogits_row(row, target, weights[at], divergence, strength, q);
                    }
                };
                match pull.filter(|p| p.weights[r.clone()].iter().any(|w| *w != 0.0)) {
                    None => place(&mut []),
                    Some(p) => {
                        let mut teacher = vec![0.0; r.len() * v];
                        teacher_logits(p, rows, &mut teacher);
                        place(&mut teacher);
                    }
                }
                gemm(r.len(), d, v, Left::rows(logits, v), Right::Rows(head, d), dnormed, d, false);
                for (i, t) in rows.iter().enumerate() {
                    let row = i * d..(i + 1) * d;
                    if c.norm_head {
                        mul(&model.packed().head_scale, &mut dnormed[row.clone()]);
                    }
                    let t = *t as usize;
                    out[row.clone()].copy_from_slice(&acts.out_td[t * d..(t + 1) * d]);
                    // SAFETY: places have different rows.
                    let dx = unsafe { dx.part(t * d..(t + 1) * d) };
                    rmsnorm::backward(&out[row.clone()], norm, rstd[i], &dnormed[row], dx);
                }
            });
        }
        let k = range.len();
        let (dlogits, x) = (&dlogits_nv[..k * v], &x_nd[wide(&range, d)]);
        weight_backward(head_at, (v, d, k), dlogits, x, grads, accumulate || start > 0);
    }
    norm_backward(norm_at, out_nd, rstd_n, dnormed_nd, d, grads, accumulate);
    found
}

fn teacher_logits(pull: &Pull<'_>, rows: &[u32], out: &mut [f32]) {
    let (d, v) = (pull.teacher.config().hidden_size, pull.teacher.config().vocab_size);
    let (mut x, mut rstd) = (vec![0.0; rows.len() * d], vec![0.0; rows.len()]);
    inputs(pull.teacher, &pull.acts.out_td, rows, &mut rstd, &mut x);
    let head = Right::Packed(pull.teacher.packed().get(pull.teacher.layout().head));
    gemm(rows.len(), v, d, Left::rows(&x, d), head, out, v, false);
}

/// One place: probabilities become the gradient of weight * -ln p(target) + strength * divergence with respect to
/// the logits. `q` enters as the teacher's logits. Returns the divergence.
fn dlogits_row(
    p: &mut [f32],
    target: usize,
    weight: f32,
    divergence: Option<Divergence>,
    strength: f32,
    q: &mut [f32],
) -> f32 {
    let Some(divergence) = divergence else {
        p.iter_mut().for_each(|p| *p *= weight);
        p[target] -= weight;
        return 0.0;
    };
    softmax::softmax(1.0, q);
    const TINY: f32 = f32::MIN_POSITIVE;
    let ln = |x: f32| x.max(TINY).ln() as f64;
    let mut value = 0f64;
    match divergence {
        Divergence::Forward => {
            for (p, q) in p.iter_mut().zip(&*q) {
                value += *q as f64 * (ln(*q) - ln(*p));
                *p = weight * *p + strength * (*p - q);
            }
        }
        Divergence::Reverse => {
            value = p.iter().zip(&*q).map(|(p, q)| *p as f64 * (ln(*p) - ln(*q))).sum();
            for (p, q) in p.iter_mut().zip(&*q) {
                let g = ln(*p) - ln(*q) - value;
                *p *= weight + strength * g as f32;
            }
        }
        Divergence::Jsd => {
            let mut along = 0f64;
            for (p, q) in p.iter().zip(q.iter_mut()) {
                let m = 0.5 * (*p + *q);
                let g = 0.5 * (ln(*p) - ln(m));
                value += *p as f64 * g + 0.5 * *q as f64 * (ln(*q) - ln(m));
                along += *p as f64 * g;
                *q = g as f32;
            }
            for (p, g) in p.iter_mut().zip(&*q) {
                *p *= weight + strength * (g - along as f32);
            }
        }
        Divergence::K3 => {
            let log_ratio = ln(q[target]) - ln(p[target]);
            let ratio = log_ratio.exp();
            value = ratio - 1.0 - log_ratio;
            let weight = weight + strength * (ratio - 1.0) as f32;
            p.iter_mut().for_each(|p| *p *= weight);
            p[target] -= weight;
            return value as f32;
        }
    }
    p[target] -= weight;
    value as f32
}

/// Ranges of places by document.
pub fn places_of_docs(batch: &Batch, places: &Places) -> Vec<Range<usize>> {
    let mut at = 0;
    batch
        .ranges()
        .map(|doc| {
            let start = at;
            while at < places.len() && (places.rows[at] as usize) < doc.end {
                at += 1;
            }
            start..at
        })
        .collect()
}
