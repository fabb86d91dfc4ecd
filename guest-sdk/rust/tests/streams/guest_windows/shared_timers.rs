//! Timers that a timeout and the trigger in it have at the same time.

use millrace::prelude::*;
use millrace::testing::{self, Job, Options};

use super::ms;
use crate::{Event, event};

/// Every 10 ms of the clock, or 10 ms after a row.
fn every_ten(flow: &Flow, keeps_state: bool) {
    let trigger = ProcessingTimeoutTrigger::of(ContinuousProcessingTimeTrigger::of(ms(10)), ms(10));
    let trigger = if keeps_state { trigger.keep_state() } else { trigger };
    testing::source::<Event>(flow, "events")
        .key_by(Event::FIELDS.key)
        .window(GlobalWindows)
        .trigger(trigger)
        .count()
        .uid("counts")
        .sink("out", Discard::new());
}

/// Moves the clock, with a row then or without, and says how often the window has fired meanwhile and when it will.
fn step(job: &mut Job, millis: i64, has_row: bool) -> (usize, Vec<i64>) {
    job.advance_processing_time(ms(millis));
    if has_row {
        job.push("events", event(7, 1));
    }
    job.restart();
    let timers = job.processing_timers("counts", 7);
    let fired = job.take::<Windowed<i64, i64>>("out").len();
    (fired, timers.iter().map(|time| time.millis()).collect())
}

#[test]
fn a_timer_that_both_have_fires_once_and_both_hear_of_it() {
    let mut job = Options::new().start(|flow| every_ten(flow, true));
    assert_eq!(step(&mut job, 0, true), (0, vec![10]));
    assert_eq!(step(&mut job, 10, false), (1, vec![20]), "the other trigger goes on");
    assert_eq!(step(&mut job, 3, true), (0, vec![20, 23]));
    assert_eq!(step(&mut job, 7, false), (1, vec![23, 30]), "the timeout stays");
    assert_eq!(step(&mut job, 3, false), (1, vec![30]));
}

#[test]
fn what_fires_begins_anew() {
    let mut job = Options::new().start(|flow| every_ten(flow, false));
    assert_eq!(step(&mut job, 0, true), (0, vec![10]));
    assert_eq!(step(&mut job, 10, false), (1, vec![]));
    assert_eq!(step(&mut job, 3, true), (0, vec![20, 23]));
    assert_eq!(step(&mut job, 7, false), (1, vec![]), "the timeout is over as well");
    assert_eq!(step(&mut job, 30, false), (0, vec![]));
}
