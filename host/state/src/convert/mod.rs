//! Carries out the conversion of state whose schema changed: stored rows become rows of the operator as it is declared.
//!
//! What is to be done was decided by `millrace_core::upgrade`; here are the arrays. Only entries as they finally are
//! get converted: layers are laid over each other first, for what a later row replaced need not fit any more.

mod collections;
mod constant;
mod lifetimes;
mod rows;
#[cfg(test)]
mod tests;
mod values;

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BooleanArray, ListArray, RecordBatch, StructArray, new_null_array};
use arrow_schema::DataType;
use arrow_select::filter::filter_record_batch;
use millrace_core::block::Millis;
use millrace_core::schema::Declared;
use millrace_core::upgrade::{OperatorPlan, StatePlan};
use millrace_core::{Error, Result};

pub use constant::check_defaults;
pub use rows::RowsConverter;

use self::values::{Unfit, convert};
use crate::redistribute::TaskRestore;
use crate::savepoint::{Layout, LayoutKind, expires_fields, session_fields, session_item};
use crate::savepoint::{ROW_COLUMNS, broken, lay_over};

/// Code of every value that does not fit.
const UNFIT: &str = "CK0010";

/// Asks the guest for the values of a state from those of an earlier version: state, migration, old values.
pub type Migrate<'a> = dyn FnMut(u32, u32, &ArrayRef) -> Result<ArrayRef> + 'a;

/// Converts rows of one operator.
#[derive(Debug)]
pub struct Converter {
    plan: OperatorPlan,
    old: Layout,
    new: Layout,
}

impl Converter {
    /// A converter by this plan.
    pub fn new(plan: &OperatorPlan) -> Self {
        Converter {
            plan: plan.clone(),
            old: Layout::of_schema(&plan.old),
            new: Layout::of_schema(&plan.new),
        }
    }

    /// What a subtask begins with, from what was stored for it. What has expired by now is left out.
    ///
    /// # Errors
    /// `CK0010` if a value does not fit its new type, which names state and field; what `migrate` returns.
    pub fn convert(&self, stored: TaskRestore, now: Millis, migrate: &mut Migrate<'_>) -> Result<TaskRestore> {
        if self.plan.is_same() {
            return Ok(stored);
        }
        let mut batches = Vec::new();
        for rows in lay_over(&self.old, &stored.batches)? {
            batches.extend(self.rows(&rows, now, migrate)?);
        }
        Ok(TaskRestore {
            watermark: stored.watermark,
            batches,
            collections: self.collections(&stored.collections, now)?,
        })
    }

    /// Whether all values fit: converts them without the guest, and drops the result.
    ///
    /// # Errors
    /// As of [`convert`](Self::convert).
    pub fn check(&self, stored: TaskRestore, now: Millis) -> Result<()> {
        let states = &self.plan.new.states;
        let mut pretend = |state: u32, _: u32, old: &ArrayRef| {
            let value = &states[state as usize].value.field;
            Ok(new_null_array(value.data_type(), old.len()))
        };
        self.convert(stored, now, &mut pretend).map(drop)
    }

    fn rows(&self, rows: &RecordBatch, now: Millis, migrate: &mut Migrate<'_>) -> Result<Option<RecordBatch>> {
        let expected = self.old.rows_schema();
        let same = rows.num_columns() == expected.fields().len()
            && rows
                .columns()
                .iter()
                .zip(expected.fields())
                .all(|(column, field)| column.data_type() == field.data_type());
        if !same {
            return Err(Error::internal(
                "stored rows are not of the schema that is stored with them",
            ));
        }
        let more = &rows.columns()[ROW_COLUMNS..];
        let more = match &self.new.kind {
            LayoutKind::Keyed(_) => {
                let (states, rest) = more.split_at(collections::resident(&self.plan.old.states).count());
                let (expires, timers) = rest.split_at(usize::from(!self.old.expiring.is_empty()));
                let expires = expires.first().map(|column| column.as_struct());
                let states = lifetimes::without_expired(&self.old, states, expires, now)?;
                let mut more = Vec::new();
                for state in collections::resident(&self.plan.new.states) {
                    more.push(self.state(state, &states, rows.num_rows(), migrate)?);
                }
                more.extend(self.expires(expires, rows.num_rows())?);
                more.extend(timers.iter().cloned());
                more
            }
            // Without its accumulator a window is nothing.
            LayoutKind::Windows(_) | LayoutKind::Sessions(_) if self.plan.states == [StatePlan::New] => {
                return Ok(None);
            }
            LayoutKind::Windows(_) => {
                let accumulator = self.state(0, &more[1..], rows.num_rows(), migrate)?;
                vec![more[0].clone(), accumulator]
            }
            LayoutKind::Sessions(_) => vec![self.sessions(&more[0], migrate)?],
        };
        let mut columns = rows.columns()[..2].to_vec();
        columns.push(self.key(rows.column(2).as_struct())?);
        columns.extend(more);
        let converted = RecordBatch::try_new(self.new.rows_schema(), columns).map_err(broken)?;
        let may_be_empty = self.plan.drops_states() || !self.old.expiring.is_empty();
        match (&self.new.kind, may_be_empty) {
            (LayoutKind::Keyed(states), true) => without_empty(&converted, states.len()).map(Some),
            _ => Ok(Some(converted)),
        }
    }

