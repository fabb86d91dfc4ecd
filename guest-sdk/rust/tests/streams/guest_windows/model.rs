//! What windows of the guest are to do, said naively: every window has all its rows and is looked at for everything.

use super::host::{Outcome, Step};
use crate::Event;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Assign {
    /// Size, slide, offset.
    Sliding(i64, i64, i64),
    Session(i64),
    /// Sessions whose gap is the row's value % 10 + 1.
    Dynamic,
    Global,
    /// Windows of 10 ms; of 30 ms as well for rows of an even value; none for multiples of seven.
    Own,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum When {
    End,
    /// Rows; at the end as well.
    Count(i64, bool),
    ContinuousEvent(i64),
    ContinuousProcessing(i64),
    Delta(f64),
    Timeout(Timeout),
}

/// When nothing else has made a window fire for so long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Timeout {
    pub(crate) after: i64,
    /// The other trigger: so many rows, or else the end.
    pub(crate) rows: Option<i64>,
    pub(crate) since_last: bool,
    pub(crate) keeps_state: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Evict {
    Nothing,
    Count(usize),
    Time(i64),
    Delta(f64),
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) assign: Assign,
    pub(crate) processing: bool,
    pub(crate) when: When,
    pub(crate) purging: bool,
    pub(crate) evict: Evict,
    pub(crate) after: bool,
    pub(crate) lateness: i64,
}

impl Setting {
    /// With the default trigger and no evictor.
    pub(crate) fn plain(assign: Assign) -> Self {
        Setting {
            assign,
            processing: false,
            when: When::End,
            purging: false,
            evict: Evict::Nothing,
            after: false,
            lateness: 0,
        }
    }
}

pub(crate) const GLOBAL: (i64, i64) = (-62_135_596_800_000, 253_402_300_799_999);

#[derive(Debug, Clone)]
struct Window {
    key: i64,
    start: i64,
    end: i64,
    rows: Vec<(i64, i64)>,
    count: i64,
    /// When it fires again, of those that fire continuously.
    next: Option<i64>,
    /// Value at which it last fired.
    last: Option<i64>,
    /// It is to fire at its end.
    at_end: bool,
}

impl Window {
    fn new(key: i64, start: i64, end: i64) -> Self {
        let (rows, count, next, last, at_end) = (Vec::new(), 0, None, None, false);
        Window {
            key,
            start,
            end,
            rows,
            count,
            next,
            last,
            at_end,
        }
    }

    fn is_global(&self) -> bool {
        (self.start, self.end) == GLOBAL
    }
}

/// What comes of the rows (times and values) of a key and window that fires.
pub(crate) type Outcomes = fn(i64, (i64, i64), &[(i64, i64)]) -> Vec<Outcome>;

/// Their number and sum.
fn count_and_sum(key: i64, (start, end): (i64, i64), rows: &[(i64, i64)]) -> Vec<Outcome> {
    let sum = rows.iter().map(|row| row.1).sum();
    vec![(key, start, end, rows.len() as i64, sum)]
}

pub(crate) struct Model {
    outcomes: Outcomes,
    setting: Setting,
    windows: Vec<Window>,
    watermark: i64,
    now: i64,
}

impl Model {
    pub(crate) fn new(setting: Setting) -> Self {
        Model::of(setting, count_and_sum)
    }

    pub(crate) fn of(setting: Setting, outcomes: Outcomes) -> Self {
        let (windows, watermark, now) = (Vec::new(), i64::MIN, 0);
        Model {
            outcomes,
            setting,
            windows,
            watermark,
            now,
        }
    }

    fn lasts_to(&self, window: &Window) -> i64 {
        if window.is_global() {
            return i64::MAX;
        }
        let lateness = if self.setting.processing {
            0
        } else {
            self.setting.lateness
        };
        self.over(window) + lateness
    }

    /// The watermark passes the last millisecond of a window; the clock comes to its end.
    fn over(&self, window: &Window) -> i64 {
        if self.setting.processing {
            window.end
        } else {
            window.end - 1
        }
    }

    fn is_of_event_time(&self) -> bool {
        !self.setting.processing && self.setting.assign != Assign::Global
    }

    fn has_ended(&self, window: &Window) -> bool {
        self.is_of_event_time() && window.end - 1 <= self.watermark
    }

