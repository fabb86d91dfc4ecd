//! Entries of a large state as rows of snapshots, which are read after their barrier.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, UInt32Array};
use arrow_select::take::take;
use millrace_core::Result;
use millrace_core::backend::{ByteRows, FrozenSorted, expiry_of};
use millrace_core::block::Millis;
use millrace_core::checkpoint::RowSource;
use millrace_core::key::decode_prefixes;

use super::codec::Codec;
use super::expiry::value_of;
use crate::entry_codec::{GROUP_BYTES, broken};

/// Rows of a batch of a snapshot.
const SNAPSHOT_ROWS: usize = 8192;

/// Entries as they were at a barrier: all of them, or those that had changed.
#[derive(Debug)]
pub(super) struct FrozenCollection {
    pub(super) frozen: Arc<dyn FrozenSorted>,
    pub(super) changed: Option<BTreeSet<Box<[u8]>>>,
    pub(super) codec: Codec,
    /// When it was, if entries expire.
    pub(super) expiring_at: Option<Millis>,
}

/// Makes rows of entries.
#[derive(Debug)]
pub(super) struct EntryRows<'a> {
    pub(super) codec: &'a Codec,
    /// What time it is, if entries expire.
    pub(super) expiring_at: Option<Millis>,
}

impl FrozenCollection {
    fn entry_rows(&self) -> EntryRows<'_> {
        EntryRows {
            codec: &self.codec,
            expiring_at: self.expiring_at,
        }
    }
}

impl EntryRows<'_> {
    fn rows(&self, keys: &ByteRows, found: &[bool], values: &ByteRows) -> Result<RecordBatch> {
        let codec = self.codec;
        let mut entries = Vec::with_capacity(keys.len());
        let key_columns = decode_prefixes(&codec.key_schema, keys.iter().map(|key| &key[GROUP_BYTES..]), |rest| {
            entries.push(rest);
            Ok(())
        })?;
        let there = values.iter().zip(found).filter(|(_, found)| **found);
        let value = |value| match self.expiring_at {
            None => value,
            Some(_) => value_of(value),
        };
        let mut column = codec.decode_values(there.map(|(bytes, _)| value(bytes)))?;
        if found.contains(&false) {
            let mut next = 0..;
            let rows = found.iter().map(|found| if *found { next.next() } else { None });
            column = take(&column, &rows.collect::<UInt32Array>(), None).map_err(broken)?;
        }
        let gone = found.iter().map(|found| Some(!found)).collect::<BooleanArray>();
        let entries = codec.decode_entries(entries.into_iter())?;
        let mut more = vec![entries, column];
        if self.expiring_at.is_some() {
            let expires = values.iter().zip(found);
            let expires = expires.map(|(value, found)| found.then(|| expiry_of(value)));
            more.push(Arc::new(expires.collect::<Int64Array>()) as ArrayRef);
        }
        codec.table.mixed(key_columns, gone, more)
    }

    /// Rows of entries that are there, without those that had expired.
    pub(super) fn live_rows(&self, keys: &ByteRows, values: &ByteRows) -> Result<RecordBatch> {
        let live = |value| self.expiring_at.is_none_or(|now| expiry_of(value) > now);
        if values.iter().all(live) {
            return self.rows(keys, &vec![true; keys.len()], values);
        }
        let (mut live_keys, mut live_values) = (ByteRows::default(), ByteRows::default());
        for (key, value) in keys.iter().zip(values.iter()).filter(|(_, value)| live(value)) {
            live_keys.push(key);
            live_values.push(value);
        }
        self.rows(&live_keys, &vec![true; live_keys.len()], &live_values)
    }
}

impl RowSource for FrozenCollection {
    fn read(&self, each: &mut dyn FnMut(RecordBatch) -> Result<()>) -> Result<()> {
        let Some(changed) = &self.changed else {
            return self.frozen.scan(SNAPSHOT_ROWS, &mut |keys, values| {
                let rows = self.entry_rows().live_rows(keys, values)?;
                if rows.num_rows() > 0 { each(rows) } else { Ok(()) }
            });
        };
        let (mut keys, mut values, mut found) = (ByteRows::default(), ByteRows::default(), Vec::new());
        let mut changed = changed.iter().peekable();
        while changed.peek().is_some() {
            keys.clear();
            changed.by_ref().take(SNAPSHOT_ROWS).for_each(|key| keys.push(key));
            self.frozen.get(&keys, &mut found, &mut values)?;
            each(self.entry_rows().rows(&keys, &found, &values)?)?;
        }
        Ok(())
    }
}
