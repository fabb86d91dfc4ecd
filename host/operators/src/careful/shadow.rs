//! What a chain's states are, copied to the host: an instance that trapped can be replaced by a fresh one.
//!
//! The copy begins with what was restored from the checkpoint, whole Arrow columns as they came, and takes up the states
//! that calls have changed, exported after each call. It knows slots and values, nothing of keys.
//!
//! # Cost
//! Columns are never written to: a new value of a slot is a row of a new column, and the old row is garbage. When more
//! than half of all rows are, everything that lives is moved together; columns of single rows are joined by the thousand
//! before that. So the copy holds at most about twice what the guest holds.

use std::cell::RefCell;
use std::rc::Rc;

use arrow_array::{Array, ArrayRef, UInt32Array};
use arrow_select::concat::concat;
use arrow_select::interleave::interleave;
use arrow_select::take::take;
use millrace_core::Result;
use millrace_core::function::{Slot, StateFunction};

use crate::changes::broken;

/// Columns of fewer rows than this are joined.
const SMALL_ROWS: usize = 256;

/// So many of them at a time.
const SMALL_COLUMNS_MAX: usize = 1024;

/// Garbage up to so many rows is not worth moving the rest.
const GARBAGE_ROWS_MIN: usize = 16 * 1024;

/// Rows per call, at least, when the copy is given to a fresh instance.
const ROWS_PER_IMPORT: usize = 64 * 1024;

/// A shadow that the chain and whoever replaces its instance share.
pub type SharedShadow = Rc<RefCell<Shadow>>;

/// See the module's documentation.
#[derive(Debug)]
pub struct Shadow {
    states: Vec<StateShadow>,
}

/// Where a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    column: u32,
    row: u32,
}

const NOWHERE: Place = Place {
    column: u32::MAX,
    row: 0,
};

#[derive(Debug, Default)]
struct StateShadow {
    columns: Vec<Column>,
    /// By slot.
    places: Vec<Place>,
    /// Slots with a value.
    live: usize,
    /// Rows of all columns.
    rows: usize,
    /// So many of the last columns are small.
    small: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Column {
    /// Of each row; it lives as long as the slot's place is here.
    slots: Vec<Slot>,
    values: ArrayRef,
}

impl Shadow {
    /// Of a chain with so many states, which hold nothing yet.
    pub fn new(states: usize) -> Self {
        Shadow {
            states: (0..states).map(|_| StateShadow::default()).collect(),
        }
    }

    /// Number of states.
    pub(super) fn state_count(&self) -> usize {
        self.states.len()
    }

    /// These slots, each named once, have these values in a state now.
    pub fn put(&mut self, state: u32, slots: &[Slot], values: ArrayRef) -> Result<()> {
        self.states[state as usize].put(slots, values)
    }

    /// These slots hold nothing any more.
    pub fn forget(&mut self, slots: &[Slot]) {
        for state in &mut self.states {
            slots.iter().for_each(|&slot| state.forget(slot));
        }
    }

    /// Gives a fresh instance all there is.
    pub fn give(&self, function: &mut dyn StateFunction) -> Result<()> {
        for (number, state) in (0..).zip(&self.states) {
            state.give(number, function)?;
        }
        Ok(())
    }

    /// Bytes of memory held.
    pub fn memory_bytes(&self) -> usize {
        let places = |state: &StateShadow| state.places.capacity() * size_of::<Place>();
        self.states.iter().map(|state| state.bytes + places(state)).sum()
    }
}

impl StateShadow {
    fn put(&mut self, slots: &[Slot], values: ArrayRef) -> Result<()> {
        let column = self.columns.len() as u32;
        for (&slot, row) in slots.iter().zip(0..) {
            if self.places.len() <= slot as usize {
                let bound = (slot as usize + 1).next_power_of_two();
                self.places.resize(bound, NOWHERE);
            }
            let place = &mut self.places[slot as usize];
            self.live += usize::from(*place == NOWHERE);
            *place = Place { column, row };
        }
        self.small = if slots.len() < SMALL_ROWS { self.small + 1 } else { 0 };
        self.add(slots.to_vec(), values);
        if self.rows > 2 * self.live + GARBAGE_ROWS_MIN {
            self.join(0)
        } else if self.small > SMALL_COLUMNS_MAX {
            self.join(self.columns.len() - self.small)
        } else {
            Ok(())
        }
    }

    fn add(&mut self, slots: Vec<Slot>, values: ArrayRef) {
        self.rows += slots.len();
        self.bytes += bytes(&slots, &values);
        self.columns.push(Column { slots, values });
    }

    fn forget(&mut self, slot: Slot) {
        if let Some(place) = self.places.get_mut(slot as usize) {
            self.live -= usize::from(*place != NOWHERE);
            *place = NOWHERE;
        }
    }

    /// Rows of a column that live, with their slots.
    fn live_rows(&self, column: usize) -> impl Iterator<Item = (u32, Slot)> {
        let rows = (0..).zip(self.columns[column].slots.iter().copied());
        rows.filter(move |&(row, slot)| {
            let column = column as u32;
            self.places[slot as usize] == Place { column, row }
        })
    }

