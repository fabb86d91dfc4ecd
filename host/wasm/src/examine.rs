//! Finding the row that a function failed on, where the guest could not say so itself.
//!
//! A trap other than a reported panic (an endless loop, a stack overflow, memory) leaves nothing readable
//! behind. A fresh instance in careful mode runs the rows of the failed call one by one; the first that
//! fails again is named. State is empty there, so a failure that depends on state may not come back: then
//! only the chain is named.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::{Array, ArrayRef, RecordBatch, TimestampMillisecondArray};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{DataType, Field, FieldRef, Fields};
use millrace_core::block::{Block, Millis};

use crate::bindings::operators;
use crate::chain::{ChainInfo, HeadKind};
use crate::codec::{self, Wire};
use crate::collections::{NoCollections, Readable};
use crate::instance::{CallFailure, OpenConfig};
use crate::runtime::Pipeline;

/// How much of a row a message shows, in bytes.
const ROW_TEXT_MAX: usize = 300;

/// Rows run again one by one; a block has some thousand.
const ROWS_MAX: usize = 65_536;

/// The row as `column: value` pairs, for people.
pub fn render_row(rows: &RecordBatch, row: usize) -> String {
    render_values(rows.schema_ref().fields(), rows.columns(), row)
}

/// Event or processing time for people: RFC 3339, or ms where no calendar reaches.
pub fn render_time(millis: Millis) -> String {
    let column = TimestampMillisecondArray::from(vec![millis]).with_timezone("+00:00");
    match ArrayFormatter::try_new(&column, &FormatOptions::default()) {
        Ok(formatter) => match formatter.value(0).try_to_string() {
            Ok(text) => text,
            Err(_) => format!("{millis} ms"),
        },
        Err(_) => format!("{millis} ms"),
    }
}

/// One row of columns as `column: value` pairs.
pub(crate) fn render_values(fields: &Fields, columns: &[ArrayRef], row: usize) -> String {
    let options = FormatOptions::default().with_null("null");
    let mut text = String::new();
    for (field, column) in fields.iter().zip(columns) {
        if !text.is_empty() {
            text.push_str(", ");
        }
        let value = (row < column.len()).then(|| column.slice(row, 1)).and_then(|value| {
            let shown = arrow_cast::cast(&value, &in_utc(value.data_type())).ok()?;
            let formatter = ArrayFormatter::try_new(shown.as_ref(), &options).ok()?;
            formatter.value(0).try_to_string().ok()
        });
        let value = value.unwrap_or_else(|| "?".to_owned());
        text.push_str(field.name());
        text.push_str(": ");
        text.push_str(&value);
        if text.len() > ROW_TEXT_MAX {
            let cut = text.floor_char_boundary(ROW_TEXT_MAX);
            text.truncate(cut);
            text.push('…');
            break;
        }
    }
    text
}

/// The type with times in UTC, which the formatter knows, whatever the zone's name is: it knows only offsets.
fn in_utc(data_type: &DataType) -> DataType {
    let field = |field: &FieldRef| -> FieldRef {
        let data_type = in_utc(field.data_type());
        Arc::new(Field::clone(field).with_data_type(data_type))
    };
    match data_type {
        DataType::Timestamp(unit, Some(zone)) if !zone.starts_with(['+', '-']) => {
            DataType::Timestamp(*unit, Some("+00:00".into()))
        }
        DataType::List(item) => DataType::List(field(item)),
        DataType::Map(entries, sorted) => DataType::Map(field(entries), *sorted),
        DataType::Struct(members) => DataType::Struct(members.iter().map(field).collect()),
        other => other.clone(),
    }
}

/// Runs the rows of a failed call, of this input, one by one in a fresh instance; the failure with operator and row filled
/// in, or as it was.
pub(crate) fn find_row(
    pipeline: &Pipeline,
    parameters: &[(String, String)],
    info: &ChainInfo,
    config: OpenConfig,
    moment: operators::Moment,
    rows: (u32, &Block),
    failure: CallFailure,
) -> CallFailure {
    match try_rows(pipeline, parameters, info, config, moment, rows) {
        Some((operator, entry)) => CallFailure {
            operator: operator.or(failure.operator),
            entry: Some(entry),
            ..failure
        },
        None => failure,
    }
}

fn try_rows(
    pipeline: &Pipeline,
    parameters: &[(String, String)],
    info: &ChainInfo,
    config: OpenConfig,
    moment: operators::Moment,
    (input, rows): (u32, &Block),
) -> Option<(Option<u32>, u32)> {
    let mut instance = pipeline.instantiate(0, Arc::new(|_, _| ())).ok()?;
    instance.build(parameters).ok()?;
    instance
        .open(
            info.index,
            OpenConfig {
                careful: true,
                ..config
            },
        )
        .ok()?;
    instance.shorten_deadline(Duration::from_secs(1));
    instance.state().collections = (!info.large.is_empty()).then(|| Readable {
        chain: info.index,
        states: info.large.clone(),
        shared: Rc::new(RefCell::new(NoCollections(info.large.clone()))),
        block_bytes: pipeline.runtime.limits().block_bytes,
    });
    let mut wire = Wire {
        rows: 0,
        data: Vec::new(),
        ends: Vec::new(),
    };
    for row in 0..rows.row_count().min(ROWS_MAX) {
        codec::encode(&rows.slice(row, 1), config.time_in, &mut wire);
        if info.head == HeadKind::Pattern {
            let result = instance.call(moment.now, |guest, store| {
                guest.call_conditions(store, info.index, moment, &wire)
            });
            if let Err(failure) = result {
                return Some((failure.operator, u32::try_from(row).ok()?));
            }
            continue;
        }
        let mut result = instance.call(moment.now, |guest, store| match info.head {
            HeadKind::Stateless => guest.call_process(store, info.index, input, moment, &wire),
            HeadKind::Keyed | HeadKind::Pattern => {
                guest.call_process_keyed(store, info.index, input, moment, &[0], &wire)
            }
            HeadKind::Window => guest.call_accumulate(store, info.index, input, moment, &[0], &wire, &[], &[]),
        });
        while let Ok(operators::CallResult { more: true, .. }) = &result {
            instance.state().staged.clear();
            result = instance.resume(moment.now, |guest, store| guest.call_resume(store, info.index, moment));
        }
        instance.state().staged.clear();
        if let Err(failure) = result {
            return Some((failure.operator, u32::try_from(row).ok()?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use arrow_array::{Int64Array, StructArray};

    use super::*;

    #[test]
    fn times_are_shown_in_any_zone_and_at_any_depth() {
        for zone in ["UTC", "Etc/UTC", "Europe/Berlin"] {
            let times = TimestampMillisecondArray::from(vec![0, 1_500]).with_timezone(zone);
            let times: ArrayRef = Arc::new(times);
            let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
            let inner = Field::new("at", times.data_type().clone(), false);
            let nested: ArrayRef = Arc::new(StructArray::from(vec![(Arc::new(inner), times.clone())]));
            let rows = RecordBatch::try_from_iter([("id", ids), ("at", times), ("in", nested)]).unwrap();
            let expected = "id: 2, at: 1970-01-01T00:00:01.500Z, in: {at: 1970-01-01T00:00:01.500Z}";
            assert_eq!(render_row(&rows, 1), expected, "{zone}");
        }
    }
}
