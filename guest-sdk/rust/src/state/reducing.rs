//! One value per key, into which others are merged.

use super::scope::{OfKey, Scope};
use super::{State, ValueState, WholeState};
use crate::value::Owned;

/// One value per key, into which each that is added is merged: the first is kept as it is.
///
/// Stored as the value alone, so that a [`ValueState`] of the same name goes on from it, and the other way round.
///
/// ```
/// use millrace::prelude::*;
///
/// #[derive(Record, Clone)]
/// struct Sale { shop: String, cents: i64 }
///
/// /// Puts out each sale that is the dearest of its shop so far.
/// struct Dearest { highest: ReducingState<i64> }
///
/// impl KeyedProcess for Dearest {
///     type In = Sale;
///     type Key = String;
///     type Out = Sale;
///
///     fn process(&mut self, sale: Sale, cx: &mut Context<'_, Self>) {
///         let before = self.highest.get();
///         self.highest.add(sale.cents);
///         if self.highest.get() != before {
///             cx.push(sale);
///         }
///     }
/// }
///
/// fn dearest(sales: Stream<Rows<Sale>>) {
///     sales
///         .key_by(Sale::FIELDS.shop)
///         .process(|setup| Dearest {
///             highest: setup.reducing_state("highest", |highest: &mut i64, cents| *highest = cents.max(*highest)),
///         })
///         .uid("dearest")
///         .sink("out", Stdout::ndjson());
/// }
/// ```
///
/// With [`OfWindow`](crate::window::OfWindow) it is one value for each window of a key.
pub struct ReducingState<T: Owned + Clone, S: Scope = OfKey> {
    value: ValueState<T, S>,
    reduce: Merge<T>,
}

/// Merges the second into the first.
type Merge<T> = Box<dyn Fn(&mut T, T)>;

impl<T: Owned + Clone, S: Scope> std::fmt::Debug for ReducingState<T, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReducingState")
    }
}

impl<T: Owned + Clone> State for ReducingState<T> {
    fn place(&self) -> *const () {
        self.value.place()
    }
}

impl<T: Owned + Clone> WholeState for ReducingState<T> {
    type Stored = T;
}

impl<T: Owned + Clone, S: Scope> ReducingState<T, S> {
    pub(crate) fn new(value: ValueState<T, S>, reduce: impl Fn(&mut T, T) + 'static) -> Self {
        ReducingState {
            value,
            reduce: Box::new(reduce),
        }
    }

    /// Merges a value into what there is.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn sell(total: &ReducingState<i64>, cents: i64) { total.add(cents); }
    /// ```
    pub fn add(&self, value: T) {
        self.value.merge(value, &self.reduce);
    }

    /// What all values since the last [`clear`](Self::clear) have come to, copied.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn is_rich(total: &ReducingState<i64>) -> bool { total.get().is_some_and(|cents| cents > 100_000) }
    /// ```
    pub fn get(&self) -> Option<T> {
        self.value.get()
    }

    /// Looks at it in place.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn length(names: &ReducingState<String>) -> usize { names.with(|names| names.map_or(0, String::len)) }
    /// ```
    pub fn with<R>(&self, look: impl FnOnce(Option<&T>) -> R) -> R {
        self.value.with(look)
    }

    /// Takes it out: the next value is the first again.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn finish(total: &ReducingState<i64>) -> Option<i64> { total.take() }
    /// ```
    pub fn take(&self) -> Option<T> {
        self.value.take()
    }

    /// Forgets it: the next value is the first again.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn forget(total: &ReducingState<i64>) { total.clear(); }
    /// ```
    pub fn clear(&self) {
        self.value.clear();
    }
}
