//! Key groups: the unit in which keyed state is sharded, and who owns which.
//!
//! The arithmetic is Flink's, so that groups of a subtask are a range and rescaling moves ranges.

use std::ops::Range;

/// The largest `max_parallelism` of a job: 2^15, as in Flink.
pub const MAX_PARALLELISM_LIMIT: u32 = 1 << 15;

/// One of `max_parallelism` shards of the key space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyGroup(pub u32);

impl KeyGroup {
    /// The group of a key with this hash: the upper half of the hash scaled to `max_parallelism`.
    ///
    /// ```
    /// # use millrace_core::key::KeyGroup;
    /// assert_eq!(KeyGroup::of_hash(0x8000_0000_0000_0000, 128), KeyGroup(64));
    /// ```
    #[inline]
    pub fn of_hash(hash: u64, max_parallelism: u32) -> KeyGroup {
        KeyGroup((((hash >> 32) * u64::from(max_parallelism)) >> 32) as u32)
    }

    /// The subtask that owns this group.
    #[inline]
    pub fn owner(self, parallelism: u32, max_parallelism: u32) -> u32 {
        (u64::from(self.0) * u64::from(parallelism) / u64::from(max_parallelism)) as u32
    }
}

/// The key groups of one operator and who owns them, ready to map hashes to subtasks without a division.
#[derive(Debug, Clone)]
pub struct KeyGroups {
    max_parallelism: u32,
    parallelism: u32,
    owners: Vec<u32>,
}

impl KeyGroups {
    /// The groups of an operator that runs with `parallelism`.
    ///
    /// # Panics
    /// If `parallelism` is 0 or over `max_parallelism`: the planner refuses such a job.
    pub fn new(parallelism: u32, max_parallelism: u32) -> Self {
        assert!(
            (1..=max_parallelism).contains(&parallelism),
            "the planner refuses parallelism {parallelism} with {max_parallelism} key groups"
        );
        KeyGroups {
            max_parallelism,
            parallelism,
            owners: (0..max_parallelism)
                .map(|group| KeyGroup(group).owner(parallelism, max_parallelism))
                .collect(),
        }
    }

    /// The subtask that gets a row with this hash.
    #[inline]
    pub fn subtask_of(&self, hash: u64) -> u32 {
        self.owners[KeyGroup::of_hash(hash, self.max_parallelism).0 as usize]
    }

    /// The groups that a subtask owns.
    ///
    /// ```
    /// # use millrace_core::key::KeyGroups;
    /// assert_eq!(KeyGroups::new(3, 10).groups_of(1), 4..7);
    /// ```
    pub fn groups_of(&self, subtask: u32) -> Range<u32> {
        let start = |subtask: u32| {
            let groups = u64::from(subtask) * u64::from(self.max_parallelism);
            groups.div_ceil(u64::from(self.parallelism)) as u32
        };
        start(subtask)..start(subtask + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_owners_agree() {
        for max_parallelism in [1, 2, 7, 10, 128, 1000] {
            for parallelism in 1..=max_parallelism.min(130) {
                let groups = KeyGroups::new(parallelism, max_parallelism);
                let mut next = 0;
                for subtask in 0..parallelism {
                    let range = groups.groups_of(subtask);
                    assert_eq!(range.start, next);
                    assert!(!range.is_empty());
                    next = range.end;
                    for group in range {
                        assert_eq!(KeyGroup(group).owner(parallelism, max_parallelism), subtask);
                    }
                }
                assert_eq!(next, max_parallelism);
            }
        }
    }

    #[test]
    fn groups_cover_the_hash_space() {
        for (hash, expect) in [(0, 0), (u64::MAX, 127), (1 << 57, 1), ((1 << 57) - 1, 0)] {
            assert_eq!(KeyGroup::of_hash(hash, 128), KeyGroup(expect), "{hash:#x}");
        }
        assert_eq!(KeyGroups::new(2, 128).subtask_of(u64::MAX), 1);
        assert_eq!(KeyGroups::new(2, 128).subtask_of(0), 0);
    }
}
