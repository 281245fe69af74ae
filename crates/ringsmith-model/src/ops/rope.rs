//! Rotary position embedding, rotate-half, on Hugging Face's row order: element i pairs with i + half.

use crate::simd::simd;

/// Cosines and sines, [positions, head_dim / 2] each, computed in f32 as the original does.
pub struct Table {
    half: usize,
    theta: f64,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Table {
    pub fn new(head_dim: usize, theta: f64) -> Table {
        Table { half: head_dim / 2, theta, cos: Vec::new(), sin: Vec::new() }
    }

    /// Makes sure that positions below `positions` are there.
    pub fn reach(&mut self, positions: usize) {
        let have = self.cos.len() / self.half;
        for p in have..positions {
            for i in 0..self.half {
                let exponent = (2 * i) as f32 / (2 * self.half) as f32;
                let frequency = 1.0 / (self.theta as f32).powf(exponent);
                let angle = p as f32 * frequency;
                self.cos.push(angle.cos());
                self.sin.push(angle.sin());
            }
        }
    }

    fn at(&self, position: usize) -> (&[f32], &[f32]) {
        let range = position * self.half..(position + 1) * self.half;
        (&self.cos[range.clone()], &self.sin[range])
    }

    /// Rotates the heads side by side in `x`, all at `position`.
    pub fn forward(&self, position: usize, x: &mut [f32]) {
        let (cos, sin) = self.at(position);
        for head in x.chunks_exact_mut(2 * self.half) {
            rotate(cos, sin, 1.0, head);
        }
    }

    /// The gradient turns the other way.
    pub fn backward(&self, position: usize, dx: &mut [f32]) {
        let (cos, sin) = self.at(position);
        for head in dx.chunks_exact_mut(2 * self.half) {
            rotate(cos, sin, -1.0, head);
        }
    }
}

simd! {
    fn rotate(cos: &[f32], sin: &[f32], sign: f32, head: &mut [f32]) {
        let half = cos.len();
        let (a, b) = head.split_at_mut(half);
        for i in 0..half {
            let (x, y, s) = (a[i], b[i], sin[i] * sign);
            a[i] = x * cos[i] - y * s;
            b[i] = y * cos[i] + x * s;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{gradient, noise, weigh};

    #[test]
    fn gradients_and_the_first_position() {
        let mut table = Table::new(8, 10_000.0);
        table.reach(6);
        let (x, dy) = (noise(16, 1), noise(16, 2));
        let mut still = x.clone();
        table.forward(0, &mut still);
        assert_eq!(still, x);
        let mut dx = dy.clone();
        table.backward(5, &mut dx);
        gradient(&x, &dx, |x| {
            let mut y = x.to_vec();
            table.forward(5, &mut y);
            weigh(&y, &dy)
        });
    }
}
