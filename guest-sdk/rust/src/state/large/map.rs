//! A map per key whose entries live in the host.

use std::borrow::Borrow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::walk::{LargeMapIter, Start};
use super::{Action, ErasedCollection, Writes, read_column, write_column};
use crate::abi::host;
use crate::bindings::operators::CollectionWrites;
use crate::position;
use crate::state::State;
use crate::value::Owned;

/// A map per key for any number of entries: they live in the host, in memory or on disk, and not in the pipeline's memory.
///
/// Reading an entry asks the host, which takes far longer than with a [`MapState`](crate::state::MapState); what was read
/// is remembered for the rows of the block. Writing asks nobody. A checkpoint holds the entries that changed. So this is
/// for maps that are too large to be saved as a whole: more than some hundred entries, of which a row touches a few. With a
/// [time to live](crate::state::Ttl) each entry has its own.
///
/// The map's order is that of its keys, as `#[derive(PartialOrd, Ord)]` makes it; a key type with an order of its own
/// would mix up [`iter`](Self::iter).
///
/// ```
/// use millrace::prelude::*;
///
/// #[derive(Record, Clone)]
/// struct Sale { shop: String, customer: i64, cents: i64 }
///
/// /// Puts out the first sale of a shop to each of its customers, of which it may have millions.
/// struct FirstSales { spent: LargeMap<i64, i64> }
///
/// impl KeyedProcess for FirstSales {
///     type In = Sale;
///     type Key = String;
///     type Out = Sale;
///
///     fn process(&mut self, sale: Sale, cx: &mut Context<'_, Self>) {
///         let spent = self.spent.update(&sale.customer, |cents| {
///             *cents += sale.cents;
///             *cents
///         });
///         if spent == sale.cents {
///             cx.push(sale);
///         }
///     }
/// }
///
/// fn first_sales(sales: Stream<Rows<Sale>>) {
///     sales
///         .key_by(Sale::FIELDS.shop)
///         .process(|setup| FirstSales { spent: setup.large_map("spent") })
///         .uid("first-sales")
///         .sink("out", Stdout::ndjson());
/// }
/// ```
pub struct LargeMap<K: Owned + Clone + Ord, V: Owned + Clone> {
    pub(super) cell: Rc<RefCell<MapCell<K, V>>>,
}

impl<K: Owned + Clone + Ord, V: Owned + Clone> std::fmt::Debug for LargeMap<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LargeMap")
    }
}

impl<K: Owned + Clone + Ord, V: Owned + Clone> State for LargeMap<K, V> {
    fn place(&self) -> *const () {
        Rc::as_ptr(&self.cell).cast()
    }
}

/// What the call knows of the maps of its keys.
pub(crate) struct MapCell<K, V> {
    /// Number of the state.
    pub(super) state: u32,
    /// By slot.
    maps: BTreeMap<u32, Overlay<K, V>>,
}

/// What the call knows of one map.
pub(super) struct Overlay<K, V> {
    /// An entry of the call whose key's map it is.
    entry: u32,
    /// Everything that the host has was taken out.
    pub(super) cleared: bool,
    pub(super) known: BTreeMap<K, Known<V>>,
}

/// What is known of a key.
pub(super) struct Known<V> {
    /// None: it is not there.
    pub(super) value: Option<V>,
    /// The call has changed it.
    pub(super) written: bool,
}

impl<K: Owned + Clone + Ord, V: Owned + Clone> MapCell<K, V> {
    /// What is known of the map of this slot, which is that of an entry's key.
    pub(super) fn map(&mut self, slot: u32, entry: u32) -> &mut Overlay<K, V> {
        self.maps.entry(slot).or_insert_with(|| Overlay {
            entry,
            cleared: false,
            known: BTreeMap::new(),
        })
    }

    /// The same of the entry at hand.
    fn here(&mut self) -> (u32, &mut Overlay<K, V>) {
        let entry = position::state_entry();
        (self.state, self.map(position::slot(), entry))
    }