    /// Makes one column of what lives in the columns from `first` on, and in those before that are not much larger:
    /// so there are never more than a few.
    fn join(&mut self, mut first: usize) -> Result<()> {
        let mut rows = self.columns[first..]
            .iter()
            .map(|column| column.slots.len())
            .sum::<usize>();
        while first > 0 && self.columns[first - 1].slots.len() < 2 * rows {
            first -= 1;
            rows += self.columns[first].slots.len();
        }
        let (mut from, mut slots) = (Vec::new(), Vec::new());
        for column in first..self.columns.len() {
            for (row, slot) in self.live_rows(column) {
                from.push((column - first, row as usize));
                slots.push(slot);
            }
        }
        let columns = self.columns[first..].iter().map(|column| column.values.as_ref());
        let joined = interleave(&columns.collect::<Vec<_>>(), &from).map_err(broken)?;
        for gone in self.columns.drain(first..) {
            self.rows -= gone.slots.len();
            self.bytes -= bytes(&gone.slots, &gone.values);
        }
        let column = self.columns.len() as u32;
        for (&slot, row) in slots.iter().zip(0..) {
            self.places[slot as usize] = Place { column, row };
        }
        self.small = 0;
        self.add(slots, joined);
        Ok(())
    }

    fn give(&self, number: u32, function: &mut dyn StateFunction) -> Result<()> {
        let (mut parts, mut slots) = (Vec::new(), Vec::<Slot>::new());
        for (index, column) in self.columns.iter().enumerate() {
            let (rows, live) = self.live_rows(index).unzip::<_, _, Vec<_>, Vec<_>>();
            if live.is_empty() {
                continue;
            }
            parts.push(if live.len() == column.slots.len() {
                column.values.clone()
            } else {
                take(&column.values, &UInt32Array::from(rows), None).map_err(broken)?
            });
            slots.extend(live);
            if slots.len() >= ROWS_PER_IMPORT {
                import(number, &mut slots, &mut parts, function)?;
            }
        }
        import(number, &mut slots, &mut parts, function)
    }
}

fn bytes(slots: &[Slot], values: &ArrayRef) -> usize {
    size_of_val(slots) + values.get_array_memory_size()
}

fn import(
    state: u32,
    slots: &mut Vec<Slot>,
    parts: &mut Vec<ArrayRef>,
    function: &mut dyn StateFunction,
) -> Result<()> {
    if slots.is_empty() {
        return Ok(());
    }
    let columns = parts.iter().map(|part| part.as_ref()).collect::<Vec<_>>();
    let values = concat(&columns).map_err(broken)?;
    parts.clear();
    function.import_state(state, &std::mem::take(slots), &values)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use arrow_array::cast::AsArray;
    use arrow_array::types::Int64Type;
    use arrow_array::{Int64Array, StringArray};

    use super::*;
    use crate::testing::Random;

    /// A fresh instance.
    #[derive(Default)]
    struct Fresh(BTreeMap<(u32, Slot), String>);

    impl StateFunction for Fresh {
        fn export_state(&mut self, _: u32, _: &[Slot]) -> Result<ArrayRef> {
            unreachable!("it is given state")
        }

        fn import_state(&mut self, state: u32, slots: &[Slot], values: &ArrayRef) -> Result<()> {
            assert_eq!(slots.len(), values.len());
            for (row, &slot) in slots.iter().enumerate() {
                let value = match values.as_string_opt::<i32>() {
                    Some(texts) => texts.value(row).to_owned(),
                    None => values.as_primitive::<Int64Type>().value(row).to_string(),
                };
                assert!(self.0.insert((state, slot), value).is_none(), "slot {slot} twice");
            }
            Ok(())
        }

        fn drop_state(&mut self, _: &[Slot]) -> Result<()> {
            unreachable!("it holds nothing")
        }
    }

    #[test]
    fn agrees_with_a_map_and_stays_small() {
        for seed in 0..6 {
            let mut random = Random::new(seed);
            let (mut shadow, mut model) = (Shadow::new(2), BTreeMap::new());
            let slot_count = 1 + random.below(6_000);
            // Steps of one slot by the thousand, and of many.
            let longest = [1, 1, 50, 3_000][random.below(4) as usize];
            for step in 0..6_000_u64 / longest.min(200) {
                let (first, count) = (random.below(slot_count), 1 + random.below(longest));
                let slots = (first..(first + count).min(slot_count)).map(|slot| slot as Slot);
                let slots = slots.collect::<Vec<_>>();
                if random.below(5) == 0 {
                    shadow.forget(&slots);
                    model.retain(|(_, slot), _| !slots.contains(slot));
                    continue;
                }
                let value = |slot: &Slot| i64::from(*slot) * 10_000 + step as i64;
                let state = random.below(2) as u32;
                let values: ArrayRef = match state {
                    0 => Arc::new(slots.iter().map(|slot| Some(value(slot))).collect::<Int64Array>()),
                    _ => {
                        let texts = slots.iter().map(|slot| value(slot).to_string());
                        Arc::new(StringArray::from_iter_values(texts))
                    }
                };
                shadow.put(state, &slots, values).unwrap();
                model.extend(slots.iter().map(|slot| ((state, *slot), value(slot).to_string())));
                for state in &shadow.states {
                    assert!(state.rows <= 2 * state.live + GARBAGE_ROWS_MIN);
                    assert!(state.columns.len() <= SMALL_COLUMNS_MAX + 40);
                }
            }
            let mut fresh = Fresh::default();
            shadow.give(&mut fresh).unwrap();
            assert_eq!(fresh.0, model, "seed {seed}");
            assert!(shadow.memory_bytes() > 0);
        }
    }
}
