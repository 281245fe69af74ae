//! AdamW (Loshchilov and Hutter 2019) with decoupled decay, in one pass over parameters, gradients and moments.

use crate::buffer::Buffer;
use crate::layout::Layout;
use crate::simd::{simd, sum_squares};
use crate::team::{Parts, share};
use std::ops::Range;

/// How a step moves the weights. No field has a default: a recipe states them all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hyper {
    /// Peak learning rate.
    pub lr: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub weight_decay: f64,
    /// Decay norms and biases too.
    pub decay_norms: bool,
    /// Largest gradient norm; 0 does not clip.
    pub clip: f64,
    /// Share of the steps over which the rate rises linearly.
    pub warmup: f64,
    /// What the cosine falls to, as a share of `lr`.
    pub final_lr: f64,
}

impl Hyper {
    /// The learning rate of step `step` (from 0) of `steps`.
    pub fn lr_at(&self, step: u64, steps: u64) -> f64 {
        let warmup = (self.warmup * steps as f64).ceil() as u64;
        if step < warmup {
            return self.lr * (step + 1) as f64 / warmup as f64;
        }
        let progress = (step - warmup) as f64 / (steps - warmup).max(1) as f64;
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
        self.lr * (self.final_lr + (1.0 - self.final_lr) * cosine)
    }
}

/// Moments and step count.
pub struct AdamW {
    pub m: Buffer,
    pub v: Buffer,
    /// Steps taken.
    pub step: u64,
    pieces: Vec<(Range<usize>, bool)>,
}

/// Floats that a task takes.
const PIECE: usize = 1 << 14;

impl AdamW {
    pub fn new(layout: &Layout) -> AdamW {
        let pieces = layout.tensors.iter().flat_map(|t| {
            let (range, matrix) = (t.range(), t.is_matrix());
            range.clone().step_by(PIECE).map(move |at| (at..range.end.min(at + PIECE), matrix))
        });
        AdamW {
            m: Buffer::zeros(layout.len),
            v: Buffer::zeros(layout.len),
            step: 0,
            pieces: pieces.collect(),
        }
    }

    /// The gradients' norm, summed in f64 over fixed pieces in order.
    pub fn norm(&self, grads: &[f32]) -> f64 {
        let mut sums = vec![0f64; self.pieces.len()];
        let out = Parts::new(&mut sums);
        share(self.pieces.len(), |i| {
            // SAFETY: every task has its own sum.
            unsafe { out.part(i..i + 1)[0] = sum_squares(&grads[self.pieces[i].0.clone()]) };
        });
        sums.iter().sum::<f64>().sqrt()
    }

    /// One step at rate `lr`; gradients of norm `norm` are scaled down to `hyper.clip`.
    pub fn update(&mut self, hyper: &Hyper, lr: f64, norm: f64, grads: &[f32], params: &mut [f32]) {
        self.step += 1;
        let clip = if hyper.clip > 0.0 { (hyper.clip / (norm + 1e-6)).min(1.0) } else { 1.0 };
        let correction = |beta: f64| 1.0 - beta.powi(self.step as i32);
        let constants = Constants {
            clip: clip as f32,
            beta1: hyper.beta1 as f32,
            beta2: hyper.beta2 as f32,
            rate: (lr / correction(hyper.beta1)) as f32,
            root: (1.0 / correction(hyper.beta2).sqrt()) as f32,
            eps: hyper.eps as f32,
        };
        let (p, m, v) = (Parts::new(params), Parts::new(&mut self.m), Parts::new(&mut self.v));
        share(self.pieces.len(), |i| {
            let (range, matrix) = &self.pieces[i];
            let decay = if *matrix || hyper.decay_norms { 1.0 - lr * hyper.weight_decay } else { 1.0 };
            let r = || range.clone();
            // SAFETY: pieces do not overlap.
            let (p, m, v) = unsafe { (p.part(r()), m.part(r()), v.part(r())) };
            step(&constants, decay as f32, &grads[r()], p, m, v);
        });
    }
}

struct Constants {
    clip: f32,
    beta1: f32,
    beta2: f32,
    rate: f32,
    root: f32,
    eps: f32,
}

simd! {
    fn step(c: &Constants, decay: f32, grads: &[f32], params: &mut [f32], m: &mut [f32], v: &mut [f32]) {
        let n = params.len();
        assert!(grads.len() == n && m.len() == n && v.len() == n);
        for i in 0..n {
            let g = grads[i] * c.clip;
            m[i] = m[i].mul_add(c.beta1, g * (1.0 - c.beta1));
            v[i] = v[i].mul_add(c.beta2, g * g * (1.0 - c.beta2));
            let denominator = v[i].sqrt().mul_add(c.root, c.eps);
            params[i] = params[i] * decay - c.rate * m[i] / denominator;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_and_cosine() {
        let hyper = Hyper {
            lr: 2.0,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.0,
            decay_norms: false,
            clip: 0.0,
            warmup: 0.1,
            final_lr: 0.1,
        };
        assert_eq!(hyper.lr_at(0, 100), 0.2);
        assert_eq!(hyper.lr_at(9, 100), 2.0);
        assert_eq!(hyper.lr_at(10, 100), 2.0);
        assert!((hyper.lr_at(55, 100) - 1.1).abs() < 1e-12);
        assert!(hyper.lr_at(99, 100) > 0.2 && hyper.lr_at(99, 100) < 0.202);
    }
}
