//! Every tier against a tree.

mod sorted;

use std::collections::{BTreeMap, BTreeSet};

use millrace_core::backend::{ByteRows, LowerTier};

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

#[test]
fn memory_agrees_with_a_tree() {
    for seed in 0..50 {
        let mut tier = MemoryTier::default();
        agrees_with_a_tree(&mut tier, seed);
        assert_eq!(tier.len() as usize, frozen_entries(&*tier.freeze().unwrap()).len());
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
mod with_rocksdb {
    use super::*;

    fn options(folder: &std::path::Path) -> RocksDbOptions {
        RocksDbOptions {
            folder: folder.join("state"),
            memory_bytes: 8 << 20,
            background_threads: 2,
        }
    }

    #[test]
    fn rocksdb_agrees_with_a_tree() {
        let folder = tempfile::tempdir().unwrap();
        let database = RocksDb::open(options(folder.path())).unwrap();
        for seed in 0..5 {
            agrees_with_a_tree(&mut database.tier(&format!("tier-{seed}")).unwrap(), seed);
        }
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
