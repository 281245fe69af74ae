//! The router: softmax over all experts in f32, the top k, their weights divided by their sum if so configured.

use crate::ops::softmax::softmax;

/// One token. `probs` enters as logits [experts] and leaves as probabilities; `chosen` and `weights` [k] are filled
/// in falling order of probability, the lower expert first where they tie. Returns logsumexp(logits).
pub fn forward(probs: &mut [f32], normalise: bool, chosen: &mut [u32], weights: &mut [f32]) -> f32 {
    let log_sum = softmax(1.0, probs);
    let k = chosen.len();
    for n in 0..k {
        let mut best: Option<usize> = None;
        for (e, p) in probs.iter().enumerate() {
            if !chosen[..n].contains(&(e as u32)) && best.is_none_or(|b| *p > probs[b]) {
                best = Some(e);
            }
        }
        let best = best.expect("k is at most the number of experts");
        chosen[n] = best as u32;
        weights[n] = probs[best];
    }
    if normalise && k > 1 {
        let sum: f32 = weights.iter().sum();
        weights.iter_mut().for_each(|w| *w /= sum);
    }
    log_sum
}

/// The router's own losses for one token, as gradients: `balance[e]` is d loss / d probs[e] of the balance loss,
/// `z` the factor of logsumexp² in the loss.
pub struct Extra<'a> {
    pub balance: &'a [f32],
    pub z: f32,
    pub log_sum: f32,
}

/// One token: dlogits [experts] from dweights [k].
pub fn backward(
    probs: &[f32],
    normalise: bool,
    chosen: &[u32],
    weights: &[f32],
    dweights: &[f32],
    extra: Option<Extra<'_>>,
    dlogits: &mut [f32],
) {
    match &extra {
        Some(extra) => dlogits.copy_from_slice(extra.balance),
        None => dlogits.fill(0.0),
    }
    let along: f32 = weights.iter().zip(dweights).map(|(w, d)| w * d).sum();
    let normalise = normalise && chosen.len() > 1;
    let sum: f32 = chosen.iter().map(|e| probs[*e as usize]).sum();
    for (e, d) in chosen.iter().zip(dweights) {
        dlogits[*e as usize] += if normalise { (d - along) / sum } else { *d };
    }
    let along: f32 = probs.iter().zip(dlogits.iter()).map(|(p, d)| p * d).sum();
    let z = extra.map_or(0.0, |x| 2.0 * x.z * x.log_sum);
    for (d, p) in dlogits.iter_mut().zip(probs) {
        *d = p * (*d - along + z);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{gradient, noise, weigh};

    #[test]
    fn gradients() {
        for normalise in [true, false] {
            let (logits, dweights, balance, zc) = (noise(7, 5), noise(3, 2), noise(7, 3), 0.3f32);
            let run = |logits: &[f32]| {
                let (mut p, mut c, mut w) = (logits.to_vec(), vec![0; 3], vec![0.0; 3]);
                let log_sum = forward(&mut p, normalise, &mut c, &mut w);
                (p, c, w, log_sum)
            };
            let (p, c, w, log_sum) = run(&logits);
            let mut dlogits = vec![0.0; 7];
            let extra = Extra { balance: &balance, z: zc, log_sum };
            backward(&p, normalise, &c, &w, &dweights, Some(extra), &mut dlogits);
            gradient(&logits, &dlogits, |x| {
                let (p, _, w, log_sum) = run(x);
                weigh(&w, &dweights) + weigh(&p, &balance) + (zc * log_sum * log_sum) as f64
            });
        }
    }

    #[test]
    fn ties_go_to_the_lower_expert() {
        let (mut p, mut c, mut w) = (vec![0.5; 4], vec![0; 2], vec![0.0; 2]);
        forward(&mut p, true, &mut c, &mut w);
        assert_eq!(c, [0, 1]);
        assert_eq!(w, [0.5, 0.5]);
    }
}
