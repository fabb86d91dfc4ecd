//! Every sorted tier against a tree.

use millrace_core::backend::{ScanRange, SortedTier};

use super::*;

/// A key between the others and at their ends.
fn bound(random: &mut Random) -> Vec<u8> {
    let key = random.below(310);
    let mut bytes = key.to_be_bytes()[6..].to_vec();
    bytes.truncate(random.below(3) as usize);
    bytes
}

fn scans_agree(tier: &mut dyn SortedTier, model: &Entries, random: &mut Random) {
    let (a, b) = (bound(random), bound(random));
    let (from, to) = if a <= b { (a, b) } else { (b, a) };
    let (limit, bytes_max) = (1 + random.below(40) as usize, 1 + random.below(400) as usize);
    let range = ScanRange {
        from: &from,
        to: &to,
        limit,
        bytes_max,
    };
    let (mut keys, mut values) = (rows([b"old".as_slice()]), rows([b"old".as_slice()]));
    let more = tier.scan(&range, &mut keys, &mut values).unwrap();
    let within = model.range(from.clone()..to.clone());
    let mut expected = Vec::new();
    let mut bytes = 0;
    for (key, value) in within.clone() {
        if expected.len() >= limit || (bytes >= bytes_max && !expected.is_empty()) {
            break;
        }
        bytes += key.len() + value.len();
        expected.push((key.as_slice(), value.as_slice()));
    }
    let got = keys.iter().zip(values.iter()).collect::<Vec<_>>();
    assert_eq!(got, expected);
    assert_eq!(more, within.clone().count() > expected.len());
    let mut last = b"old".to_vec();
    let found = tier.last(&from, &to, &mut last).unwrap();
    assert_eq!(found.then_some(&last), within.clone().next_back().map(|(key, _)| key));
}

fn agrees(tier: &mut dyn SortedTier, seed: u64) {
    let mut random = Random::new(seed);
    let mut model = Entries::new();
    let mut frozen = Vec::new();
    assert!(tier.is_empty());
    // Grows, shrinks to next to nothing, and grows again.
    for step in 0..600 {
        let growing = (step / 100) % 2 == 0;
        match random.below(5) {
            0 | 1 if growing => {
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
            0 | 1 => {
                let keys = some_keys(&mut random, false);
                keys.iter().for_each(|key| drop(model.remove(key)));
                tier.remove(&rows(keys.iter().map(Vec::as_slice))).unwrap();
            }
            2 => {
                let keys = some_keys(&mut random, false);
                let keys = &keys[..random.below(keys.len() as u64 + 1) as usize];
                let (mut found, mut values) = (vec![true], rows([b"old".as_slice()]));
                tier.get(&rows(keys.iter().map(Vec::as_slice)), &mut found, &mut values)
                    .unwrap();
                let got = found.iter().zip(values.iter());
                let got = got.map(|(found, value)| found.then(|| value.to_vec()));
                assert!(got.eq(keys.iter().map(|key| model.get(key).cloned())));
            }
            3 => scans_agree(tier, &model, &mut random),
            _ if random.below(4) == 0 => frozen.push((tier.freeze().unwrap(), model.clone())),
            _ if random.below(6) == 0 => {
                let (from, to) = (bound(&mut random), bound(&mut random));
                tier.remove_range(&from, &to).unwrap();
                model.retain(|key, _| *key < from || to <= *key);
            }
            _ => {}
        }
    }
    assert_eq!(frozen_entries(&*tier.freeze().unwrap()), model);
    assert!(frozen.len() > 5);
    for (frozen, expected) in frozen {
        assert_eq!(frozen_entries(&*frozen), expected);
        let keys = some_keys(&mut random, false);
        let (mut found, mut values) = (Vec::new(), ByteRows::default());
        let all = rows(keys.iter().map(Vec::as_slice));
        frozen.get(&all, &mut found, &mut values).unwrap();
        let got = found.iter().zip(values.iter());
        let got = got.map(|(found, value)| found.then(|| value.to_vec()));
        assert!(got.eq(keys.iter().map(|key| expected.get(key).cloned())));
    }
}

impl<T: SortedTier> Expiring<T> {
    fn sorted() -> Self {
        Expiring {
            put: T::put,
            expire: T::expire,
            entries: |tier| frozen_entries(&*tier.freeze().unwrap()),
            check_reads: |tier, model, now, _| {
                let (mut keys, mut values) = (ByteRows::default(), ByteRows::default());
                let range = ScanRange {
                    from: &[],
                    to: &[u8::MAX; 9],
                    limit: usize::MAX,
                    bytes_max: usize::MAX,
                };
                tier.scan(&range, &mut keys, &mut values).unwrap();
                let got: Entries = keys
                    .iter()
                    .map(<[u8]>::to_vec)
                    .zip(values.iter().map(<[u8]>::to_vec))
                    .collect();
                assert!(got.iter().all(|(key, value)| model.get(key) == Some(value)));
                let mut gone = model.iter().filter(|(key, _)| !got.contains_key(*key));
                assert!(gone.all(|(_, value)| expiry_of(value) <= now));
            },
        }
    }
}

#[test]
fn sorted_memory_is_searched_for_what_expired() {
    for seed in 0..50 {
        let mut tier = SortedMemoryTier::expiring();
        let of = Expiring::sorted();
        only_what_expired_goes(&mut tier, &of, seed, |tier, now| search_all(tier, &of, now));
        assert_eq!(tier.len() as usize, frozen_entries(&*tier.freeze().unwrap()).len());
    }
}

#[cfg(feature = "rocksdb")]
#[test]
fn sorted_compaction_drops_what_expired() {
    let (_folder, database) = database();
    for seed in 0..5 {
        let name = format!("expiring-{seed}");
        let mut tier = database
            .expiring_sorted_tier(&name, std::time::Duration::from_millis(60))
            .unwrap();
        only_what_expired_goes(&mut tier, &Expiring::sorted(), seed, |tier, now| {
            tier.expire(now).unwrap();
            tier.compact();
        });
    }
}

#[test]
fn sorted_memory_agrees_with_a_tree() {
    for seed in 0..100 {
        let mut tier = SortedMemoryTier::default();
        agrees(&mut tier, seed);
        assert_eq!(tier.len() as usize, frozen_entries(&*tier.freeze().unwrap()).len());
    }
}

#[cfg(feature = "rocksdb")]
#[test]
fn sorted_rocksdb_agrees_with_a_tree() {
    let (_folder, database) = database();
    for seed in 0..5 {
        agrees(&mut database.sorted_tier(&format!("tier-{seed}")).unwrap(), seed);
    }
}
