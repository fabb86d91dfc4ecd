//! Every tier against a tree.

mod sorted;

use std::collections::{BTreeMap, BTreeSet};

use millrace_core::Result;
use millrace_core::backend::{ByteRows, LowerTier, Part, PartedTier, expiry_bytes, expiry_of};
use millrace_core::block::Millis;

use super::*;
use crate::testing::Random;

type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

fn rows<'a>(rows: impl IntoIterator<Item = &'a [u8]>) -> ByteRows {
    let mut all = ByteRows::default();
    for row in rows {
        all.push(row);
    }
    all
}

fn some_keys(random: &mut Random, distinct: bool) -> Vec<Vec<u8>> {
    let count = random.below(40);
    let mut keys = (0..count)
        .map(|_| {
            let key = random.below(300);
            let mut bytes = key.to_be_bytes()[6..].to_vec();
            bytes.resize(2 + (key % 5) as usize, 7);
            bytes
        })
        .collect::<Vec<_>>();
    if distinct {
        let mut seen = BTreeSet::new();
        keys.retain(|key| seen.insert(key.clone()));
    }
    keys
}

fn frozen_entries(frozen: &dyn millrace_core::backend::FrozenTier) -> Entries {
    let mut entries = Entries::new();
    let mut each = |keys: &ByteRows, values: &ByteRows| {
        assert!(keys.len() <= 13);
        for (key, value) in keys.iter().zip(values.iter()) {
            assert_eq!(entries.insert(key.to_vec(), value.to_vec()), None);
        }
        Ok(())
    };
    frozen.scan(13, &mut each).unwrap();
    entries
}

fn agrees_with_a_tree(tier: &mut dyn LowerTier, seed: u64) {
    let mut random = Random::new(seed);
    let (mut model, mut index) = (Entries::new(), BTreeSet::new());
    let mut frozen = Vec::new();
    assert!(tier.is_empty());
    for step in 0..400 {
        match random.below(6) {
            0 | 1 => {
                let keys = some_keys(&mut random, false);
                let mut values = Vec::new();
                for key in &keys {
                    let value = vec![step as u8; random.below(30) as usize];
                    model.insert(key.clone(), value.clone());
                    values.push(value);
                }
                let keys = rows(keys.iter().map(Vec::as_slice));
                tier.put(&keys, &rows(values.iter().map(Vec::as_slice))).unwrap();
            }
            2 => {
                let keys = some_keys(&mut random, true);
                let (mut found, mut values) = (vec![true], rows([b"old".as_slice()]));
                tier.get(&rows(keys.iter().map(Vec::as_slice)), &mut found, &mut values)
                    .unwrap();
                assert_eq!((found.len(), values.len()), (keys.len(), keys.len()));
                for ((key, found), value) in keys.iter().zip(found).zip(values.iter()) {
                    let expected = match tier.keeps_what_was_got() {
                        true => model.get(key).cloned(),
                        false => model.remove(key),
                    };
                    assert_eq!(found.then(|| value.to_vec()), expected);
                }
            }
            3 => {
                let keys = some_keys(&mut random, false);
                for key in &keys {
                    model.remove(key);
                }
                tier.remove(&rows(keys.iter().map(Vec::as_slice))).unwrap();
            }
            4 => {
                let (add, remove) = (some_keys(&mut random, false), some_keys(&mut random, false));
                index.extend(add.iter().cloned());
                for entry in &remove {
                    index.remove(entry);
                }
                let (add, remove) = (add.iter().map(Vec::as_slice), remove.iter().map(Vec::as_slice));
                tier.change_index(&rows(add), &rows(remove)).unwrap();
                let (from, to, limit) = ([0, random.below(200) as u8], [0, 200 + random.below(50) as u8], 17);
                let mut entries = ByteRows::default();
                tier.read_index(&from, &to, limit, &mut entries).unwrap();
                let expected = index.range(from.to_vec()..to.to_vec()).take(limit);
                assert!(entries.iter().eq(expected.map(Vec::as_slice)));
            }
            _ if random.below(4) == 0 => frozen.push((tier.freeze().unwrap(), model.clone())),
            _ => {}
        }
    }
    assert_eq!(frozen_entries(&*tier.freeze().unwrap()), model);
    assert!(frozen.len() > 3);
    for (frozen, expected) in frozen {
        assert_eq!(frozen_entries(&*frozen), expected);
        // Again: a write that failed is repeated.
        assert_eq!(frozen_entries(&*frozen), expected);
    }
}

