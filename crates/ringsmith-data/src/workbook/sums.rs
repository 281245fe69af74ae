//! Raw arithmetic for pretraining: lines of sums.

use super::Rng;

/// A line of six sums: ` 82-17=65, 66+18=84, ...`.
pub(super) fn line(rng: &mut Rng) -> String {
    let sums: Vec<String> = (0..6).map(|_| sum(rng)).collect();
    format!(" {}", sums.join(", "))
}

/// One of: + with 1-40 and 1-15, its inverse, * up to 12 x 5 or 20 x 2, and its exact inverse. With one
/// side from 1-40, subtraction starts from anything that such an addition reaches.
fn sum(rng: &mut Rng) -> String {
    match rng.below(4) {
        0 => {
            let (a, b) = (rng.within(1, 40), rng.within(1, 15));
            format!("{a}+{b}={}", a + b)
        }
        1 => {
            let (a, b) = (rng.within(1, 40), rng.within(1, 15));
            format!("{}-{b}={a}", a + b)
        }
        2 => {
            let (a, b) = factors(rng);
            format!("{a}*{b}={}", a * b)
        }
        _ => {
            let (a, b) = factors(rng);
            format!("{}/{b}={a}", a * b)
        }
    }
}

fn factors(rng: &mut Rng) -> (i64, i64) {
    if rng.chance(0.5) { (rng.within(2, 12), rng.within(2, 5)) } else { (rng.within(2, 20), 2) }
}
