//! Softmax over a row, in fixed lanes so that a longer, masked row gives the same bits.

use crate::simd::{LANES, exp, fold, simd};

simd! {
    /// x becomes softmax(scale * x); returns the log of the sum of exponentials (of the scaled values).
    pub fn softmax(scale: f32, x: &mut [f32]) -> f32 {
        let (body, tail) = x.as_chunks_mut::<LANES>();
        // The ragged end in lanes of its own; what is past it weighs nothing.
        let mut end = [f32::NEG_INFINITY; LANES];
        end[..tail.len()].copy_from_slice(tail);
        let mut max = end;
        for x in body.iter() {
            for i in 0..LANES {
                max[i] = if x[i] > max[i] { x[i] } else { max[i] };
            }
        }
        let top = max.iter().fold(f32::NEG_INFINITY, |a, b| if *b > a { *b } else { a }) * scale;
        let mut sum = [0f32; LANES];
        for x in body.iter_mut() {
            for i in 0..LANES {
                x[i] = exp(x[i].mul_add(scale, -top));
            }
            for i in 0..LANES {
                sum[i] += x[i];
            }
        }
        for i in 0..LANES {
            end[i] = exp(end[i].mul_add(scale, -top));
            sum[i] += end[i];
        }
        tail.copy_from_slice(&end[..tail.len()]);
        let sum = fold(sum);
        let inverse = 1.0 / sum;
        for v in x.iter_mut() {
            *v *= inverse;
        }
        top + sum.ln()
    }
}

simd! {
    /// x becomes exp(scale * x - log_sum): the probabilities again, from the kept log-sum.
    pub fn again(scale: f32, log_sum: f32, x: &mut [f32]) {
        for v in x.iter_mut() {
            *v = exp(v.mul_add(scale, -log_sum));
        }
    }
}

simd! {
    /// ds = p * (dp - along) * scale, the gradient of the row before scaling; `along` is Σ p dp.
    pub fn backward(p: &[f32], along: f32, scale: f32, dp: &mut [f32]) {
        assert_eq!(p.len(), dp.len());
        for (d, p) in dp.iter_mut().zip(p) {
            *d = p * (*d - along) * scale;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{gradient, noise, weigh};
    use crate::simd::dot;

    #[test]
    fn gradients_and_log_sum() {
        let (n, scale) = (23, 0.6);
        let (x, dp) = (noise(n, 1), noise(n, 2));
        let mut p = x.clone();
        let log_sum = softmax(scale, &mut p);
        let want: f64 = x.iter().map(|x| ((x * scale) as f64).exp()).sum::<f64>().ln();
        assert!((log_sum as f64 - want).abs() < 1e-6);
        let mut p2 = x.clone();
        again(scale, log_sum, &mut p2);
        assert!(p.iter().zip(&p2).all(|(a, b)| (a - b).abs() < 1e-7));
        let mut dx = dp.clone();
        backward(&p, dot(&p, &dp), scale, &mut dx);
        gradient(&x, &dx, |x| {
            let mut p = x.to_vec();
            softmax(scale, &mut p);
            weigh(&p, &dp)
        });
    }
}