/// What is done to a tier whose entries expire, by the name that every kind of tier has for it.
struct Expiring<T> {
    put: fn(&mut T, &ByteRows, &ByteRows) -> Result<()>,
    expire: fn(&mut T, Millis) -> Result<Option<Millis>>,
    entries: fn(&mut T) -> Entries,
    /// Compares what is read with what was put, of which some may have expired by now.
    check_reads: fn(&mut T, &mut Entries, Millis, &mut Random),
}

/// What is not there any more has expired, and what has not is there. `settle` has all go that may.
fn only_what_expired_goes<T>(tier: &mut T, of: &Expiring<T>, seed: u64, settle: impl Fn(&mut T, Millis)) {
    let mut random = Random::new(seed);
    let (mut model, mut now, mut dropped) = (Entries::new(), 0, 0);
    for step in 0..600 {
        now += random.below(4) as Millis;
        match random.below(8) {
            0..=3 => {
                let keys = some_keys(&mut random, false);
                let mut values = ByteRows::default();
                for key in &keys {
                    let never = random.below(9) == 0;
                    let expires = now + random.below(60) as Millis;
                    let mut value = expiry_bytes(if never { Millis::MAX } else { expires }).to_vec();
                    value.extend(vec![step as u8; random.below(20) as usize]);
                    values.push(&value);
                    model.insert(key.clone(), value);
                }
                (of.put)(tier, &rows(keys.iter().map(Vec::as_slice)), &values).unwrap();
            }
            4 => (of.check_reads)(tier, &mut model, now, &mut random),
            5 | 6 => {
                let next = (of.expire)(tier, now).unwrap();
                let least = model.values().map(|value| expiry_of(value)).min();
                // It is asked again before anything expires that it was not told of since.
                if let (Some(next), Some(least)) = (next, least) {
                    assert!(next <= now || next <= least || least <= now, "{next} {least} {now}");
                }
            }
            _ if random.below(10) == 0 => {
                settle(tier, now);
                let before = model.len();
                model.retain(|_, value| expiry_of(value) > now);
                dropped += before - model.len();
                assert_eq!((of.entries)(tier), model);
            }
            _ => {}
        }
    }
    assert!(dropped > 20, "{dropped}");
}

/// Has a tier in memory look for all that has expired.
fn search_all<T>(tier: &mut T, of: &Expiring<T>, now: Millis) {
    let mut calls = 0;
    while (of.expire)(tier, now).unwrap().is_some_and(|next| next <= now) {
        calls += 1;
        assert!(calls < 1000, "it has an end");
    }
}

impl<T: LowerTier> Expiring<T> {
    fn lower() -> Self {
        Expiring {
            put: T::put,
            expire: T::expire,
            entries: |tier| frozen_entries(&*tier.freeze().unwrap()),
            check_reads: |tier, model, now, random| {
                let keys = some_keys(random, true);
                let (mut found, mut values) = (Vec::new(), ByteRows::default());
                tier.get(&rows(keys.iter().map(Vec::as_slice)), &mut found, &mut values)
                    .unwrap();
                for ((key, found), value) in keys.iter().zip(found).zip(values.iter()) {
                    let expected = match tier.keeps_what_was_got() {
                        true => model.get(key).cloned(),
                        false => model.remove(key),
                    };
                    match expected {
                        Some(expected) if found => assert_eq!(value, expected),
                        Some(expected) => assert!(expiry_of(&expected) <= now),
                        None => assert!(!found),
                    }
                }
            },
        }
    }
}

