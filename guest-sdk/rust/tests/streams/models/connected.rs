//! Connected streams: functions of rows of either, and one with state and timers that both share.

use std::collections::{BTreeMap, BTreeSet};

use millrace::prelude::*;
use millrace::testing::Job;

use super::drive::{Came, Drive, Line, Model, Timed, drive_seeds, ms, timed};

const TWO: Drive = Drive {
    sources: 2,
    ..Drive::ONE
};

fn both(flow: &Flow) -> (Stream<Rows<Timed>>, Stream<Rows<Timed>>) {
    (timed(flow, 0), timed(flow, 1))
}

/// Each row by itself.
struct Stateless(fn(usize, &Timed) -> Vec<Line>);

impl Model for Stateless {
    fn row(&mut self, source: usize, row: &Timed, came: &mut Came) {
        came.out
            .extend((self.0)(source, row).into_iter().map(|line| (row.time, line)));
    }
}

fn line(source: i64, row: &Timed, number: i64) -> Line {
    (source, row.key, row.value, row.id, number)
}

/// Streams with keys and streams without.
#[test]
fn a_function_for_each_stream() {
    let model = || Stateless(|source, row| vec![line(source as i64, row, 7 + source as i64)]);
    let unkeyed = |flow: &Flow| {
        let (first, second) = both(flow);
        let connected = first.connect(second);
        let mapped = connected.map(|row: Timed| line(0, &row, 7), |row: Timed| line(1, &row, 8));
        mapped.sink("out", Discard::new());
    };
    let keyed = |flow: &Flow| {
        let (first, second) = both(flow);
        let connected = first
            .key_by(Timed::FIELDS.key)
            .connect(second.key_by(Timed::FIELDS.key));
        let mapped = connected.map(|row: Timed| line(0, &row, 7), |row: Timed| line(1, &row, 8));
        mapped.sink("out", Discard::new());
    };
    let (of_unkeyed, _) = drive_seeds(TWO, 0..8, unkeyed, model);
    let (of_keyed, _) = drive_seeds(TWO, 0..8, keyed, model);
    assert!(of_unkeyed > 500 && of_keyed == of_unkeyed, "{of_unkeyed}, {of_keyed}");
}

#[test]
fn any_number_of_rows_for_each() {
    let build = |flow: &Flow| {
        let (first, second) = both(flow);
        let flat = first.rebalance().connect(second.rebalance()).flat_map(
            |row: Timed, out: &mut Out<'_, Line>| (0..row.value % 4).for_each(|number| out.push(line(0, &row, number))),
            |row: Timed, out: &mut Out<'_, Line>| {
                if row.value > 50 {
                    out.push(line(1, &row, -1));
                }
            },
        );
        flat.sink("out", Discard::new());
    };
    let model = || {
        Stateless(|source, row| match source {
            0 => (0..row.value % 4).map(|number| line(0, row, number)).collect(),
            _ if row.value > 50 => vec![line(1, row, -1)],
            _ => Vec::new(),
        })
    };
    let (out, _) = drive_seeds(TWO, 0..8, build, model);
    assert!(out > 400, "{out} rows");
}

static LARGE: OutputTag<Timed> = OutputTag::new("large");

/// An account: the first stream pays in, the second takes out.
struct Account {
    balance: ValueState<i64>,
    /// Ids of what was paid in since the last statement.
    paid: ListState<i64>,
    /// When the next statement is due.
    due: ValueState<i64>,
}

/// How long after the first payment a statement is.
const STATEMENT_MS: i64 = 9;

/// How long after a payment out a reminder is, by the clock.
const REMINDER_MS: i64 = 6;

impl CoProcess for Account {
    type First = Timed;
    type Second = Timed;
    type Key = i64;
    type Out = Line;

    fn process_first(&mut self, row: Timed, cx: &mut CoContext<'_, Self>) {
        self.balance.update(|balance| *balance += row.value);
        self.paid.push(row.id);
        let time = cx.timestamp().expect("there is event time").millis();
        let watermark = cx.watermark().map_or(i64::MIN, Timestamp::millis);
        if self.due.get().is_none() && time + STATEMENT_MS > watermark {
            self.due.set(time + STATEMENT_MS);
            cx.set_event_timer(Timestamp::from_millis(time + STATEMENT_MS));
        }
        if row.value > 80 {
            cx.side(&LARGE, row);
        }
    }