    fn assigned(&self, time: i64, value: i64) -> Vec<(i64, i64)> {
        match self.setting.assign {
            Assign::Sliding(size, slide, offset) => {
                let starts = (time - size + 1..=time).filter(|start| (start - offset).rem_euclid(slide) == 0);
                starts.map(|start| (start, start + size)).collect()
            }
            Assign::Session(gap) => vec![(time, time + gap)],
            Assign::Dynamic => vec![(time, time + value % 10 + 1)],
            Assign::Global => vec![GLOBAL],
            Assign::Own => {
                let of = |size: i64| (time.div_euclid(size) * size, time.div_euclid(size) * size + size);
                match (value % 7, value % 2) {
                    (0, _) => vec![],
                    (_, 0) => vec![of(10), of(30)],
                    _ => vec![of(10)],
                }
            }
        }
    }

    pub(crate) fn row(&mut self, event_time: i64, row: &Event, step: &mut Step) {
        let time = if self.is_of_event_time() { event_time } else { self.now };
        let mut is_taken = false;
        for (start, end) in self.assigned(time, row.value) {
            let mut window = self.take(row.key, start, end);
            if self.is_of_event_time() && self.lasts_to(&window) <= self.watermark {
                continue;
            }
            is_taken = true;
            window.rows.push((time, row.value));
            let fires = self.row_fires(&mut window, event_time, row.value);
            if fires {
                self.fire(&mut window, event_time, step);
            }
            self.windows.push(window);
        }
        if !is_taken && self.is_of_event_time() && event_time + self.setting.lateness <= self.watermark {
            step.late.push((event_time, row.value));
        }
    }

    /// The window of a new row, taken out of the others; sessions are merged.
    fn take(&mut self, key: i64, start: i64, end: i64) -> Window {
        let merges = matches!(self.setting.assign, Assign::Session(_) | Assign::Dynamic);
        let is_part = |window: &Window| match merges {
            true => window.key == key && window.start <= end && start <= window.end,
            false => (window.key, window.start, window.end) == (key, start, end),
        };
        let (mut parts, others): (Vec<_>, Vec<_>) = self.windows.drain(..).partition(is_part);
        self.windows = others;
        parts.sort_by_key(|window| window.start);
        let Some(first) = parts.first() else {
            return Window::new(key, start, end);
        };
        let (least, most) = (
            first.start.min(start),
            parts.iter().map(|part| part.end).fold(end, i64::max),
        );
        if parts.len() == 1 && (least, most) == (first.start, first.end) {
            return parts.remove(0);
        }
        let mut merged = Window::new(key, least, most);
        merged.rows = parts.iter().flat_map(|part| part.rows.clone()).collect();
        merged.count = parts.iter().map(|part| part.count).sum();
        let nexts = parts.iter().filter_map(|part| part.next);
        merged.next = match self.setting.when {
            When::Timeout(timeout) if timeout.since_last => nexts.max(),
            _ => nexts.min(),
        };
        merged
    }

    /// Whether a window that got this row fires.
    fn row_fires(&self, window: &mut Window, event_time: i64, value: i64) -> bool {
        let ended = self.has_ended(window);
        let arms = !ended && !window.is_global();
        match self.setting.when {
            When::End => {
                window.at_end |= arms;
                ended
            }
            When::Count(rows, at_end) => {
                window.at_end |= arms && at_end;
                window.count += 1;
                let fires = window.count >= rows || (at_end && ended);
                window.count = if fires { 0 } else { window.count };
                fires
            }
            When::ContinuousEvent(_) | When::ContinuousProcessing(_) if ended => true,
            When::ContinuousEvent(_) => {
                window.at_end |= arms;
                if window.next.is_none() {
                    self.set_next_event(window, event_time);
                }
                false
            }
            When::ContinuousProcessing(_) => {
                window.at_end |= arms;
                if window.next.is_none() {
                    self.set_next_processing(window);
                }
                false
            }
            When::Timeout(timeout) => {
                window.at_end |= arms;
                window.count += 1;
                let fires = ended || timeout.rows.is_some_and(|rows| window.count >= rows);
                if fires {
                    (window.count, window.next) = (0, None);
                } else if timeout.since_last || window.next.is_none() {
                    window.next = Some(self.now + timeout.after);
                }
                fires
            }
            When::Delta(threshold) => match window.last {
                Some(last) if (value - last) as f64 > threshold => {
                    window.last = Some(value);
                    true
                }
                Some(_) => false,
                None => {
                    window.last = Some(value);
                    false
                }
            },
        }
    }

    fn set_next_event(&self, window: &mut Window, after: i64) {
        let When::ContinuousEvent(interval) = self.setting.when else {
            return;
        };
        let from = after.max(self.watermark);
        let next = from
            .div_euclid(interval)
            .saturating_mul(interval)
            .saturating_add(interval)
            .min(window.end - 1);
        window.next = (next > from).then_some(next);
    }

