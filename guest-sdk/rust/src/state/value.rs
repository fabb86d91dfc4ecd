//! One value per key.

use std::cell::RefCell;
use std::rc::Rc;

use super::cell::Cell;
use super::scope::{KeyPlace, OfKey, Place, Scope};
use super::{State, WholeState};
use crate::value::Owned;

/// One value per key.
///
/// ```
/// use millrace::prelude::*;
///
/// #[derive(Record, Clone)]
/// struct Reading { sensor: i64, celsius: f64 }
///
/// /// Puts out a reading that differs from the last by more than a degree.
/// struct Jumps { last: ValueState<f64> }
///
/// impl KeyedProcess for Jumps {
///     type In = Reading;
///     type Key = i64;
///     type Out = Reading;
///
///     fn process(&mut self, row: Reading, cx: &mut Context<'_, Self>) {
///         if self.last.get().is_some_and(|last| (row.celsius - last).abs() > 1.0) {
///             cx.push(row.clone());
///         }
///         self.last.set(row.celsius);
///     }
/// }
///
/// fn jumps(readings: Stream<Rows<Reading>>) {
///     readings
///         .key_by(Reading::FIELDS.sensor)
///         .process(|setup| Jumps { last: setup.value_state("last") })
///         .sink("out", Stdout::ndjson());
/// }
/// ```
///
/// With [`OfWindow`](crate::window::OfWindow) it is one value for each window of a key.
pub struct ValueState<T: Owned + Clone, S: Scope = OfKey> {
    place: S::Place<Option<T>>,
}

impl<T: Owned + Clone, S: Scope> std::fmt::Debug for ValueState<T, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ValueState")
    }
}

impl<T: Owned + Clone> State for ValueState<T> {
    fn place(&self) -> *const () {
        self.place.address()
    }
}

impl<T: Owned + Clone> WholeState for ValueState<T> {
    type Stored = T;
}

impl<T: Owned + Clone> ValueState<T> {
    pub(crate) fn new() -> (Self, Rc<RefCell<Cell<Option<T>>>>) {
        let (place, cell) = KeyPlace::new();
        (ValueState { place }, cell)
    }
}

impl<T: Owned + Clone, S: Scope> ValueState<T, S> {
    pub(crate) fn at(place: S::Place<Option<T>>) -> Self {
        ValueState { place }
    }

    /// The value, copied. [`ValueState::with`] looks at it in place.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn count(seen: &ValueState<i64>) -> i64 {
    ///     seen.get().unwrap_or(0)
    /// }
    /// ```
    #[inline(always)]
    pub fn get(&self) -> Option<T> {
        self.place.read(|kept| kept?.clone())
    }

    /// Looks at the value in place.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn is_known(name: &ValueState<String>, other: &str) -> bool {
    ///     name.with(|name| name.is_some_and(|name| name == other))
    /// }
    /// ```
    pub fn with<R>(&self, look: impl FnOnce(Option<&T>) -> R) -> R {
        self.place.read(|kept| look(kept.and_then(Option::as_ref)))
    }

    /// Replaces the value.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn remember(name: &ValueState<String>, row: &str) {
    ///     name.set(row.to_owned());
    /// }
    /// ```
    #[inline(always)]
    pub fn set(&self, value: T) {
        self.place.write(false, |kept| (*kept = Some(value), true));
    }

    /// Changes the value in place, from the default if there is none.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn increment(count: &ValueState<i64>) -> i64 {
    ///     count.update(|count| { *count += 1; *count })
    /// }
    /// ```
    #[inline(always)]
    pub fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> R
    where
        T: Default,
    {
        self.update_from(T::default, change)
    }

    /// The same, from what is made if there is none.
    #[inline(always)]
    pub(super) fn update_from<R>(&self, create: impl FnOnce() -> T, change: impl FnOnce(&mut T) -> R) -> R {
        self.place
            .write(true, |kept| (change(kept.get_or_insert_with(create)), true))
    }

    /// Merges a value into what there is, or sets it if there is none.
    #[inline(always)]
    pub(super) fn merge(&self, value: T, merge: impl FnOnce(&mut T, T)) {
        self.place.write(true, |kept| {
            match kept {
                Some(kept) => merge(kept, value),
                None => *kept = Some(value),
            }
            ((), true)
        });
    }

    /// Takes the value out.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn finish(started: &ValueState<Timestamp>) -> Option<Timestamp> {
    ///     started.take()
    /// }
    /// ```
    pub fn take(&self) -> Option<T> {
        self.place.write(true, |kept| (kept.take(), false))
    }

    /// Forgets the value. A key whose states are all forgotten takes no memory.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn forget(count: &ValueState<i64>) {
    ///     count.clear();
    /// }
    /// ```
    pub fn clear(&self) {
        self.place.clear();
    }
}
