//! Windows that users make: an assigner, one whose windows merge, a trigger, an evictor, all at once.

mod custom;
mod model;

use millrace::prelude::*;

use self::custom::{Freshest, Milestones, Scattered, Visits};
use self::model::Windows;
use super::drive::{Drive, Line, Timed, drive_seeds, ms, timed};

static LATE: OutputTag<Timed> = OutputTag::new("late");

/// How rows fall into windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Assign {
    /// [`Visits`], which merge.
    Visits,
    /// [`Scattered`], which do not.
    Scattered,
    /// One that never ends.
    Global,
}

#[derive(Debug, Clone, Copy)]
struct Setting {
    assign: Assign,
    /// By the clock, not by event time.
    processing: bool,
    /// [`Milestones`]; without it windows fire at their end.
    trigger: bool,
    /// [`Freshest`].
    evictor: bool,
    lateness: i64,
}

fn windowed(flow: &Flow, setting: Setting) -> WindowedStream<Timed, i64> {
    let keyed = timed(flow, 0).key_by(Timed::FIELDS.key);
    let clock = match setting.processing {
        true => TimerKind::ProcessingTime,
        false => TimerKind::EventTime,
    };
    let windows = match setting.assign {
        Assign::Visits => keyed.window(Visits(clock)),
        Assign::Scattered => keyed.window(Scattered(clock)),
        Assign::Global => keyed.window(GlobalWindows),
    };
    let windows = match setting.trigger {
        true => windows.trigger(Milestones),
        false => windows,
    };
    let windows = match setting.evictor {
        true => windows.evictor(Freshest),
        false => windows,
    };
    windows.allowed_lateness(ms(setting.lateness)).late_output(&LATE)
}

/// Key, start, end, number of rows, sum of their values: by an aggregate where `sums`, else of all rows.
fn build(flow: &Flow, setting: Setting, sums: bool) {
    let windows = windowed(flow, setting);
    let line =
        |key, window: Window, count, sum| -> Line { (key, window.start.millis(), window.end.millis(), count, sum) };
    if sums {
        let add = |kept: &mut (i64, i64), row: Timed| *kept = (kept.0 + 1, kept.1 + row.value);
        let merge = |kept: &mut (i64, i64), other: &(i64, i64)| *kept = (kept.0 + other.0, kept.1 + other.1);
        let finish = move |key, window, kept: &(i64, i64)| line(key, window, kept.0, kept.1);
        let sums = windows.aggregate_with(|| (0, 0), add, merge, finish).name("windows");
        sums.side_output(&LATE).sink("late", Discard::new());
        sums.sink("out", Discard::new());
    } else {
        let all = move |key, window, rows: &[Timed], out: &mut Out<'_, Line>| {
            let sum = rows.iter().map(|row| row.value).sum();
            out.push(line(key, window, rows.len() as i64, sum));
        };
        let all = windows.process(all).name("windows");
        all.side_output(&LATE).sink("late", Discard::new());
        all.sink("out", Discard::new());
    }
}

fn check(setting: Setting) {
    let drive = Drive {
        has_late: true,
        ..Drive::ONE
    };
    let (mut results, mut late_rows) = (0, 0);
    for sums in [false, true] {
        let build = move |flow: &Flow| build(flow, setting, sums);
        let (out, late) = drive_seeds(drive, 0..16, build, || Windows::new(setting));
        (results, late_rows) = (results + out, late_rows + late);
    }
    assert!(results > 400, "{results} results, {setting:?}");
    let may_be_late = !setting.processing && setting.assign != Assign::Global;
    assert_eq!(late_rows > 0, may_be_late, "{late_rows} late rows, {setting:?}");
}

#[test]
fn own_windows_that_merge() {
    for (processing, trigger) in [(false, false), (false, true), (true, false), (true, true)] {
        for evictor in [false, true] {
            for lateness in if processing { 0..1 } else { 0..2 } {
                check(Setting {
                    assign: Assign::Visits,
                    processing,
                    trigger,
                    evictor,
                    lateness: lateness * 25,
                });
            }
        }
    }
}

#[test]
fn own_windows_that_do_not_merge() {
    for (processing, trigger) in [(false, false), (false, true), (true, false), (true, true)] {
        for evictor in [false, true] {
            for lateness in if processing { 0..1 } else { 0..2 } {
                check(Setting {
                    assign: Assign::Scattered,
                    processing,
                    trigger,
                    evictor,
                    lateness: lateness * 25,
                });
            }
        }
    }
}

#[test]
fn own_triggers_of_windows_that_never_end() {
    for evictor in [false, true] {
        check(Setting {
            assign: Assign::Global,
            processing: false,
            trigger: true,
            evictor,
            lateness: 0,
        });
    }
}
