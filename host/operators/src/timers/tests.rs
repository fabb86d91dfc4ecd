//! The timer service against sets of (time, slot).

use std::collections::BTreeMap;

use TimerKind::{EventTime, ProcessingTime};

use super::*;
use crate::testing::Random;

type Model = BTreeMap<Slot, BTreeSet<Millis>>;

/// Fires everything due and checks it: in order within a poll, each slot once and at its earliest.
fn fire(
    timers: &mut TimerService,
    kind: TimerKind,
    upto: Millis,
    limit: usize,
    model: &mut Model,
    random: &mut Random,
) {
    let (mut slots, mut times) = (Vec::new(), Vec::new());
    loop {
        timers.poll_due(kind, upto, limit, &mut slots, &mut times);
        if slots.is_empty() {
            break;
        }
        assert!(slots.len() <= limit && times.is_sorted());
        assert_eq!(
            slots.iter().collect::<BTreeSet<_>>().len(),
            slots.len(),
            "a slot twice in a poll"
        );
        let fired = slots.iter().copied().zip(times.iter().copied()).collect::<Vec<_>>();
        for &(slot, time) in &fired {
            assert!(time <= upto);
            let set = model.get_mut(&slot).expect("only what is set fires");
            assert_eq!(set.pop_first(), Some(time), "slot {slot} fires its earliest");
        }
        // A timer may set and delete others of its slot, due or not.
        for &(slot, time) in &fired {
            match random.below(8) {
                0 => change(timers, kind, slot, time + random.below(60) as Millis + 1, true, model),
                1 => {
                    let known = model[&slot].first().copied().unwrap_or(time);
                    change(timers, kind, slot, known, false, model);
                }
                _ => {}
            }
        }
    }
    let due = model.values().flatten().filter(|&&time| time <= upto).count();
    assert_eq!(due, 0, "all that was due fired");
}

fn change(timers: &mut TimerService, kind: TimerKind, slot: Slot, time: Millis, set: bool, model: &mut Model) {
    let times = model.entry(slot).or_default();
    if set {
        timers.set(slot, kind, time);
        times.insert(time);
    } else {
        timers.delete(slot, kind, time);
        times.remove(&time);
    }
}

#[test]
fn agrees_with_sets() {
    for seed in 0..30 {
        let mut random = Random::new(seed);
        let mut timers = TimerService::new();
        let mut models = [Model::new(), Model::new()];
        let (slot_count, spread) = (1 + random.below(300), 1 + random.below(2000));
        let mut now = -1000;
        for _ in 0..200 {
            for _ in 0..random.below(60) {
                let kind = random.below(2) as usize;
                let slot = random.below(slot_count) as Slot;
                let time = now + random.below(spread) as Millis - 20;
                let set = random.below(4) > 0;
                change(
                    &mut timers,
                    [EventTime, ProcessingTime][kind],
                    slot,
                    time,
                    set,
                    &mut models[kind],
                );
            }
            now += random.below(spread / 2 + 1) as Millis;
            for (kind, model) in [EventTime, ProcessingTime].into_iter().zip(&mut models) {
                if random.below(3) > 0 {
                    let limit = 1 + random.below(40) as usize;
                    fire(&mut timers, kind, now, limit, model, &mut random);
                }
            }
            let all = models.iter().flat_map(Model::values).map(BTreeSet::len);
            assert_eq!(timers.len(), all.sum::<usize>());
            assert_eq!(
                timers.next_processing_time(),
                models[1].values().flatten().min().copied()
            );
            for slot in 0..slot_count as Slot {
                let pending = models
                    .iter()
                    .any(|model| model.get(&slot).is_some_and(|times| !times.is_empty()));
                assert_eq!(timers.pending(slot), pending);
            }
        }
    }
}

/// An inactivity timeout: every row moves its key's timer. Memory must follow the keys, not the rows.
#[test]
fn moved_timers_do_not_pile_up() {
    let mut timers = TimerService::new();
    for row in 0..1_000_000 {
        let slot = (row % 1000) as Slot;
        timers.delete(slot, EventTime, row - 1000 + 1_000_000_000);
        timers.set(slot, EventTime, row + 1_000_000_000);
    }
    assert_eq!(timers.len(), 1000);
    assert!(timers.event_time.buckets.entry_count() <= 1000 + STALE_MIN + 1);
    assert!(timers.memory_bytes() < 4 << 20, "{} bytes", timers.memory_bytes());
}

#[test]
fn the_ends_of_time_fire() {
    let mut timers = TimerService::new();
    for time in [Millis::MIN, Millis::MAX] {
        timers.set(7, EventTime, time);
    }
    let (mut slots, mut times) = (Vec::new(), Vec::new());
    timers.poll_due(EventTime, Millis::MIN + 1, 10, &mut slots, &mut times);
    assert_eq!(
        (slots.as_slice(), times.as_slice()),
        ([7].as_slice(), [Millis::MIN + 1].as_slice())
    );
    timers.poll_due(EventTime, Millis::MAX - 1, 10, &mut slots, &mut times);
    assert!(slots.is_empty() && timers.pending(7));
    timers.poll_due(EventTime, Millis::MAX, 10, &mut slots, &mut times);
    assert_eq!(times, [Millis::MAX]);
    assert!(timers.is_empty() && !timers.pending(7));
}
