//! A function that is applied to every key, through failures: nothing is lost, and no order reaches a key twice.

use std::collections::{BTreeMap, BTreeSet};

use millrace_core::Fault;
use millrace_engine::OnTrap;
use millrace_tests::guests::Guest;
use millrace_tests::jobs::{self, as_text, parallel, read_ndjson};
use millrace_tests::random::mix;

use crate::durable::Place;
use crate::every_operator::live;

const ROWS: u64 = 6_000;

/// What each key gathers in all.
fn expected() -> BTreeMap<i64, i64> {
    let mut sums = BTreeMap::new();
    for index in 0..ROWS {
        *sums.entry((mix(index) % 1_500) as i64).or_default() += index as i64;
    }
    sums
}

fn check(place: &Place) {
    let (mut sums, mut turns) = (BTreeMap::<i64, i64>::new(), BTreeSet::new());
    let rows = read_ndjson(&place.output().join("gathered"));
    for row in &rows {
        let number = |name: &str| row[name].as_i64().expect("a number");
        let (key, order) = (number("key"), number("time"));
        *sums.entry(key).or_default() += number("value");
        assert!(turns.insert((key, order)), "order {order} came to key {key} twice");
    }
    assert_eq!(sums, expected());
    let orders: BTreeSet<i64> = turns.iter().map(|turn| turn.1).collect();
    assert!(orders.len() > 4, "{orders:?}");
}

fn kill_twice(arguments: &[&str]) {
    let place = Place::new();
    live(&place, "applied", 1, arguments, true);
    live(&place, "applied", 3, arguments, true);
    live(&place, "applied", 2, arguments, false);
    check(&place);
}

#[test]
fn every_key_has_its_turn_through_failures() {
    kill_twice(&[]);
}

#[test]
fn every_key_has_its_turn_through_failures_with_unaligned_checkpoints() {
    kill_twice(&["--unaligned-checkpoints"]);
}

#[test]
fn every_key_has_its_turn_with_state_on_disk() {
    kill_twice(&["--state-backend=rocksdb", "--state-cache=1"]);
}

#[test]
fn quarantine_is_refused() {
    let options = millrace_engine::JobOptions {
        on_trap: OnTrap::Quarantine {
            dead_letter: None,
            rows_max: 3,
        },
        ..parallel(1)
    };
    let place = Place::new();
    let output = place.output();
    let pairs = [("kind", "applied"), ("output", as_text(&output))];
    jobs::fail(
        Guest::Flows,
        options,
        &pairs,
        "QU0006",
        Fault::User,
        &["`broadcast_process`"],
    );
}
