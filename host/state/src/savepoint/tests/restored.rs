//! What a job begins with while rows flow is what it begins with before the first.

use super::*;
use crate::{OfGroups, Restored};

/// Of each entry the row that comes first from the newest layer on is the one that comes last from the oldest on.
#[test]
fn from_the_newest_layer_on_a_checkpoint_says_the_same() {
    let (mut read, mut both) = (0, 0);
    for seed in 2_000..2_200 {
        let (layout, checkpoint, _) = written(seed);
        let operator = checkpoint.metadata().operators[0].clone();
        let checkpoint = Arc::new(Restorable::Checkpoint(checkpoint));
        for parallelism in [1, operator.parallelism, 7] {
            for subtask in 0..parallelism {
                let expected = checkpoint.restore_task(&operator, parallelism, subtask).unwrap();
                // From none of it to all.
                let resident_bytes = [0, 1, 4_000, u64::MAX][(seed % 4) as usize];
                let newest_first = checkpoint.newest_first(&operator, parallelism, subtask, resident_bytes);
                let mut newest_first = newest_first.unwrap().unwrap();
                assert!(newest_first.take_broadcast().is_empty());
                assert_eq!(newest_first.watermark(), expected.watermark);
                let count = newest_first.resident_count().unwrap();
                let (mut newest, mut batches) = (Vec::new(), Vec::new());
                while let Some(restored) = newest_first.next_rows().unwrap() {
                    match restored {
                        Restored::Newest(batch) => {
                            assert!(batches.is_empty(), "what is resident comes first");
                            newest.push(batch);
                        }
                        Restored::Older(batch) => batches.push(batch),
                    }
                }
                assert!(newest_first.next_rows().unwrap().is_none());
                assert!(count == 0 || !newest.is_empty());
                both += usize::from(!newest.is_empty() && !batches.is_empty());
                // Laid over each other they say the same: the oldest come from the oldest on.
                batches.extend(newest.into_iter().rev());
                let expected = entries(&layout, &expected.batches);
                assert_eq!(entries(&layout, &batches), expected, "seed {seed}");
                read += expected.len();
            }
        }
    }
    assert!(read > 1_000 && both > 10, "{read}, {both}");
}

/// Key group by key group a checkpoint says the same of large states, whichever groups are wanted first.
#[test]
fn by_group_a_checkpoint_says_the_same() {
    let (mut read, mut wanted_first) = (0, 0);
    for seed in 3_000..3_200 {
        let (layout, checkpoint, _) = written(seed);
        let random = &mut Random::new(seed);
        let operator = checkpoint.metadata().operators[0].clone();
        let checkpoint = Arc::new(Restorable::Checkpoint(checkpoint));
        for parallelism in [1, operator.parallelism, 7] {
            for subtask in 0..parallelism {
                let expected = checkpoint.restore_task(&operator, parallelism, subtask).unwrap();
                let resident = checkpoint.restore_resident(&operator, parallelism, subtask).unwrap();
                assert_eq!((resident.batches, resident.collections.len()), (expected.batches, 0));
                let by_group = checkpoint.by_group(&operator, (parallelism, subtask), None).unwrap();
                let Some(mut by_group) = by_group else {
                    assert!(large_entries(&expected.collections).is_empty(), "{layout:?}");
                    continue;
                };
                let own = KeyGroups::new(parallelism, MAX_PARALLELISM).groups_of(subtask);
                let (mut got, mut whole, mut open) = (Vec::new(), Vec::new(), BTreeSet::new());
                loop {
                    by_group.want(random.below(u64::from(MAX_PARALLELISM)) as u32);
                    match by_group.next_rows().unwrap() {
                        Some(OfGroups::Entries { state, batch }) => {
                            let groups = batch.column(0).as_primitive::<UInt32Type>().values();
                            open.extend(groups.iter().copied());
                            let batches = vec![batch];
                            got.push(CollectionRestore { state, batches });
                        }
                        Some(OfGroups::Whole(groups)) => {
                            open.retain(|group| !groups.contains(group));
                            assert!(open.is_empty(), "all that came is of groups that are whole");
                            whole.extend(groups);
                        }
                        None => break,
                    }
                    assert!(open.iter().all(|group| !whole.contains(group)), "whole is whole");
                }
                assert!(by_group.next_rows().unwrap().is_none());
                wanted_first += usize::from(!whole.is_sorted());
                whole.sort_unstable();
                assert!(whole.into_iter().eq(own), "each once");
                let expected = large_entries(&expected.collections);
                assert_eq!(large_entries(&got), expected, "seed {seed}");
                read += expected.len();
            }
        }
    }
    assert!(read > 500 && wanted_first > 10, "{read}, {wanted_first}");
}
