//! Coalesced timers: a key has one timer for each multiple of a length of time, whatever rows ask for.

use std::collections::BTreeSet;

use millrace::prelude::*;
use millrace::testing::Job;

use super::drive::{Came, Drive, Line, Model, Timed, drive_seeds, ms, timed};

/// Sets timers as rows say, and deletes some by the times that it was told.
struct Alarms {
    each: i64,
    /// The event-time timer that was set last.
    last: ValueState<i64>,
}

fn stamp(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

impl KeyedProcess for Alarms {
    type In = Timed;
    type Key = i64;
    type Out = Line;

    fn process(&mut self, row: Timed, cx: &mut Context<'_, Self>) {
        let set = match row.value % 4 {
            0 | 1 => {
                // Some are behind the watermark.
                let time = cx.set_coalesced_event_timer(stamp(row.time - 8 + row.value % 30), ms(self.each));
                self.last.set(time.millis());
                time.millis()
            }
            2 => {
                let time = cx.now() + ms(row.value % 20);
                cx.set_coalesced_processing_timer(time, ms(self.each)).millis()
            }
            _ => match self.last.take() {
                Some(last) => {
                    cx.delete_event_timer(stamp(last));
                    -1
                }
                None => -2,
            },
        };
        cx.push((row.key, 0, set, row.id, 0));
    }

    fn on_timer(&mut self, timer: Timer<i64>, cx: &mut Context<'_, Self>) {
        let time = timer.time.millis();
        let is_event = timer.kind == TimerKind::EventTime;
        // Two of three have none after them, so that this ends.
        if (time / self.each) % 3 == 0 {
            match is_event {
                true => cx.set_coalesced_event_timer(timer.time + ms(1), ms(self.each)),
                false => cx.set_coalesced_processing_timer(timer.time + ms(1), ms(self.each)),
            };
        }
        let watermark = cx.watermark().map_or(i64::MIN, |watermark| watermark.millis());
        cx.push((timer.key, 1 + i64::from(is_event), time, cx.now().millis(), watermark));
    }
}

/// Timers by clock, time and key.
struct Timers {
    each: i64,
    event: BTreeSet<(i64, i64)>,
    processing: BTreeSet<(i64, i64)>,
    last: [Option<i64>; 4],
    now: i64,
    watermark: i64,
}

impl Timers {
    fn new(each: i64) -> Self {
        Timers {
            each,
            event: BTreeSet::new(),
            processing: BTreeSet::new(),
            last: [None; 4],
            now: 0,
            watermark: i64::MIN,
        }
    }

    /// The next multiple, by going there.
    fn multiple(&self, mut time: i64) -> i64 {
        while time.rem_euclid(self.each) != 0 {
            time += 1;
        }
        time
    }
}

impl Model for Timers {
    fn row(&mut self, _source: usize, row: &Timed, came: &mut Came) {
        let set = match row.value % 4 {
            0 | 1 => {
                let time = self.multiple(row.time - 8 + row.value % 30);
                self.event.insert((time, row.key));
                self.last[row.key as usize] = Some(time);
                time
            }
            2 => {
                let time = self.multiple(self.now + row.value % 20);
                self.processing.insert((time, row.key));
                time
            }
            _ => match self.last[row.key as usize].take() {
                Some(last) => {
                    self.event.remove(&(last, row.key));
                    -1
                }
                None => -2,
            },
        };
        came.out.push((row.time, (row.key, 0, set, row.id, 0)));
    }

    fn watermark(&mut self, watermark: i64, came: &mut Came) {
        self.watermark = watermark;
        while let Some((time, key)) = self.event.first().copied().filter(|timer| timer.0 <= watermark) {
            self.event.remove(&(time, key));
            if (time / self.each) % 3 == 0 {
                self.event.insert((self.multiple(time + 1), key));
            }
            came.out.push((time, (key, 2, time, self.now, watermark)));
        }
    }

    fn clock(&mut self, now: i64, came: &mut Came) {
        while let Some((time, key)) = self.processing.first().copied().filter(|timer| timer.0 <= now) {
            self.processing.remove(&(time, key));
            self.now = self.now.max(time);
            if (time / self.each) % 3 == 0 {
                self.processing.insert((self.multiple(time + 1), key));
            }
            came.out
                .push((self.watermark, (key, 1, time, self.now, self.watermark)));
        }
        self.now = now;
    }

    fn inspect(&self, job: &mut Job, told: &str) {
        let of = |timers: &BTreeSet<(i64, i64)>, key: i64| {
            let of_key = timers.iter().filter(|timer| timer.1 == key);
            of_key.map(|timer| stamp(timer.0)).collect::<Vec<_>>()
        };
        for key in 0..4 {
            assert_eq!(job.event_timers("alarms", key), of(&self.event, key), "{told}");
            assert_eq!(
                job.processing_timers("alarms", key),
                of(&self.processing, key),
                "{told}"
            );
        }
    }
}

#[test]
fn coalesced_timers_fire_at_multiples() {
    for each in [1, 4, 10, 45] {
        let build = move |flow: &Flow| {
            timed(flow, 0)
                .key_by(Timed::FIELDS.key)
                .process(|setup| Alarms {
                    each,
                    last: setup.value_state("last"),
                })
                .uid("alarms")
                .sink("out", Discard::new());
        };
        let (out, _) = drive_seeds(Drive::ONE, 0..16, build, || Timers::new(each));
        assert!(out > 1_500, "{out} rows and timers, each {each}");
    }
}