    fn set_next_processing(&self, window: &mut Window) {
        let When::ContinuousProcessing(interval) = self.setting.when else {
            return;
        };
        let mut next = self.now.div_euclid(interval) * interval + interval;
        if !self.is_of_event_time() {
            next = next.min(self.over(window));
        }
        window.next = (next > self.now).then_some(next);
    }

    fn fire(&self, window: &mut Window, time: i64, step: &mut Step) {
        if !window.rows.is_empty() {
            self.evict(window, !self.setting.after);
            if !window.rows.is_empty() {
                let time = if window.is_global() { time } else { window.end - 1 };
                let outcomes = (self.outcomes)(window.key, (window.start, window.end), &window.rows);
                step.results.extend(outcomes.into_iter().map(|outcome| (time, outcome)));
                self.evict(window, self.setting.after);
            }
        }
        if self.setting.purging {
            window.rows.clear();
        }
    }

    fn evict(&self, window: &mut Window, now: bool) {
        if !now {
            return;
        }
        let rows = &mut window.rows;
        match self.setting.evict {
            Evict::Nothing => {}
            Evict::Count(most) => {
                while rows.len() > most {
                    rows.remove(0);
                }
            }
            Evict::Time(age) => {
                let latest = rows.iter().map(|row| row.0).max().unwrap_or(0);
                rows.retain(|row| row.0 > latest - age);
            }
            Evict::Delta(threshold) => {
                let last = rows.last().map_or(0, |row| row.1);
                rows.retain(|row| ((row.1 - last).abs() as f64) < threshold);
            }
        }
    }

    pub(crate) fn watermark(&mut self, watermark: i64, step: &mut Step) {
        self.watermark = watermark;
        self.advance(true, watermark, step);
        if watermark == i64::MAX && self.setting.processing {
            let (endless, ending): (Vec<_>, Vec<_>) = self.windows.drain(..).partition(Window::is_global);
            self.windows = endless;
            for mut window in ending {
                let end = self.over(&window);
                if window.at_end || window.next == Some(end) {
                    self.timer(&mut window, false, end, step);
                }
            }
        }
    }

    pub(crate) fn time(&mut self, now: i64, step: &mut Step) {
        self.now = now;
        self.advance(false, now, step);
    }

    /// When a window is due by this clock: for its trigger, and for its end.
    fn due(&self, window: &Window, event: bool) -> (Option<i64>, Option<i64>) {
        let of_clock = event == self.is_of_event_time() && !window.is_global();
        let end = (of_clock && window.at_end).then_some(self.over(window));
        let has_next = match self.setting.when {
            When::ContinuousEvent(_) => event,
            When::ContinuousProcessing(_) | When::Timeout(_) => !event,
            When::End | When::Count(..) | When::Delta(_) => false,
        };
        let next = window.next.filter(|_| has_next);
        let trigger = [end, next].into_iter().flatten().min();
        (trigger, of_clock.then(|| self.lasts_to(window)))
    }

    fn advance(&mut self, event: bool, upto: i64, step: &mut Step) {
        loop {
            let times = self.windows.iter().map(|window| self.due(window, event));
            let least = times.flat_map(|(trigger, over)| [trigger, over]).flatten().min();
            let Some(time) = least.filter(|&time| time <= upto) else {
                return;
            };
            let windows = std::mem::take(&mut self.windows);
            for mut window in windows {
                let (trigger, over) = self.due(&window, event);
                if trigger == Some(time) {
                    self.timer(&mut window, event, time, step);
                }
                if over != Some(time) {
                    self.windows.push(window);
                }
            }
        }
    }

    fn timer(&self, window: &mut Window, event: bool, time: i64, step: &mut Step) {
        let is_end = event == self.is_of_event_time() && time == self.over(window);
        window.at_end &= !is_end;
        let is_next = window.next == Some(time) && event == matches!(self.setting.when, When::ContinuousEvent(_));
        if is_next {
            window.next = None;
            match self.setting.when {
                When::ContinuousEvent(_) if !is_end => self.set_next_event(window, time),
                When::ContinuousProcessing(_) if !self.has_ended(window) => self.set_next_processing(window),
                _ => {}
            }
        }
        match self.setting.when {
            When::Timeout(timeout) => {
                if !timeout.keeps_state {
                    window.next = None;
                }
                if is_end || !timeout.keeps_state {
                    window.count = 0;
                }
            }
            _ if is_next && !event && self.has_ended(window) => return,
            _ => window.count = 0,
        }
        let time = if event { time } else { self.watermark };
        self.fire(window, time, step);
    }
}
