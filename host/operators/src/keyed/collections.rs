//! Large maps and lists of a keyed operator: what its calls read and write, entry by entry.
//!
//! ```text
//! entry   key group (u16) | key columns, tagged | key of a map (`arrow-row`), or index of a list (u64)
//! value   value or item (`arrow-row`), behind when it expires if it does (`expiry`)
//! ```
//!
//! Numbers are big-endian and `arrow-row` is in the order of values, so that the entries of a key are neighbours in
//! their order. Nothing here knows slots: a key that has given its slot back has its collections all the same.
//!
//! Broadcast state is a map whose key is always the same, see `call`.
//!
//! A snapshot copies nothing: at the barrier the tier is frozen, and which entries have changed is handed over with the
//! frozen view. Whoever writes the snapshot reads them, in a thread of his own.

mod codec;
mod expiry;
mod frozen;
mod restoring;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::SchemaRef;
use millrace_core::backend::{ByteRows, ScanRange, SortedTier};
use millrace_core::block::Millis;
use millrace_core::checkpoint::{RowSource, TableDelta};
use millrace_core::collections::{CollectionSchema, CollectionWrites, Collections, MapEntries, WriteAction};
use millrace_core::{Error, Result};

use self::codec::{Codec, index_of};
use self::expiry::{Expiring, Expiry, place_of, push_value};
use self::frozen::{EntryRows, FrozenCollection};
use self::restoring::Come;
use super::call::{Call, misplaced, shared_key, zero_keys};
use crate::changes::is_outgrown;
use crate::entry_codec::encode_keys;

/// Entries that are looked at at a time when a collection is cleared; more are taken out as a range.
const CLEARED_ENTRIES: usize = if cfg!(test) { 3 } else { 4096 };

/// The large states of an operator. They are numbered in the order in which they are declared.
#[derive(Debug)]
pub(super) struct HostCollections {
    max_parallelism: u32,
    states: Vec<Collection>,
    call: Call,
    /// If entries of some state expire.
    expiring: Option<Expiring>,
    /// If some are still to come.
    restoring: Option<Come>,
}

/// One large state.
#[derive(Debug)]
struct Collection {
    tier: Box<dyn SortedTier>,
    codec: Codec,
    /// Of broadcast state the key that all its entries have.
    shared_key: Option<Box<[u8]>>,
    /// If snapshots are taken.
    tracking: Option<Tracking>,
    /// If its entries expire.
    expiry: Option<Expiry>,
    keys: ByteRows,
    values: ByteRows,
    removes: ByteRows,
    found: Vec<bool>,
}

/// What changed since the last snapshot.
#[derive(Debug, Default)]
struct Tracking {
    changed: BTreeSet<Box<[u8]>>,
    /// Rows of all layers so far.
    layer_rows: u64,
    /// A full snapshot was taken, so that the next may be an increment.
    has_base: bool,
}

impl HostCollections {
    /// Of states with a tier for each.
    pub(super) fn new(
        key_schema: &SchemaRef,
        states: Vec<(CollectionSchema, Box<dyn SortedTier>)>,
        max_parallelism: u32,
    ) -> Result<Self> {
        let states = states.into_iter().map(|(schema, tier)| {
            Ok(Collection {
                tier,
                shared_key: schema
                    .broadcast
                    .then(|| shared_key(key_schema, max_parallelism))
                    .transpose()?,
                expiry: schema.ttl.map(Expiry::new),
                codec: Codec::new(key_schema.clone(), schema, max_parallelism)?,
                tracking: None,
                keys: ByteRows::default(),
                values: ByteRows::default(),
                removes: ByteRows::default(),
                found: Vec::new(),
            })
        });
        let states = states.collect::<Result<Vec<_>>>()?;
        Ok(HostCollections {
            max_parallelism,
            expiring: Expiring::of(&states),
            states,
            call: Call::default(),
            restoring: None,
        })
    }

