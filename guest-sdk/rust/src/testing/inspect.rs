//! What a test can see of a job beside its rows: states, timers, refused rows, metrics.

use std::collections::BTreeMap;

use super::convert::{check, is_integer, is_same};
use super::datum::{Column, Datum, Key, columns, read_rows, show_types, write_rows};
use super::guest::{Guest, Row};
use super::job::Job;
use super::operator::{Body, HeadOperator};
use super::spread::subtask_of;
use super::time::FIRST;
use crate::contract::to_contract;
use crate::harness::{Level, read};
use crate::keyed::AsKey;
use crate::state::large::write_column;
use crate::value::{Owned, Record, Value};
use crate::values::Timestamp;

/// What a key is given as: the key itself, or `&str` for a `String`.
///
/// ```
/// use millrace::testing::IntoKey;
/// assert_eq!("a".into_key(), "a".to_owned());
/// assert_eq!((7i64, true).into_key(), (7, true));
/// ```
pub trait IntoKey {
    /// The key.
    type Key: Owned;
    /// Makes it.
    fn into_key(self) -> Self::Key;
}

impl<K: AsKey + Value<Of<'static> = K>> IntoKey for K {
    type Key = K::Key;

    fn into_key(self) -> K::Key {
        K::to_key(&self)
    }
}

/// A row that a function refused, and why.
///
/// ```
/// # use millrace::testing::RefusedRow;
/// fn why(refused: &RefusedRow) -> &str { &refused.cause }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedRow {
    /// The function.
    pub operator: String,
    /// What it said.
    pub cause: String,
    /// The row that the function's chain was given, for people.
    pub row: String,
}

impl Job {
    /// The value of a key's state in the operator with that uid or name; none if it holds nothing.
    ///
    /// `T` is `V` for a `ValueState<V>`, `Vec<V>` for lists, and `BTreeMap<K, V>` for maps, large ones too. Of a
    /// broadcast state the key does not matter. What windows keep is in [`windows`](Job::windows), their states are in
    /// [`window_state`](Job::window_state).
    ///
    /// # Panics
    /// If there is no such state, or it or its key is of another type.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # use millrace::testing::Job;
    /// # #[derive(Record, Clone)]
    /// # struct Click { user: String }
    /// # struct Last { last: ValueState<i64> }
    /// # impl KeyedProcess for Last {
    /// #     type In = Click;
    /// #     type Key = String;
    /// #     type Out = Click;
    /// #     fn process(&mut self, _: Click, cx: &mut Context<'_, Self>) { self.last.set(cx.now().millis()); }
    /// # }
    /// let mut job = Job::new(|flow| {
    ///     flow.source("clicks", Files::csv::<Click>("clicks.csv"))
    ///         .key_by(Click::FIELDS.user)
    ///         .process(|setup| Last { last: setup.value_state("last") })
    ///         .uid("last-click")
    ///         .sink("out", Discard::new());
    /// });
    /// job.push("clicks", Click { user: "ann".into() });
    /// assert_eq!(job.state::<i64>("last-click", "last", "ann"), Some(0));
    /// assert_eq!(job.state::<i64>("last-click", "last", "bob"), None);
    /// ```
    pub fn state<T: Owned>(&mut self, operator: &str, state: &str, key: impl IntoKey) -> Option<T> {
        let task = self.keyed(operator);
        let key = self.key(task, key);
        let info = self.runner.chains[task].as_ref().expect("it is a chain");
        let is_window = super::plan::is_window(&info.chain.head);
        assert!(
            !is_window,
            "`{operator}` keeps its state by window: `Job::windows` shows it"
        );
        let number = info.state(operator, state);
        let column = info.states[number].columns.clone();
        let own = columns(&to_contract(&crate::state::kept::state_fields::<T>()));
        check(&format!("state `{state}` of `{operator}`"), &column, &own);
        let value = self.with_keyed(task, &key, |head, guest| value_of(head, guest, number, &key))?;
        let block = write_rows(&column, [std::slice::from_ref(&value)]);
        crate::state::kept::read_values(&block).next().flatten()
    }

