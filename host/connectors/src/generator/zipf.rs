//! Numbers by Zipf's law, for keys as they occur in practice: few are frequent, most are rare.
//!
//! The number of a row depends on its index and the seed alone, so that rows can be made in any order.

use std::convert::Infallible;

use rand_core::TryRng;
use rand_distr::Distribution;

use super::expression::mix;

/// Numbers from 0 on, of which number n is met in proportion to `(n + 1) ^ -exponent`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Zipf(rand_distr::Zipf<f64>);

/// A generator that makes no number above this: an f64 holds all below exactly.
const COUNT_MAX: u64 = 1 << 53;

impl Zipf {
    /// So many numbers, and how much more frequent the first are. What is wrong is said.
    pub(crate) fn new(count: u64, exponent: f64) -> Result<Self, &'static str> {
        if count == 0 || count > COUNT_MAX {
            return Err("a number of values must follow, from 1 to 2^53, and then an exponent");
        }
        let zipf = rand_distr::Zipf::new(count as f64, exponent);
        zipf.map(Zipf)
            .map_err(|_| "an exponent must follow the number of values, 0 or above")
    }

    /// The number of a row.
    pub(crate) fn value(&self, index: u64, seed: u64) -> u64 {
        let mut random = Random(index.wrapping_add(seed));
        self.0.sample(&mut random) as u64 - 1
    }
}

/// Random numbers of one row; the distribution rejects some.
struct Random(u64);

impl TryRng for Random {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.try_next_u64().map(|number| (number >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        // The mixed number has 63 bits.
        let number = mix(self.0) << 1;
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        Ok(number)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for piece in bytes.chunks_mut(8) {
            let number = self.try_next_u64()?.to_le_bytes();
            piece.copy_from_slice(&number[..piece.len()]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequencies_follow_the_law() {
        for exponent in [0.0, 0.8, 1.0, 1.1, 2.0] {
            let (values, draws) = (1000, 200_000);
            let zipf = Zipf::new(values, exponent).unwrap();
            let mut counts = vec![0u32; values as usize];
            for index in 0..draws {
                counts[zipf.value(index, 42) as usize] += 1;
            }
            let weight = |rank: u64| (rank as f64).powf(-exponent);
            let total: f64 = (1..=values).map(weight).sum();
            for number in [0, 1, 9, 99] {
                let expected = f64::from(draws as u32) * weight(number + 1) / total;
                let got = f64::from(counts[number as usize]);
                // Five standard deviations; the seed is fixed.
                let tolerance = 5.0 * expected.sqrt() + 1.0;
                assert!(
                    (got - expected).abs() < tolerance,
                    "{exponent}: {number} came {got} times, not {expected}"
                );
            }
        }
    }
}
