//! A function applied to every key, because a broadcast row has asked for it.
//!
//! When the row comes the keys are noted, in the order of their group and their bytes, wherever their entries are; then the
//! function gets some thousand of them at a call, those that are in a lower tier fetched before. Nothing else is taken until all
//! have had their turn, so that no checkpoint holds half of it. A key counts that has a state by slot, a timer, or an entry of a
//! large map or list, for which the tier of each is looked through from key to key.

use std::collections::{BTreeMap, BTreeSet};

use arrow_array::ArrayRef;
use millrace_core::Result;
use millrace_core::backend::ByteRows;
use millrace_core::function::KeyedFunction;
use millrace_core::key::decode_columns;

use super::KeyedOperator;
use crate::entry_codec::{GROUP_BYTES, encode_keys};

/// Keys per call.
const KEYS_PER_CALL: usize = if cfg!(test) { 3 } else { 4096 };

/// Keys noted at a time.
const NOTED_KEYS: usize = if cfg!(test) { 4 } else { 65_536 };

/// Keys that have their turn still, and which of them have entries of large states.
#[derive(Debug)]
pub(super) struct Applying {
    keys: std::collections::btree_map::IntoIter<Box<[u8]>, bool>,
}

impl KeyedOperator {
    /// Whether a function is being applied: call [`fire`](Self::fire) until it is not.
    pub fn is_applying(&self) -> bool {
        self.applying.is_some()
    }

    /// Notes all keys that there are.
    pub(super) fn begin_applying(&mut self) -> Result<()> {
        let max_parallelism = self.max_parallelism;
        let mut noted = BTreeMap::<Box<[u8]>, bool>::new();
        let (mut hashes, mut keys) = (Vec::new(), ByteRows::default());
        let live = self.keys.live_slots();
        let (mut slots, mut from) = (Vec::new(), 0);
        loop {
            slots.clear();
            live.read_from(from, NOTED_KEYS, &mut slots);
            let Some(last) = slots.last() else { break };
            from = last + 1;
            let columns = self.keys.key_columns(&slots)?;
            encode_keys(None, &columns, max_parallelism, &mut hashes, &mut keys)?;
            noted.extend(keys.iter().map(|key| (Box::from(key), false)));
        }
        if let Some(tiering) = &mut self.tiering {
            tiering.each_key(NOTED_KEYS, &mut |keys| {
                noted.extend(keys.iter().map(|key| (Box::from(key), false)));
            })?;
        }
        if let Some(collections) = &self.collections {
            collections.borrow_mut().each_key(&mut |key| {
                noted.insert(key.into(), true);
            })?;
        }
        self.applying = Some(Box::new(Applying {
            keys: noted.into_iter(),
        }));
        Ok(())
    }

    /// Gives the function some of the keys; false: all have had their turn.
    pub(super) fn apply_some(&mut self, function: &mut dyn KeyedFunction) -> Result<bool> {
        let Some(applying) = &mut self.applying else {
            return Ok(false);
        };
        let noted = applying.keys.by_ref().take(KEYS_PER_CALL);
        let (keys, large): (Vec<Box<[u8]>>, Vec<bool>) = noted.unzip();
        if keys.is_empty() {
            self.applying = None;
            return Ok(false);
        }
        let columns = decode_columns(&self.key_schema, keys.iter().map(|key| &key[GROUP_BYTES..]))?;
        self.batch.load(&columns)?;
        self.slots.clear();
        self.fresh.clear();
        self.keys
            .find_or_insert(&self.batch, 0..keys.len(), &mut self.slots, &mut self.fresh);
        self.fetch_fresh(function)?;
        self.export_before_touching(function)?;
        self.clear_expired(function)?;
        self.leave_out_empty(&large)?;
        if !self.slots.is_empty() {
            let keys: Vec<ArrayRef> = self.keys.key_columns(&self.slots)?;
            if let Some(collections) = &self.collections {
                collections.borrow_mut().begin_call(&keys);
            }
            let effects = function.apply(&self.slots, &keys)?;
            self.apply(&effects, true)?;
        }
        self.send_excess_below(function)?;
        Ok(true)
    }

    /// Takes those keys out of the call that hold nothing any more, and have no entries of `large` states.
    fn leave_out_empty(&mut self, large: &[bool]) -> Result<()> {
        self.present.cover(self.keys.slot_bound());
        let all = self.slots.clone();
        let mut large = large.iter();
        self.slots.retain(|_| large.next() == Some(&false));
        // It leaves those that it has given back.
        self.free_empty(true)?;
        let gone: BTreeSet<_> = self.slots.drain(..).collect();
        self.slots.extend(all.into_iter().filter(|slot| !gone.contains(slot)));
        Ok(())
    }
}
