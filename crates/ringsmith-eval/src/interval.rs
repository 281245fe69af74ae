//! Intervals for shares.

/// The 95 % Wilson interval of `correct` out of `total`, in percent. It takes items as independent, so
/// several samples of one question make it too narrow. Without items it is everything, 0 to 100.
pub fn wilson(correct: usize, total: usize) -> (f64, f64) {
    if total == 0 {
        return (0.0, 100.0);
    }
    const Z: f64 = 1.959_963_984_540_054;
    let n = total as f64;
    let p = correct as f64 / n;
    let scale = 1.0 + Z * Z / n;
    let center = (p + Z * Z / (2.0 * n)) / scale;
    let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt() / scale;
    // At the ends the interval touches 0 or 100 exactly, which rounding must not spoil.
    let low = if correct == 0 { 0.0 } else { (center - half).max(0.0) };
    let high = if correct == total { 1.0 } else { (center + half).min(1.0) };
    (100.0 * low, 100.0 * high)
}

/// `correct` of `total` in percent; 0 without items.
pub fn percent(correct: usize, total: usize) -> f64 {
    if total == 0 { 0.0 } else { 100.0 * correct as f64 / total as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        // Newcombe 1998, table I, method 3: 81/263, 15/148, 0/20, 1/29.
        for (correct, total, low, high) in
            [(81, 263, 25.53, 36.62), (15, 148, 6.24, 16.05), (0, 20, 0.0, 16.11), (1, 29, 0.61, 17.18)]
        {
            let (l, h) = wilson(correct, total);
            assert!((l - low).abs() < 0.01 && (h - high).abs() < 0.01, "{correct}/{total}: {l} {h}");
        }
        assert_eq!(wilson(20, 20).1, 100.0);
        assert_eq!(wilson(0, 0), (0.0, 100.0));
    }
}
