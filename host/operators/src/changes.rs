//! What changed in a table of entries since its last snapshot, and the snapshot that is being taken.
//!
//! A barrier copies nothing: [`Changes::begin`] marks the entries that changed. A marked entry is exported
//! before anything touches it again, and the rest in pieces between blocks ([`Changes::take_marked`]), so that
//! no row waits for a snapshot as a whole. Rows come out as they were at the barrier.
//!
//! Every row replaces what earlier rows said of its entry. An entry that is gone needs a row that says so only
//! if an earlier layer knows it.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, BooleanArray, RecordBatch, StructArray, UInt32Array, new_null_array};
use arrow_buffer::BooleanBuffer;
use arrow_schema::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use arrow_select::concat::concat_batches;
use millrace_core::checkpoint::{DELETED_COLUMN, GROUP_COLUMN, RowSource, TableDelta, columns};
use millrace_core::function::Slot;
use millrace_core::key::{KeyGroup, hash_rows};
use millrace_core::{Error, Result};

use crate::slot_set::SlotSet;

/// Layers with more rows than this, and than twice the entries there are, are given up for a full snapshot.
const LAYER_ROWS_MIN: u64 = 1024;

/// Columns of a table's rows: group, deleted, key, and what the operator adds.
#[derive(Debug, Clone)]
pub(crate) struct TableSchema {
    schema: SchemaRef,
    max_parallelism: u32,
}

impl TableSchema {
    pub(crate) fn new(key_schema: &SchemaRef, more: Vec<FieldRef>, max_parallelism: u32) -> Self {
        let mut fields: Vec<FieldRef> = vec![
            Arc::new(Field::new(GROUP_COLUMN, DataType::UInt32, false)),
            Arc::new(Field::new(DELETED_COLUMN, DataType::Boolean, false)),
            Arc::new(Field::new(
                columns::KEY,
                DataType::Struct(key_schema.fields().clone()),
                false,
            )),
        ];
        fields.extend(more);
        TableSchema {
            schema: Arc::new(Schema::new(fields)),
            max_parallelism,
        }
    }

    fn key_fields(&self) -> &Fields {
        match self.schema.field(2).data_type() {
            DataType::Struct(fields) => fields,
            _ => unreachable!("the key is a struct"),
        }
    }

    /// The columns behind the key.
    pub(crate) fn more_fields(&self) -> &[FieldRef] {
        &self.schema.fields()[3..]
    }

    /// Rows of entries that are there.
    pub(crate) fn rows(&self, keys: Vec<ArrayRef>, more: Vec<ArrayRef>) -> Result<RecordBatch> {
        let deleted = BooleanBuffer::new_unset(keys[0].len());
        self.batch(keys, deleted.into(), more)
    }

    /// Rows of entries of which some are gone.
    pub(crate) fn mixed(&self, keys: Vec<ArrayRef>, gone: BooleanArray, more: Vec<ArrayRef>) -> Result<RecordBatch> {
        self.batch(keys, gone, more)
    }

    /// Rows of entries that are gone.
    pub(crate) fn deletions(&self, keys: Vec<ArrayRef>) -> Result<RecordBatch> {
        let count = keys[0].len();
        let more = self.schema.fields()[3..].iter();
        let more = more.map(|field| new_null_array(field.data_type(), count)).collect();
        self.batch(keys, BooleanBuffer::new_set(count).into(), more)
    }

    fn batch(&self, keys: Vec<ArrayRef>, deleted: BooleanArray, more: Vec<ArrayRef>) -> Result<RecordBatch> {
        let mut hashes = Vec::new();
        hash_rows(&keys, &mut hashes)?;
        let group = |&hash: &u64| KeyGroup::of_hash(hash, self.max_parallelism).0;
        let groups = hashes.iter().map(group).collect::<Vec<_>>();
        let keys = StructArray::try_new(self.key_fields().clone(), keys, None).map_err(broken)?;
        let mut columns: Vec<ArrayRef> = vec![Arc::new(UInt32Array::from(groups)), Arc::new(deleted), Arc::new(keys)];
        columns.extend(more);
        RecordBatch::try_new(self.schema.clone(), columns).map_err(broken)
    }
}

/// One batch of a layer, taken apart.
pub(crate) struct TableRows {
    /// Which rows say that their entry is gone.
    pub(crate) deleted: BooleanArray,
    /// The key columns.
    pub(crate) keys: Vec<ArrayRef>,
    /// The columns that the operator adds.
    pub(crate) more: Vec<ArrayRef>,
}

