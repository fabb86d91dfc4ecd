//! Large states as the guest sees them: its reads answered, its writes checked.
//!
//! What a chain may read is in the store while one of its keyed calls runs, and only then. A guest that asks for what it
//! must not have traps, and the breach is kept beside the trap; so is the error of a store that could not be read.

use std::rc::Rc;

use arrow_array::{Array, ArrayRef, new_empty_array};
use arrow_schema::{FieldRef, Fields};
use millrace_core::collections::{
    CollectionKind, CollectionSchema, CollectionWrites, Collections, MapEntries, SharedCollections, WriteAction,
};
use millrace_core::{Error, Result};
use wasmtime::Store;

use crate::bindings::collections as wit;
use crate::bindings::operators;
use crate::chain::GuestChain;
use crate::codec::{self, Wire};
use crate::host_state::HostState;
use crate::instance::CallFailure;

/// Most entries that one read gives.
const ENTRIES_PER_READ_MAX: u32 = 65_536;

/// A piece of a map or list is closed at this many bytes.
const PIECE_BYTES: usize = 1 << 20;

/// A large state of a chain.
#[derive(Debug, Clone)]
pub(crate) struct LargeState {
    /// Its number among all states of the chain, by which the guest names it.
    number: u32,
    kind: CollectionKind,
    keys: Fields,
    values: Fields,
}

impl LargeState {
    pub(crate) fn new(number: u32, schema: &CollectionSchema) -> Self {
        let one = |field: &FieldRef| Fields::from(vec![field.clone()]);
        LargeState {
            number,
            kind: schema.kind,
            keys: one(&schema.entry),
            values: one(&schema.value),
        }
    }
}

/// What the calls of a chain may read.
#[derive(Debug, Clone)]
pub(crate) struct Readable {
    pub(crate) chain: u32,
    pub(crate) states: Rc<[LargeState]>,
    pub(crate) shared: SharedCollections,
    /// Most bytes that cross in one block.
    pub(crate) block_bytes: usize,
}

/// Why a read has no answer.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    /// The guest must not ask that.
    Breach(String),
    /// It could not be read.
    Failed(Error),
}

impl From<Error> for NoAnswer {
    fn from(error: Error) -> Self {
        NoAnswer::Failed(error)
    }
}

fn breach<T>(text: String) -> Result<T, NoAnswer> {
    Err(NoAnswer::Breach(text))
}

impl Readable {
    /// The state that a read is about, and its number among the large ones.
    fn state(&self, chain: u32, state: u32, kind: CollectionKind) -> Result<(usize, &LargeState), NoAnswer> {
        if chain != self.chain {
            let running = self.chain;
            return breach(format!(
                "collections of chain {chain} while a call of chain {running} runs"
            ));
        }
        let found = self.states.iter().position(|large| large.number == state);
        match found.map(|index| (index, &self.states[index])) {
            Some((index, large)) if large.kind == kind => Ok((index, large)),
            _ => {
                let kind = match kind {
                    CollectionKind::Map => "map",
                    CollectionKind::List => "list",
                };
                breach(format!("state {state} is no large {kind}"))
            }
        }
    }

    fn check_entries(&self, entries: &[u32]) -> Result<(), NoAnswer> {
        let count = self.shared.borrow().entry_count();
        match entries.iter().find(|&&entry| entry as usize >= count) {
            Some(entry) => breach(format!("a collection of entry {entry} of {count}")),
            None => Ok(()),
        }
    }

    fn decode(&self, wire: Wire, fields: &Fields, what: &str) -> Result<ArrayRef, NoAnswer> {
        let columns = codec::decode_columns(wire, fields, self.block_bytes);
        match columns.map(<[ArrayRef; 1]>::try_from) {
            Ok(Ok([column])) => Ok(column),
            Ok(Err(_)) => breach(format!("{what}: another number of columns than one")),
            Err(malformed) => breach(format!("{what}: {malformed}")),
        }
    }

