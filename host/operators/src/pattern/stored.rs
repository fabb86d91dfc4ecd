//! A key as it is stored: out of the buffer into columns, and back. See [`StoredFields`].

use std::sync::Arc;

use arrow_array::builder::BooleanBufferBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{Array, ArrayRef, Int32Array, Int64Array, ListArray, RecordBatch, StructArray};
use arrow_buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, FieldRef, Fields};
use millrace_core::block::Block;
use millrace_core::function::{PatternFunction, RowConditions, Slot};
use millrace_core::pattern::StoredFields;
use millrace_core::{Error, Result};
use millrace_pattern::{Incoming, Place, Stored, StoredCompleted, StoredNode, StoredPartial};

use super::batches::Owner;
use super::{PatternOperator, waiting};

/// In place of the node before the first row of a match.
const NO_PARENT: i32 = -1;

/// Columns of what is stored, filled key by key.
#[derive(Default)]
struct Columns {
    programs: Vec<i64>,
    waiting: Vec<i32>,
    places: Vec<Place>,
    times: Vec<i64>,
    row_ends: Vec<i32>,
    node_rows: Vec<i32>,
    node_stages: Vec<i32>,
    node_parents: Vec<i32>,
    node_ends: Vec<i32>,
    positions: Vec<i32>,
    edges: Vec<i64>,
    partial_nodes: Vec<i32>,
    partial_ends: Vec<i32>,
    completed_nodes: Vec<i32>,
    completed_times: Vec<i64>,
    completed_ends: Vec<i32>,
}

fn struct_of(fields: &Fields, columns: Vec<ArrayRef>, nulls: Option<NullBuffer>) -> Result<StructArray> {
    StructArray::try_new(fields.clone(), columns, nulls).map_err(broken)
}

/// A list column of items, each list ending where `ends` says.
fn lists(item: &FieldRef, columns: Vec<ArrayRef>, ends: Vec<i32>) -> Result<ArrayRef> {
    let DataType::Struct(members) = item.data_type() else {
        return Err(Error::internal("items of a pattern are structs"));
    };
    let values = struct_of(members, columns, None)?;
    let offsets = std::iter::once(0).chain(ends).collect::<ScalarBuffer<i32>>();
    let list = ListArray::try_new(item.clone(), OffsetBuffer::new(offsets), Arc::new(values), None);
    Ok(Arc::new(list.map_err(broken)?))
}

fn ints(values: Vec<i32>) -> ArrayRef {
    Arc::new(Int32Array::from(values))
}

fn longs(values: Vec<i64>) -> ArrayRef {
    Arc::new(Int64Array::from(values))
}

fn broken(error: impl std::fmt::Display) -> Error {
    Error::internal(format!("what a pattern keeps could not be stored: {error}"))
}

impl Columns {
    /// Adds a key with the rows of it that wait.
    fn add(&mut self, stored: &Stored, pending: &[&waiting::Row], program: i64) {
        self.programs.push(program);
        self.waiting.push(pending.len() as i32);
        let pending = pending.iter().map(|row| (row.place, row.time));
        for (place, time) in stored.rows.iter().copied().chain(pending) {
            self.places.push(place);
            self.times.push(time);
        }
        for node in &stored.nodes {
            self.node_rows.push(node.row as i32);
            self.node_stages.push(i32::from(node.stage));
            self.node_parents
                .push(node.parent.map_or(NO_PARENT, |parent| parent as i32));
        }
        for partial in &stored.partials {
            self.positions.push(i32::from(partial.position));
            self.edges.push(partial.edges.cast_signed());
            self.partial_nodes.push(partial.node as i32);
        }
        for completed in &stored.completed {
            self.completed_nodes.push(completed.node as i32);
            self.completed_times.push(completed.time);
        }
        self.row_ends.push(self.times.len() as i32);
        self.node_ends.push(self.node_rows.len() as i32);
        self.partial_ends.push(self.positions.len() as i32);
        self.completed_ends.push(self.completed_nodes.len() as i32);
    }

    fn finish(self, fields: &StoredFields, rows: &RecordBatch, present: NullBuffer) -> Result<ArrayRef> {
        let DataType::Struct(row_members) = fields.row.data_type() else {
            return Err(Error::internal("rows of a pattern are structs"));
        };
        let DataType::Struct(columns) = row_members[1].data_type() else {
            return Err(Error::internal("rows of a pattern are structs"));
        };
        let row = if columns.is_empty() {
            StructArray::new_empty_fields(rows.num_rows(), None)
        } else {
            struct_of(columns, rows.columns().to_vec(), None)?
        };
        let nodes = vec![ints(self.node_rows), ints(self.node_stages), ints(self.node_parents)];
        let partials = vec![ints(self.positions), longs(self.edges), ints(self.partial_nodes)];
        let completed = vec![ints(self.completed_nodes), longs(self.completed_times)];
        let columns = vec![
            longs(self.programs),
            ints(self.waiting),
            lists(&fields.row, vec![longs(self.times), Arc::new(row)], self.row_ends)?,
            lists(&fields.node, nodes, self.node_ends)?,
            lists(&fields.partial, partials, self.partial_ends)?,
            lists(&fields.completed, completed, self.completed_ends)?,
        ];
        Ok(Arc::new(struct_of(&fields.key, columns, Some(present))?))
    }
}