impl TableSchema {
    /// Takes a batch of a layer apart; its schema must be this one.
    pub(crate) fn read(&self, batch: &RecordBatch) -> Result<TableRows> {
        let same = batch.num_columns() == self.schema.fields().len()
            && batch
                .schema()
                .fields()
                .iter()
                .zip(self.schema.fields())
                .all(|(got, want)| got.name() == want.name() && got.data_type() == want.data_type());
        if !same {
            return Err(Error::user(
                "CK0010",
                format!(
                    "the state has the columns {:?}, and the operator now expects {:?}",
                    describe(&batch.schema()),
                    describe(&self.schema)
                ),
            ));
        }
        let wrong = || Error::internal("a column of a layer has another type than its schema says");
        let deleted = batch.column(1).as_any().downcast_ref::<BooleanArray>();
        let keys = batch.column(2).as_any().downcast_ref::<StructArray>();
        Ok(TableRows {
            deleted: deleted.ok_or_else(wrong)?.clone(),
            keys: keys.ok_or_else(wrong)?.columns().to_vec(),
            more: batch.columns()[3..].to_vec(),
        })
    }
}

fn describe(schema: &Schema) -> Vec<String> {
    let field = |field: &FieldRef| format!("{} {}", field.name(), field.data_type());
    schema.fields().iter().map(field).collect()
}

/// Whether layers would hold far more rows than there are entries if an increment of so many came onto them.
pub(crate) fn is_outgrown(layer_rows: u64, changed: usize, live_rows: u64) -> bool {
    layer_rows + changed as u64 > LAYER_ROWS_MIN.max(2 * live_rows)
}

/// One more than the highest of these slots.
fn bound(slots: &[Slot]) -> Slot {
    slots.iter().max().map_or(0, |last| last + 1)
}

/// What an operator keeps for its snapshots; it is there once it tracks its changes.
pub(crate) fn tracked<T>(tracking: &mut Option<Box<T>>) -> Result<&mut T> {
    let tracking = tracking.as_deref_mut();
    tracking.ok_or_else(|| Error::internal("this operator does not track its changes"))
}

pub(crate) fn broken(error: arrow_schema::ArrowError) -> Error {
    Error::internal(format!("rows of a snapshot could not be made: {error}"))
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Entries that changed since the last snapshot began.
    dirty: SlotSet,
    /// Entries that earlier layers know.
    stored: SlotSet,
    /// Rows of entries that changed and are not here any more, in order: deletions of those that earlier layers
    /// know, and entries that went to a lower tier.
    gone: Vec<RecordBatch>,
    /// Rows of all layers so far.
    layer_rows: u64,
    /// A full snapshot was taken, so that the next may be an increment.
    has_base: bool,
    taking: Option<Taking>,
}

/// A snapshot under way.
#[derive(Debug)]
struct Taking {
    full: bool,
    live_rows: u64,
    marked: SlotSet,
    left: usize,
    cursor: Slot,
    cold: Option<Arc<dyn RowSource>>,
    batches: Vec<RecordBatch>,
}

impl Changes {
    /// Entries that changed since the last snapshot began; the operator adds to them.
    #[inline]
    pub(crate) fn dirty_mut(&mut self) -> &mut SlotSet {
        &mut self.dirty
    }

    /// Which of these entries changed since the last snapshot began.
    pub(crate) fn are_dirty(&self, slots: &[Slot]) -> BooleanArray {
        slots.iter().map(|&slot| Some(self.dirty.contains(slot))).collect()
    }

    /// These entries are gone; their slots may be reused. `deletions` makes the rows that say so.
    pub(crate) fn forget(
        &mut self,
        slots: &[Slot],
        deletions: impl FnOnce(&[Slot]) -> Result<RecordBatch>,
    ) -> Result<()> {
        let mut known = Vec::new();
        for &slot in slots {
            self.dirty.remove(slot);
            if self.stored.remove(slot) {
                known.push(slot);
            }
        }
        if !known.is_empty() {
            self.gone.push(deletions(&known)?);
        }
        Ok(())
    }

    /// Entries that changed since the last snapshot began go to a lower tier; they are [forgotten
    /// silently](Self::forget_silently).
    pub(crate) fn depart(&mut self, rows: RecordBatch) {
        if rows.num_rows() > 0 {
            self.gone.push(rows);
        }
    }

    /// These entries came back from a lower tier. Earlier layers may know them.
    pub(crate) fn came_back(&mut self, slots: &[Slot]) {
        self.stored.insert_all(slots, bound(slots));
    }

    /// These entries are gone, which restoring can tell without a row.
    pub(crate) fn forget_silently(&mut self, slots: &[Slot]) {
        for &slot in slots {
            self.dirty.remove(slot);
            self.stored.remove(slot);
        }
    }

    /// These entries came from layers that later snapshots stack on.
    pub(crate) fn restored(&mut self, slots: &[Slot], rows: usize) {
        self.stored.insert_all(slots, bound(slots));
        self.layer_rows += rows as u64;
        self.has_base = true;
    }

    /// An entry that was restored is gone again by a later layer.
    pub(crate) fn restored_deletion(&mut self, slot: Slot) {
        self.stored.remove(slot);
    }

