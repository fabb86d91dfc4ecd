//! Large states without a host: what calls read, and what they have written.
//!
//! A call finds them in its thread: whoever makes it [enters](enter) with the states of the chain that it calls, and
//! takes them back when it has returned.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::datum::{Column, Datum, Key, read_rows, write_rows};
use crate::bindings::dataflow::{Renewal, StateDecl, StateKind, TimeToLive};
use crate::bindings::operators::CollectionWrites;
use crate::bindings::types;
use crate::block::Block;

/// The large states of a chain, by number.
pub(crate) type Collections = BTreeMap<u32, Collection>;

thread_local! {
    static CALLED: RefCell<Collections> = RefCell::default();
}

/// The call that follows is of a chain with these.
pub(crate) fn enter(collections: Collections) {
    CALLED.set(collections);
}

/// The call has returned.
pub(crate) fn leave() -> Collections {
    CALLED.take()
}

/// What a call asks of the host.
pub(crate) fn called<R>(state: u32, ask: impl FnOnce(&mut Collection) -> R) -> R {
    CALLED.with_borrow_mut(|collections| {
        let found = collections.get_mut(&state);
        ask(found.unwrap_or_else(|| panic!("state {state} is no large one")))
    })
}

/// A large map or list, or a broadcast one: for each key its entries, those of a list by index.
#[derive(Debug, Clone)]
pub(crate) struct Collection {
    pub(crate) kind: StateKind,
    /// Of a list the index.
    key: Option<Column>,
    value: Column,
    /// Entries by the key that they are of; those of broadcast state are under no key.
    pub(crate) entries: BTreeMap<Key, BTreeMap<Datum, Datum>>,
    ttl: Option<TimeToLive>,
    /// When entries expire, if they do.
    pub(crate) deadlines: BTreeMap<(Key, Datum), i64>,
    now: i64,
    /// Keys of the call's entries.
    called: Vec<Key>,
    /// What the call has read.
    read: BTreeSet<(Key, Datum)>,
}

impl Collection {
    /// An empty one, if the state is large.
    pub(crate) fn declared(state: &StateDecl, columns: &[Column]) -> Option<Collection> {
        let inner = || columns[0].children[0].clone();
        let (key, value) = match state.kind {
            StateKind::LargeMap | StateKind::BroadcastMap => {
                let entries = inner();
                (Some(entries.children[0].clone()), entries.children[1].clone())
            }
            StateKind::LargeList => (None, inner()),
            StateKind::Value
            | StateKind::ListState
            | StateKind::MapState
            | StateKind::Accumulator
            | StateKind::UnionList => return None,
        };
        Some(Collection {
            kind: state.kind,
            key,
            value,
            entries: BTreeMap::new(),
            ttl: state.ttl,
            deadlines: BTreeMap::new(),
            now: i64::MIN,
            called: Vec::new(),
            read: BTreeSet::new(),
        })
    }

    pub(crate) fn is_broadcast(&self) -> bool {
        self.kind == StateKind::BroadcastMap
    }

    /// What is written at this time expires then.
    pub(crate) fn renewed(&self, now: i64) -> Option<i64> {
        let after = i64::try_from(self.ttl?.after_ms).unwrap_or(i64::MAX);
        Some(now.saturating_add(after))
    }

    /// It is this time: takes out what has expired. Items of a list count from the first that has not.
    pub(crate) fn expire(&mut self, now: i64) {
        self.now = now;
        let due = self.deadlines.iter().filter(|(_, deadline)| **deadline <= now);
        let due: Vec<(Key, Datum)> = due.map(|(place, _)| place.clone()).collect();
        for (of, entry) in &due {
            let entries = self.entries.get_mut(of);
            entries.expect("what has a deadline is there").remove(entry);
            self.deadlines.remove(&(of.clone(), entry.clone()));
        }
        if self.key.is_none() && !due.is_empty() {
            self.renumber();
        }
        self.entries.retain(|_, entries| !entries.is_empty());
    }

    fn renumber(&mut self) {
        let mut deadlines = BTreeMap::new();
        for (of, items) in &mut self.entries {
            let renumbered = (0..).zip(std::mem::take(items));
            for (index, (before, item)) in renumbered {
                let index = Datum::Integer(index);
                if let Some(deadline) = self.deadlines.get(&(of.clone(), before)) {
                    deadlines.insert((of.clone(), index.clone()), *deadline);
                }
                items.insert(index, item);
            }
        }
        self.deadlines = deadlines;
    }

    /// Sets an entry, which begins its time.
    fn put(&mut self, of: &Key, entry: Datum, value: Datum) {
        if let Some(deadline) = self.renewed(self.now) {
            self.deadlines.insert((of.clone(), entry.clone()), deadline);
        }
        self.entries.entry(of.clone()).or_default().insert(entry, value);
    }

    /// Renews what the call has read.
    fn renew(&mut self) {
        let read = std::mem::take(&mut self.read);
        let Some(ttl) = self.ttl.filter(|ttl| ttl.renewed_by == Renewal::ReadOrWrite) else {
            return;
        };
        let gain = i64::try_from(ttl.after_ms / 20).unwrap_or(i64::MAX).max(1);
        let renewed = self.renewed(self.now).expect("it has a time to live");
        for place in read {
            if let Some(deadline) = self.deadlines.get_mut(&place)
                && *deadline <= renewed - gain
            {
                *deadline = renewed;
            }
        }
    }