    /// Keys that an operator keeps something for: state, timers, rows that wait for a pattern and matches that have begun. In
    /// order.
    ///
    /// # Panics
    /// If there is no such operator, or its keys are of another type.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # use millrace::testing::Job;
    /// # #[derive(Record, Clone)]
    /// # struct Click { user: i64 }
    /// let mut job = Job::new(|flow| {
    ///     flow.source("clicks", Files::csv::<Click>("clicks.csv"))
    ///         .key_by(Click::FIELDS.user)
    ///         .count()
    ///         .name("counts")
    ///         .sink("out", Discard::new());
    /// });
    /// job.push_all("clicks", [7, 3, 7].map(|user| Click { user }));
    /// assert_eq!(job.keys::<i64>("counts"), [3, 7]);
    /// ```
    pub fn keys<K: Owned>(&mut self, operator: &str) -> Vec<K> {
        let task = self.keyed(operator);
        let mut keys = Vec::new();
        for subtask in 0..self.runner.subtasks[task].len() {
            self.expire(task, subtask);
            if let Body::Chain { head, .. } = &self.runner.subtasks[task][subtask].body {
                match head {
                    HeadOperator::Keyed(keyed) => keys.extend(keyed.slots.keys().cloned()),
                    HeadOperator::Windows(windows) => keys.extend(windows.pieces.keys().map(|piece| piece.0.clone())),
                    HeadOperator::Patterns(patterns) => keys.extend(patterns.keys().cloned()),
                    HeadOperator::Stateless => {}
                }
            }
        }
        keys.sort();
        keys.dedup();
        let info = self.runner.chains[task].as_ref().expect("it is a chain");
        check_key::<K>(&info.key);
        let block = info.keys(&keys);
        let column = K::column(&mut block.buffers(), block.rows());
        (0..block.rows()).map(|row| K::get(&column, row)).collect()
    }

    /// Event-time timers of a key, in order; of windows of the host the times at which they fire and, with allowed lateness, at
    /// which they are given up.
    ///
    /// # Panics
    /// If there is no such operator, or its keys are of another type.
    ///
    /// See [the module](super) for an example.
    pub fn event_timers(&mut self, operator: &str, key: impl IntoKey) -> Vec<Timestamp> {
        self.timers(operator, key, false)
    }

    /// Processing-time timers of a key, in order.
    ///
    /// # Panics
    /// As [`event_timers`](Self::event_timers).
    pub fn processing_timers(&mut self, operator: &str, key: impl IntoKey) -> Vec<Timestamp> {
        self.timers(operator, key, true)
    }

    fn timers(&mut self, operator: &str, key: impl IntoKey, is_processing: bool) -> Vec<Timestamp> {
        let task = self.keyed(operator);
        let key = self.key(task, key);
        self.with_keyed(task, &key, |head, _| match head {
            HeadOperator::Keyed(keyed) => {
                let own = keyed
                    .timers
                    .iter()
                    .filter(|timer| timer.0 == is_processing && timer.2 == key);
                own.map(|timer| Timestamp::from_millis(timer.1)).collect()
            }
            HeadOperator::Windows(windows) if !is_processing => {
                let timers = windows.timers(&key).into_iter();
                timers.map(Timestamp::from_millis).collect()
            }
            HeadOperator::Stateless | HeadOperator::Windows(_) | HeadOperator::Patterns(_) => Vec::new(),
        })
    }

    /// How far event time has come in an operator; none before the first watermark.
    ///
    /// # Panics
    /// If there is no such operator.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # use millrace::testing;
    /// # #[derive(Record, Clone)]
    /// # struct Click { user: i64 }
    /// let mut job = testing::Job::new(|flow| {
    ///     let clicks = testing::source::<Click>(flow, "clicks");
    ///     clicks.filter(|click| click.user > 0).name("positive").sink("out", Discard::new());
    /// });
    /// job.watermark("clicks", 99);
    /// assert_eq!(job.event_time("positive"), Some(Timestamp::from_millis(99)));
    /// ```
    pub fn event_time(&mut self, operator: &str) -> Option<Timestamp> {
        self.settle();
        let operator = self.operator(operator);
        let task = self.runner.plan.task_of(&self.runner.graph, operator);
        let subtasks = self.runner.subtasks[task].iter();
        let least = subtasks.map(|subtask| subtask.body.watermark()).min();
        least.filter(|least| *least != FIRST).map(Timestamp::from_millis)
    }

    /// Rows that functions have refused so far and that were skipped or went to a dead letter.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # use millrace::testing::Job;
    /// # #[derive(Record, Clone)]
    /// # struct Click { user: i64 }
    /// let mut job = Job::new(|flow| {
    ///     flow.source("clicks", Files::csv::<Click>("clicks.csv"))
    ///         .try_map(|click| if click.user > 0 { Ok(click) } else { Err("nobody") })
    ///         .on_reject(Reject::Skip)
    ///         .sink("out", Discard::new());
    /// });
    /// job.push("clicks", Click { user: 0 });
    /// assert_eq!(job.refused()[0].cause, "nobody");
    /// assert_eq!(job.refused()[0].row, "{ user: 0 }");
    /// ```
    pub fn refused(&mut self) -> Vec<RefusedRow> {
        self.settle();
        let refused = self.runner.refused.iter();
        let refused = refused.map(|refused| RefusedRow {
            operator: self.runner.graph.operators[refused.operator as usize].name.clone(),
            cause: refused.cause.clone(),
            row: refused.row.clone(),
        });
        refused.collect()
    }

