//! A host in small: keys to slots, timers in the order of their times, keys that hold nothing given back.

use std::collections::{BTreeMap, BTreeSet};

use millrace::bindings::dataflow::Head;
use millrace::bindings::operators::TimerKind;
use millrace::harness::{Called, Harness, keys, round_trip, timed_block};
use millrace::prelude::*;

use crate::Event;

/// Key, start, end, rows, sum of values.
pub(crate) type Outcome = (i64, i64, i64, i64, i64);

const EVENT: u8 = 0;
const PROCESSING: u8 = 1;

/// What came of a step: results with their times, and late rows; sorted.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Step {
    pub(crate) results: Vec<(i64, Outcome)>,
    pub(crate) late: Vec<(i64, i64)>,
}

pub(crate) struct Host {
    build: Box<dyn Fn(&Flow)>,
    harness: Harness,
    slots: BTreeMap<i64, u32>,
    free: Vec<u32>,
    /// Kind, time, key.
    timers: BTreeSet<(u8, i64, i64)>,
    /// Slot, state.
    present: BTreeSet<(u32, u32)>,
    states: u32,
}

fn open(build: &dyn Fn(&Flow)) -> Harness {
    let configure = |config: &mut millrace::bindings::operators::OpenConfig| {
        config.time_in = true;
        config.time_out = true;
    };
    Harness::build_with(build, configure).expect("the flow is right")
}

impl Host {
    /// Of a flow whose first chain begins with windows, with late rows at the first port.
    pub(crate) fn new(build: impl Fn(&Flow) + 'static) -> Self {
        let harness = open(&build);
        let Head::Keyed(head) = &harness.graph().chains[0].head else {
            panic!("the windows are the guest's");
        };
        Host {
            states: head.states.len() as u32,
            build: Box::new(build),
            harness,
            slots: BTreeMap::new(),
            free: Vec::new(),
            timers: BTreeSet::new(),
            present: BTreeSet::new(),
        }
    }

    fn slot(&mut self, key: i64) -> u32 {
        let next = self.slots.len() as u32 + self.free.len() as u32;
        let free = &mut self.free;
        *self.slots.entry(key).or_insert_with(|| free.pop().unwrap_or(next))
    }

    /// Rows with their times.
    pub(crate) fn rows(&mut self, rows: &[(i64, Event)], step: &mut Step) {
        self.rows_of(0, rows, step);
    }

    /// The same of an input of several.
    pub(crate) fn rows_of(&mut self, input: u32, rows: &[(i64, Event)], step: &mut Step) {
        let slots: Vec<u32> = rows.iter().map(|(_, row)| self.slot(row.key)).collect();
        let entries: Vec<i64> = rows.iter().map(|(_, row)| row.key).collect();
        let called = self
            .harness
            .process_input(0, input, &slots, &timed_block(rows.to_vec()));
        self.apply(&called, &entries, step);
    }

    pub(crate) fn watermark(&mut self, watermark: i64, step: &mut Step) {
        self.harness.at.watermark = watermark;
        self.fire(EVENT, watermark, step);
    }

    pub(crate) fn time(&mut self, now: i64, step: &mut Step) {
        self.harness.at.now = now;
        self.fire(PROCESSING, now, step);
    }

    fn fire(&mut self, kind: u8, upto: i64, step: &mut Step) {
        while let Some(time) = self.timers.iter().find(|timer| timer.0 == kind).map(|timer| timer.1) {
            if time > upto {
                return;
            }
            let due: Vec<i64> = self
                .timers
                .range((kind, time, i64::MIN)..=(kind, time, i64::MAX))
                .map(|t| t.2)
                .collect();
            for key in &due {
                self.timers.remove(&(kind, time, *key));
            }
            let slots: Vec<u32> = due.iter().map(|key| self.slots[key]).collect();
            let times = vec![time; due.len()];
            let kind = [TimerKind::EventTime, TimerKind::ProcessingTime][kind as usize];
            let called = self.harness.timers(0, kind, &slots, &times, &keys(due.clone()));
            self.apply(&called, &due, step);
        }
    }

    fn apply(&mut self, called: &Called, entries: &[i64], step: &mut Step) {
        for (entry, time, action) in called.timers() {
            let timer = (action / 2, time, entries[entry as usize]);
            if action % 2 == 0 {
                self.timers.insert(timer);
            } else {
                self.timers.remove(&timer);
            }
        }
        let touched = &called.result.touched;
        assert!(touched.is_empty() || touched.len() == entries.len() * self.states as usize);
        for (index, flags) in touched.iter().enumerate() {
            let (state, entry) = (index / entries.len(), index % entries.len());
            let place = (self.slots[&entries[entry]], state as u32);
            if flags & 2 != 0 {
                self.present.insert(place);
            } else if flags & 4 != 0 {
                self.present.remove(&place);
            }
        }
        self.free_empty();
        step.results.extend(called.timed::<Outcome>(1));
        let late = called.timed::<Event>(0).into_iter();
        step.late.extend(late.map(|(time, row)| (time, row.value)));
        step.results.sort_unstable();
        step.late.sort_unstable();
    }

    fn free_empty(&mut self) {
        let (present, timers, free) = (&self.present, &self.timers, &mut self.free);
        self.slots.retain(|key, slot| {
            let is_used = present.range((*slot, 0)..(*slot + 1, 0)).next().is_some();
            let stays = is_used || timers.iter().any(|timer| timer.2 == *key);
            if !stays {
                free.push(*slot);
            }
            stays
        });
    }

    /// Keys that hold something.
    pub(crate) fn key_count(&self) -> usize {
        self.slots.len()
    }

    /// States that hold something, with each slot: two are the window's.
    pub(crate) fn present_states(&self) -> Vec<u32> {
        self.present.iter().map(|&(_, state)| state).collect()
    }

    /// Goes on in another instance, where keys have other slots.
    pub(crate) fn restore(&mut self) {
        let old: Vec<u32> = self.slots.values().copied().collect();
        let count = old.len() as u32;
        let new: Vec<u32> = (0..count).map(|index| count - 1 - index).collect();
        let at = self.harness.at;
        let mut blocks: Vec<_> = (0..self.states)
            .map(|state| self.harness.export_block(0, state, &old))
            .collect();
        self.harness = open(&self.build);
        self.harness.at = at;
        for (state, block) in blocks.drain(..).enumerate() {
            self.harness.import_block(0, state as u32, &new, &round_trip(block));
        }
        let moved = |slot: u32| new[old.iter().position(|&other| other == slot).expect("it is in use")];
        self.present = self.present.iter().map(|&(slot, state)| (moved(slot), state)).collect();
        self.slots.values_mut().for_each(|slot| *slot = moved(*slot));
        self.free.clear();
    }
}