    /// Begins a snapshot of `live` entries, or of those that changed. None is under way.
    pub(crate) fn begin(&mut self, full: bool, live: impl FnOnce() -> SlotSet, live_rows: u64) -> Result<()> {
        let full = self.must_be_full(full, self.dirty.len(), live_rows);
        let dirty = std::mem::take(&mut self.dirty);
        let batches = self.take_gone(full)?;
        let marked = if full {
            self.stored = SlotSet::default();
            live()
        } else {
            dirty
        };
        self.taking = Some(Taking {
            full,
            live_rows,
            left: marked.len(),
            marked,
            cursor: 0,
            cold: None,
            batches,
        });
        Ok(())
    }

    /// The rows of entries that are not here any more; a full snapshot has no need of them.
    fn take_gone(&mut self, full: bool) -> Result<Vec<RecordBatch>> {
        let gone = std::mem::take(&mut self.gone);
        let Some(first) = gone.first().filter(|_| !full) else {
            return Ok(Vec::new());
        };
        let all = concat_batches(&first.schema(), &gone).map_err(broken)?;
        self.layer_rows += all.num_rows() as u64;
        Ok(vec![all])
    }

    /// Whether the snapshot under way holds all entries.
    pub(crate) fn is_full(&self) -> bool {
        self.taking.as_ref().is_some_and(|taking| taking.full)
    }

    /// The full snapshot just begun has these rows beside what is marked, those of `known` among them.
    pub(crate) fn add_cold(&mut self, cold: Arc<dyn RowSource>, rows: u64, known: SlotSet) {
        self.layer_rows += rows;
        self.stored = known;
        if let Some(taking) = &mut self.taking {
            taking.cold = Some(cold);
        }
    }

    /// Whether the next snapshot holds all entries. Layers are given up when they hold far more rows than there
    /// are entries: the cost of the full snapshot was then paid by as many changes.
    fn must_be_full(&mut self, full: bool, changed: usize, live_rows: u64) -> bool {
        debug_assert!(self.taking.is_none(), "one snapshot at a time");
        let changed = changed + self.gone.iter().map(RecordBatch::num_rows).sum::<usize>();
        let full = full || !self.has_base || is_outgrown(self.layer_rows, changed, live_rows);
        if full {
            self.layer_rows = 0;
        }
        self.has_base = true;
        full
    }

    /// Begins a snapshot of entries that the caller keeps track of and [marks](Self::mark_elsewhere); whether it
    /// is to be full.
    pub(crate) fn begin_elsewhere(&mut self, full: bool, changed: usize, live_rows: u64) -> Result<bool> {
        let full = self.must_be_full(full, changed, live_rows);
        let batches = self.take_gone(full)?;
        self.taking = Some(Taking {
            full,
            live_rows,
            marked: SlotSet::default(),
            left: 0,
            cursor: 0,
            cold: None,
            batches,
        });
        Ok(full)
    }

    /// The caller has so many entries still to export.
    pub(crate) fn mark_elsewhere(&mut self, count: usize) {
        if let Some(taking) = &mut self.taking {
            taking.left = count;
        }
    }

    /// Entries that the caller keeps track of have been exported as these rows.
    pub(crate) fn exported_elsewhere(&mut self, rows: RecordBatch) {
        if let Some(taking) = &mut self.taking {
            taking.left -= rows.num_rows();
        }
        self.exported(&[], rows);
    }

    /// Whether a snapshot has entries still to export.
    #[inline]
    pub(crate) fn has_marked(&self) -> bool {
        self.taking.as_ref().is_some_and(|taking| taking.left > 0)
    }

    /// Takes the marked ones among these entries: they have to be exported before they are touched.
    pub(crate) fn marked_among(&mut self, slots: &[Slot], marked: &mut Vec<Slot>) {
        marked.clear();
        if let Some(taking) = &mut self.taking {
            marked.extend(slots.iter().copied().filter(|&slot| taking.marked.remove(slot)));
            taking.left -= marked.len();
        }
    }

    /// Takes some marked entries, to be exported now.
    pub(crate) fn take_marked(&mut self, limit: usize, marked: &mut Vec<Slot>) {
        marked.clear();
        if let Some(taking) = &mut self.taking {
            taking.cursor = taking.marked.take_from(taking.cursor, limit, marked);
            taking.left -= marked.len();
        }
    }

    /// These entries have been exported as these rows.
    pub(crate) fn exported(&mut self, slots: &[Slot], rows: RecordBatch) {
        self.stored.insert_all(slots, bound(slots));
        self.layer_rows += rows.num_rows() as u64;
        if let Some(taking) = &mut self.taking {
            taking.batches.push(rows);
        }
    }

    /// The snapshot, once nothing is marked any more.
    pub(crate) fn finish(&mut self) -> Option<TableDelta> {
        if self.has_marked() {
            return None;
        }
        self.taking.take().map(|taking| TableDelta {
            full: taking.full,
            cold: taking.cold,
            batches: taking.batches,
            live_rows: taking.live_rows,
        })
    }
}
