//! Large states without a host: what a chain's calls read and have written, for tests.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Bound;

use super::Harness;
use crate::bindings::operators::CollectionWrites;
use crate::bindings::types;
use crate::block::Block;
use crate::state::large::{read_column, write_column};
use crate::value::Owned;

/// What stands in for the host.
pub(crate) trait StandIn {
    /// A call begins whose entries have these slots, which stand for their keys.
    fn begin_call(&mut self, slots: &[u32]);
    fn map_get(&mut self, entries: &[u32], keys: &Block) -> (Vec<u8>, Block);
    fn map_scan(&mut self, entry: u32, after: &Block, limit: u32) -> (Block, Block, bool);
    fn list_length(&mut self, entry: u32) -> u64;
    fn list_read(&mut self, entry: u32, start: u64, limit: u32) -> Block;
    fn apply(&mut self, writes: &CollectionWrites);
}

/// By chain and state.
type StandIns = BTreeMap<(u32, u32), Box<dyn StandIn>>;

thread_local! {
    static STAND_INS: RefCell<StandIns> = RefCell::default();
}

/// What a call asks of the host.
pub(crate) fn stand_in<R>(chain: u32, state: u32, ask: impl FnOnce(&mut dyn StandIn) -> R) -> R {
    STAND_INS.with_borrow_mut(|stand_ins| {
        let found = stand_ins.get_mut(&(chain, state));
        ask(found
            .unwrap_or_else(|| panic!("nothing stands in for state {state} of chain {chain}"))
            .as_mut())
    })
}

/// There are none.
pub(super) fn forget() {
    STAND_INS.with_borrow_mut(BTreeMap::clear);
}

pub(super) fn begin_call(chain: u32, slots: &[u32]) {
    STAND_INS.with_borrow_mut(|stand_ins| {
        let of_chain = stand_ins.iter_mut().filter(|((of, _), _)| *of == chain);
        of_chain.for_each(|(_, stand_in)| stand_in.begin_call(slots));
    });
}

pub(super) fn apply(chain: u32, writes: &[CollectionWrites]) {
    for writes in writes {
        stand_in(chain, writes.state, |stand_in| stand_in.apply(writes));
    }
}

/// A large state: a map, or a list as a map from indexes.
struct Typed<K, V> {
    slots: Vec<u32>,
    entries: BTreeMap<(u32, K), V>,
}

fn block(wire: &types::Block) -> Block {
    Block::new(wire.rows, wire.data.clone(), wire.ends.clone())
}

impl<K: Owned + Clone + Ord, V: Owned + Clone> Typed<K, V> {
    fn slot(&self, entry: u32) -> u32 {
        self.slots[entry as usize]
    }

    /// Entries of a slot from a bound on.
    fn scan(&self, entry: u32, from: Bound<K>, limit: u32) -> (Vec<K>, Vec<V>, bool) {
        let slot = self.slot(entry);
        let is_after = |key: &K| match &from {
            Bound::Included(from) => key >= from,
            Bound::Excluded(from) => key > from,
            Bound::Unbounded => true,
        };
        let own = self
            .entries
            .iter()
            .filter(|((of, key), _)| *of == slot && is_after(key));
        let (keys, values): (Vec<K>, Vec<V>) = own
            .clone()
            .take(limit as usize)
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .unzip();
        let more = own.count() > keys.len();
        (keys, values, more)
    }

    /// Applies writes whose appends get the index that `at` makes of a length.
    fn write(&mut self, writes: &CollectionWrites, at: impl Fn(usize) -> Option<K>) {
        assert_eq!(writes.entries.len(), writes.actions.len());
        let (mut keys, mut values) = match writes.keys.ends.is_empty() {
            true => (Default::default(), read_column::<V>(&block(&writes.values))),
            false => (
                read_column::<K>(&block(&writes.keys)),
                read_column::<V>(&block(&writes.values)),
            ),
        };
        for (&entry, &action) in writes.entries.iter().zip(&writes.actions) {
            let slot = self.slot(entry);
            let own = self.entries.keys().filter(|(of, _)| *of == slot).count();
            let missing = "a key and a value for each action";
            match action {
                0 => {
                    let entry = (slot, keys.pop_front().expect(missing));
                    self.entries.insert(entry, values.pop_front().expect(missing));
                }
                1 => drop(self.entries.remove(&(slot, keys.pop_front().expect(missing)))),
                2 => {
                    let index = at(own).expect("appends are of lists");
                    self.entries.insert((slot, index), values.pop_front().expect(missing));
                }
                3 => self.entries.retain(|(of, _), _| *of != slot),
                action => panic!("there is no action {action}"),
            }
        }
        assert!(
            keys.is_empty() && values.is_empty(),
            "no more keys and values than actions"
        );
    }
}

