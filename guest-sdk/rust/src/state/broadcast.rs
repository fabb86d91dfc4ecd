//! A map that every subtask has whole.

use std::borrow::Borrow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::State;
use super::large::{Action, ErasedCollection, Writes, read_column, write_column};
use crate::abi::host;
use crate::bindings::operators::CollectionWrites;
use crate::position;
use crate::value::Owned;

/// Entries asked for at a time.
const PIECE: u32 = 1024;

/// A map that every subtask has whole: rules, rates, settings that all rows go by, whatever their key.
///
/// Rows of the broadcast stream alone change it, see [`KeyedBroadcastProcess`](crate::process::KeyedBroadcastProcess) for an
/// example; all others read it. Each subtask makes its own copy from the same rows. They come in their order from each
/// subtask of the sender, but between those the order may differ: what a row does must not depend on others before it, or
/// the copies will differ. The map is in checkpoints and savepoints, and a job that goes on at another parallelism
/// begins everywhere with the same copy of it.
pub struct BroadcastState<K: Owned + Clone + Ord, V: Owned + Clone> {
    cell: Rc<RefCell<BroadcastCell<K, V>>>,
}

/// The map, with what the call did to it.
pub(crate) struct BroadcastCell<K: Owned, V: Owned> {
    state: u32,
    /// None: it was not read from the host yet.
    entries: Option<BTreeMap<K, V>>,
    writes: Option<Writes<K, V>>,
}

impl<K: Owned + Clone + Ord, V: Owned + Clone> std::fmt::Debug for BroadcastState<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BroadcastState")
    }
}

impl<K: Owned + Clone + Ord, V: Owned + Clone> State for BroadcastState<K, V> {
    fn place(&self) -> *const () {
        Rc::as_ptr(&self.cell).cast()
    }
}

impl<K: Owned + Clone + Ord, V: Owned + Clone> BroadcastCell<K, V> {
    /// The map; the host has it after a restart.
    fn entries(&mut self) -> &mut BTreeMap<K, V> {
        let state = self.state;
        self.entries.get_or_insert_with(|| read_all(state))
    }

    fn write(&mut self, action: Action, key: Option<K>, value: Option<V>) {
        let state = self.state;
        let writes = self
            .writes
            .get_or_insert_with(|| Writes::new(state, Some(Default::default())));
        writes.push(position::state_entry(), action, key, value);
    }
}

#[cold]
fn read_all<K: Owned + Clone + Ord, V: Owned + Clone>(state: u32) -> BTreeMap<K, V> {
    let entry = position::state_entry();
    let mut entries: BTreeMap<K, V> = BTreeMap::new();
    loop {
        let last = entries.last_key_value().map(|(key, _)| key.clone());
        let (keys, values, more) = host::map_scan(state, entry, write_column(last), PIECE);
        entries.extend(read_column::<K>(&keys).into_iter().zip(read_column::<V>(&values)));
        if !more {
            return entries;
        }
    }
}

impl<K: Owned + Clone + Ord, V: Owned + Clone> ErasedCollection for RefCell<BroadcastCell<K, V>> {
    fn take_writes(&self) -> Option<CollectionWrites> {
        self.borrow_mut().writes.take()?.finish()
    }
}

impl<K: Owned + Clone + Ord, V: Owned + Clone> BroadcastState<K, V> {
    pub(crate) fn new(state: u32) -> (Self, Rc<RefCell<BroadcastCell<K, V>>>) {
        let cell = Rc::new(RefCell::new(BroadcastCell {
            state,
            entries: None,
            writes: None,
        }));
        (BroadcastState { cell: Rc::clone(&cell) }, cell)
    }

    /// Looks at the map in place.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn highest(limits: &BroadcastState<String, i64>) -> Option<i64> {
    ///     limits.with(|limits| limits.values().copied().max())
    /// }
    /// ```
    pub fn with<R>(&self, look: impl FnOnce(&BTreeMap<K, V>) -> R) -> R {
        look(self.cell.borrow_mut().entries())
    }

    /// The value of a key, copied.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn is_over(limits: &BroadcastState<String, i64>, kind: &str, value: i64) -> bool {
    ///     limits.get(kind).is_some_and(|limit| value > limit)
    /// }
    /// ```
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.cell.borrow_mut().entries().get(key).cloned()
    }

    pub(crate) fn writer(&self) -> BroadcastWriter<'_, K, V> {
        BroadcastWriter { state: self }
    }
}

/// Changes a [`BroadcastState`]: what [`BroadcastContext`](crate::process::BroadcastContext)`::writable` gives.
#[derive(Debug)]
pub struct BroadcastWriter<'s, K: Owned + Clone + Ord, V: Owned + Clone> {
    state: &'s BroadcastState<K, V>,
}

impl<K: Owned + Clone + Ord, V: Owned + Clone> BroadcastWriter<'_, K, V> {
    /// Sets the value of a key, and returns the one before.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # use millrace::state::BroadcastWriter;
    /// fn set(limits: &mut BroadcastWriter<'_, String, i64>) { limits.insert("high".into(), 100); }
    /// ```
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let mut cell = self.state.cell.borrow_mut();
        let before = cell.entries().insert(key.clone(), value.clone());
        cell.write(Action::Put, Some(key), Some(value));
        before
    }

    /// Takes a key out, and returns its value.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # use millrace::state::BroadcastWriter;
    /// fn lift(limits: &mut BroadcastWriter<'_, String, i64>) { limits.remove("high"); }
    /// ```
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let mut cell = self.state.cell.borrow_mut();
        let (key, value) = cell.entries().remove_entry(key)?;
        cell.write(Action::Remove, Some(key), None);
        Some(value)
    }

    /// Takes everything out.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # use millrace::state::BroadcastWriter;
    /// fn lift_all(limits: &mut BroadcastWriter<'_, String, i64>) { limits.clear(); }
    /// ```
    pub fn clear(&mut self) {
        let mut cell = self.state.cell.borrow_mut();
        cell.entries = Some(BTreeMap::new());
        cell.write(Action::Clear, None, None);
    }
}
