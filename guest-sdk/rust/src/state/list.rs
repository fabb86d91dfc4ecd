//! A list per key.

use std::cell::RefCell;
use std::rc::Rc;

use super::cell::Cell;
use super::scope::{KeyPlace, OfKey, Place, Scope};
use super::{State, WholeState};
use crate::value::Owned;

/// A list per key, for a few dozen items; it is saved as a whole.
///
/// ```
/// use millrace::prelude::*;
///
/// #[derive(Record, Clone)]
/// struct Order { customer: i64, cents: i64 }
///
/// /// Puts out the orders of a customer five at a time.
/// struct Fives { waiting: ListState<Order> }
///
/// impl KeyedProcess for Fives {
///     type In = Order;
///     type Key = i64;
///     type Out = Order;
///
///     fn process(&mut self, row: Order, cx: &mut Context<'_, Self>) {
///         self.waiting.push(row);
///         if self.waiting.len() == 5 {
///             for order in self.waiting.take() {
///                 cx.push(order);
///             }
///         }
///     }
/// }
/// ```
///
/// With [`OfWindow`](crate::window::OfWindow) it is a list for each window of a key.
pub struct ListState<T: Owned + Clone, S: Scope = OfKey>
where
    Vec<T>: Owned,
{
    place: S::Place<Vec<T>>,
}

impl<T: Owned + Clone, S: Scope> std::fmt::Debug for ListState<T, S>
where
    Vec<T>: Owned,
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ListState")
    }
}

impl<T: Owned + Clone> State for ListState<T>
where
    Vec<T>: Owned,
{
    fn place(&self) -> *const () {
        self.place.address()
    }
}

impl<T: Owned + Clone> WholeState for ListState<T>
where
    Vec<T>: Owned,
{
    type Stored = Vec<T>;
}

impl<T: Owned + Clone> ListState<T>
where
    Vec<T>: Owned,
{
    pub(crate) fn new() -> (Self, Rc<RefCell<Cell<Vec<T>>>>) {
        let (place, cell) = KeyPlace::new();
        (ListState { place }, cell)
    }
}

impl<T: Owned + Clone, S: Scope> ListState<T, S>
where
    Vec<T>: Owned,
{
    pub(crate) fn at(place: S::Place<Vec<T>>) -> Self {
        ListState { place }
    }

    /// Looks at the items in place.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn mean(values: &ListState<f64>) -> f64 {
    ///     values.with(|values| values.iter().sum::<f64>() / values.len() as f64)
    /// }
    /// ```
    pub fn with<R>(&self, look: impl FnOnce(&[T]) -> R) -> R {
        self.place.read(|items| look(items.map_or(&[], Vec::as_slice)))
    }

    /// Number of items.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn is_full(items: &ListState<i64>) -> bool { items.len() >= 100 }
    /// ```
    pub fn len(&self) -> usize {
        self.with(<[T]>::len)
    }

    /// Whether there are no items.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn is_new(items: &ListState<i64>) -> bool { items.is_empty() }
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Item `index`, copied.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn first(items: &ListState<i64>) -> Option<i64> { items.get(0) }
    /// ```
    pub fn get(&self, index: usize) -> Option<T> {
        self.with(|items| items.get(index).cloned())
    }

    /// All items, copied.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn copies(items: &ListState<i64>) -> Vec<i64> { items.to_vec() }
    /// ```
    pub fn to_vec(&self) -> Vec<T> {
        self.with(<[T]>::to_vec)
    }

    /// Appends an item.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn remember(items: &ListState<i64>, item: i64) { items.push(item); }
    /// ```
    pub fn push(&self, item: T) {
        self.place.write(false, |items| (items.push(item), true));
    }

    /// Changes the list in place.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn drop_old(times: &ListState<i64>, oldest: i64) {
    ///     times.update(|times| times.retain(|&time| time >= oldest));
    /// }
    /// ```
    pub fn update<R>(&self, change: impl FnOnce(&mut Vec<T>) -> R) -> R {
        self.place.write(true, |items| {
            let result = change(items);
            (result, !items.is_empty())
        })
    }

    /// Replaces the list.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn reset(items: &ListState<i64>) { items.set(vec![0]); }
    /// ```
    pub fn set(&self, items: Vec<T>) {
        let present = !items.is_empty();
        self.place.write(false, |kept| (*kept = items, present));
    }

    /// Takes all items out.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn drain(items: &ListState<i64>) -> Vec<i64> { items.take() }
    /// ```
    pub fn take(&self) -> Vec<T> {
        self.place.write(true, |items| (std::mem::take(items), false))
    }

    /// Forgets all items.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn forget(items: &ListState<i64>) { items.clear(); }
    /// ```
    pub fn clear(&self) {
        self.place.clear();
    }
}
