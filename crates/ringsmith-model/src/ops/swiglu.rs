//! The gate of an MLP: act = silu(gate) * up. `gate_up` holds a row's gate, then its up.

use crate::simd::{LANES, fold, sigmoid, simd};

simd! {
    /// One row: act [inner] from gate_up [2 inner].
    pub fn forward(gate_up: &[f32], act: &mut [f32]) {
        let n = act.len();
        let (gate, up) = gate_up.split_at(n);
        assert_eq!(up.len(), n);
        for i in 0..n {
            act[i] = gate[i] * sigmoid(gate[i]) * up[i];
        }
    }
}

simd! {
    /// One row: turns gate_up into its gradient, given dact * weight; fills act with weight * silu(gate) * up
    /// (what the down projection's gradient needs) and returns Σ dact * act, the gradient of `weight`.
    pub fn backward(weight: f32, dact: &[f32], gate_up: &mut [f32], act: &mut [f32]) -> f32 {
        let n = act.len();
        let (gate, up) = gate_up.split_at_mut(n);
        assert!(up.len() == n && dact.len() == n);
        let mut lanes = [0f32; LANES];
        for at in (0..n).step_by(LANES) {
            let len = LANES.min(n - at);
            let (gate, up) = (&mut gate[at..at + len], &mut up[at..at + len]);
            let (dact, act) = (&dact[at..at + len], &mut act[at..at + len]);
            for i in 0..len {
                let (g, u, d) = (gate[i], up[i], dact[i]);
                let s = sigmoid(g);
                let silu = g * s;
                let a = silu * u;
                lanes[i] = d.mul_add(a, lanes[i]);
                let d = d * weight;
                gate[i] = d * u * (s + silu * (1.0 - s));
                up[i] = d * silu;
                act[i] = weight * a;
            }
        }
        fold(lanes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{gradient, noise, weigh};

    #[test]
    fn gradients() {
        let n = 19;
        let (x, dact, weight) = (noise(2 * n, 1), noise(n, 2), 0.7);
        let loss = |x: &[f32], weight: f32| {
            let mut act = vec![0.0; n];
            forward(x, &mut act);
            weight as f64 * weigh(&act, &dact)
        };
        let (mut dx, mut act) = (x.clone(), vec![0.0; n]);
        let dweight = backward(weight, &dact, &mut dx, &mut act);
        gradient(&x, &dx, |x| loss(x, weight));
        gradient(&[weight], &[dweight], |w| loss(&x, w[0]));
        let mut plain = vec![0.0; n];
        forward(&x, &mut plain);
        assert!(plain.iter().zip(&act).all(|(p, a)| (p * weight - a).abs() < 1e-6));
    }
}