    /// Rows that patterns and windows of the host dropped since the job began, or was restored: late ones without a late output,
    /// and those between windows.
    ///
    /// # Panics
    /// If there is no such operator.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # use millrace::testing;
    /// # #[derive(Record, Clone)]
    /// # struct Click { user: i64 }
    /// let mut job = testing::Job::new(|flow| {
    ///     let clicks = testing::source::<Click>(flow, "clicks").key_by(Click::FIELDS.user);
    ///     clicks.window(Tumbling::of(Duration::from_secs(1))).count().name("counts").sink("out", Discard::new());
    /// });
    /// job.watermark("clicks", 5_000);
    /// job.push_at("clicks", 100, Click { user: 7 });
    /// assert_eq!(job.dropped("counts"), 1);
    /// ```
    pub fn dropped(&mut self, operator: &str) -> u64 {
        let task = self.keyed(operator);
        let dropped = |subtask: &super::runner::Subtask| match &subtask.body {
            Body::Chain {
                head: HeadOperator::Windows(windows),
                ..
            } => windows.dropped,
            Body::Chain {
                head: HeadOperator::Patterns(patterns),
                ..
            } => patterns.dropped,
            _ => 0,
        };
        self.runner.subtasks[task].iter().map(dropped).sum()
    }

    /// Matches of a pattern that have begun, of a key: of each its rows, with the stages that took them. In the order of their
    /// first rows.
    ///
    /// Rows that borrow are read by an owned record with the same fields.
    ///
    /// # Panics
    /// If there is no such operator, or its rows or keys are of another type.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # use millrace::testing;
    /// # #[derive(Record, Clone, Debug, PartialEq)]
    /// # struct Login { user: i64, ok: bool }
    /// let mut job = testing::Job::new(|flow| {
    ///     let failures = Pattern::<Login>::begin("failures").where_(|login| !login.ok).times(3);
    ///     testing::source::<Login>(flow, "logins")
    ///         .key_by(Login::FIELDS.user)
    ///         .pattern(failures)
    ///         .select(|found| (found.key(),))
    ///         .uid("failures")
    ///         .sink("out", Discard::new());
    /// });
    /// let failed = Login { user: 7, ok: false };
    /// job.push_at("logins", 5, failed.clone());
    /// job.watermark("logins", 5);
    /// assert_eq!(job.partial_matches::<Login>("failures", 7), [[("failures".to_owned(), failed)]]);
    /// ```
    pub fn partial_matches<T: Record + Owned>(&mut self, operator: &str, key: impl IntoKey) -> Vec<Vec<(String, T)>> {
        let task = self.keyed(operator);
        let key = self.key(task, key);
        let info = self.runner.chains[task].as_ref().expect("it is a chain");
        let schema = info.inputs[0].clone();
        let own = columns(&to_contract(&T::fields()));
        check(&format!("a row of `{operator}`"), &schema, &own);
        self.with_keyed(task, &key, |head, _| {
            let HeadOperator::Patterns(patterns) = head else {
                panic!("`{operator}` looks for no pattern");
            };
            let read = |path: Vec<(&str, &Row)>| {
                let block = write_rows(&schema, path.iter().map(|(_, row)| row.values.as_slice()));
                let stages = path.iter().map(|(stage, _)| (*stage).to_owned());
                stages.zip(read::<T>(&block)).collect()
            };
            patterns.partial_matches(&key).into_iter().map(read).collect()
        })
    }

    /// Matches that have begun, of a pattern, and were given up: of a key with more than
    /// [its bound](crate::pattern::PatternStream::partial_matches_max), or restored for another pattern than the one they are of.
    ///
    /// # Panics
    /// If there is no such operator.
    ///
    /// ```
    /// # use millrace::testing::Job;
    /// fn is_bound_high_enough(job: &mut Job) -> bool { job.dropped_partial_matches("failures") == 0 }
    /// ```
    pub fn dropped_partial_matches(&mut self, operator: &str) -> u64 {
        let task = self.keyed(operator);
        let dropped = |subtask: &super::runner::Subtask| match &subtask.body {
            Body::Chain {
                head: HeadOperator::Patterns(patterns),
                ..
            } => patterns.dropped_partials(),
            _ => 0,
        };
        self.runner.subtasks[task].iter().map(dropped).sum()
    }

    /// What a metric of an operator holds: one value for counters and gauges, all values of a histogram.
    ///
    /// # Panics
    /// If there is no such operator.
    ///
    /// ```
    /// # use millrace::testing::Job;
    /// fn skipped(job: &mut Job) -> Vec<f64> { job.metric("parse", "skipped") }
    /// ```
    pub fn metric(&mut self, operator: &str, name: &str) -> Vec<f64> {
        self.settle();
        let operator = self.operator(operator);
        let recorded = self.runner.recorded();
        let mut metrics = recorded.metrics.iter();
        let found = metrics.position(|metric| metric.0 == operator && metric.1 == name);
        found.map_or(Vec::new(), |index| recorded.values[index].clone())
    }