/// What is stored of many keys, as columns that are read.
struct StoredColumns<'a> {
    programs: &'a [i64],
    waiting: &'a [i32],
    rows: Lists<'a>,
    nodes: Lists<'a>,
    partials: Lists<'a>,
    completed: Lists<'a>,
}

/// A column of lists of structs.
struct Lists<'a> {
    offsets: &'a [i32],
    items: &'a StructArray,
}

impl<'a> Lists<'a> {
    fn new(column: &'a ArrayRef) -> Option<Self> {
        let list = column.as_list_opt::<i32>()?;
        Some(Lists {
            offsets: list.value_offsets(),
            items: list.values().as_struct_opt()?,
        })
    }

    fn range(&self, index: usize) -> std::ops::Range<usize> {
        self.offsets[index] as usize..self.offsets[index + 1] as usize
    }

    fn ints(&self, member: usize) -> Option<&'a [i32]> {
        Some(self.items.column(member).as_primitive_opt::<Int32Type>()?.values())
    }

    fn longs(&self, member: usize) -> Option<&'a [i64]> {
        Some(self.items.column(member).as_primitive_opt::<Int64Type>()?.values())
    }
}

impl<'a> StoredColumns<'a> {
    fn new(values: &'a ArrayRef) -> Option<Self> {
        let key = values.as_struct_opt()?;
        Some(StoredColumns {
            programs: key.column(0).as_primitive_opt::<Int64Type>()?.values(),
            waiting: key.column(1).as_primitive_opt::<Int32Type>()?.values(),
            rows: Lists::new(key.column(2))?,
            nodes: Lists::new(key.column(3))?,
            partials: Lists::new(key.column(4))?,
            completed: Lists::new(key.column(5))?,
        })
    }

    /// What had begun of a key, but for its rows; `None`: it makes no sense.
    fn read(&self, index: usize, into: &mut Stored) -> Option<()> {
        into.clear();
        let lists = &self.nodes;
        let (rows, stages, parents) = (lists.ints(0)?, lists.ints(1)?, lists.ints(2)?);
        for item in lists.range(index) {
            into.nodes.push(StoredNode {
                row: u32::try_from(rows[item]).ok()?,
                stage: u16::try_from(stages[item]).ok()?,
                parent: u32::try_from(parents[item]).ok(),
            });
        }
        let lists = &self.partials;
        let (positions, edges, nodes) = (lists.ints(0)?, lists.longs(1)?, lists.ints(2)?);
        for item in lists.range(index) {
            into.partials.push(StoredPartial {
                position: u16::try_from(positions[item]).ok()?,
                edges: edges[item].cast_unsigned(),
                node: u32::try_from(nodes[item]).ok()?,
            });
        }
        let lists = &self.completed;
        let (nodes, times) = (lists.ints(0)?, lists.longs(1)?);
        for item in lists.range(index) {
            into.completed.push(StoredCompleted {
                node: u32::try_from(nodes[item]).ok()?,
                time: times[item],
            });
        }
        Some(())
    }
}

fn unknown() -> Error {
    Error::user("KO0004", "what is stored of a pattern is not what a pattern stores")
}

impl PatternOperator {
    /// What there is of these slots.
    pub(super) fn export(&mut self, slots: &[Slot]) -> Result<ArrayRef> {
        let mut columns = Columns::default();
        let mut present = BooleanBufferBuilder::new(slots.len());
        for &slot in slots {
            present.append(!self.is_empty(slot));
            let pending = self.waiting.of_key(slot);
            let pending = pending
                .iter()
                .map(|&number| self.waiting.row(number))
                .collect::<Vec<_>>();
            match self.keys.get(slot) {
                Some(key) => self.stored.set(key, &self.matcher.buffer),
                None => self.stored.clear(),
            }
            columns.add(&self.stored, &pending, self.fingerprint);
        }
        let rows = self.batches.gather(&columns.places)?;
        columns.finish(&self.fields, &rows, NullBuffer::new(present.finish()))
    }