    /// When declared states expire, from when stored ones do; nothing is said of those that did not.
    fn expires(&self, stored: Option<&StructArray>, rows: usize) -> Result<Option<ArrayRef>> {
        if self.new.expiring.is_empty() {
            return Ok(None);
        }
        let of_state = |state: usize| {
            let from = match &self.plan.states[state] {
                StatePlan::New => None,
                StatePlan::Convert { from, .. } | StatePlan::Migrate { from, .. } => {
                    let column = collections::column_of(&self.plan.old.states, *from).ok();
                    column.and_then(|column| self.old.place_of_expiry(column))
                }
            };
            let known = from.and_then(|place| Some(stored?.column(place).clone()));
            known.unwrap_or_else(|| new_null_array(&DataType::Int64, rows))
        };
        let resident = collections::resident(&self.plan.new.states).enumerate();
        let expiring = resident.filter(|(column, _)| self.new.place_of_expiry(*column).is_some());
        let times = expiring.map(|(_, state)| of_state(state)).collect();
        let fields = expires_fields(self.new.states(), &self.new.expiring);
        let column = StructArray::try_new(fields, times, None).map_err(broken)?;
        Ok(Some(Arc::new(column)))
    }

    fn key(&self, stored: &StructArray) -> Result<ArrayRef> {
        let fields = self.plan.new.key.iter().zip(&self.plan.key).zip(stored.columns());
        let columns = fields.map(|((field, conversion), values)| {
            convert(values, conversion, field, None).map_err(|unfit| unfit_error("key", unfit))
        });
        let columns = columns.collect::<Result<_>>()?;
        let key = StructArray::try_new(self.new.key.clone(), columns, None).map_err(broken)?;
        Ok(Arc::new(key))
    }

    /// Values of a declared state from those of all stored ones.
    fn state(&self, state: usize, stored: &[ArrayRef], rows: usize, migrate: &mut Migrate<'_>) -> Result<ArrayRef> {
        let value: &Declared = &self.plan.new.states[state].value;
        match &self.plan.states[state] {
            StatePlan::New => Ok(new_null_array(value.field.data_type(), rows)),
            StatePlan::Convert { from, conversion } => {
                let stored = &stored[collections::column_of(&self.plan.old.states, *from)?];
                convert(stored, conversion, value, None)
                    .map_err(|unfit| unfit_error(&format!("state `{}`", value.field.name()), unfit))
            }
            StatePlan::Migrate { from, migration } => {
                let stored = &stored[collections::column_of(&self.plan.old.states, *from)?];
                migrate(state as u32, *migration as u32, stored)
            }
        }
    }

    fn sessions(&self, stored: &ArrayRef, migrate: &mut Migrate<'_>) -> Result<ArrayRef> {
        let lists = stored.as_list::<i32>();
        let sessions = lists.values().as_struct();
        let accumulator = self.state(0, &sessions.columns()[2..], sessions.len(), migrate)?;
        let declared = &self.new.states()[0];
        let mut columns = sessions.columns()[..2].to_vec();
        columns.push(accumulator);
        let sessions = StructArray::try_new(session_fields(declared), columns, sessions.nulls().cloned());
        let sessions = Arc::new(sessions.map_err(broken)?);
        let (offsets, nulls) = (lists.offsets().clone(), lists.nulls().cloned());
        let lists = ListArray::try_new(session_item(declared), offsets, sessions, nulls).map_err(broken)?;
        Ok(Arc::new(lists))
    }
}

/// Rows of keys that have a state or a timer still.
fn without_empty(rows: &RecordBatch, states: usize) -> Result<RecordBatch> {
    let (columns, timers) = rows.columns().split_at(rows.num_columns() - 2);
    let states = &columns[ROW_COLUMNS..ROW_COLUMNS + states];
    let holds = |row: usize| {
        let timed = |lists: &ArrayRef| lists.as_list::<i32>().value_length(row) > 0;
        states.iter().any(|values| values.is_valid(row)) || timers.iter().any(timed)
    };
    let held: BooleanArray = (0..rows.num_rows()).map(|row| Some(holds(row))).collect();
    filter_record_batch(rows, &held).map_err(broken)
}

fn unfit_error(what: &str, unfit: Unfit) -> Error {
    let Unfit { field, why } = unfit;
    let field = match field.as_str() {
        "" => String::new(),
        field => format!(", field `{field}`"),
    };
    Error::user(UNFIT, format!("{what}{field}: {why}"))
}