#[test]
fn memory_is_searched_for_what_expired() {
    for seed in 0..50 {
        let mut tier = MemoryTier::expiring();
        let of = Expiring::lower();
        only_what_expired_goes(&mut tier, &of, seed, |tier, now| search_all(tier, &of, now));
        assert_eq!(tier.len() as usize, frozen_entries(&*tier.freeze().unwrap()).len());
    }
}

#[test]
fn memory_agrees_with_a_tree() {
    for seed in 0..50 {
        let mut tier = MemoryTier::default();
        agrees_with_a_tree(&mut tier, seed);
        assert_eq!(tier.len() as usize, frozen_entries(&*tier.freeze().unwrap()).len());
    }
}

/// Entries in a few parts, of all first bytes: as a tree has them.
fn parts_agree_with_a_tree(tier: &mut dyn PartedTier, seed: u64) {
    let mut random = Random::new(seed);
    let mut model = Entries::new();
    let parts = [0, 1, 7 << 40, u64::MAX - 1, u64::MAX].map(u64::to_be_bytes);
    let key = |random: &mut Random, part: Part| {
        let mut key = part.to_vec();
        key.extend([random.below(256) as u8, random.below(3) as u8]);
        key.resize(10 + random.below(2) as usize, 9);
        key
    };
    let mut frozen = Vec::new();
    for step in 0..600 {
        let part = parts[random.below(5) as usize];
        let some = (0..random.below(60)).map(|_| key(&mut random, part));
        let some = some.collect::<BTreeSet<_>>();
        let keys = rows(some.iter().map(Vec::as_slice));
        match random.below(8) {
            0..=3 => {
                let value = vec![step as u8; random.below(30) as usize];
                model.extend(some.iter().map(|key| (key.clone(), value.clone())));
                tier.put(&keys, &rows(some.iter().map(|_| value.as_slice()))).unwrap();
            }
            4 => {
                let (mut found, mut values) = (Vec::new(), ByteRows::default());
                tier.get(&keys, &mut found, &mut values).unwrap();
                for ((key, found), value) in some.iter().zip(found).zip(values.iter()) {
                    assert_eq!(found.then_some(value), model.get(key).map(Vec::as_slice));
                    if !tier.keeps_what_was_got() {
                        model.remove(key);
                    }
                }
            }
            5 => {
                model.retain(|key, _| !some.contains(key));
                tier.remove(&keys).unwrap();
            }
            6 if random.below(3) == 0 => {
                model.retain(|key, _| !key.starts_with(&part));
                tier.remove_part(part).unwrap();
            }
            6 => {
                let limit = 1 + random.below(50) as usize;
                let mut from = part.to_vec();
                loop {
                    let (mut keys, mut values) = (rows([b"old".as_slice()]), ByteRows::default());
                    tier.read_part(part, &from, limit, &mut keys, &mut values).unwrap();
                    let expected = model.range(from.clone()..).filter(|(key, _)| key.starts_with(&part));
                    let expected = expected
                        .take(limit)
                        .map(|(key, value)| (key.as_slice(), value.as_slice()));
                    assert!(keys.iter().zip(values.iter()).eq(expected));
                    if keys.len() < limit {
                        break;
                    }
                    from = [keys.get(limit - 1), &[0]].concat();
                }
            }
            _ if random.below(4) == 0 => frozen.push((tier.freeze().unwrap(), model.clone())),
            _ => {}
        }
    }
    for (frozen, expected) in frozen {
        assert_eq!(frozen_entries(&*frozen), expected);
    }
    assert_eq!(frozen_entries(&*tier.freeze().unwrap()), model);
}