    pub(crate) fn map_get(
        &self,
        chain: u32,
        state: u32,
        entries: &[u32],
        keys: Wire,
    ) -> Result<wit::MapValues, NoAnswer> {
        let (index, large) = self.state(chain, state, CollectionKind::Map)?;
        self.check_entries(entries)?;
        let keys = self.decode(keys, &large.keys, "the keys to get")?;
        if keys.len() != entries.len() {
            let (keys, entries) = (keys.len(), entries.len());
            return breach(format!("{keys} keys to get for {entries} entries"));
        }
        let (found, values) = self
            .shared
            .borrow_mut()
            .map_get(index, entries, &keys, self.block_bytes)?;
        Ok(wit::MapValues {
            found: found.into_iter().map(u8::from).collect(),
            values: encoded(&values, &large.values),
        })
    }

    pub(crate) fn map_scan(
        &self,
        chain: u32,
        state: u32,
        entry: u32,
        after: Wire,
        limit: u32,
    ) -> Result<wit::MapEntries, NoAnswer> {
        let (index, large) = self.state(chain, state, CollectionKind::Map)?;
        self.check_entries(&[entry])?;
        let after = match after.rows {
            0 => None,
            1 => Some(self.decode(after, &large.keys, "the key to scan from")?),
            rows => return breach(format!("{rows} keys to scan from")),
        };
        let limit = limit.min(ENTRIES_PER_READ_MAX) as usize;
        let MapEntries { keys, values, more } =
            self.shared
                .borrow_mut()
                .map_scan(index, entry, after.as_ref(), limit, PIECE_BYTES)?;
        Ok(wit::MapEntries {
            keys: encoded(&keys, &large.keys),
            values: encoded(&values, &large.values),
            more,
        })
    }

    pub(crate) fn list_length(&self, chain: u32, state: u32, entries: &[u32]) -> Result<Vec<u64>, NoAnswer> {
        let (index, _) = self.state(chain, state, CollectionKind::List)?;
        self.check_entries(entries)?;
        Ok(self.shared.borrow_mut().list_length(index, entries)?)
    }

    pub(crate) fn list_read(
        &self,
        chain: u32,
        state: u32,
        entry: u32,
        start: u64,
        limit: u32,
    ) -> Result<Wire, NoAnswer> {
        let (index, large) = self.state(chain, state, CollectionKind::List)?;
        self.check_entries(&[entry])?;
        let limit = limit.min(ENTRIES_PER_READ_MAX) as usize;
        let items = self
            .shared
            .borrow_mut()
            .list_read(index, entry, start, limit, PIECE_BYTES)?;
        Ok(encoded(&items, &large.values))
    }
}

fn encoded(column: &ArrayRef, fields: &Fields) -> Wire {
    let mut wire = Wire {
        rows: 0,
        data: Vec::new(),
        ends: Vec::new(),
    };
    codec::encode_columns(std::slice::from_ref(column), fields, column.len(), None, &mut wire);
    wire
}

impl GuestChain {
    /// Lets keyed calls read these collections: those of the chain's large states.
    pub fn set_collections(&mut self, shared: SharedCollections) {
        self.readable = Some(Readable {
            chain: self.info.index,
            states: self.info.large.clone(),
            shared,
            block_bytes: self.pipeline.runtime.limits().block_bytes,
        });
    }

    /// Makes a call that may read collections.
    pub(crate) fn call_reading<T>(
        &mut self,
        call: impl FnOnce(&operators::Guest, &mut Store<HostState>) -> wasmtime::Result<Result<T, operators::CallError>>,
    ) -> Result<T, CallFailure> {
        self.reading(|chain| chain.call(call))
    }

    /// Whatever is called meanwhile may read collections.
    pub(crate) fn reading<T>(&mut self, call: impl FnOnce(&mut Self) -> T) -> T {
        if let Some(readable) = &self.readable {
            self.instance.borrow_mut().state().collections = Some(readable.clone());
        }
        let result = call(self);
        if self.readable.is_some() {
            self.instance.borrow_mut().state().collections = None;
        }
        result
    }
}