    fn process_second(&mut self, row: Timed, cx: &mut CoContext<'_, Self>) {
        let balance = self.balance.update(|balance| {
            *balance -= row.value;
            *balance
        });
        if balance < 0 {
            cx.push((cx.key(), 0, balance, row.id, 0));
        }
        cx.set_processing_timer(cx.now() + ms(REMINDER_MS));
        if row.value % 5 == 0
            && let Some(due) = self.due.take()
        {
            cx.delete_event_timer(Timestamp::from_millis(due));
        }
    }

    fn on_timer(&mut self, timer: Timer<i64>, cx: &mut CoContext<'_, Self>) {
        let time = timer.time.millis();
        let balance = self.balance.get().unwrap_or(0);
        if timer.kind == TimerKind::ProcessingTime {
            cx.push((timer.key, 1, balance, time, 0));
            return;
        }
        self.due.clear();
        let paid = self.paid.take().into_iter().sum();
        cx.push((timer.key, 2, balance, time, paid));
        if balance == 0 {
            self.balance.clear();
        }
    }
}

#[derive(Debug, Default)]
struct Books {
    balance: i64,
    paid: i64,
    due: Option<i64>,
    reminders: BTreeSet<i64>,
}

/// All accounts.
struct Bank {
    books: BTreeMap<i64, Books>,
    watermark: i64,
    now: i64,
}

impl Model for Bank {
    fn row(&mut self, source: usize, row: &Timed, came: &mut Came) {
        let books = self.books.entry(row.key).or_default();
        if source == 0 {
            books.balance += row.value;
            books.paid += row.id;
            let due = row.time + STATEMENT_MS;
            books.due = books.due.or((due > self.watermark).then_some(due));
            if row.value > 80 {
                came.late.push((row.time, row.clone()));
            }
            return;
        }
        books.balance -= row.value;
        if books.balance < 0 {
            came.out.push((row.time, (row.key, 0, books.balance, row.id, 0)));
        }
        books.reminders.insert(self.now + REMINDER_MS);
        if row.value % 5 == 0 {
            books.due = None;
        }
    }

    fn watermark(&mut self, watermark: i64, came: &mut Came) {
        self.watermark = watermark;
        for (&key, books) in &mut self.books {
            if let Some(due) = books.due.filter(|&due| due <= watermark) {
                books.due = None;
                let paid = std::mem::take(&mut books.paid);
                came.out.push((due, (key, 2, books.balance, due, paid)));
            }
        }
    }

    fn clock(&mut self, now: i64, came: &mut Came) {
        self.now = now;
        for (&key, books) in &mut self.books {
            let later = books.reminders.split_off(&(now + 1));
            for due in std::mem::replace(&mut books.reminders, later) {
                came.out.push((self.watermark, (key, 1, books.balance, due, 0)));
            }
        }
    }

    fn inspect(&self, job: &mut Job, told: &str) {
        for (key, books) in &self.books {
            let balance = job.state::<i64>("account", "balance", *key).unwrap_or(0);
            assert_eq!(balance, books.balance, "of key {key}, {told}");
            assert_eq!(
                job.event_timers("account", *key).len(),
                books.due.iter().count(),
                "{told}"
            );
            assert_eq!(
                job.processing_timers("account", *key).len(),
                books.reminders.len(),
                "{told}"
            );
        }
    }
}

#[test]
fn two_streams_share_state_and_timers() {
    let build = |flow: &Flow| {
        let (first, second) = both(flow);
        let connected = first
            .key_by(Timed::FIELDS.key)
            .connect(second.key_by(Timed::FIELDS.key));
        let account = connected.process(|setup| Account {
            balance: setup.value_state("balance"),
            paid: setup.list_state("paid"),
            due: setup.value_state("due"),
        });
        let account = account.uid("account");
        account.side_output(&LARGE).sink("late", Discard::new());
        account.sink("out", Discard::new());
    };
    let model = || Bank {
        books: BTreeMap::new(),
        watermark: i64::MIN,
        now: 0,
    };
    let drive = Drive { has_late: true, ..TWO };
    let (out, large) = drive_seeds(drive, 0..30, build, model);
    assert!(out > 1_000 && large > 100, "{out} rows, {large} large ones");
}