#[test]
fn parts_in_memory_agree_with_a_tree() {
    for seed in 0..50 {
        let mut tier = PartedMemoryTier::default();
        parts_agree_with_a_tree(&mut tier, seed);
        let entries = frozen_entries(&*tier.freeze().unwrap());
        assert_eq!(
            (tier.len() as usize, tier.is_empty()),
            (entries.len(), entries.is_empty())
        );
    }
}

#[test]
fn memory_gives_back_what_is_dead() {
    let mut tier = MemoryTier::default();
    let value = [0; 100];
    for round in 0..100u32 {
        for key in 0..100u32 {
            tier.put(&rows([key.to_be_bytes().as_slice()]), &rows([value.as_slice()]))
                .unwrap();
        }
        assert_eq!(tier.len(), 100, "{round}");
        assert!(tier.memory_bytes() < 100_000, "{}", tier.memory_bytes());
    }
}

#[cfg(feature = "rocksdb")]
fn options(folder: &std::path::Path) -> RocksDbOptions {
    RocksDbOptions {
        folder: folder.join("state"),
        memory_bytes: 8 << 20,
        background_threads: 2,
    }
}

/// An empty database, and the folder that it lives in.
#[cfg(feature = "rocksdb")]
fn database() -> (tempfile::TempDir, RocksDb) {
    let folder = tempfile::tempdir().unwrap();
    let database = RocksDb::open(options(folder.path())).unwrap();
    (folder, database)
}

#[cfg(feature = "rocksdb")]
mod with_rocksdb {
    use super::*;

    #[test]
    fn rocksdb_agrees_with_a_tree() {
        let (_folder, database) = database();
        for seed in 0..5 {
            agrees_with_a_tree(&mut database.tier(&format!("tier-{seed}")).unwrap(), seed);
            parts_agree_with_a_tree(&mut database.tier(&format!("parts-{seed}")).unwrap(), seed);
        }
    }

    #[test]
    fn compaction_drops_what_expired() {
        let (_folder, database) = database();
        for seed in 0..5 {
            let after = std::time::Duration::from_millis(60);
            let mut tier = database.expiring_tier(&format!("tier-{seed}"), after).unwrap();
            only_what_expired_goes(&mut tier, &Expiring::lower(), seed, |tier, now| {
                assert_eq!(tier.expire(now).unwrap(), None);
                tier.compact();
            });
        }
    }

    /// An entry on disk is hidden by a newer one, also when that is dropped.
    #[test]
    fn what_was_replaced_does_not_come_back() {
        let (_folder, database) = database();
        let mut tier = database
            .expiring_tier("tier", std::time::Duration::from_secs(1))
            .unwrap();
        let key = rows([b"key".as_slice()]);
        for expires in [Millis::MAX, 5] {
            tier.put(&key, &rows([expiry_bytes(expires).as_slice()])).unwrap();
            tier.flush();
        }
        tier.expire(5).unwrap();
        tier.compact();
        assert!(frozen_entries(&*tier.freeze().unwrap()).is_empty());
    }

    #[test]
    fn a_database_outlives_no_attempt() {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let database = RocksDb::open(options(folder.path())).unwrap();
            for _ in 0..2 {
                let mut tier = database.tier("tier").unwrap();
                let (mut found, mut values) = (Vec::new(), ByteRows::default());
                let key = rows([b"key".as_slice()]);
                tier.get(&key, &mut found, &mut values).unwrap();
                assert_eq!(found, [false]);
                tier.put(&key, &rows([b"value".as_slice()])).unwrap();
                tier.get(&key, &mut found, &mut values).unwrap();
                assert_eq!(
                    (found.as_slice(), values.get(0)),
                    ([true].as_slice(), b"value".as_slice())
                );
            }
        }
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();
        let error = RocksDb::open(options(&folder.path().join("file"))).unwrap_err();
        assert_eq!(error.code(), crate::codes::BACKEND);
        assert!(error.to_string().contains("file/state"), "{error}");
    }
}
