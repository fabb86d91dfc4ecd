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

use arrow_array::{ArrayRef, TimestampMillisecondArray};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::Fields;
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
pub fn render_row(rows: &Block, row: usize) -> String {
    render_values(rows.rows.schema_ref().fields(), rows.rows.columns(), row)
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
        let value = match ArrayFormatter::try_new(column.as_ref(), &options) {
            Ok(formatter) if row < column.len() => formatter.value(row).to_string(),
            _ => "?".to_owned(),
        };
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
        let result = instance.call(moment.now, |guest, store| {
            let answer = match info.head {
                HeadKind::Stateless => guest.call_process(store, info.index, input, moment, &wire),
                HeadKind::Keyed => guest.call_process_keyed(store, info.index, input, moment, &[0], &wire),
                HeadKind::Window => guest.call_accumulate(store, info.index, input, moment, &[0], &wire, &[], &[]),
            };
            answer.map(|answer| answer.map(drop))
        });
        instance.state().staged.clear();
        if let Err(failure) = result {
            return Some((failure.operator, u32::try_from(row).ok()?));
        }
    }
    None
}