    /// A call is about to be made whose entries have these keys.
    pub(super) fn begin_call(&mut self, keys: &[ArrayRef]) {
        self.call.columns.clear();
        self.call.columns.extend_from_slice(keys);
        self.call.encoded = false;
        self.call.only = None;
        self.call.broadcast = false;
        self.forget_reads();
    }

    /// What was read so far is of no call that is under way.
    fn forget_reads(&mut self) {
        if self.expiring.is_some() {
            let expiries = self.states.iter_mut().filter_map(|state| state.expiry.as_mut());
            expiries.for_each(Expiry::begin_call);
        }
    }

    /// A call is about to be made for so many rows that have no key.
    pub(super) fn begin_broadcast_call(&mut self, key_schema: &SchemaRef, rows: usize) -> Result<()> {
        self.begin_call(&zero_keys(key_schema, rows)?);
        self.call.broadcast = true;
        Ok(())
    }

    /// Keeps track of changes from now on, or no more.
    pub(super) fn track_changes(&mut self, tracked: bool) {
        for state in &mut self.states {
            state.tracking = tracked.then(Tracking::default);
        }
    }

    /// Rows, as snapshots have them, of the entries of a state that the key of the call's first row has, up to `limit`, and
    /// whether there may be more. Of broadcast state the key means nothing.
    pub(super) fn rows_of_call(&mut self, state: usize, limit: usize, bytes_max: usize) -> Result<(RecordBatch, bool)> {
        self.call.encode(self.max_parallelism)?;
        let collection = &mut self.states[state];
        let key = self.call.key_of(0, collection.shared_key.as_deref())?.to_vec();
        let more = collection.scan(&key, &key, limit, bytes_max)?;
        let rows = EntryRows {
            codec: &collection.codec,
            expiring_at: collection.expiry.as_ref().map(|expiry| expiry.now),
        };
        Ok((rows.live_rows(&collection.keys, &collection.values)?, more))
    }

    /// Snapshots of all states, as they are now.
    pub(super) fn snapshots(&mut self, full: bool) -> Result<Vec<TableDelta>> {
        self.states.iter_mut().map(|state| state.snapshot(full)).collect()
    }

    /// Lays rows of a snapshot over what was restored of a state so far.
    pub(super) fn restore(&mut self, state: usize, batch: &RecordBatch) -> Result<()> {
        let expires = self.states[state].restore(batch, self.max_parallelism)?;
        if let (Some(expiring), Some(expires)) = (&mut self.expiring, expires) {
            expiring.meet(expires);
        }
        Ok(())
    }

    /// Shows the keys that have entries, as they are encoded: those of each state in order. Broadcast state has none.
    pub(super) fn each_key(&mut self, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        let of_keys = self.states.iter_mut().filter(|state| state.shared_key.is_none());
        of_keys.into_iter().try_for_each(|state| state.each_key(each))
    }

    /// Entries of all states, about.
    pub(super) fn len(&self) -> u64 {
        self.states.iter().map(|state| state.tier.len()).sum()
    }
}

impl Collections for HostCollections {
    fn entry_count(&self) -> usize {
        match self.call.only {
            Some(_) => 1,
            None => self.call.columns.first().map_or(0, |column| column.len()),
        }
    }

    fn narrow(&mut self, entry: Option<u32>) {
        self.call.only = entry;
        self.forget_reads();
    }

    fn map_get(
        &mut self,
        state: usize,
        entries: &[u32],
        keys: &ArrayRef,
        bytes_max: usize,
    ) -> Result<(Vec<bool>, ArrayRef)> {
        self.call.encode(self.max_parallelism)?;
        let collection = &mut self.states[state];
        let encoded = collection.codec.encode_entries(keys)?;
        collection.keys.clear();
        for (&entry, row) in entries.iter().zip(encoded.iter()) {
            let key = self.call.key_of(entry, collection.shared_key.as_deref())?;
            collection.keys.push_with(|bytes| {
                bytes.extend_from_slice(key);
                bytes.extend_from_slice(row);
            });
        }
        collection
            .tier
            .get(&collection.keys, &mut collection.found, &mut collection.values)?;
        collection.leave_live();
        let Collection {
            codec,
            keys,
            values,
            found,
            ..
        } = collection;
        let bytes = values.iter().map(<[u8]>::len).sum::<usize>();
        if bytes > bytes_max {
            let (count, state) = (keys.len(), &codec.schema.name);
            let asked = format!("{count} keys of `{state}` were asked for at once, whose values take {bytes} bytes");
            return Err(Error::pipeline(
                "PL0007",
                format!("the guest broke the contract: {asked}"),
            ));
        }
        let there = found.iter().zip(values.iter()).filter(|(found, _)| **found);
        let values = codec.decode_values(there.map(|(_, value)| value))?;
        Ok((found.clone(), values))
    }