    /// The value of a key.
    fn get<Q>(&mut self, key: &Q) -> Option<&V>
    where
        Q: Ord + ToOwned<Owned = K> + ?Sized,
        K: Borrow<Q>,
    {
        let entry = position::state_entry();
        let (state, map) = self.here();
        if !map.known.contains_key(key) {
            let value = match map.cleared {
                true => None,
                false => read_column(&host::map_get(state, &[entry], write_column([key.to_owned()])).1).pop_front(),
            };
            let written = false;
            map.known.insert(key.to_owned(), Known { value, written });
        }
        map.known.get(key)?.value.as_ref()
    }

    fn set(&mut self, key: K, value: Option<V>) {
        let written = true;
        self.here().1.known.insert(key, Known { value, written });
    }
}

impl<K: Owned + Clone + Ord, V: Owned + Clone> ErasedCollection for RefCell<MapCell<K, V>> {
    fn take_writes(&self) -> Option<CollectionWrites> {
        let mut cell = self.borrow_mut();
        if cell.maps.is_empty() {
            return None;
        }
        let mut writes = Writes::<K, V>::new(cell.state, Some(Default::default()));
        for map in std::mem::take(&mut cell.maps).into_values() {
            if map.cleared {
                writes.push(map.entry, Action::Clear, None, None);
            }
            for (key, known) in map.known {
                match known {
                    Known { written: false, .. } => {}
                    Known { value: None, .. } if map.cleared => {}
                    Known { value: None, .. } => writes.push(map.entry, Action::Remove, Some(key), None),
                    Known { value, .. } => writes.push(map.entry, Action::Put, Some(key), value),
                }
            }
        }
        writes.finish()
    }
}

impl<K: Owned + Clone + Ord, V: Owned + Clone> LargeMap<K, V> {
    pub(crate) fn new(state: u32) -> (Self, Rc<RefCell<MapCell<K, V>>>) {
        let maps = BTreeMap::new();
        let cell = Rc::new(RefCell::new(MapCell { state, maps }));
        (LargeMap { cell: Rc::clone(&cell) }, cell)
    }

    /// The value of a key, copied.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn price(prices: &LargeMap<String, i64>) -> Option<i64> { prices.get("apple") }
    /// ```
    pub fn get<Q>(&self, key: &Q) -> Option<V>
    where
        Q: Ord + ToOwned<Owned = K> + ?Sized,
        K: Borrow<Q>,
    {
        self.cell.borrow_mut().get(key).cloned()
    }

    /// The values of several keys, copied: the host is asked once, which is faster than key by key.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn total(prices: &LargeMap<String, i64>, basket: &[String]) -> i64 {
    ///     prices.get_all(basket).into_iter().flatten().sum()
    /// }
    /// ```
    pub fn get_all(&self, keys: &[K]) -> Vec<Option<V>> {
        let mut cell = self.cell.borrow_mut();
        let entry = position::state_entry();
        let (state, map) = cell.here();
        let mut unknown: Vec<&K> = keys.iter().filter(|key| !map.known.contains_key(key)).collect();
        unknown.sort_unstable();
        unknown.dedup();
        let (found, mut values) = match map.cleared || unknown.is_empty() {
            true => (vec![0; unknown.len()], Default::default()),
            false => {
                let asked = write_column(unknown.iter().map(|key| (*key).clone()));
                let (found, values) = host::map_get(state, &vec![entry; unknown.len()], asked);
                (found, read_column(&values))
            }
        };
        for (key, found) in unknown.into_iter().zip(found) {
            let value = if found == 0 { None } else { values.pop_front() };
            let written = false;
            map.known.insert(key.clone(), Known { value, written });
        }
        let value = |key| map.known.get(key).and_then(|known| known.value.clone());
        keys.iter().map(value).collect()
    }

