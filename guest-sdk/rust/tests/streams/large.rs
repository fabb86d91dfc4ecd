//! Large maps and lists: a call sees the host's entries with its own writes laid over them, and writes each entry once.

use std::collections::BTreeMap;

use millrace::bindings::dataflow::{Head, StateKind};
use millrace::bindings::operators::TimerKind;
use millrace::harness::{Called, Harness, block, keys};
use millrace::prelude::*;

use crate::{Event, event, events};

/// Does what each row's value says, and tells what it sees.
struct Script {
    map: LargeMap<i64, String>,
    kept: ValueState<i64>,
    list: LargeList<i64>,
}

#[derive(Record, Clone, Debug, PartialEq)]
struct Seen {
    map: Vec<i64>,
    list: Vec<i64>,
}

fn text(key: i64) -> String {
    format!("value {key}")
}

impl Script {
    fn see(&self) -> Seen {
        let entries: Vec<(i64, String)> = self.map.iter().collect();
        assert!(
            entries.iter().all(|(key, value)| value.starts_with(&text(*key))),
            "{entries:?}"
        );
        Seen {
            map: entries.into_iter().map(|(key, _)| key).collect(),
            list: self.list.iter().collect(),
        }
    }
}

impl KeyedProcess for Script {
    type In = Event;
    type Key = i64;
    type Out = Seen;

    fn process(&mut self, row: Event, cx: &mut Context<'_, Self>) {
        match row.value {
            // Keys 10 and up are put, 100 and up taken out, 1000 and up added to the list.
            0 => {}
            1 => self.map.clear(),
            2 => self.list.clear(),
            3 => self.kept.set(7),
            value @ 10..100 => self.map.insert(value, text(value)),
            value @ 100..200 => self.map.remove(&(value - 90)),
            value @ 200..300 => assert_eq!(self.map.take(&(value - 190)), Some(text(value - 190))),
            value @ 300..400 => self.map.update(&(value - 290), |text| *text += "!"),
            value => self.list.push(value),
        }
        cx.push(self.see());
    }

    fn on_timer(&mut self, timer: Timer<i64>, cx: &mut Context<'_, Self>) {
        assert_eq!(timer.key, 5);
        self.list.push(-1);
        cx.push(self.see());
    }
}

fn harness() -> Harness {
    let built = Harness::build(|flow| {
        let processed = events(flow).key_by(Event::FIELDS.key).process(|setup| Script {
            map: setup.large_map("map"),
            kept: setup.value_state("kept"),
            list: setup.large_list("list"),
        });
        processed.name("script").sink("out", Discard::new());
    });
    built.expect("it builds")
}

/// A call with a row for each value of a key.
fn call(harness: &mut Harness, rows: &[(u32, i64)]) -> Called {
    let chain = harness.chain("script");
    let slots: Vec<u32> = rows.iter().map(|(slot, _)| *slot).collect();
    let rows = rows.iter().map(|(slot, value)| event(i64::from(*slot), *value));
    harness.process_keyed(chain, &slots, &block(rows))
}

fn seen(map: &[i64], list: &[i64]) -> Seen {
    Seen {
        map: map.to_vec(),
        list: list.to_vec(),
    }
}

/// Writes of a state: entries and actions.
fn writes(called: &Called, state: u32) -> Vec<(u32, u8)> {
    let writes = called.result.collections.iter().find(|writes| writes.state == state);
    let writes = writes.map(|writes| writes.entries.iter().copied().zip(writes.actions.iter().copied()));
    writes.into_iter().flatten().collect()
}

#[test]
fn they_are_declared_with_their_kinds() {
    let harness = harness();
    let chain = &harness.graph().chains[harness.chain("script") as usize];
    let Head::Keyed(keyed) = &chain.head else { panic!() };
    let kinds: Vec<StateKind> = keyed.states.iter().map(|state| state.kind).collect();
    assert_eq!(kinds, [StateKind::LargeMap, StateKind::Value, StateKind::LargeList]);
}

#[test]
fn a_call_sees_its_own_writes_row_by_row() {
    let mut harness = harness();
    let called = call(
        &mut harness,
        &[(5, 30), (5, 10), (6, 20), (5, 1_000), (5, 1_001), (5, 0), (6, 0)],
    );
    let expected = [
        seen(&[30], &[]),
        seen(&[10, 30], &[]),
        seen(&[20], &[]),
        seen(&[10, 30], &[1_000]),
        seen(&[10, 30], &[1_000, 1_001]),
        seen(&[10, 30], &[1_000, 1_001]),
        seen(&[20], &[]),
    ];
    assert_eq!(called.rows::<Seen>(0), expected);
    assert_eq!(writes(&called, 0), [(0, 0), (0, 0), (2, 0)]);
    assert_eq!(writes(&called, 2), [(0, 2), (0, 2)]);
    // The next call sees what the host has, in between its own.
    let called = call(&mut harness, &[(5, 20), (5, 1_002), (5, 120), (5, 300), (5, 0)]);
    let expected = [
        seen(&[10, 20, 30], &[1_000, 1_001]),
        seen(&[10, 20, 30], &[1_000, 1_001, 1_002]),
        seen(&[10, 20], &[1_000, 1_001, 1_002]),
        seen(&[10, 20], &[1_000, 1_001, 1_002]),
        seen(&[10, 20], &[1_000, 1_001, 1_002]),
    ];
    assert_eq!(called.rows::<Seen>(0), expected);
    assert_eq!(writes(&called, 0), [(0, 0), (0, 0), (0, 1)]);
}

