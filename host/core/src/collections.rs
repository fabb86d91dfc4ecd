//! Large maps and lists: states whose entries live in the host, one by one, and never in the guest as a whole.
//!
//! A collection belongs to a key, not to a slot: it is there whether or not the key has a slot, and it is addressed by
//! the key's bytes and those of a map's key or a list's index. While a call runs the guest reads through the
//! [`Collections`] that the operator shares with it; what the call writes travels in its result and is
//! [applied](Collections::apply) only if it returns. So a call sees what was there when it began, and the guest lays its
//! own writes over that.
//!
//! Where a state has a time to live, each entry has its own: one that has expired when the call begins is not there for it,
//! and what the call read or wrote is renewed when it is applied.
//!
//! States are numbered among the large ones of their chain, entries are those of the call.

use std::cell::RefCell;
use std::fmt::Debug;
use std::rc::Rc;
use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_schema::{DataType, Field, FieldRef};

use crate::checkpoint::columns;
use crate::error::Result;
use crate::graph::TimeToLive;

/// Shape of a large state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CollectionKind {
    /// Values by key, in the order of keys.
    Map,
    /// Items by index, from 0.
    List,
}

/// What the entries of a large state are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectionSchema {
    /// Name of the state.
    pub name: String,
    /// Its shape.
    pub kind: CollectionKind,
    /// What tells the entries of a key apart, under the name that it has in checkpoints: the key of a map, the index of
    /// a list.
    pub entry: FieldRef,
    /// A value or an item as the guest has it, under the name of the state.
    pub value: FieldRef,
    /// Its entries belong to no key: every subtask has all of them.
    pub broadcast: bool,
    /// How long each entry lives; `None`: until it is taken out.
    pub ttl: Option<TimeToLive>,
}

impl CollectionSchema {
    /// Of a state that is declared by this field, under its name; `None` if it is neither a map nor a list.
    ///
    /// ```
    /// # use arrow_schema::{DataType, Field};
    /// # use millrace_core::collections::{CollectionKind, CollectionSchema};
    /// let names = Field::new_list("names", Field::new_list_field(DataType::Utf8, false), true);
    /// let schema = CollectionSchema::of(&names).unwrap();
    /// assert_eq!((schema.kind, schema.value.data_type()), (CollectionKind::List, &DataType::Utf8));
    /// ```
    pub fn of(state: &Field) -> Option<Self> {
        let (kind, entry, value) = match state.data_type() {
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(pair) => match &pair[..] {
                    [key, value] => (CollectionKind::Map, key.data_type().clone(), value),
                    _ => return None,
                },
                _ => return None,
            },
            DataType::List(item) => (CollectionKind::List, DataType::UInt64, item),
            _ => return None,
        };
        Some(CollectionSchema {
            name: state.name().clone(),
            kind,
            entry: Arc::new(Field::new(columns::ENTRY, entry, false)),
            value: Arc::new(value.as_ref().clone().with_name(state.name())),
            broadcast: false,
            ttl: None,
        })
    }

    /// The columns of its rows in a checkpoint, behind those of the key: an entry that is gone has no value. Where entries
    /// have a time to live the last says when they expire.
    pub fn row_fields(&self) -> Vec<FieldRef> {
        let value = self.value.as_ref().clone().with_nullable(true);
        let expires = || Arc::new(Field::new(columns::EXPIRES, DataType::Int64, true));
        let mut fields = vec![self.entry.clone(), Arc::new(value)];
        fields.extend(self.ttl.map(|_| expires()));
        fields
    }
}

/// What is done to a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteAction {
    /// Sets the value of a key of a map.
    Put,
    /// Takes a key out of a map.
    Remove,
    /// Adds an item at the end of a list.
    Append,
    /// Takes everything out.
    Clear,
}

/// What a call has done to a large state, in order. Columns of `entries` and `actions` are equally long.
#[derive(Debug, Clone)]
pub struct CollectionWrites {
    /// Which state.
    pub state: usize,
    /// Entry of the call whose key's collection it is.
    pub entries: Vec<u32>,
    /// What is done.
    pub actions: Vec<WriteAction>,
    /// Keys of a map: one for each [`Put`](WriteAction::Put) and [`Remove`](WriteAction::Remove). Of a list `None`.
    pub keys: Option<ArrayRef>,
    /// One for each [`Put`](WriteAction::Put) and [`Append`](WriteAction::Append).
    pub values: ArrayRef,
}

/// Entries of a map, in the order of their keys.
#[derive(Debug, Clone)]
pub struct MapEntries {
    /// Their keys.
    pub keys: ArrayRef,
    /// Their values.
    pub values: ArrayRef,
    /// There may be more behind them.
    pub more: bool,
}

/// The collections that an operator shares with its function.
pub type SharedCollections = Rc<RefCell<dyn Collections>>;

/// The collections of an operator, as the calls to its function see them.
///
/// Whoever asks has checked states, their kinds, and that entries are those of the call.
pub trait Collections: Debug {
    /// Entries of the call.
    fn entry_count(&self) -> usize;

    /// The calls that follow have this one of the entries alone, under number 0; `None`: all of them again.
    fn narrow(&mut self, entry: Option<u32>);

    /// Looks keys up in a map, `keys[i]` in that of `entries[i]`: whether each is there, and the values of those that
    /// are, which together have no more bytes than so many.
    fn map_get(
        &mut self,
        state: usize,
        entries: &[u32],
        keys: &ArrayRef,
        bytes_max: usize,
    ) -> Result<(Vec<bool>, ArrayRef)>;

    /// Entries of a map behind a key, or from the first: up to `limit`, of about so many bytes, and at least one if there
    /// is one.
    fn map_scan(
        &mut self,
        state: usize,
        entry: u32,
        after: Option<&ArrayRef>,
        limit: usize,
        bytes_max: usize,
    ) -> Result<MapEntries>;

    /// How long the lists of these entries are. Items that have expired do not count, here and where an index is asked for.
    fn list_length(&mut self, state: usize, entries: &[u32]) -> Result<Vec<u64>>;

    /// Items of a list from an index on, as many as [`map_scan`](Self::map_scan) would give.
    fn list_read(&mut self, state: usize, entry: u32, start: u64, limit: usize, bytes_max: usize) -> Result<ArrayRef>;

    /// Does what a call has done.
    fn apply(&mut self, writes: &[CollectionWrites]) -> Result<()>;
}