    /// Forgets what there is of a slot; the rows that it alone wanted are to be released.
    pub(super) fn forget(&mut self, slot: Slot) {
        let key = self.keys.take(slot);
        self.matcher.buffer.freed.extend(self.waiting.forget(slot));
        self.matcher.forget(&key);
    }

    /// Takes up what was stored of these slots.
    pub(super) fn import(&mut self, slots: &[Slot], values: &ArrayRef, guest: &mut dyn PatternFunction) -> Result<()> {
        slots.iter().for_each(|&slot| self.forget(slot));
        self.release_freed()?;
        let stored = StoredColumns::new(values).ok_or_else(unknown)?;
        let rows = self.stored_rows(&stored)?;
        let (conditions, aside) = match stored.waiting.iter().any(|waiting| *waiting > 0) {
            true => (guest.conditions(&rows)?, guest.take_set_aside()),
            false => (RowConditions::default(), Vec::new()),
        };
        let batch = self.batches.next();
        let times = rows.times.as_ref().ok_or_else(unknown)?;
        let mut incoming = Vec::with_capacity(times.len());
        for (row, &time) in (0..).zip(times.iter()) {
            let may = conditions.holds.get(row as usize).copied().unwrap_or_default();
            incoming.push(Incoming::new(Place { batch, row }, time, may));
        }
        let mut owners = vec![Owner::Nobody; incoming.len()];
        let first = stored.rows.offsets.first().map_or(0, |first| *first as usize);
        for (index, &slot) in slots.iter().enumerate() {
            if values.is_null(index) {
                continue;
            }
            let range = stored.rows.range(index);
            let range = range.start - first..range.end - first;
            let own = incoming.get(range.clone()).ok_or_else(unknown)?;
            let owners = &mut owners[range];
            self.import_key(&stored, index, slot, own, owners).ok_or_else(unknown)?;
            for (row, owner) in own.iter().zip(owners) {
                if self.orders_equal_times {
                    let order = conditions.order_of(row.place.row as usize);
                    self.order_waiting(*owner, order.into());
                }
                self.leave_aside(row, owner, &aside);
            }
        }
        let unwanted = incoming
            .iter()
            .zip(&owners)
            .filter(|(_, owner)| **owner == Owner::Nobody);
        let unwanted = unwanted.map(|(row, _)| row.place);
        self.matcher.buffer.freed.extend(unwanted);
        self.batches.add(rows.rows, owners);
        self.release_freed()
    }

    fn stored_rows(&self, stored: &StoredColumns<'_>) -> Result<Block> {
        let offsets = stored.rows.offsets;
        let (Some(&first), Some(&last)) = (offsets.first(), offsets.last()) else {
            return Err(unknown());
        };
        let items = stored.rows.items.slice(first as usize, (last - first) as usize);
        let times = items.column(0).as_primitive_opt::<Int64Type>().ok_or_else(unknown)?;
        let columns = items.column(1).as_struct_opt().ok_or_else(unknown)?;
        let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(items.len()));
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), columns.columns().to_vec(), &options);
        Ok(Block {
            rows: rows.map_err(|_| unknown())?,
            times: Some(times.values().clone()),
            keys: None,
        })
    }

    /// Takes up a key of its rows, which get owners; `None`: it makes no sense. Of another pattern only the rows that wait are
    /// taken up.
    fn import_key(
        &mut self,
        stored: &StoredColumns<'_>,
        index: usize,
        slot: Slot,
        rows: &[Incoming],
        owners: &mut [Owner],
    ) -> Option<()> {
        let waiting = usize::try_from(*stored.waiting.get(index)?).ok()?;
        let matched = rows.len().checked_sub(waiting)?;
        let (matched, pending) = rows.split_at(matched);
        let (matched_owners, pending_owners) = owners.split_at_mut(matched.len());
        if stored.programs[index] == self.fingerprint {
            stored.read(index, &mut self.stored)?;
            let taken = matched.iter().map(|row| (row.place, row.time));
            self.stored.rows.extend(taken);
            let (key, events) = self.matcher.restore(&self.stored)?;
            for (event, owner) in events.into_iter().zip(matched_owners) {
                *owner = Owner::Event(event);
            }
            self.keys.put(slot, key, &self.matcher);
        } else {
            self.matcher.dropped += stored.partials.range(index).len() as u64;
        }
        for (row, owner) in pending.iter().zip(pending_owners) {
            *owner = Owner::Waiting(self.waiting.add(slot, row.time, row.may, row.place));
        }
        Some(())
    }

    /// A row that was set aside does not wait any more.
    fn leave_aside(&mut self, row: &Incoming, owner: &mut Owner, aside: &[u32]) {
        if let Owner::Waiting(number) = *owner
            && aside.binary_search(&row.place.row).is_ok()
        {
            self.waiting.give_up(number);
            *owner = Owner::Nobody;
        }
    }
}
