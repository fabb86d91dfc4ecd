//! Large maps and lists: what they hold is told every so often, so that a wrong entry shows.

use millrace::prelude::*;

use super::{Event, Params};

#[derive(Record, Clone)]
struct Entry {
    sum: i64,
    text: String,
}

struct Ledger {
    entries: LargeMap<i64, Entry>,
    log: LargeList<i64>,
    rows: ValueState<i64>,
    /// By time; only timers see it, for which rows came before them is not said.
    fired: LargeMap<i64, i64>,
    /// Different keys of a map.
    spread: i64,
    /// Bytes of each entry's text.
    bytes: usize,
    /// Row that traps.
    trap: i64,
    /// It always does.
    for_ever: bool,
    /// There are watermarks, and timers.
    timed: bool,
    attempt: u32,
}

#[derive(Record, Clone, Debug)]
struct Told {
    what: String,
    key: i64,
    row: i64,
    value: i64,
}

impl Ledger {
    fn take(&mut self, event: &Event) {
        let at = event.value * 7919 % self.spread;
        let text = "x".repeat(self.bytes);
        let known = self.entries.get(&at).map_or(0, |entry| entry.sum);
        let sum = known + event.value;
        self.entries.insert(at, Entry { sum, text });
        self.log.push(event.value);
        match event.value % 20 {
            3 => self.entries.remove(&(at + 1)),
            5 => self.entries.update(&(at / 2), |entry| entry.sum -= 1),
            7 => drop(self.entries.take(&(at / 3))),
            _ => {}
        }
        assert!(
            event.value != self.trap || (self.attempt > 1 && !self.for_ever),
            "row {} in attempt {}",
            event.value,
            self.attempt
        );
    }
}

/// `update` begins with it.
impl Default for Entry {
    fn default() -> Self {
        Entry {
            sum: 1_000,
            text: String::new(),
        }
    }
}

impl KeyedProcess for Ledger {
    type In = Event;
    type Key = i64;
    type Out = Told;

    fn open(&mut self, cx: &OpenContext) {
        self.attempt = cx.attempt();
    }

    fn process(&mut self, event: Event, cx: &mut Context<'_, Self>) {
        let (key, row) = (cx.key(), event.value);
        self.take(&event);
        let rows = self.rows.update(|rows| {
            *rows += 1;
            *rows
        });
        let mut tell = |what: &str, value| {
            let what = what.to_owned();
            cx.push(Told { what, key, row, value });
        };
        if rows % 50 == 0 {
            let some = self.entries.iter_from(&(self.spread / 2)).take(40);
            tell("some", some.map(|(at, entry)| at * 3 + entry.sum).sum());
            let asked = [1, row % self.spread, self.spread - 1];
            let got = self.entries.get_all(&asked).into_iter().flatten();
            tell("asked", got.map(|entry| entry.sum).sum());
            let last = self.log.iter_from(self.log.len().saturating_sub(30));
            tell("last", last.sum());
            tell("tenth", self.log.get(10).unwrap_or(-1));
        }
        if rows % 1_000 == 0 {
            let all = self
                .entries
                .iter()
                .map(|(at, entry)| (at + entry.sum) * (entry.text.len() as i64 + 1));
            tell(
                "all",
                all.fold(0, |sum: i64, value| sum.wrapping_mul(31).wrapping_add(value)),
            );
            if self.timed {
                cx.set_event_timer(Timestamp::from_millis(event.time + 1));
            }
        }
        match row % 9_973 {
            17 => self.log.clear(),
            4_000 => self.entries.clear(),
            _ => {}
        }
    }

    fn on_timer(&mut self, timer: Timer<i64>, cx: &mut Context<'_, Self>) {
        let row = timer.time.millis();
        self.fired.insert(row % 5_000, row);
        let value = self.fired.iter().map(|(at, row)| at * 3 + row).sum();
        let what = "timer".to_owned();
        cx.push(Told {
            what,
            key: timer.key,
            row,
            value,
        });
    }
}

pub(crate) fn build(flow: &Flow, params: &Params) {
    let keys = params.keys;
    let mut generator = Generator::<Event>::new()
        .rows(params.rows as u64)
        .column("key", &format!("mix % {keys}"))
        .column("value", "index")
        .column("time", "index");
    if params.rate > 0 {
        generator = generator.rate(params.rate as u64);
    }
    let (spread, bytes, trap) = (params.spread, params.bytes as usize, params.trap);
    let for_ever = params.bad == "for-ever";
    // In version 2 nothing but rows comes, so that state is restored while they do.
    let timed = params.version == "1";
    // One source: the rows of a key keep their order at any parallelism behind it.
    let events = flow.source("events", generator).uid("source").parallelism(1);
    let events = match timed {
        true => events
            .watermarks(Watermarks::monotonic(Event::FIELDS.time))
            .uid("watermarks")
            .parallelism(1),
        false => events,
    };
    events
        .key_by(Event::FIELDS.key)
        .process(move |setup| Ledger {
            rows: setup.value_state("rows"),
            entries: setup.large_map("entries"),
            log: setup.large_list("log"),
            fired: setup.large_map("fired"),
            spread,
            bytes,
            trap,
            for_ever,
            timed,
            attempt: 0,
        })
        .uid("ledger")
        .sink("told", Files::to_csv(&params.output));
}
