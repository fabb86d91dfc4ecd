//! A map per key.

use std::borrow::Borrow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::cell::Cell;
use super::scope::{KeyPlace, OfKey, Place, Scope};
use super::{State, WholeState};
use crate::value::Owned;

/// A map per key, for a few dozen entries; it is saved as a whole. Its order is that of its keys.
///
/// ```
/// use millrace::prelude::*;
///
/// #[derive(Record, Clone)]
/// struct Visit { user: i64, page: String }
///
/// /// Puts out the first visit of a user to each page.
/// struct First { seen: MapState<String, i64> }
///
/// impl KeyedProcess for First {
///     type In = Visit;
///     type Key = i64;
///     type Out = Visit;
///
///     fn process(&mut self, row: Visit, cx: &mut Context<'_, Self>) {
///         if self.seen.update(&row.page, |visits| { *visits += 1; *visits }) == 1 {
///             cx.push(row);
///         }
///     }
/// }
/// ```
///
/// With [`OfWindow`](crate::window::OfWindow) it is a map for each window of a key.
pub struct MapState<K: Owned + Clone + Ord, V: Owned + Clone, S: Scope = OfKey>
where
    BTreeMap<K, V>: Owned,
{
    place: S::Place<BTreeMap<K, V>>,
}

impl<K: Owned + Clone + Ord, V: Owned + Clone, S: Scope> std::fmt::Debug for MapState<K, V, S>
where
    BTreeMap<K, V>: Owned,
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MapState")
    }
}

impl<K: Owned + Clone + Ord, V: Owned + Clone> State for MapState<K, V>
where
    BTreeMap<K, V>: Owned,
{
    fn place(&self) -> *const () {
        self.place.address()
    }
}

impl<K: Owned + Clone + Ord, V: Owned + Clone> WholeState for MapState<K, V>
where
    BTreeMap<K, V>: Owned,
{
    type Stored = BTreeMap<K, V>;
}

impl<K: Owned + Clone + Ord, V: Owned + Clone> MapState<K, V>
where
    BTreeMap<K, V>: Owned,
{
    #[expect(clippy::type_complexity, reason = "the handle and what it is a handle of")]
    pub(crate) fn new() -> (Self, Rc<RefCell<Cell<BTreeMap<K, V>>>>) {
        let (place, cell) = KeyPlace::new();
        (MapState { place }, cell)
    }
}

impl<K: Owned + Clone + Ord, V: Owned + Clone, S: Scope> MapState<K, V, S>
where
    BTreeMap<K, V>: Owned,
{
    pub(crate) fn at(place: S::Place<BTreeMap<K, V>>) -> Self {
        MapState { place }
    }

    /// Looks at the map in place; none if it has no entries.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn total(counts: &MapState<String, i64>) -> i64 {
    ///     counts.with(|counts| counts.map_or(0, |counts| counts.values().sum()))
    /// }
    /// ```
    pub fn with<R>(&self, look: impl FnOnce(Option<&BTreeMap<K, V>>) -> R) -> R {
        self.place.read(|map| look(map.filter(|map| !map.is_empty())))
    }

    /// Number of entries.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn is_full(seen: &MapState<i64, bool>) -> bool { seen.len() >= 100 }
    /// ```
    pub fn len(&self) -> usize {
        self.with(|map| map.map_or(0, BTreeMap::len))
    }

    /// Whether there are no entries.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn is_new(seen: &MapState<i64, bool>) -> bool { seen.is_empty() }
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of a key, copied.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn price(prices: &MapState<String, i64>) -> Option<i64> { prices.get("apple") }
    /// ```
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.with(|map| map?.get(key).cloned())
    }

    /// Whether there is an entry for this key.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn is_known(prices: &MapState<String, i64>) -> bool { prices.contains("apple") }
    /// ```
    pub fn contains<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.with(|map| map.is_some_and(|map| map.contains_key(key)))
    }

    /// All entries, copied, in the order of their keys.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn all(prices: &MapState<String, i64>) -> Vec<(String, i64)> { prices.entries() }
    /// ```
    pub fn entries(&self) -> Vec<(K, V)> {
        let copy = |map: &BTreeMap<K, V>| map.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        self.with(|map| map.map_or(Vec::new(), copy))
    }

    /// Sets the value of a key and gives the one before.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn learn(prices: &MapState<String, i64>) { prices.insert("apple".into(), 30); }
    /// ```
    pub fn insert(&self, key: K, value: V) -> Option<V> {
        self.place.write(false, |map| (map.insert(key, value), true))
    }

    /// Changes the value of a key in place, from the default if there is none.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn count(counts: &MapState<String, i64>, word: &str) { counts.update(word, |count| *count += 1); }
    /// ```
    pub fn update<Q, R>(&self, key: &Q, change: impl FnOnce(&mut V) -> R) -> R
    where
        Q: Ord + ToOwned<Owned = K> + ?Sized,
        K: Borrow<Q>,
        V: Default,
    {
        self.place.write(true, |map| {
            let result = match map.get_mut(key) {
                Some(value) => change(value),
                None => change(map.entry(key.to_owned()).or_default()),
            };
            (result, true)
        })
    }

    /// Takes the value of a key out.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn sell_out(prices: &MapState<String, i64>) { prices.remove("apple"); }
    /// ```
    pub fn remove<Q: Ord + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.place.write(true, |map| {
            let removed = map.remove(key);
            (removed, !map.is_empty())
        })
    }

    /// Keeps the entries for which the function says `true`.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn only_dear(prices: &MapState<String, i64>) { prices.retain(|_, price| *price > 100); }
    /// ```
    pub fn retain(&self, keep: impl FnMut(&K, &mut V) -> bool) {
        self.place.write(true, |map| {
            map.retain(keep);
            ((), !map.is_empty())
        });
    }

    /// Forgets all entries.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn forget(prices: &MapState<String, i64>) { prices.clear(); }
    /// ```
    pub fn clear(&self) {
        self.place.clear();
    }
}
