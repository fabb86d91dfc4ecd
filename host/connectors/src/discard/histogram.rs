//! A histogram of u64 values with at most 1.6 % error, mergeable, of fixed size.
//!
//! Each power of two is cut into 64 equal buckets, so a bucket is at most 1/64 of its values wide.

const SUB_BITS: u32 = 6;
const SUB_COUNT: usize = 1 << SUB_BITS;
const BUCKETS: usize = (u64::BITS - SUB_BITS + 1) as usize * SUB_COUNT;

/// Counts by bucket.
#[derive(Debug, Clone)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram {
            counts: vec![0; BUCKETS],
            total: 0,
            max: 0,
        }
    }
}

fn bucket(value: u64) -> usize {
    if value < SUB_COUNT as u64 {
        return value as usize;
    }
    let shift = u64::BITS - SUB_BITS - 1 - value.leading_zeros();
    // The leading bit is dropped by the subtraction: values of one shift fill SUB_COUNT buckets.
    (shift as usize + 1) * SUB_COUNT + ((value >> shift) as usize - SUB_COUNT)
}

/// The largest value of a bucket.
fn last_value(bucket: usize) -> u64 {
    if bucket < SUB_COUNT {
        return bucket as u64;
    }
    let shift = bucket / SUB_COUNT - 1;
    let first = ((bucket % SUB_COUNT + SUB_COUNT) as u64) << shift;
    first + ((1u64 << shift) - 1)
}

impl Histogram {
    /// Counts one value.
    pub(crate) fn record(&mut self, value: u64) {
        self.counts[bucket(value)] += 1;
        self.total += 1;
        self.max = self.max.max(value);
    }

    /// Adds another's counts.
    pub(crate) fn add(&mut self, other: &Histogram) {
        self.counts
            .iter_mut()
            .zip(&other.counts)
            .for_each(|(count, more)| *count += more);
        self.total += other.total;
        self.max = self.max.max(other.max);
    }

    /// The value that this part (0 to 1) of all values does not exceed; 0 if there is none.
    pub(crate) fn quantile(&self, part: f64) -> u64 {
        let wanted = ((self.total as f64 * part).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return last_value(bucket).min(self.max);
            }
        }
        self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_narrow() {
        let mut last = None;
        for value in (0..100_000).chain((17..64).flat_map(|b| [(1u64 << b) - 1, 1 << b, (1 << b) + (1 << (b - 3))])) {
            let index = bucket(value);
            assert!(last.is_none_or(|last| index >= last), "{value}");
            last = Some(index);
            let end = last_value(index);
            assert!(
                end >= value && (end - value) as f64 <= value as f64 * 0.016,
                "{value} {end}"
            );
        }
        assert!(bucket(u64::MAX) < BUCKETS);
        assert_eq!(last_value(bucket(u64::MAX)), u64::MAX);
    }

    #[test]
    fn quantiles_are_within_two_percent() {
        let (mut a, mut b) = (Histogram::default(), Histogram::default());
        (1..=100_000u64).for_each(|v| {
            if v % 2 == 0 {
                a.record(v * 1000)
            } else {
                b.record(v * 1000)
            }
        });
        a.add(&b);
        for part in [0.01, 0.5, 0.9, 0.99, 0.999] {
            let expected = part * 1e8;
            let got = a.quantile(part) as f64;
            assert!((got - expected).abs() <= expected * 0.02, "{part}: {got}");
        }
        assert_eq!(a.quantile(1.0), 100_000_000);
        assert_eq!(Histogram::default().quantile(0.5), 0);
    }
}
