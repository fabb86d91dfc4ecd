//! Windows over all rows, of event time and of so many rows: what belongs together comes from every subtask.

use millrace::prelude::*;

use super::drive::{Came, Drive, Line, Model, Timed, drive_seeds, ms, timed};

static LATE: OutputTag<Timed> = OutputTag::new("late");

#[derive(Debug, Clone, Copy)]
enum Windows {
    /// Size, slide, offset.
    Sliding(i64, i64, i64),
    Session(i64),
}

#[derive(Debug, Clone, Copy)]
struct Setting {
    windows: Windows,
    lateness: i64,
}

/// A window with its rows.
#[derive(Debug, Clone)]
struct Kept {
    start: i64,
    end: i64,
    rows: Vec<Timed>,
    /// A row of this block came when it had ended.
    is_corrected: bool,
}

/// Number of rows, sum of their values.
fn line(start: i64, end: i64, rows: &[Timed]) -> Line {
    let sum = rows.iter().map(|row| row.value).sum();
    (0, start, end, rows.len() as i64, sum)
}

impl Kept {
    fn fire(&self, came: &mut Came) {
        came.out.push((self.end - 1, line(self.start, self.end, &self.rows)));
    }
}

/// All windows that are kept still.
struct Open {
    setting: Setting,
    windows: Vec<Kept>,
    watermark: i64,
}

impl Open {
    /// Start and end of the windows of a row.
    fn assigned(&self, time: i64) -> Vec<(i64, i64)> {
        match self.setting.windows {
            Windows::Sliding(size, slide, offset) => {
                let starts = (time - size + 1..=time).filter(|start| (start - offset).rem_euclid(slide) == 0);
                starts.map(|start| (start, start + size)).collect()
            }
            Windows::Session(gap) => vec![(time, time + gap)],
        }
    }

    /// The window of these bounds with all that become one with it, taken out of the others.
    fn take(&mut self, start: i64, end: i64) -> Kept {
        let merges = matches!(self.setting.windows, Windows::Session(_));
        let is_part = |kept: &Kept| match merges {
            true => kept.start <= end && start <= kept.end,
            false => (kept.start, kept.end) == (start, end),
        };
        let (parts, others): (Vec<Kept>, Vec<Kept>) = self.windows.drain(..).partition(is_part);
        self.windows = others;
        Kept {
            start: parts.iter().map(|part| part.start).fold(start, i64::min),
            end: parts.iter().map(|part| part.end).fold(end, i64::max),
            is_corrected: parts.iter().any(|part| part.is_corrected),
            rows: parts.into_iter().flat_map(|part| part.rows).collect(),
        }
    }
}

impl Model for Open {
    fn row(&mut self, _source: usize, row: &Timed, came: &mut Came) {
        let mut is_taken = false;
        for (start, end) in self.assigned(row.time) {
            let mut kept = self.take(start, end);
            let last = kept.end - 1;
            if last + self.setting.lateness <= self.watermark {
                continue;
            }
            is_taken = true;
            kept.rows.push(row.clone());
            kept.is_corrected = last <= self.watermark;
            self.windows.push(kept);
        }
        if !is_taken {
            came.late.push((row.time, row.clone()));
        }
    }

    /// Late rows of one block make one update.
    fn end_block(&mut self, came: &mut Came) {
        for kept in &mut self.windows {
            if std::mem::take(&mut kept.is_corrected) {
                kept.fire(came);
            }
        }
    }

    fn watermark(&mut self, watermark: i64, came: &mut Came) {
        let before = std::mem::replace(&mut self.watermark, watermark);
        let lateness = self.setting.lateness;
        self.windows.retain(|kept| {
            let last = kept.end - 1;
            if before < last && last <= watermark {
                kept.fire(came);
            }
            last.saturating_add(lateness) > watermark
        });
    }
}

fn put(windows: WindowedStream<Timed, u8>, lateness: i64) {
    let windows = windows.allowed_lateness(ms(lateness)).late_output(&LATE);
    let sums = windows.aggregate_with(
        || (0, 0),
        |(count, sum): &mut (i64, i64), row: Timed| (*count, *sum) = (*count + 1, *sum + row.value),
        |kept, other| *kept = (kept.0 + other.0, kept.1 + other.1),
        |key, window, kept| {
            (
                i64::from(key),
                window.start.millis(),
                window.end.millis(),
                kept.0,
                kept.1,
            )
        },
    );
    sums.side_output(&LATE).sink("late", Discard::new());
    sums.sink("out", Discard::new());
}

fn build(flow: &Flow, setting: Setting) {
    let rows = timed(flow, 0).rebalance().filter(|row| row.id > 0);
    let windows = match setting.windows {
        Windows::Sliding(size, slide, offset) if size == slide => {
            rows.window_all(Tumbling::of(ms(size)).offset(ms(offset)))
        }
        Windows::Sliding(size, slide, offset) => rows.window_all(Sliding::of(ms(size), ms(slide)).offset(ms(offset))),
        Windows::Session(gap) => rows.window_all(Session::gap(ms(gap))),
    };
    put(windows, setting.lateness);
}

#[test]
fn windows_of_event_time_hold_the_rows_of_all_keys() {
    for windows in [
        Windows::Sliding(10, 10, 3),
        Windows::Sliding(1, 1, 0),
        Windows::Sliding(20, 7, 0),
        Windows::Sliding(12, 4, 1),
        Windows::Session(2),
        Windows::Session(5),
    ] {
        for lateness in [0, 20] {
            let setting = Setting { windows, lateness };
            let drive = Drive {
                has_late: true,
                ..Drive::ONE
            };
            let model = || Open {
                setting,
                windows: Vec::new(),
                watermark: i64::MIN,
            };
            let (out, late) = drive_seeds(drive, 0..16, move |flow| build(flow, setting), model);
            assert!(out > 50 && late > 20, "{out} windows, {late} late rows, {setting:?}");
        }
    }
}

/// The last rows of all, in the order in which they came.
struct Last {
    rows: Vec<Timed>,
    size: usize,
}

impl Model for Last {
    fn row(&mut self, _source: usize, row: &Timed, came: &mut Came) {
        self.rows.push(row.clone());
        if self.rows.len() == self.size {
            let window = (Window::GLOBAL.start.millis(), Window::GLOBAL.end.millis());
            came.out.push((row.time, line(window.0, window.1, &self.rows)));
            self.rows.clear();
        }
    }
}

/// Results have the time of the row that makes them complete.
#[test]
fn windows_of_so_many_rows_hold_rows_of_all_keys() {
    for size in [1, 4, 9] {
        let build = move |flow: &Flow| {
            let all = timed(flow, 0).count_window_all(size as u64);
            let line = |_key, window: Window, rows: &[Timed], out: &mut Out<'_, Line>| {
                out.push(line(window.start.millis(), window.end.millis(), rows));
            };
            all.process(line).sink("out", Discard::new());
        };
        let last = || Last { rows: Vec::new(), size };
        let (out, _) = drive_seeds(Drive::ONE, 0..16, build, last);
        assert!(out > 100, "{out} windows of {size}");
    }
}
