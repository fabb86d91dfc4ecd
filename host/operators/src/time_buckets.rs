//! Numbers to be handed back at their time, in order: what timers and session ends are kept in.
//!
//! One bucket per distinct time, in a `BTreeMap`; a small direct-mapped cache in front of it makes it rare
//! to search, for times of neighbouring rows are close. Entries are never searched or deleted: the owner
//! knows which are stale when it gets them back, and may [`retain`](TimeBuckets::retain) when too many are.

use std::collections::BTreeMap;

use millrace_core::block::Millis;

/// Buckets found without a search: those of this many consecutive ms.
const CACHE_SIZE: usize = 4096;

/// Numbers by time.
#[derive(Debug)]
pub(crate) struct TimeBuckets {
    order: BTreeMap<Millis, u32>,
    buckets: Vec<Bucket>,
    /// Buckets without a time.
    free: Vec<u32>,
    /// By low bits of the time: a bucket that may be its.
    cache: Vec<u32>,
    entry_count: usize,
}

#[derive(Debug)]
struct Bucket {
    /// `None`: in the free list.
    time: Option<Millis>,
    entries: Vec<u32>,
}

impl TimeBuckets {
    pub(crate) fn new() -> Self {
        TimeBuckets {
            order: BTreeMap::new(),
            buckets: Vec::new(),
            free: Vec::new(),
            cache: vec![0; CACHE_SIZE],
            entry_count: 0,
        }
    }

    /// Adds an entry at a time.
    #[inline]
    pub(crate) fn push(&mut self, time: Millis, entry: u32) {
        self.entry_count += 1;
        let cached = self.cache[time as usize % CACHE_SIZE];
        if let Some(bucket) = self.buckets.get_mut(cached as usize)
            && bucket.time == Some(time)
        {
            bucket.entries.push(entry);
            return;
        }
        self.push_searching(time, entry);
    }

    fn push_searching(&mut self, time: Millis, entry: u32) {
        let buckets = &mut self.buckets;
        let free = &mut self.free;
        let at = *self.order.entry(time).or_insert_with(|| match free.pop() {
            Some(at) => {
                buckets[at as usize].time = Some(time);
                at
            }
            None => {
                buckets.push(Bucket {
                    time: Some(time),
                    entries: Vec::new(),
                });
                buckets.len() as u32 - 1
            }
        });
        self.cache[time as usize % CACHE_SIZE] = at;
        self.buckets[at as usize].entries.push(entry);
    }

    /// The earliest time with entries, and these.
    pub(crate) fn first(&self) -> Option<(Millis, &[u32])> {
        let (&time, &at) = self.order.first_key_value()?;
        Some((time, &self.buckets[at as usize].entries))
    }

    /// All entries, in the order of time, of equal times in that in which they were pushed.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &u32> {
        self.order.values().flat_map(|&at| &self.buckets[at as usize].entries)
    }

    /// Takes the earliest bucket whose time is not after `upto`: its entries come into `entries`, in the
    /// order in which they were pushed, in place of what was there.
    pub(crate) fn take_first(&mut self, upto: Millis, entries: &mut Vec<u32>) -> Option<Millis> {
        entries.clear();
        let first = self.order.first_entry()?;
        let time = *first.key();
        if time > upto {
            return None;
        }
        let at = first.remove();
        let bucket = &mut self.buckets[at as usize];
        bucket.time = None;
        std::mem::swap(&mut bucket.entries, entries);
        self.free.push(at);
        self.entry_count -= entries.len();
        Some(time)
    }

    /// Number of entries, stale ones included.
    pub(crate) fn entry_count(&self) -> usize {
        self.entry_count
    }

    /// Keeps the entries for which `keep(time, entry)` holds, one of each in a bucket, in ascending order.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(Millis, u32) -> bool) {
        let (buckets, free) = (&mut self.buckets, &mut self.free);
        self.entry_count = 0;
        self.order.retain(|&time, &mut at| {
            let bucket = &mut buckets[at as usize];
            bucket.entries.retain(|&entry| keep(time, entry));
            bucket.entries.sort_unstable();
            bucket.entries.dedup();
            bucket.entries.shrink_to(bucket.entries.len() * 2);
            self.entry_count += bucket.entries.len();
            let occupied = !bucket.entries.is_empty();
            if !occupied {
                bucket.time = None;
                free.push(at);
            }
            occupied
        });
    }

    /// Bytes of memory held, about.
    pub(crate) fn memory_bytes(&self) -> usize {
        let entries = self
            .buckets
            .iter()
            .map(|bucket| bucket.entries.capacity() * size_of::<u32>());
        // A node of the tree holds up to 11 pairs and is at least half full.
        entries.sum::<usize>() + self.buckets.capacity() * size_of::<Bucket>() + self.order.len() * 24
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    #[test]
    fn entries_come_back_in_order_of_time() {
        let mut random = Random::new(1);
        let mut buckets = TimeBuckets::new();
        let mut model = BTreeMap::<Millis, Vec<u32>>::new();
        let mut entries = Vec::new();
        for round in 0..200 {
            for entry in 0..random.below(100) as u32 {
                let time = random.below(5000) as Millis - 2000;
                buckets.push(time, entry);
                model.entry(time).or_default().push(entry);
            }
            let upto = random.below(6000) as Millis - 2500;
            if round % 10 == 9 {
                buckets.retain(|time, entry| (time + Millis::from(entry)) % 3 == 0);
                model.retain(|time, entries| {
                    entries.retain(|&entry| (time + Millis::from(entry)) % 3 == 0);
                    entries.sort_unstable();
                    entries.dedup();
                    !entries.is_empty()
                });
            }
            let first = model.iter().next().map(|(&time, entries)| (time, entries.as_slice()));
            assert_eq!(buckets.first(), first);
            while let Some(time) = buckets.take_first(upto, &mut entries) {
                assert_eq!(model.pop_first().unwrap(), (time, entries.clone()));
            }
            assert!(model.keys().all(|&time| time > upto));
            assert_eq!(buckets.entry_count(), model.values().map(Vec::len).sum::<usize>());
        }
        assert!(buckets.memory_bytes() > 0);
    }
}
