//! Seeded order: the shuffles behind packing and batching, and which rows a training step reads.

/// SplitMix64 (Steele, Lea and Flood, 2014).
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `n`, by the high half of a product; the bias is below n / 2^64.
    fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }
}

/// The numbers 0 to `n` - 1 in an order that depends on the seed and the epoch alone.
pub fn order(seed: u64, epoch: u64, n: usize) -> Vec<usize> {
    let mut random = SplitMix(SplitMix(seed).next() ^ epoch.wrapping_mul(0xD134_2543_DE82_EF95));
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        order.swap(i, random.below(i + 1));
    }
    order
}

/// The rows of step `step` (from 0) when each step reads `batch` of `n` rows: epoch after epoch, each in its
/// own order, a step running on into the next epoch where one ends. A pure function, so training resumes
/// anywhere.
pub fn batch(seed: u64, step: u64, batch: usize, n: usize) -> Vec<usize> {
    assert!(n > 0, "a batch of no rows");
    let first = step * batch as u64;
    let mut current: Option<(u64, Vec<usize>)> = None;
    (first..first + batch as u64)
        .map(|at| {
            let (epoch, place) = (at / n as u64, (at % n as u64) as usize);
            match &current {
                Some((known, order)) if *known == epoch => order[place],
                _ => {
                    let order = order(seed, epoch, n);
                    let row = order[place];
                    current = Some((epoch, order));
                    row
                }
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_a_permutation_of_its_own() {
        for n in [0, 1, 2, 17, 1000] {
            let mut sorted = order(7, 3, n);
            sorted.sort_unstable();
            assert_eq!(sorted, (0..n).collect::<Vec<_>>());
        }
        assert_eq!(order(7, 3, 100), order(7, 3, 100));
        assert_ne!(order(7, 3, 100), order(7, 4, 100));
        assert_ne!(order(7, 3, 100), order(8, 3, 100));
    }

    #[test]
    fn every_place_is_reached_about_equally() {
        let mut counts = [0u32; 5];
        for seed in 0..5000 {
            counts[order(seed, 0, 5).iter().position(|&i| i == 0).unwrap()] += 1;
        }
        // 1000 each; six standard deviations are 170.
        assert!(counts.iter().all(|&count| count.abs_diff(1000) < 170), "{counts:?}");
    }

    #[test]
    fn steps_walk_through_every_epoch_once() {
        let (n, size) = (10, 4);
        let walked: Vec<usize> = (0..5).flat_map(|step| batch(1, step, size, n)).collect();
        for (epoch, rows) in walked.chunks(n).enumerate() {
            assert_eq!(rows, order(1, epoch as u64, n));
        }
        assert_eq!(batch(1, 0, 25, n).len(), 25);
    }
}
