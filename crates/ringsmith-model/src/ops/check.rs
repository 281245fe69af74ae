//! Finite differences for the tests of operations.

/// Numbers in -0.5..0.5, the same for the same seed.
pub fn noise(n: usize, seed: u64) -> Vec<f32> {
    (0..n).map(|i| crate::random::uniform(&[seed, i as u64]) as f32 - 0.5).collect()
}

/// Compares `grad` with central differences of `loss` around `x`, element by element.
pub fn gradient(x: &[f32], grad: &[f32], loss: impl Fn(&[f32]) -> f64) {
    assert_eq!(x.len(), grad.len());
    let scale = grad.iter().fold(1e-3f32, |m, g| m.max(g.abs())) as f64;
    let mut probe = x.to_vec();
    for i in 0..x.len() {
        let h = 4e-3f32;
        probe[i] = x[i] + h;
        let up = loss(&probe);
        probe[i] = x[i] - h;
        let down = loss(&probe);
        probe[i] = x[i];
        let want = (up - down) / (2.0 * h as f64);
        assert!(
            (want - grad[i] as f64).abs() < 4e-3 * scale,
            "element {i}: {} but differences say {want}",
            grad[i]
        );
    }
}

/// Σ y·w in f64: a loss whose gradient with respect to y is w.
pub fn weigh(y: &[f32], w: &[f32]) -> f64 {
    y.iter().zip(w).map(|(y, w)| *y as f64 * *w as f64).sum()
}