    /// Whether there is an entry for this key.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn is_known(prices: &LargeMap<String, i64>) -> bool { prices.contains("apple") }
    /// ```
    pub fn contains<Q>(&self, key: &Q) -> bool
    where
        Q: Ord + ToOwned<Owned = K> + ?Sized,
        K: Borrow<Q>,
    {
        self.cell.borrow_mut().get(key).is_some()
    }

    /// Sets the value of a key. The host is not asked for the one before.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn learn(prices: &LargeMap<String, i64>) { prices.insert("apple".into(), 30); }
    /// ```
    pub fn insert(&self, key: K, value: V) {
        self.cell.borrow_mut().set(key, Some(value));
    }

    /// Changes the value of a key, from the default if there is none.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn count(counts: &LargeMap<String, i64>, word: &str) { counts.update(word, |count| *count += 1); }
    /// ```
    pub fn update<Q, R>(&self, key: &Q, change: impl FnOnce(&mut V) -> R) -> R
    where
        Q: Ord + ToOwned<Owned = K> + ?Sized,
        K: Borrow<Q>,
        V: Default,
    {
        let mut cell = self.cell.borrow_mut();
        cell.get(key);
        let (_, map) = cell.here();
        let known = map.known.get_mut(key).expect("it was just looked up");
        known.written = true;
        change(known.value.get_or_insert_default())
    }

    /// Takes a key out. The host is not asked for its value.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn sell_out(prices: &LargeMap<String, i64>) { prices.remove("apple"); }
    /// ```
    pub fn remove<Q>(&self, key: &Q)
    where
        Q: Ord + ToOwned<Owned = K> + ?Sized,
        K: Borrow<Q>,
    {
        self.cell.borrow_mut().set(key.to_owned(), None);
    }

    /// Takes a key out and gives its value.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn finish(started: &LargeMap<i64, Timestamp>, id: i64) -> Option<Timestamp> { started.take(&id) }
    /// ```
    pub fn take<Q>(&self, key: &Q) -> Option<V>
    where
        Q: Ord + ToOwned<Owned = K> + ?Sized,
        K: Borrow<Q>,
    {
        let mut cell = self.cell.borrow_mut();
        let value = cell.get(key).cloned();
        if value.is_some() {
            cell.set(key.to_owned(), None);
        }
        value
    }

    /// All entries in the order of their keys, copied. They are read from the host in pieces, so that a map may have any
    /// number of them; mind that a call should be over within milliseconds. What is changed meanwhile is seen if it is
    /// further on.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn total(prices: &LargeMap<String, i64>) -> i64 { prices.iter().map(|(_, price)| price).sum() }
    /// ```
    pub fn iter(&self) -> LargeMapIter<'_, K, V> {
        LargeMapIter::new(self, Start::First)
    }

    /// The entries from a key on, the first of which is its own if there is one.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn next_due(due: &LargeMap<Timestamp, String>, now: Timestamp) -> Option<(Timestamp, String)> {
    ///     due.iter_from(&now).next()
    /// }
    /// ```
    pub fn iter_from<Q>(&self, key: &Q) -> LargeMapIter<'_, K, V>
    where
        Q: Ord + ToOwned<Owned = K> + ?Sized,
        K: Borrow<Q>,
    {
        let value = self.get(key);
        LargeMapIter::new(self, Start::Key(key.to_owned(), value))
    }

    /// Whether there are no entries.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn is_new(seen: &LargeMap<i64, bool>) -> bool { seen.is_empty() }
    /// ```
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// Forgets all entries. With checkpoints the host looks at each once more, for the next one has to say that they are gone:
    /// about half a second for a million.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn forget(prices: &LargeMap<String, i64>) { prices.clear(); }
    /// ```
    pub fn clear(&self) {
        let mut cell = self.cell.borrow_mut();
        let (_, map) = cell.here();
        map.cleared = true;
        map.known.clear();
    }
}
