//! What a test can see of windows: which of a key are open, what each keeps, when it fires.
//!
//! Windows of the host are slices and sessions here, as there; those of the pipeline are lists in keyed state. A test sees
//! them alike.

use super::convert::check;
use super::datum::{Column, Datum, columns, write_rows};
use super::guest::ChainInfo;
use super::inspect::{IntoKey, value_of};
use super::job::Job;
use super::operator::HeadOperator;
use crate::bindings::types::DataType;
use crate::contract::to_contract;
use crate::state::kept::{read_values, state_fields};
use crate::value::Owned;
use crate::values::Timestamp;
use crate::window::Window;

/// A window of a key that is open: see [`Job::windows`].
///
/// ```
/// # use millrace::testing::OpenWindow;
/// fn is_early(window: &OpenWindow<i64>) -> bool { window.fires_at.is_some_and(|time| time < window.window.last()) }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenWindow<V> {
    /// The window.
    pub window: Window,
    /// What it keeps of its rows; none: it has none, since it was purged or all were evicted.
    pub contents: Option<V>,
    /// When it fires if no row comes: the first timer that its trigger has set, by whichever clock. None: it has fired and waits
    /// for late rows, or only a row makes it fire.
    pub fires_at: Option<Timestamp>,
}

/// A window before its contents have a type.
pub(crate) struct Open {
    pub(crate) start: i64,
    pub(crate) end: i64,
    /// Null: nothing.
    pub(crate) contents: Datum,
    pub(crate) fires_at: Option<i64>,
}

impl Job {
    /// The windows of a key that are open in the operator with that uid or name, in the order of their starts: from their first
    /// row until they end, with the allowed lateness.
    ///
    /// `V` is what the function keeps of the rows of a window: the accumulator of an aggregate; a row behind `reduce`, `min_by` and
    /// `max_by`; the number behind `count` and `sum`; the value behind `min` and `max`; `Vec<T>` of all rows behind `process`, a pair of such
    /// where streams are joined, and `Vec<TimedRow<T>>` with an [evictor](crate::WindowedStream::evictor).
    ///
    /// # Panics
    /// If there is no such operator, it has no windows, or its key or what it keeps is of another type.
    ///
    /// ```
    /// use millrace::prelude::*;
    /// use millrace::testing::{self, Job, OpenWindow};
    ///
    /// #[derive(Record, Clone)]
    /// struct Sale { shop: String, cents: i64 }
    ///
    /// let mut job = Job::new(|flow| {
    ///     testing::source::<Sale>(flow, "sales")
    ///         .key_by(Sale::FIELDS.shop)
    ///         .window(Tumbling::of(Duration::from_secs(60)))
    ///         .sum(Sale::FIELDS.cents)
    ///         .uid("per-minute")
    ///         .sink("out", Discard::new());
    /// });
    /// job.push_at("sales", 61_000, Sale { shop: "a".into(), cents: 300 });
    /// job.push_at("sales", 62_000, Sale { shop: "a".into(), cents: 150 });
    ///
    /// let at = Timestamp::from_millis;
    /// let second_minute = Window { start: at(60_000), end: at(120_000) };
    /// let open = OpenWindow { window: second_minute, contents: Some(450), fires_at: Some(at(119_999)) };
    /// assert_eq!(job.windows::<i64>("per-minute", "a"), [open]);
    ///
    /// job.watermark("sales", 119_999);
    /// assert_eq!(job.windows::<i64>("per-minute", "a"), []);
    /// ```
    pub fn windows<V: Owned>(&mut self, operator: &str, key: impl IntoKey) -> Vec<OpenWindow<V>> {
        let task = self.keyed(operator);
        let key = self.key(task, key);
        let info = self.runner.chains[task].as_ref().expect("it is a chain");
        let kept = kept_column(info).unwrap_or_else(|| panic!("`{operator}` has no windows"));
        check_value::<V>(&format!("what a window of `{operator}` keeps"), &kept);
        let open = self.with_keyed(task, &key, |head, guest| match head {
            HeadOperator::Windows(windows) => windows.open(guest, &key),
            HeadOperator::Keyed(_) => {
                let [contents, windows] = [0, 1].map(|state| value_of(head, guest, state, &key));
                of_pipeline(contents, windows)
            }
            HeadOperator::Stateless | HeadOperator::Patterns(_) => Vec::new(),
        });
        let seen = |open: Open| OpenWindow {
            window: window(open.start, open.end),
            contents: read_value(&kept, open.contents),
            fires_at: open.fires_at.map(Timestamp::from_millis),
        };
        open.into_iter().map(seen).collect()
    }