#[test]
fn what_is_cleared_is_gone_and_may_be_written_again() {
    let mut harness = harness();
    call(&mut harness, &[(5, 10), (5, 11), (5, 1_000), (6, 12)]);
    let called = call(
        &mut harness,
        &[(5, 11), (5, 1), (5, 101), (5, 13), (5, 2), (5, 2_000), (6, 0)],
    );
    let rows = called.rows::<Seen>(0);
    assert_eq!(rows[1], seen(&[], &[1_000]));
    assert_eq!(rows[5], seen(&[13], &[2_000]));
    assert_eq!(rows[6], seen(&[12], &[]));
    // What was there is taken out at once, and what is written before that is not written at all.
    assert_eq!(writes(&called, 0), [(0, 3), (0, 0)]);
    assert_eq!(writes(&called, 2), [(0, 3), (0, 2)]);
    assert_eq!(call(&mut harness, &[(5, 0)]).rows::<Seen>(0), [seen(&[13], &[2_000])]);
}

#[test]
fn reading_writes_nothing_and_the_flags_are_those_of_other_states() {
    let mut harness = harness();
    let called = call(&mut harness, &[(5, 0), (5, 3)]);
    assert!(called.result.collections.is_empty());
    assert_eq!(called.result.touched, [0, 2]);
    let called = call(&mut harness, &[(5, 10), (5, 200)]);
    assert_eq!(writes(&called, 0), [(0, 1)]);
    assert!(called.result.touched.is_empty());
}

#[test]
fn timers_see_them_too() {
    let mut harness = harness();
    call(&mut harness, &[(5, 10), (5, 1_000)]);
    let chain = harness.chain("script");
    let called = harness.timers(chain, TimerKind::EventTime, &[5], &[9], &keys([5i64]));
    assert_eq!(called.rows::<Seen>(0), [seen(&[10], &[1_000, -1])]);
}

/// Long enough for several pieces, and changed while it is gone through.
struct Walk {
    map: LargeMap<i64, i64>,
    list: LargeList<i64>,
}

impl KeyedProcess for Walk {
    type In = Event;
    type Key = i64;
    type Out = Event;

    fn process(&mut self, row: Event, _cx: &mut Context<'_, Self>) {
        match row.value {
            0 => {
                (0..10_000).for_each(|key| self.map.insert(key * 2, key));
                (0..10_000).for_each(|item| self.list.push(item));
            }
            1 => self.walk(),
            _ => self.change_while_walking(),
        }
    }
}

impl Walk {
    fn walk(&self) {
        let all: BTreeMap<i64, i64> = self.map.iter().collect();
        assert!(all.into_iter().eq((0..10_000).map(|key| (key * 2, key))));
        assert_eq!(self.map.iter_from(&9_999).next(), Some((10_000, 5_000)));
        assert_eq!(self.map.iter_from(&10_000).next(), Some((10_000, 5_000)));
        assert_eq!(self.map.iter_from(&20_000).next(), None);
        assert_eq!(
            self.map.get_all(&[4, 3, 4, 19_998]),
            [Some(2), None, Some(2), Some(9_999)]
        );
        assert!(self.map.contains(&6) && !self.map.contains(&7) && !self.map.is_empty());
        assert!(self.list.iter().eq(0..10_000));
        assert_eq!(self.list.read(9_990, 20), (9_990..10_000).collect::<Vec<_>>());
        assert_eq!((self.list.get(5_000), self.list.get(10_000)), (Some(5_000), None));
        assert_eq!(self.list.len(), 10_000);
    }

    fn change_while_walking(&self) {
        let mut seen = Vec::new();
        for (key, _) in self.map.iter() {
            seen.push(key);
            match key {
                // Behind, further on, and what was read already.
                100 => self.map.insert(51, 0),
                200 => self.map.insert(203, 0),
                300 => self.map.remove(&302),
                400 => drop(self.map.iter().map(|(key, _)| self.map.remove(&key)).nth(10)),
                19_000 => self.map.clear(),
                _ => {}
            }
        }
        let removed = [302].into_iter().chain((0..22).step_by(2));
        let removed: Vec<i64> = removed.filter(|key| *key > 400 || *key == 302).collect();
        let mut expected: Vec<i64> = (0..=19_000).step_by(2).filter(|key| !removed.contains(key)).collect();
        expected.insert(expected.partition_point(|key| *key < 203), 203);
        assert_eq!(seen, expected);
        assert!(self.map.is_empty());
        let mut items = self.list.iter();
        assert_eq!(items.next(), Some(0));
        self.list.push(-1);
        assert_eq!(items.by_ref().count(), 10_000);
        self.list.clear();
        assert_eq!(items.next(), None);
    }
}

#[test]
fn iterations_go_on_whatever_is_changed_meanwhile() {
    let mut harness = Harness::build(|flow| {
        let walked = events(flow).key_by(Event::FIELDS.key).process(|setup| Walk {
            map: setup.large_map("map"),
            list: setup.large_list("list"),
        });
        walked.name("walk").sink("out", Discard::new());
    })
    .expect("it builds");
    let chain = harness.chain("walk");
    for value in [0, 1, 2] {
        harness.process_keyed(chain, &[3], &block([event(1, value)]));
    }
}