    fn map_scan(
        &mut self,
        state: usize,
        entry: u32,
        after: Option<&ArrayRef>,
        limit: usize,
        bytes_max: usize,
    ) -> Result<MapEntries> {
        self.call.encode(self.max_parallelism)?;
        let collection = &mut self.states[state];
        let key = self.call.key_of(entry, collection.shared_key.as_deref())?.to_vec();
        let key = key.as_slice();
        let mut from = key.to_vec();
        if let Some(after) = after {
            from.extend_from_slice(collection.codec.encode_entries(after)?.get(0));
            // The least of all that is greater.
            from.push(0);
        }
        let more = collection.scan_live(key, &from, limit, bytes_max)?;
        let behind = collection.keys.iter().map(|entry| &entry[key.len()..]);
        Ok(MapEntries {
            keys: collection.codec.decode_entries(behind)?,
            values: collection.codec.decode_values(collection.values.iter())?,
            more,
        })
    }

    fn list_length(&mut self, state: usize, entries: &[u32]) -> Result<Vec<u64>> {
        self.call.encode(self.max_parallelism)?;
        let collection = &mut self.states[state];
        let length = |&entry: &u32| {
            let runs = collection.live_items(self.call.key_of(entry, None)?)?;
            Ok(runs.iter().map(|run| run.end - run.start).sum())
        };
        entries.iter().map(length).collect()
    }

    fn list_read(&mut self, state: usize, entry: u32, start: u64, limit: usize, bytes_max: usize) -> Result<ArrayRef> {
        self.call.encode(self.max_parallelism)?;
        let collection = &mut self.states[state];
        let key = self.call.key_of(entry, None)?;
        let place = match collection.expiry {
            None => Some(start),
            Some(_) => place_of(&collection.live_items(key)?, start),
        };
        match place {
            None => collection.begin_puts(),
            Some(place) => {
                let from = [key, &place.to_be_bytes()].concat();
                collection.scan_live(key, &from, limit, bytes_max)?;
            }
        }
        collection.codec.decode_values(collection.values.iter())
    }

    fn apply(&mut self, writes: &[CollectionWrites]) -> Result<()> {
        if !writes.is_empty() {
            self.call.encode(self.max_parallelism)?;
        }
        if self.expiring.is_some() {
            for state in 0..self.states.len() {
                if self.states[state].renew()? {
                    self.meet_writes(state);
                }
            }
        }
        for write in writes {
            self.meet_writes(write.state);
            let state = &mut self.states[write.state];
            if state.shared_key.is_some() != self.call.broadcast {
                return Err(misplaced(
                    "broadcast rows write broadcast state, and rows with a key that of their key",
                ));
            }
            state.apply(write, &self.call)?;
        }
        Ok(())
    }
}

/// Behind all key groups.
const BEHIND_ALL: &[u8] = &[u8::MAX; 2];

