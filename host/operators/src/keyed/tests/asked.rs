//! Every key in turn, and what one key holds: both against the map, wherever entries are.

use arrow_array::Array;

use super::*;
use crate::entry_codec::encode_keys;
use millrace_core::backend::ByteRows;

/// Time of a turn that no timer is.
pub(super) const TURN: Millis = Millis::MIN;

fn column(keys: &[i64]) -> Vec<ArrayRef> {
    vec![Arc::new(Int64Array::from(keys.to_vec()))]
}

/// Keys that hold a value or a timer.
fn live_keys(guest: &Guest) -> BTreeSet<i64> {
    let timed = guest.timers.iter().filter(|(_, times)| !times.is_empty());
    let timed = timed.map(|((key, _), _)| *key);
    guest.expected.keys().map(|(key, _)| *key).chain(timed).collect()
}

fn check_turns(run: &mut Run) {
    let expected = live_keys(&run.guest);
    run.guest.fired.clear();
    run.operator.begin_applying().unwrap();
    assert!(run.operator.is_applying());
    fire_all(&mut run.operator, &mut run.guest).unwrap();
    assert!(!run.operator.is_applying());
    let turns: Vec<i64> = run
        .guest
        .fired
        .iter()
        .map(|(key, _, time)| (*key, *time))
        .map(|(key, time)| {
            assert_eq!(time, TURN);
            key
        })
        .collect();
    assert_eq!(turns.len(), expected.len(), "each once");
    assert_eq!(turns.iter().copied().collect::<BTreeSet<_>>(), expected);
    let (mut hashes, mut encoded) = (Vec::new(), ByteRows::default());
    encode_keys(None, &column(&turns), 128, &mut hashes, &mut encoded).unwrap();
    assert!(encoded.iter().is_sorted(), "in the order of their bytes");
}

fn check_key(run: &mut Run, key: i64) {
    let Run { operator, guest, .. } = run;
    let resident = operator.resident_count();
    let found = operator.look_up(&column(&[key]), &states(), 128, guest).unwrap();
    assert_eq!(operator.resident_count(), resident, "it stays where it is");
    let Some(row) = found else {
        assert!(!live_keys(guest).contains(&key), "key {key}");
        return;
    };
    let value = |state: usize| {
        let values = row.column(3 + state).as_primitive::<Int64Type>();
        (!values.is_null(0)).then(|| values.value(0) % 1000)
    };
    let times = |column: usize| {
        let times = row.column(column).as_list::<i32>().value(0);
        times
            .as_primitive::<Int64Type>()
            .values()
            .iter()
            .copied()
            .collect::<BTreeSet<_>>()
    };
    for state in 0..STATES {
        assert_eq!(value(state), guest.expected.get(&(key, state)).copied(), "key {key}");
    }
    for (kind, at) in [(TimerKind::EventTime, 5), (TimerKind::ProcessingTime, 6)] {
        let expected = guest.timers.get(&(key, kind)).cloned().unwrap_or_default();
        assert_eq!(times(at), expected, "key {key}");
    }
}

#[test]
fn keys_are_found_and_have_their_turn_wherever_they_are() {
    for (resident_max, keeps) in [
        (None, false),
        (Some(0), false),
        (Some(0), true),
        (Some(20), false),
        (Some(20), true),
    ] {
        for seed in 0..12 {
            let mut random = Random::new(seed + 5000);
            let mut run = Run::new(seed, resident_max, keeps);
            run.operator.set_applies(128);
            let key_count = 1 + random.below(150);
            for step in 0..80 {
                run.step(&mut random, step, key_count);
                for _ in 0..5 {
                    check_key(&mut run, random.below(key_count + 2) as i64);
                }
                if random.below(4) == 0 {
                    run.guest.base_time = step * 20 + 30;
                    check_turns(&mut run);
                }
            }
        }
    }
}
