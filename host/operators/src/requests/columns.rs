//! Requests as they come in blocks, and answers as they go.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::builder::{ArrayBuilder, BinaryBuilder, StringBuilder, UInt16Builder};
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, ListArray, RecordBatch, StructArray};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{DataType, Field};
use arrow_select::interleave::interleave;
use millrace_core::graph::{answer_fields, header_fields};
use millrace_core::requests::{Answer, Request};
use millrace_core::{Error, Result};

use super::{Batch, Row};
use crate::changes::broken;

/// Rows with their requests.
#[derive(Debug)]
pub(super) struct Asked {
    rows: ArrayRef,
    requests: ArrayRef,
}

impl Asked {
    pub(super) fn new(rows: &RecordBatch) -> Result<Self> {
        let [rows, requests] = rows.columns() else {
            return Err(Error::internal("rows with requests have two columns"));
        };
        Ok(Asked {
            rows: rows.clone(),
            requests: requests.clone(),
        })
    }

    pub(super) fn rows(&self) -> &dyn Array {
        &*self.rows
    }

    pub(super) fn requests(&self) -> &dyn Array {
        &*self.requests
    }

    /// Whether a row has a request.
    pub(super) fn is_request(&self, row: usize) -> bool {
        self.requests.is_valid(row)
    }

    /// The request of a row that has one.
    pub(super) fn request(&self, row: usize) -> Request {
        let members = self.requests.as_struct();
        let text = |member: usize| members.column(member).as_string::<i32>().value(row).to_owned();
        let headers = members.column(2).as_list::<i32>().value(row);
        let headers = headers.as_struct();
        let (names, values) = (
            headers.column(0).as_string::<i32>(),
            headers.column(1).as_string::<i32>(),
        );
        let header = |at: usize| (names.value(at).to_owned(), values.value(at).to_owned());
        Request {
            method: text(0),
            url: text(1),
            headers: (0..headers.len()).map(header).collect(),
            body: members.column(3).as_binary::<i32>().value(row).to_owned(),
        }
    }
}

/// A column of rows under way, in this order.
pub(super) fn gather<'r>(
    batches: &BTreeMap<u64, Batch>,
    rows: impl Iterator<Item = &'r Row>,
    column: impl for<'a> Fn(&'a Asked) -> &'a dyn Array,
) -> Result<ArrayRef> {
    let (mut arrays, mut places) = (Vec::new(), Vec::new());
    let mut known = BTreeMap::new();
    for row in rows {
        let Some(batch) = batches.get(&row.batch) else {
            return Err(Error::internal("rows outlived their batch"));
        };
        let array = *known.entry(row.batch).or_insert_with(|| {
            arrays.push(column(&batch.asked));
            arrays.len() - 1
        });
        places.push((array, row.index as usize));
    }
    interleave(&arrays, &places).map_err(broken)
}

/// The column of answers; rows that asked for nothing have none.
pub(super) fn answered<'a>(answers: impl Iterator<Item = Option<&'a Answer>>) -> Result<ArrayRef> {
    let (mut statuses, mut bodies) = (UInt16Builder::new(), BinaryBuilder::new());
    let (mut names, mut values, mut ends) = (StringBuilder::new(), StringBuilder::new(), vec![0]);
    let (mut errors, mut messages) = (StringBuilder::new(), StringBuilder::new());
    let mut valid = Vec::new();
    for answer in answers {
        valid.push(answer.is_some());
        let (response, failure) = match answer {
            None => (None, None),
            Some(Ok(response)) => (Some(response), None),
            Some(Err(failure)) => (None, Some(failure)),
        };
        statuses.append_value(response.map_or(0, |response| response.status));
        bodies.append_value(response.map_or(&[][..], |response| &response.body));
        for (name, value) in response.iter().flat_map(|response| &response.headers) {
            names.append_value(name);
            values.append_value(value);
        }
        let end = i32::try_from(names.len()).map_err(|_| Error::internal("too many headers for a block"))?;
        ends.push(end);
        errors.append_option(failure.map(|failure| failure.kind.name()));
        messages.append_value(failure.map_or("", |failure| &failure.message));
    }
    let header = Field::new_list_field(DataType::Struct(header_fields()), false);
    let pairs: Vec<ArrayRef> = vec![Arc::new(names.finish()), Arc::new(values.finish())];
    let pairs = StructArray::try_new(header_fields(), pairs, None).map_err(broken)?;
    let headers = ListArray::try_new(Arc::new(header), OffsetBuffer::new(ends.into()), Arc::new(pairs), None);
    let members: Vec<ArrayRef> = vec![
        Arc::new(statuses.finish()),
        Arc::new(headers.map_err(broken)?),
        Arc::new(bodies.finish()),
        Arc::new(errors.finish()),
        Arc::new(messages.finish()),
    ];
    let answers = StructArray::try_new(answer_fields(), members, Some(NullBuffer::from(valid)));
    Ok(Arc::new(answers.map_err(broken)?))
}
