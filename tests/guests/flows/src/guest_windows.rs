//! Windows that run in the guest: triggers, evictors, assigners and functions with state, whose results depend on no more
//! than the order of a key's rows and on which rows are in a window when it ends.

use millrace::prelude::*;
use millrace::window::{MergedWindow, TimedRow};

use super::Event;
use super::operators::{Outputs, Result, Squares, result};

/// Windows of 100 ms; of 250 ms as well for even keys.
struct Own;

impl WindowAssigner<Event> for Own {
    fn assign(&self, row: &Event, time: Timestamp, windows: &mut Vec<Window>) {
        let of = |size: i64| Window {
            start: Timestamp::from_millis(time.millis().div_euclid(size) * size),
            end: Timestamp::from_millis(time.millis().div_euclid(size) * size + size),
        };
        windows.push(of(100));
        if row.key % 2 == 0 {
            windows.push(of(250));
        }
    }
}

/// Windows that last 30 to 90 ms after a row, within a second, and become one where they overlap.
struct Visits;

const SECOND_MS: i64 = 1_000;

impl WindowAssigner<Event> for Visits {
    fn assign(&self, row: &Event, time: Timestamp, windows: &mut Vec<Window>) {
        let next = Timestamp::from_millis((time.millis().div_euclid(SECOND_MS) + 1) * SECOND_MS);
        let end = time + ms(30 + (row.value % 60) as u64);
        windows.push(Window {
            start: time,
            end: end.min(next),
        });
    }

    fn merges(&self) -> bool {
        true
    }

    fn merge(&self, windows: &[Window]) -> Vec<MergedWindow> {
        let mut sorted = windows.to_vec();
        sorted.sort_unstable();
        let mut merged: Vec<MergedWindow> = Vec::new();
        for window in sorted {
            match merged.last_mut() {
                Some(last) if window.start < last.window.end => {
                    last.window = last.window.cover(&window);
                    last.parts.push(window);
                }
                Some(_) | None => merged.push(MergedWindow {
                    window,
                    parts: vec![window],
                }),
            }
        }
        merged
    }
}

/// Fires at every fifth thousand of values, and at the end.
struct EveryFiveThousand;

impl Trigger<Event> for EveryFiveThousand {
    type State = i64;

    fn on_row(&self, row: &Event, cx: &mut TriggerContext<'_, i64>) -> TriggerResult {
        let end = cx.window().last();
        cx.set_event_timer(end);
        *cx.state() += row.value;
        if *cx.state() < 5_000 {
            return TriggerResult::Continue;
        }
        *cx.state() = 0;
        TriggerResult::Fire
    }

    fn on_event_time(&self, _time: Timestamp, _cx: &mut TriggerContext<'_, i64>) -> TriggerResult {
        TriggerResult::FireAndPurge
    }

    fn merges(&self) -> bool {
        true
    }

    fn on_merge(&self, merged: Vec<i64>, cx: &mut TriggerContext<'_, i64>) {
        *cx.state() = merged.iter().sum();
        let end = cx.window().last();
        cx.set_event_timer(end);
    }
}

/// Leaves multiples of four out, and keeps no multiple of three for the next firing.
struct Chosen;

impl Evictor<Event> for Chosen {
    fn evict_before(&self, rows: &mut Vec<TimedRow<Event>>, _cx: &EvictorContext) {
        rows.retain(|row| row.row.value % 4 != 0);
    }

    fn evict_after(&self, rows: &mut Vec<TimedRow<Event>>, _cx: &EvictorContext) {
        rows.retain(|row| row.row.value % 3 != 0);
    }
}

/// Compares windows with the one before, and firings of a window with each other: by states of every kind.
struct Differences {
    before: ValueState<i64>,
    firings: WindowState<i64>,
    sums: WindowListState<i64>,
    of_digit: WindowMapState<i64, i64>,
    most: WindowReducingState<i64>,
    squares: WindowAggregatingState<Squares>,
}

impl Differences {
    fn new(setup: &mut WindowSetup) -> Self {
        Differences {
            before: setup.value_state("before"),
            firings: setup.window_state("firings"),
            sums: setup.window_list_state("sums"),
            of_digit: setup.window_map_state("of_digit"),
            most: setup.window_reducing_state("most", |most: &mut i64, sum| *most = sum.max(*most)),
            squares: setup.window_aggregating_state("squares", Squares),
        }
    }

    /// What all firings of the window come to, this one included.
    fn digest(&self, sum: i64) -> i64 {
        self.sums.push(sum);
        self.of_digit.update(&(sum % 10), |times| *times += 1);
        self.most.add(sum);
        self.squares.add(sum % 1_000);
        let sums = self
            .sums
            .with(|sums| sums.iter().fold(0, |digest, sum| (digest * 31 + sum) % 1_000_003));
        let digits = self
            .of_digit
            .entries()
            .iter()
            .map(|(digit, times)| digit * times)
            .sum::<i64>();
        sums + digits + self.most.get().unwrap_or(0) + self.squares.get().map_or(0, |squares| squares.len() as i64)
    }
}