/// The first bytes behind all that begin with these, which are not all 255.
fn behind(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while end.pop_if(|byte| *byte == u8::MAX).is_some() {}
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

impl Collection {
    /// Gets entries of a key from a bound on, as they are stored; whether there may be more.
    fn scan(&mut self, key: &[u8], from: &[u8], limit: usize, bytes_max: usize) -> Result<bool> {
        let range = ScanRange {
            from,
            to: &behind(key),
            limit,
            bytes_max,
        };
        self.tier.scan(&range, &mut self.keys, &mut self.values)
    }

    /// Shows the keys that have an entry which has not expired, in order.
    fn each_key(&mut self, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        let mut from = Vec::new();
        loop {
            let range = ScanRange {
                from: &from,
                to: BEHIND_ALL,
                limit: 1,
                bytes_max: usize::MAX,
            };
            self.tier.scan(&range, &mut self.keys, &mut self.values)?;
            if self.keys.is_empty() {
                return Ok(());
            }
            let first = self.keys.get(0);
            let key = first[..first.len() - self.codec.entry_of(first)?.len()].to_vec();
            if self.has_live(&key)? {
                each(&key);
            }
            from = behind(&key);
        }
    }

    /// The index that the next item of a key's list gets.
    fn next_index(&mut self, key: &[u8]) -> Result<u64> {
        let mut last = Vec::new();
        match self.tier.last(key, &behind(key), &mut last)? {
            true => Ok(index_of(&last)? + 1),
            false => Ok(0),
        }
    }

    /// Does what a call has done, in order: puts are gathered until something else comes, and so are removals.
    fn apply(&mut self, writes: &CollectionWrites, call: &Call) -> Result<()> {
        let keys = writes.keys.as_ref().map(|keys| self.codec.encode_entries(keys));
        let keys = keys.transpose()?;
        let values = self.codec.encode_values(&writes.values)?;
        let (mut keys, mut values) = (keys.iter().flat_map(ByteRows::iter), values.iter());
        // Whose list is appended to, and where.
        let mut end: Option<(&[u8], u64)> = None;
        let missing = || Error::internal("writes to a collection have fewer keys or values than actions");
        let expires = self.expiry.as_ref().map(Expiry::renewed);
        self.begin_puts();
        for (&entry, action) in writes.entries.iter().zip(&writes.actions) {
            let key = call.key(entry);
            match action {
                WriteAction::Put => {
                    self.finish_removes()?;
                    let (entry, value) = keys.next().zip(values.next()).ok_or_else(missing)?;
                    self.push_put(key, entry, expires, value.as_ref());
                }
                WriteAction::Append => {
                    self.finish_removes()?;
                    let next = match end {
                        Some((of, next)) if of == key => next,
                        _ => {
                            self.finish_puts()?;
                            let next = self.next_index(key)?;
                            if let Some(expiry) = self.expiry.as_mut().filter(|_| next == 0) {
                                expiry.note_in_order(key);
                            }
                            next
                        }
                    };
                    let value = values.next().ok_or_else(missing)?;
                    self.push_put(key, &next.to_be_bytes(), expires, value.as_ref());
                    end = Some((key, next + 1));
                }
                WriteAction::Remove => {
                    self.finish_puts()?;
                    let entry = keys.next().ok_or_else(missing)?;
                    self.removes.push_with(|bytes| {
                        bytes.extend_from_slice(key);
                        bytes.extend_from_slice(entry);
                    });
                }
                WriteAction::Clear => {
                    self.finish_removes()?;
                    self.finish_puts()?;
                    self.clear(key)?;
                    end = None;
                }
            }
        }
        self.finish_removes()?;
        self.finish_puts()
    }

    fn begin_puts(&mut self) {
        self.keys.clear();
        self.values.clear();
    }

    fn push_put(&mut self, key: &[u8], entry: &[u8], expires: Option<Millis>, value: &[u8]) {
        self.keys.push_with(|bytes| {
            bytes.extend_from_slice(key);
            bytes.extend_from_slice(entry);
        });
        push_value(&mut self.values, expires, value);
    }

    fn finish_puts(&mut self) -> Result<()> {
        if self.keys.is_empty() {
            return Ok(());
        }
        self.tier.put(&self.keys, &self.values)?;
        note(&mut self.tracking, &self.keys);
        self.begin_puts();
        Ok(())
    }

    fn finish_removes(&mut self) -> Result<()> {
        if self.removes.is_empty() {
            return Ok(());
        }
        self.tier.remove(&self.removes)?;
        note(&mut self.tracking, &self.removes);
        self.removes.clear();
        Ok(())
    }

    /// Takes out everything of a key: few entries one by one, many as a range. The next increment has to name them all
    /// the same.
    fn clear(&mut self, key: &[u8]) -> Result<()> {
        let mut more = self.scan(key, key, CLEARED_ENTRIES, usize::MAX)?;
        note(&mut self.tracking, &self.keys);
        if !more {
            self.tier.remove(&self.keys)?;
            self.begin_puts();
            return Ok(());
        }
        while more && self.tracking.is_some() {
            let last = self.keys.get(self.keys.len() - 1);
            // The least of all that is greater.
            let from = [last, &[0]].concat();
            more = self.scan(key, &from, CLEARED_ENTRIES, usize::MAX)?;
            note(&mut self.tracking, &self.keys);
        }
        self.begin_puts();
        self.tier.remove_range(key, &behind(key))
    }

    /// What a snapshot holds, to be read later: everything if it is to be `full` or there was none before.
    fn snapshot(&mut self, full: bool) -> Result<TableDelta> {
        let live_rows = self.tier.len();
        let Some(tracking) = &mut self.tracking else {
            return Err(Error::internal("these collections do not track their changes"));
        };
        let changed = std::mem::take(&mut tracking.changed);
        let full = full || !tracking.has_base || is_outgrown(tracking.layer_rows, changed.len(), live_rows);
        tracking.has_base = true;
        tracking.layer_rows = match full {
            true => live_rows,
            false => tracking.layer_rows + changed.len() as u64,
        };
        let empty = if full { self.tier.is_empty() } else { changed.is_empty() };
        let cold: Option<Arc<dyn RowSource>> = match empty {
            true => None,
            false => Some(Arc::new(FrozenCollection {
                frozen: self.tier.freeze()?,
                changed: (!full).then_some(changed),
                codec: self.codec.try_clone()?,
                expiring_at: self.expiry.as_ref().map(|expiry| expiry.now),
            })),
        };
        Ok(TableDelta {
            full,
            cold,
            batches: Vec::new(),
            live_rows,
        })
    }

    /// Returns when the first of the entries expires. Those that do not say when begin their time; those that have expired
    /// already are put all the same: they hide what earlier layers have of them, and go when the tier sees to it.
    fn restore(&mut self, batch: &RecordBatch, max_parallelism: u32) -> Result<Option<Millis>> {
        let rows = self.codec.table.read(batch)?;
        let begun = self.expiry.as_ref().map(Expiry::renewed);
        let stored = rows.more.get(2).map(|times| times.as_primitive::<Int64Type>());
        let expires = |row: usize| stored.filter(|times| times.is_valid(row)).map(|times| times.value(row));
        let mut earliest = None;
        let (mut keys, mut hashes) = (ByteRows::default(), Vec::new());
        encode_keys(None, &rows.keys, max_parallelism, &mut hashes, &mut keys)?;
        let entries = self.codec.encode_entries(&rows.more[0])?;
        let values = self.codec.encode_values(&rows.more[1])?;
        self.begin_puts();
        for (row, deleted) in rows.deleted.values().iter().enumerate() {
            let (key, entry) = (keys.get(row), entries.get(row));
            if deleted {
                self.tier.put(&self.keys, &self.values)?;
                self.begin_puts();
                self.keys.push(&[key, entry].concat());
                self.tier.remove(&self.keys)?;
                self.keys.clear();
            } else {
                let expires = expires(row).or(begun);
                earliest = earliest.into_iter().chain(expires).min();
                self.push_put(key, entry, expires, values.row(row).as_ref());
            }
        }
        self.tier.put(&self.keys, &self.values)?;
        self.begin_puts();
        if let Some(tracking) = &mut self.tracking {
            tracking.layer_rows += batch.num_rows() as u64;
            tracking.has_base = true;
        }
        Ok(earliest)
    }
}

fn note(tracking: &mut Option<Tracking>, keys: &ByteRows) {
    let Some(tracking) = tracking else { return };
    for key in keys.iter() {
        if !tracking.changed.contains(key) {
            tracking.changed.insert(key.into());
        }
    }
}
