//! RMSNorm: y = x / sqrt(mean(x²) + eps) * weight.

use crate::simd::{LANES, dot, fold, simd};

/// One row. Returns 1 / sqrt(mean(x²) + eps), which the backward pass needs.
pub fn forward(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) -> f32 {
    let rstd = 1.0 / (dot(x, x) / x.len() as f32 + eps).sqrt();
    scale(x, weight, rstd, y);
    rstd
}

simd! {
    /// y = x * rstd * weight, the forward pass again from what was kept.
    pub fn scale(x: &[f32], weight: &[f32], rstd: f32, y: &mut [f32]) {
        assert!(x.len() == y.len() && weight.len() == y.len());
        for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
            *y = x * rstd * w;
        }
    }
}

simd! {
    /// dx += what dy says through the norm.
    pub fn backward(x: &[f32], weight: &[f32], rstd: f32, dy: &[f32], dx: &mut [f32]) {
        let n = x.len();
        assert!(weight.len() == n && dy.len() == n && dx.len() == n);
        let mut lanes = [0f32; LANES];
        let (chunks, tail) = x.as_chunks::<LANES>();
        for (c, x) in chunks.iter().enumerate() {
            for i in 0..LANES {
                let at = c * LANES + i;
                lanes[i] = (dy[at] * weight[at]).mul_add(x[i], lanes[i]);
            }
        }
        for (i, x) in tail.iter().enumerate() {
            let at = chunks.len() * LANES + i;
            lanes[i] = (dy[at] * weight[at]).mul_add(*x, lanes[i]);
        }
        let back = -fold(lanes) * rstd * rstd * rstd / n as f32;
        for i in 0..n {
            dx[i] += x[i].mul_add(back, dy[i] * weight[i] * rstd);
        }
    }
}

simd! {
    /// dweight[j] += Σ over rows of dy * x * rstd, for columns `first..first + dweight.len()`.
    pub fn backward_weight(x: &[f32], rstd: &[f32], dy: &[f32], width: usize, first: usize, dweight: &mut [f32]) {
        let n = dweight.len();
        for (t, r) in rstd.iter().enumerate() {
            let at = t * width + first;
            let (x, dy) = (&x[at..at + n], &dy[at..at + n]);
            for i in 0..n {
                dweight[i] = (x[i] * r).mul_add(dy[i], dweight[i]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{gradient, noise, weigh};

    #[test]
    fn gradients() {
        let n = 37;
        let (x, w, dy) = (noise(n, 1), noise(n, 2), noise(n, 3));
        let loss = |x: &[f32], w: &[f32]| {
            let mut y = vec![0.0; n];
            forward(x, w, 1e-6, &mut y);
            weigh(&y, &dy)
        };
        let mut y = vec![0.0; n];
        let rstd = forward(&x, &w, 1e-6, &mut y);
        let (mut dx, mut dw) = (vec![0.0; n], vec![0.0; n]);
        backward(&x, &w, rstd, &dy, &mut dx);
        backward_weight(&x, &[rstd], &dy, n, 0, &mut dw);
        gradient(&x, &dx, |x| loss(x, &w));
        gradient(&w, &dw, |w| loss(&x, w));
    }
}