/// What a call of so many entries did to large states, or how it broke the contract.
pub(crate) fn writes(
    states: &[LargeState],
    writes: Vec<operators::CollectionWrites>,
    entries: usize,
    bytes_max: usize,
) -> Result<Vec<CollectionWrites>, String> {
    let check = |writes| checked(states, writes, entries, bytes_max);
    writes.into_iter().map(check).collect()
}

fn checked(
    states: &[LargeState],
    writes: operators::CollectionWrites,
    entries: usize,
    bytes_max: usize,
) -> Result<CollectionWrites, String> {
    let number = writes.state;
    let state = states.iter().position(|large| large.number == number);
    let state = state.ok_or_else(|| format!("writes to state {number}, which is no large state"))?;
    let large = &states[state];
    if writes.entries.len() != writes.actions.len() {
        return Err("writes to a collection of unequal length".to_owned());
    }
    if let Some(entry) = writes.entries.iter().find(|entry| **entry as usize >= entries) {
        return Err(format!("a write to a collection of entry {entry} of {entries}"));
    }
    let (mut key_count, mut value_count) = (0, 0);
    let mut actions = Vec::with_capacity(writes.actions.len());
    for code in writes.actions {
        let action = match (code, large.kind) {
            (0, CollectionKind::Map) => WriteAction::Put,
            (1, CollectionKind::Map) => WriteAction::Remove,
            (2, CollectionKind::List) => WriteAction::Append,
            (3, _) => WriteAction::Clear,
            (code, _) => return Err(format!("action {code} on large state {number}")),
        };
        key_count += usize::from(matches!(action, WriteAction::Put | WriteAction::Remove));
        value_count += usize::from(matches!(action, WriteAction::Put | WriteAction::Append));
        actions.push(action);
    }
    let column = |wire: Wire, fields: &Fields, count: usize, what: &str| {
        let columns = codec::decode_columns(wire, fields, bytes_max)
            .map_err(|malformed| format!("{what} for state {number}: {malformed}"))?;
        match <[ArrayRef; 1]>::try_from(columns) {
            Ok([column]) if column.len() == count => Ok(column),
            _ => Err(format!("{what} for state {number}: not {count}, as its actions need")),
        }
    };
    let keys = match large.kind {
        CollectionKind::Map => Some(column(writes.keys, &large.keys, key_count, "keys")?),
        CollectionKind::List => None,
    };
    Ok(CollectionWrites {
        state,
        entries: writes.entries,
        actions,
        keys,
        values: column(writes.values, &large.values, value_count, "values")?,
    })
}

/// Collections of keys that have none: for the rows of a failed call, run again to see which one it was.
#[derive(Debug)]
pub(crate) struct NoCollections(pub(crate) Rc<[LargeState]>);

impl Collections for NoCollections {
    fn entry_count(&self) -> usize {
        1
    }

    fn narrow(&mut self, _: Option<u32>) {}

    fn map_get(&mut self, state: usize, entries: &[u32], _: &ArrayRef, _: usize) -> Result<(Vec<bool>, ArrayRef)> {
        let nothing = new_empty_array(self.0[state].values[0].data_type());
        Ok((vec![false; entries.len()], nothing))
    }

    fn map_scan(&mut self, state: usize, _: u32, _: Option<&ArrayRef>, _: usize, _: usize) -> Result<MapEntries> {
        Ok(MapEntries {
            keys: new_empty_array(self.0[state].keys[0].data_type()),
            values: new_empty_array(self.0[state].values[0].data_type()),
            more: false,
        })
    }

    fn list_length(&mut self, _: usize, entries: &[u32]) -> Result<Vec<u64>> {
        Ok(vec![0; entries.len()])
    }

    fn list_read(&mut self, state: usize, _: u32, _: u64, _: usize, _: usize) -> Result<ArrayRef> {
        Ok(new_empty_array(self.0[state].values[0].data_type()))
    }

    fn apply(&mut self, _: &[CollectionWrites]) -> Result<()> {
        Ok(())
    }
}
