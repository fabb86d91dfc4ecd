//! Numbers that look random and depend on the event, the column and the seed alone.

use crate::generator::mix;

/// The numbers of a column.
#[derive(Clone, Copy)]
pub(super) struct Stream(u64);

impl Stream {
    /// Of a column.
    pub(super) fn new(seed: u64, column: u64) -> Self {
        Stream(mix(seed ^ column.wrapping_mul(0xD1B5_4A32_D192_ED03)))
    }

    /// Those for the value of an event.
    #[inline(always)]
    pub(super) fn at(self, event: u64) -> Random {
        Random(self.0.wrapping_add(event.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
    }
}

/// The numbers for one value.
pub(super) struct Random(u64);

impl Random {
    /// The next of 63 bits.
    #[inline(always)]
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// The next below a bound, which is small.
    #[inline(always)]
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 63) as u64
    }
}

/// One of two, without a branch: of what is random a processor would guess every other wrong.
#[inline(always)]
pub(super) fn choose(is_first: bool, first: u64, second: u64) -> u64 {
    second ^ (first ^ second) & u64::from(is_first).wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_spread_evenly() {
        let mut counts = [0; 10];
        for event in 0..10_000 {
            let mut random = Stream::new(1, 3).at(event);
            counts[random.below(10) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (900..1_100).contains(count)), "{counts:?}");
    }

    #[test]
    fn columns_and_seeds_differ() {
        let first = |seed, event, column| Stream::new(seed, column).at(event).next();
        let all = [first(0, 0, 0), first(1, 0, 0), first(0, 1, 0), first(0, 0, 1)];
        let mut distinct = all.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), all.len());
    }
}
