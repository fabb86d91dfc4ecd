//! Numbers that look random and depend on the event, the column and the seed alone.

use crate::generator::mix;

/// The numbers for one value.
pub(super) struct Random(u64);

impl Random {
    /// For a column of an event.
    #[inline]
    pub(super) fn new(seed: u64, event: u64, column: u64) -> Self {
        Random(
            mix(seed ^ column.wrapping_mul(0xD1B5_4A32_D192_ED03))
                .wrapping_add(event.wrapping_mul(0x9E37_79B9_7F4A_7C15)),
        )
    }

    /// The next of 63 bits.
    #[inline]
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// The next below a bound, which is small.
    #[inline]
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 63) as u64
    }

    /// The next from 0 to 1.
    #[inline]
    pub(super) fn unit(&mut self) -> f64 {
        (self.next() >> 10) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_spread_evenly() {
        let mut counts = [0; 10];
        let mut sum = 0.0;
        for event in 0..10_000 {
            let mut random = Random::new(1, event, 3);
            counts[random.below(10) as usize] += 1;
            sum += random.unit();
        }
        assert!(counts.iter().all(|count| (900..1_100).contains(count)), "{counts:?}");
        assert!((4_900.0..5_100.0).contains(&sum), "{sum}");
    }

    #[test]
    fn columns_and_seeds_differ() {
        let first = |seed, event, column| Random::new(seed, event, column).next();
        let all = [first(0, 0, 0), first(1, 0, 0), first(0, 1, 0), first(0, 0, 1)];
        let mut distinct = all.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), all.len());
    }
}