    /// A call begins whose entries have these keys, at this time.
    pub(crate) fn begin_call(&mut self, keys: &[Key], now: i64) {
        self.expire(now);
        self.read.clear();
        self.called = match self.is_broadcast() {
            true => vec![Key::new(); keys.len()],
            false => keys.to_vec(),
        };
    }

    /// A map as the value of its state, or a list.
    pub(crate) fn whole(&self, key: &Key) -> Datum {
        let entries = self.entries.get(key).into_iter().flatten();
        let entry = |(key, value): (&Datum, &Datum)| match self.key {
            Some(_) => Datum::Struct(vec![key.clone(), value.clone()]),
            None => value.clone(),
        };
        Datum::List(entries.map(entry).collect())
    }

    fn of(&self, entry: u32) -> &Key {
        &self.called[entry as usize]
    }

    fn key_column(&self) -> &[Column] {
        self.key.as_slice()
    }

    fn keys(&self, block: &Block) -> Vec<Datum> {
        read_rows(self.key_column(), block).into_iter().flatten().collect()
    }

    fn values(&self) -> &[Column] {
        std::slice::from_ref(&self.value)
    }

    pub(crate) fn map_get(&mut self, entries: &[u32], keys: &Block) -> (Vec<u8>, Block) {
        let keys = self.keys(keys);
        assert_eq!(keys.len(), entries.len(), "a key for each entry");
        let asked = keys.iter().zip(entries);
        let places = asked.clone().map(|(key, &entry)| (self.of(entry).clone(), key.clone()));
        let places: Vec<(Key, Datum)> = places.collect();
        self.read.extend(places);
        let got: Vec<Option<&Datum>> = asked
            .map(|(key, &entry)| self.entries.get(self.of(entry))?.get(key))
            .collect();
        let found = got.iter().map(|value| u8::from(value.is_some())).collect();
        let values = got.into_iter().flatten().map(std::slice::from_ref);
        (found, write_rows(self.values(), values))
    }

    pub(crate) fn map_scan(&mut self, entry: u32, after: &Block, limit: u32) -> (Block, Block, bool) {
        let from = self.keys(after).pop().map_or(Bound::Unbounded, Bound::Excluded);
        let (keys, values, more) = self.scan(entry, from, limit);
        let keys = keys.iter().map(std::slice::from_ref);
        (
            write_rows(self.key_column(), keys),
            write_rows(self.values(), values.iter().map(std::slice::from_ref)),
            more,
        )
    }

    pub(crate) fn list_length(&self, entry: u32) -> u64 {
        self.entries.get(self.of(entry)).map_or(0, BTreeMap::len) as u64
    }

    pub(crate) fn list_read(&mut self, entry: u32, start: u64, limit: u32) -> Block {
        let from = Bound::Included(Datum::Integer(start.into()));
        let (_, values, _) = self.scan(entry, from, limit);
        write_rows(self.values(), values.iter().map(std::slice::from_ref))
    }

    fn scan(&mut self, entry: u32, from: Bound<Datum>, limit: u32) -> (Vec<Datum>, Vec<Datum>, bool) {
        let Some(entries) = self.entries.get(self.of(entry)) else {
            return (Vec::new(), Vec::new(), false);
        };
        let mut rest = entries.range((from, Bound::Unbounded));
        let taken = rest.by_ref().take(limit as usize);
        let (keys, values): (Vec<Datum>, _) = taken.map(|(key, value)| (key.clone(), value.clone())).unzip();
        let more = rest.next().is_some();
        let of = self.of(entry).clone();
        self.read.extend(keys.iter().map(|key| (of.clone(), key.clone())));
        (keys, values, more)
    }

    /// Does what a call has written, once what it read is renewed.
    pub(crate) fn apply(&mut self, writes: &CollectionWrites) {
        assert_eq!(writes.entries.len(), writes.actions.len(), "an action for each entry");
        self.renew();
        let block = |wire: &types::Block| Block::new(wire.rows, wire.data.clone(), wire.ends.clone());
        let mut keys = self.keys(&block(&writes.keys)).into_iter();
        let values = read_rows(self.values(), &block(&writes.values));
        let mut values = values.into_iter().flatten();
        for (&entry, &action) in writes.entries.iter().zip(&writes.actions) {
            let of = self.of(entry).clone();
            let missing = "a key and a value for each action";
            match action {
                0 => self.put(&of, keys.next().expect(missing), values.next().expect(missing)),
                1 => self.remove(&of, &keys.next().expect(missing)),
                2 => {
                    let index = self.entries.get(&of).map_or(0, BTreeMap::len);
                    self.put(&of, Datum::Integer(index as i128), values.next().expect(missing));
                }
                3 => {
                    let entries = self.entries.get(&of).into_iter().flatten();
                    let all: Vec<Datum> = entries.map(|(entry, _)| entry.clone()).collect();
                    all.iter().for_each(|entry| self.remove(&of, entry));
                }
                action => panic!("there is no action {action}"),
            }
        }
        self.entries.retain(|_, entries| !entries.is_empty());
        let is_over = keys.next().is_none() && values.next().is_none();
        assert!(is_over, "no more keys and values than actions");
    }

    fn remove(&mut self, of: &Key, entry: &Datum) {
        self.deadlines.remove(&(of.clone(), entry.clone()));
        if let Some(entries) = self.entries.get_mut(of) {
            entries.remove(entry);
        }
    }

    /// A call has returned that wrote nothing here.
    pub(crate) fn end_call(&mut self) {
        self.renew();
    }
}
