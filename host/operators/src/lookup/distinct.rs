//! Keys told apart: a number for each, from 0 on, by its encoding. Keys are not taken out one by one.

use millrace_core::key::hash_bytes;

/// Buckets to begin with.
const BUCKETS_MIN: usize = 16;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct DistinctKeys {
    /// One more than the number of a key, where its hash leads or behind; 0: free. A power of two, at most three quarters full.
    buckets: Vec<u32>,
    hashes: Vec<u64>,
    /// Where each key ends in `bytes`.
    ends: Vec<usize>,
    bytes: Vec<u8>,
}

impl DistinctKeys {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of memory, roughly.
    pub(super) fn byte_count(&self) -> usize {
        self.bytes.capacity() + self.buckets.capacity() * 4 + self.hashes.capacity() * 8 + self.ends.capacity() * 8
    }

    /// The encoding of a key.
    pub(super) fn key(&self, number: u32) -> &[u8] {
        let number = number as usize;
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[number]]
    }

    /// The number of a key that is there.
    pub(super) fn find(&self, key: &[u8]) -> Option<u32> {
        if self.buckets.is_empty() {
            return None;
        }
        self.bucket(key, hash_bytes(key)).1
    }

    /// The number of a key, which is there from now on.
    pub(super) fn insert(&mut self, key: &[u8]) -> u32 {
        if (self.len() + 1) * 4 > self.buckets.len() * 3 {
            self.grow();
        }
        let hash = hash_bytes(key);
        let (bucket, found) = self.bucket(key, hash);
        found.unwrap_or_else(|| {
            let number = self.len() as u32;
            self.buckets[bucket] = number + 1;
            self.hashes.push(hash);
            self.bytes.extend(key);
            self.ends.push(self.bytes.len());
            number
        })
    }

    /// Where a key is, or else would be.
    fn bucket(&self, key: &[u8], hash: u64) -> (usize, Option<u32>) {
        let mask = self.buckets.len() - 1;
        let mut bucket = hash as usize & mask;
        loop {
            match self.buckets[bucket].checked_sub(1) {
                None => return (bucket, None),
                Some(number) if self.hashes[number as usize] == hash && self.key(number) == key => {
                    return (bucket, Some(number));
                }
                Some(_) => bucket = (bucket + 1) & mask,
            }
        }
    }

    fn grow(&mut self) {
        let count = (self.buckets.len() * 2).max(BUCKETS_MIN);
        self.buckets = vec![0; count];
        for (number, hash) in (1..).zip(&self.hashes) {
            let mut bucket = *hash as usize & (count - 1);
            while self.buckets[bucket] != 0 {
                bucket = (bucket + 1) & (count - 1);
            }
            self.buckets[bucket] = number;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_first_sight() {
        let mut keys = DistinctKeys::default();
        assert_eq!(keys.find(b"a"), None);
        let numbers: Vec<u32> = ["a", "", "b", "a", ""].map(|key| keys.insert(key.as_bytes())).to_vec();
        assert_eq!(numbers, [0, 1, 2, 0, 1]);
        for number in 0..10_000_u32 {
            keys.insert(&number.to_le_bytes());
        }
        assert_eq!(keys.len(), 10_003);
        for number in 0..10_000_u32 {
            assert_eq!(keys.find(&number.to_le_bytes()), Some(number + 3));
        }
        assert_eq!((keys.key(0), keys.key(1), keys.find(b"c")), (&b"a"[..], &b""[..], None));
    }
}