impl WindowProcess for Differences {
    type In = Event;
    type Key = i64;
    type Out = Result;

    fn process(&mut self, rows: &[Event], cx: &mut WindowContext<'_, Self>) {
        let sum: i64 = rows.iter().map(|row| row.value).sum();
        let firings = self.firings.get().unwrap_or(0);
        self.firings.set(firings + 1);
        let before = self.before.get().unwrap_or(0);
        self.before.set(sum);
        cx.push(result(
            cx.key(),
            cx.window(),
            (sum - before) * 100 + firings + self.digest(sum),
        ));
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) fn build(events: &Stream<Rows<Event>>, outputs: &Outputs<'_>) {
    let keyed = || events.clone().key_by(Event::FIELDS.key);
    let value = || Event::FIELDS.value;
    let all = |key, window, rows: &[Event], out: &mut Out<'_, Result>| {
        let digest = rows.iter().fold(0, |digest, row| (digest * 31 + row.value) % 1_000_003);
        out.push(result(key, window, digest));
    };
    outputs.put("count-window", keyed().count_window(7).sum(value()));
    outputs.put("sliding-count-window", keyed().sliding_count_window(10, 3).process(all));
    let far = DeltaTrigger::of(300.0, |last: &Event, row: &Event| (row.value - last.value) as f64);
    outputs.put("delta", keyed().window(GlobalWindows).trigger(far).max(value()));
    let parts = PurgingTrigger::of(CountTrigger::of(2).or_at_end());
    outputs.put(
        "parts",
        keyed().window(Tumbling::of(ms(200))).trigger(parts).process(all),
    );
    // Nobody waits for an hour: rows and the end of the window decide.
    let timeout = ProcessingTimeoutTrigger::of(CountTrigger::of(2), Duration::from_secs(3_600));
    let timeout = keyed()
        .window(Tumbling::of(ms(200)))
        .trigger(PurgingTrigger::of(timeout));
    outputs.put("timeout", timeout.apply(all));
    let last = keyed()
        .window(Sliding::of(ms(300), ms(100)))
        .evictor(CountEvictor::of(3));
    outputs.put("last-three", last.process(all));
    let gap = |row: &Event| ms(30 + (row.value % 60) as u64);
    outputs.put("dynamic-session", keyed().window(Session::dynamic(gap)).count());
    outputs.put("own-windows", keyed().window(Own).sum(value()));
    let visits = keyed().window(Visits).trigger(EveryFiveThousand).evictor(Chosen);
    outputs.put("own-visits", visits.sum(value()));
    let twice = keyed().window(Tumbling::of(ms(150))).trigger(CountTrigger::of(1));
    let differences = twice.process_with(Differences::new);
    outputs.put("differences", differences);
    outputs.put("all", events.clone().window_all(Tumbling::of(ms(20))).sum(value()));
    // By the clock, which does not come to an end here: windows of a century end with the input.
    let total = |sum: Windowed<i64, i64>| Result {
        key: sum.key,
        start: 0,
        value: sum.value,
    };
    let session = || Session::gap(Duration::from_secs(86_400)).processing_time();
    let century = Tumbling::of(Duration::from_secs(100 * 365 * 86_400)).processing_time();
    let live = keyed().window(session()).trigger(CountTrigger::of(1)).sum(value());
    outputs.put("live", live.map(total));
    let fine = || events.clone().key_by((Event::FIELDS.key, Event::FIELDS.value));
    let total_of_both = |sum: Windowed<(i64, i64), i64>| Result {
        key: sum.key.0,
        start: sum.key.1,
        value: sum.value,
    };
    outputs.put("century", fine().window(century).sum(value()).map(total_of_both));
    outputs.put("live-session", fine().window(session()).sum(value()).map(total_of_both));
}

/// Windows of the clock, each row in one: which it is nobody knows, but none is lost and none counted twice.
pub(crate) fn clock(events: &Stream<Rows<Event>>, outputs: &Outputs<'_>) {
    let keyed = || events.clone().key_by(Event::FIELDS.key);
    let tumbling = keyed().window(Tumbling::of(ms(50)).processing_time());
    outputs.put("tumbling", tumbling.count());
    outputs.put(
        "session",
        keyed().window(Session::gap(ms(20)).processing_time()).count(),
    );
    let parts = PurgingTrigger::of(ContinuousProcessingTimeTrigger::of(ms(30)));
    let parts = keyed().window(Tumbling::of(ms(400)).processing_time()).trigger(parts);
    outputs.put("parts", parts.count());
    let timeout = ProcessingTimeoutTrigger::of(CountTrigger::of(20), ms(15)).since_last_row();
    let timeouts = keyed().window(Tumbling::of(ms(300)).processing_time());
    outputs.put("timeouts", timeouts.trigger(PurgingTrigger::of(timeout)).count());
    let all = events.clone().window_all(Tumbling::of(ms(10)).processing_time());
    outputs.put("all", all.count());
}