struct MapStandIn<K, V>(Typed<K, V>);

impl<K: Owned + Clone + Ord, V: Owned + Clone> StandIn for MapStandIn<K, V> {
    fn begin_call(&mut self, slots: &[u32]) {
        self.0.slots = slots.to_vec();
    }

    fn map_get(&mut self, entries: &[u32], keys: &Block) -> (Vec<u8>, Block) {
        let keys = read_column::<K>(keys);
        assert_eq!(keys.len(), entries.len());
        let got = keys.into_iter().zip(entries);
        let got = got.map(|(key, &entry)| self.0.entries.get(&(self.0.slot(entry), key)).cloned());
        let got: Vec<Option<V>> = got.collect();
        let found = got.iter().map(|value| u8::from(value.is_some())).collect();
        (found, write_column(got.into_iter().flatten()))
    }

    fn map_scan(&mut self, entry: u32, after: &Block, limit: u32) -> (Block, Block, bool) {
        let after = read_column::<K>(after).pop_front();
        let (keys, values, more) = self
            .0
            .scan(entry, after.map_or(Bound::Unbounded, Bound::Excluded), limit);
        (write_column(keys), write_column(values), more)
    }

    fn list_length(&mut self, _: u32) -> u64 {
        panic!("a map is no list")
    }

    fn list_read(&mut self, _: u32, _: u64, _: u32) -> Block {
        panic!("a map is no list")
    }

    fn apply(&mut self, writes: &CollectionWrites) {
        self.0.write(writes, |_| None);
    }
}

struct ListStandIn<T>(Typed<u64, T>);

impl<T: Owned + Clone> StandIn for ListStandIn<T> {
    fn begin_call(&mut self, slots: &[u32]) {
        self.0.slots = slots.to_vec();
    }

    fn map_get(&mut self, _: &[u32], _: &Block) -> (Vec<u8>, Block) {
        panic!("a list is no map")
    }

    fn map_scan(&mut self, _: u32, _: &Block, _: u32) -> (Block, Block, bool) {
        panic!("a list is no map")
    }

    fn list_length(&mut self, entry: u32) -> u64 {
        self.0.scan(entry, Bound::Unbounded, u32::MAX).0.len() as u64
    }

    fn list_read(&mut self, entry: u32, start: u64, limit: u32) -> Block {
        write_column(self.0.scan(entry, Bound::Included(start), limit).1)
    }

    fn apply(&mut self, writes: &CollectionWrites) {
        self.0.write(writes, |length| Some(length as u64));
    }
}

fn typed<K: Ord, V>() -> Typed<K, V> {
    Typed {
        slots: Vec::new(),
        entries: BTreeMap::new(),
    }
}

impl Harness {
    /// Has a large map of a chain stand empty in the host's place.
    pub fn large_map<K: Owned + Clone + Ord, V: Owned + Clone>(&mut self, chain: u32, state: u32) {
        let stand_in = Box::new(MapStandIn(typed::<K, V>()));
        STAND_INS.with_borrow_mut(|stand_ins| stand_ins.insert((chain, state), stand_in));
    }

    /// The same of a large list.
    pub fn large_list<T: Owned + Clone>(&mut self, chain: u32, state: u32) {
        let stand_in = Box::new(ListStandIn(typed::<u64, T>()));
        STAND_INS.with_borrow_mut(|stand_ins| stand_ins.insert((chain, state), stand_in));
    }
}