    /// Lines that the pipeline has written to its log.
    ///
    /// ```
    /// # use millrace::testing::Job;
    /// fn is_told(job: &mut Job) -> bool { job.log().iter().any(|line| line.contains("no rate")) }
    /// ```
    pub fn log(&mut self) -> Vec<String> {
        self.settle();
        let lines = self.runner.recorded().lines.iter();
        lines.map(|(_, line): &(Level, String)| line.clone()).collect()
    }

    /// The operator with that uid, or else that name.
    fn operator(&self, name: &str) -> u32 {
        let operators = &self.runner.graph.operators;
        let by_uid = operators
            .iter()
            .position(|operator| operator.uid.as_deref() == Some(name));
        let mut by_name = operators
            .iter()
            .enumerate()
            .filter(|(_, operator)| operator.name == name);
        let found = match (by_uid, by_name.next(), by_name.next()) {
            (Some(found), _, _) | (None, Some((found, _)), None) => found,
            (None, Some(_), Some(_)) => panic!("more than one operator is named `{name}`: give them uids"),
            (None, None, _) => {
                let shown = operators.iter().map(|operator| match &operator.uid {
                    Some(uid) if *uid != operator.name => format!("{} (uid {uid})", operator.name),
                    Some(_) | None => operator.name.clone(),
                });
                panic!(
                    "no operator has the uid or name `{name}`; there are: {}",
                    shown.collect::<Vec<_>>().join(", ")
                )
            }
        };
        found as u32
    }

    /// The task that keeps what an operator keeps.
    pub(super) fn keyed(&mut self, operator: &str) -> usize {
        self.settle();
        let number = self.operator(operator);
        let task = self.runner.plan.task_of(&self.runner.graph, number);
        assert!(self.runner.chains[task].is_some(), "`{operator}` is no function");
        task
    }

    pub(super) fn key<K: IntoKey>(&self, task: usize, key: K) -> Key {
        let info = self.runner.chains[task].as_ref().expect("it is a chain");
        check_key::<K::Key>(&info.key);
        let own = columns(&to_contract(&[K::Key::field("key")]));
        let mut keys = read_rows(&own, &write_column([key.into_key()]));
        let key = keys.pop().expect("one key was written");
        match is_same(&info.key, &own, false) || info.key.len() == 1 && is_integer(&info.key[0]) {
            true => key,
            // A tuple is as many columns.
            false => key[0].items().to_vec(),
        }
    }

    pub(super) fn with_keyed<R>(
        &mut self,
        task: usize,
        key: &Key,
        look: impl FnOnce(&mut HeadOperator, &mut Guest<'_>) -> R,
    ) -> R {
        let subtasks = self.runner.subtasks[task].len();
        let is_unkeyed = self.runner.chains[task].as_ref().is_some_and(|info| info.is_unkeyed);
        let subtask = match &key[..] {
            [Datum::Integer(subtask)] if is_unkeyed => *subtask as usize % subtasks,
            _ => subtask_of(key, subtasks),
        };
        self.expire(task, subtask);
        self.runner.entered(|runner| runner.with_chain(task, subtask, look))
    }

    fn expire(&mut self, task: usize, subtask: usize) {
        self.runner.entered(|runner| {
            runner.with_chain(task, subtask, |head, guest| {
                if let HeadOperator::Keyed(keyed) = head {
                    keyed.expire(guest);
                }
            });
        });
    }
}

fn check_key<K: Owned>(key: &[Column]) {
    let own = columns(&to_contract(&[K::field("key")]));
    // A plain `7` is an i32, and a key all the same.
    let are_integers = key.len() == 1 && key.iter().chain(&own).all(is_integer);
    let is_one = are_integers || is_same(key, &own, false);
    let is_several = own.first().is_some_and(|own| is_same(key, &own.children, false));
    let (is, named) = (show_types(key), show_types(&own));
    assert!(is_one || is_several, "the key is {is}, and not {named}");
}

/// The value of a state of a key; none if it holds nothing.
pub(super) fn value_of(head: &mut HeadOperator, guest: &mut Guest<'_>, state: usize, key: &Key) -> Option<Datum> {
    let HeadOperator::Keyed(keyed) = head else {
        return None;
    };
    if let Some(collection) = keyed.collections.get(&(state as u32)) {
        let key = if collection.is_broadcast() { &Key::new() } else { key };
        return Some(collection.whole(key)).filter(|whole| !whole.items().is_empty());
    }
    let values: BTreeMap<Key, Datum> = keyed.export(guest, state);
    values.get(key).cloned()
}
