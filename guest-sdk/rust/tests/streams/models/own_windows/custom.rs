//! What a user writes: two assigners, a trigger, an evictor.

use millrace::prelude::*;
use millrace::window::{MergedWindow, TimedRow};

use super::super::drive::{Timed, ms};

fn window(start: i64, end: i64) -> Window {
    Window {
        start: Timestamp::from_millis(start),
        end: Timestamp::from_millis(end),
    }
}

/// Sessions that end at midnight, of days of 50 ms; how long one lasts after a row the row says. Those that only touch stay
/// apart.
pub(super) struct Visits(pub(super) TimerKind);

pub(super) const DAY_MS: i64 = 50;

impl WindowAssigner<Timed> for Visits {
    fn assign(&self, row: &Timed, time: Timestamp, windows: &mut Vec<Window>) {
        let time = time.millis();
        let midnight = (time.div_euclid(DAY_MS) + 1) * DAY_MS;
        windows.push(window(time, midnight.min(time + 1 + row.value % 12)));
    }

    fn clock(&self) -> TimerKind {
        self.0
    }

    fn merges(&self) -> bool {
        true
    }

    fn merge(&self, windows: &[Window]) -> Vec<MergedWindow> {
        let day = |window: Window| window.start.millis().div_euclid(DAY_MS);
        let mut sorted = windows.to_vec();
        sorted.sort_unstable();
        let mut merged: Vec<MergedWindow> = Vec::new();
        for window in sorted {
            match merged.last_mut() {
                Some(last) if day(last.window) == day(window) && window.start < last.window.end => {
                    last.window = last.window.cover(&window);
                    last.parts.push(window);
                }
                _ => merged.push(MergedWindow {
                    window,
                    parts: vec![window],
                }),
            }
        }
        merged
    }
}

/// A window around the row, the same twenty ms as others for rows of even value, and some that begin later; none for
/// multiples of five.
pub(super) struct Scattered(pub(super) TimerKind);

impl WindowAssigner<Timed> for Scattered {
    fn assign(&self, row: &Timed, time: Timestamp, windows: &mut Vec<Window>) {
        let (time, value) = (time.millis(), row.value);
        if value % 5 == 0 {
            return;
        }
        windows.push(window(time - value % 7, time + 1 + value % 9));
        if value % 2 == 0 {
            let start = time.div_euclid(20) * 20;
            windows.push(window(start, start + 20));
        }
        if value % 3 == 0 {
            windows.push(window(time + 5, time + 15));
        }
    }

    fn clock(&self) -> TimerKind {
        self.0
    }
}

/// Fires when the values of a window come to a milestone, at its end, and now and then by the clock; at a late row at once.
pub(super) struct Milestones;

pub(super) const MILESTONE: i64 = 150;

/// When the window is first looked at by the clock, and when again.
pub(super) const LOOK_MS: [i64; 2] = [6, 11];

impl Milestones {
    fn set_end(cx: &mut TriggerContext<'_, (i64, Option<i64>)>) {
        let window = cx.window();
        match cx.clock() {
            _ if cx.window().is_global() => {}
            TimerKind::EventTime => cx.set_event_timer(window.last()),
            TimerKind::ProcessingTime => cx.set_processing_timer(window.end),
        }
    }

    fn has_ended(cx: &TriggerContext<'_, (i64, Option<i64>)>) -> bool {
        cx.clock() == TimerKind::EventTime && cx.watermark() >= Some(cx.window().last())
    }
}

impl Trigger<Timed> for Milestones {
    /// Sum of values since the last milestone, and when the window is looked at.
    type State = (i64, Option<i64>);

    fn on_row(&self, row: &Timed, cx: &mut TriggerContext<'_, Self::State>) -> TriggerResult {
        cx.state().0 += row.value;
        if Self::has_ended(cx) {
            return TriggerResult::Fire;
        }
        Self::set_end(cx);
        if cx.state().1.is_none() {
            let look = cx.now() + ms(LOOK_MS[0]);
            cx.state().1 = Some(look.millis());
            cx.set_processing_timer(look);
        }
        if row.value % 17 == 0
            && let Some(look) = cx.state().1.take()
        {
            cx.delete_processing_timer(Timestamp::from_millis(look));
        }
        if row.value % 13 == 0 {
            return TriggerResult::Purge;
        }
        if cx.state().0 < MILESTONE {
            return TriggerResult::Continue;
        }
        cx.state().0 = 0;
        match row.value % 2 {
            0 => TriggerResult::Fire,
            _ => TriggerResult::FireAndPurge,
        }
    }

    fn on_event_time(&self, time: Timestamp, cx: &mut TriggerContext<'_, Self::State>) -> TriggerResult {
        assert_eq!(time, cx.window().last(), "it has set no other");
        TriggerResult::Fire
    }

    fn on_processing_time(&self, time: Timestamp, cx: &mut TriggerContext<'_, Self::State>) -> TriggerResult {
        if cx.clock() == TimerKind::ProcessingTime && time == cx.window().end {
            return TriggerResult::FireAndPurge;
        }
        assert_eq!(cx.state().1, Some(time.millis()), "it was deleted");
        let next = time + ms(LOOK_MS[1]);
        cx.state().1 = (cx.state().0 > 0).then_some(next.millis());
        if cx.state().1.is_some() {
            cx.set_processing_timer(next);
        }
        TriggerResult::Fire
    }

    fn merges(&self) -> bool {
        true
    }

    fn on_merge(&self, merged: Vec<Self::State>, cx: &mut TriggerContext<'_, Self::State>) {
        let look = merged.iter().filter_map(|state| state.1).min();
        *cx.state() = (merged.iter().map(|state| state.0).sum(), look);
        if !Self::has_ended(cx) {
            Self::set_end(cx);
        }
        if let Some(look) = look {
            cx.set_processing_timer(Timestamp::from_millis(look));
        }
    }
}

/// Shows the function the rows of the window's latest ten ms that are no multiples of ten, and keeps three of them.
pub(super) struct Freshest;

pub(super) const FRESH_MS: i64 = 10;

impl Evictor<Timed> for Freshest {
    fn evict_before(&self, rows: &mut Vec<TimedRow<Timed>>, cx: &EvictorContext) {
        let latest = rows.iter().map(|row| row.time).max();
        let since = latest.map(|latest| latest - ms(FRESH_MS));
        rows.retain(|row| Some(row.time) > since && row.row.value % 10 != 0);
        let (start, end) = (cx.window().start, cx.window().end);
        assert!(
            rows.iter().all(|row| start <= row.time || row.time < end),
            "they are in the window"
        );
    }

    fn evict_after(&self, rows: &mut Vec<TimedRow<Timed>>, _cx: &EvictorContext) {
        rows.sort_by_key(|row| (row.time, row.row.id));
        let left = rows.len().saturating_sub(3);
        rows.drain(..left);
    }
}