    /// What a [state of windows](crate::window::OfWindow) holds for a window of a key; none if it holds nothing.
    ///
    /// `V` is as for [`state`](Job::state).
    ///
    /// # Panics
    /// If there is no such state, or it or its key is of another type.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # use millrace::testing::{self, Job};
    /// # #[derive(Record, Clone)]
    /// # struct Click { user: i64 }
    /// struct Firings { firings: WindowState<i64> }
    ///
    /// impl WindowProcess for Firings {
    ///     type In = Click;
    ///     type Key = i64;
    ///     type Out = (i64,);
    ///
    ///     fn process(&mut self, _clicks: &[Click], _cx: &mut WindowContext<'_, Self>) {
    ///         self.firings.update(|firings| *firings += 1);
    ///     }
    /// }
    ///
    /// let mut job = Job::new(|flow| {
    ///     testing::source::<Click>(flow, "clicks")
    ///         .key_by(Click::FIELDS.user)
    ///         .window(GlobalWindows)
    ///         .trigger(CountTrigger::of(2))
    ///         .process_with(|setup| Firings { firings: setup.window_state("firings") })
    ///         .uid("pairs")
    ///         .sink("out", Discard::new());
    /// });
    /// job.push_all("clicks", [7; 5].map(|user| Click { user }));
    /// assert_eq!(job.window_state::<i64>("pairs", "firings", 7, Window::GLOBAL), Some(2));
    /// ```
    pub fn window_state<V: Owned>(
        &mut self,
        operator: &str,
        state: &str,
        key: impl IntoKey,
        window: Window,
    ) -> Option<V> {
        let task = self.keyed(operator);
        let key = self.key(task, key);
        let info = self.runner.chains[task].as_ref().expect("it is a chain");
        let number = info.state(operator, state);
        let value = match members(&info.states[number].columns[0])[..] {
            ["start", "end", "value"] if kept_column(info).is_some() && number > 1 => {
                info.states[number].columns[0].children[0].children[2].clone()
            }
            _ => panic!("state `{state}` of `{operator}` is not of its windows"),
        };
        check_value::<V>(&format!("state `{state}` of `{operator}`"), &value);
        let windows = self.with_keyed(task, &key, |head, guest| value_of(head, guest, number, &key))?;
        let mut windows = windows.items().iter().map(Datum::items);
        let found = windows.find(|entry| span(entry) == (window.start.millis(), window.end.millis()))?;
        read_value(&value, found[2].clone())
    }
}

impl ChainInfo {
    /// The number of the state with this name.
    pub(super) fn state(&self, operator: &str, name: &str) -> usize {
        let found = self.states.iter().position(|known| known.declared.name == name);
        found.unwrap_or_else(|| {
            let names: Vec<&str> = self.states.iter().map(|state| state.declared.name.as_str()).collect();
            panic!("`{operator}` has no state `{name}`; it has: {}", names.join(", "));
        })
    }
}

fn window(start: i64, end: i64) -> Window {
    Window {
        start: Timestamp::from_millis(start),
        end: Timestamp::from_millis(end),
    }
}

/// Names of what the items of a list have; none if it is no list of structs.
fn members(list: &Column) -> Vec<&str> {
    let items = list
        .children
        .first()
        .filter(|_| matches!(list.field.data_type, DataType::ListOf));
    items.map_or(Vec::new(), |item| {
        item.children.iter().map(|child| child.field.name.as_str()).collect()
    })
}

/// The column of what the function of windows keeps, if the chain begins with windows: of the host, or of the pipeline, whose
/// first states are those of `window/guest.rs`.
fn kept_column(info: &ChainInfo) -> Option<Column> {
    if super::plan::is_window(&info.chain.head) {
        return Some(info.states[0].columns[0].clone());
    }
    let [contents, windows, ..] = &info.states[..] else {
        return None;
    };
    let has_timers = ["start", "end", "state", "event_timers", "processing_timers"];
    let is_window = windows.declared.name == "windows" && members(&windows.columns[0]) == has_timers;
    match members(&contents.columns[0])[..] {
        ["start", "end", "value" | "rows"] if is_window => Some(contents.columns[0].children[0].children[2].clone()),
        _ => None,
    }
}

fn check_value<V: Owned>(what: &str, column: &Column) {
    check(what, &[as_state(column)], &columns(&to_contract(&state_fields::<V>())));
}

/// The column as that of a state.
fn as_state(column: &Column) -> Column {
    let mut column = column.clone();
    column.field.nullable = true;
    column.field.name = "value".to_owned();
    column
}

fn read_value<V: Owned>(column: &Column, value: Datum) -> Option<V> {
    let block = write_rows(&[as_state(column)], [std::slice::from_ref(&value)]);
    read_values(&block).next().flatten()
}

/// Start and end, which come first in what is stored for a window.
fn span(entry: &[Datum]) -> (i64, i64) {
    (entry[0].integer() as i64, entry[1].integer() as i64)
}

/// Windows of the pipeline from what it stores for a key: what is kept of rows, and what the trigger keeps.
fn of_pipeline(contents: Option<Datum>, windows: Option<Datum>) -> Vec<Open> {
    let entries = |list: &Option<Datum>| list.as_ref().map_or(Vec::new(), |list| list.items().to_vec());
    let contents = entries(&contents);
    let open = |window: &Datum| {
        let (start, end) = span(window.items());
        let mut kept = contents.iter().map(Datum::items);
        let kept = kept.find(|entry| span(entry) == (start, end));
        let timers = window.items()[3..].iter().flat_map(Datum::items);
        Open {
            start,
            end,
            contents: kept.map_or(Datum::Null, |entry| entry[2].clone()),
            fires_at: timers.map(|time| time.integer() as i64).min(),
        }
    };
    entries(&windows).iter().map(open).collect()
}
