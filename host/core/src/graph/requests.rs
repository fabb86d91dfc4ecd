//! What a pipeline declares of HTTP requests, and the columns in which they and their answers come. See
//! `wit/dataflow.wit` for the meaning of every field.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef};
use serde::Serialize;

use super::Origin;
use crate::error::{Error, Result};
use crate::schema::{Declared, DeclaredState, Hints, KeyedKind, KeyedSchema};

/// Rows that may be under way in a subtask, at most: each has a request or an answer in memory.
pub const CAPACITY_MAX: u32 = 1 << 16;

/// In which order rows go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RequestOrder {
    /// As they came.
    Ordered,
    /// As they are answered, but never across a watermark.
    Unordered,
}

/// When a request is made again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Retry {
    /// How often it is made at most.
    pub attempts: u32,
    /// Time before the second; it doubles from one to the next.
    pub delay_ms: u64,
    /// Which statuses are worth another attempt; broken connections always are.
    pub statuses: Vec<u16>,
}

/// Requests that the host makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RequestsDecl {
    /// In which order rows go on.
    pub order: RequestOrder,
    /// Rows under way in a subtask, at most.
    pub capacity: u32,
    /// How long a row waits for its answer, with all attempts.
    pub timeout_ms: u64,
    /// `None`: a request is made once.
    pub retry: Option<Retry>,
    /// Bytes of the body of a response, at most.
    pub response_bytes_max: u64,
    /// Where requests go to.
    pub origins: Vec<Origin>,
    /// Rows that come out.
    #[serde(skip)]
    pub schema: SchemaRef,
    /// What its fields say of themselves.
    #[serde(skip)]
    pub hints: Vec<Hints>,
}

/// Name of the state in which rows under way are kept.
pub const REQUESTS_STATE: &str = "requests";

fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, false)
}

/// Name and value of a header.
pub fn header_fields() -> Fields {
    Fields::from(vec![text("name"), text("value")])
}

fn headers() -> Field {
    let header = Field::new_list_field(DataType::Struct(header_fields()), false);
    Field::new("headers", DataType::List(Arc::new(header)), false)
}

/// Members of a request.
pub fn request_fields() -> Fields {
    let body = Field::new("body", DataType::Binary, false);
    Fields::from(vec![text("method"), text("url"), headers(), body])
}

/// Members of an answer: a response, or why there is none.
pub fn answer_fields() -> Fields {
    Fields::from(vec![
        Field::new("status", DataType::UInt16, false),
        headers(),
        Field::new("body", DataType::Binary, false),
        Field::new("error", DataType::Utf8, true),
        text("message"),
    ])
}

impl RequestsDecl {
    /// Checks that rows come in and go out as they should.
    ///
    /// # Errors
    /// `GR0019` that says what is wrong.
    pub fn check(&self, input: &Schema) -> Result<()> {
        let refuse = |why: &str| Err(Error::user("GR0019", format!("requests: {why}")));
        let (request, answer) = (DataType::Struct(request_fields()), DataType::Struct(answer_fields()));
        let is_nullable = |field: &Field, data_type: &DataType| field.is_nullable() && field.data_type() == data_type;
        let ([row, asked], [passed, answered]) = (input.fields().as_ref(), self.schema.fields().as_ref()) else {
            return refuse("rows have two columns, before and after");
        };
        if !is_nullable(asked, &request) {
            return refuse("the second column of rows that come in is a request, nullable");
        }
        if !is_nullable(answered, &answer) {
            return refuse("the second column of rows that go out is an answer, nullable");
        }
        if row.data_type() != passed.data_type() || row.is_nullable() || passed.is_nullable() {
            return refuse("the first column goes out as it comes in, and is not nullable");
        }
        if !(1..=CAPACITY_MAX).contains(&self.capacity) {
            return refuse(&format!(
                "the capacity is 1 to {CAPACITY_MAX}, and not {}",
                self.capacity
            ));
        }
        if self.origins.is_empty() {
            return refuse("they say no origin that they go to");
        }
        match &self.retry {
            Some(retry) if retry.attempts == 0 => refuse("a request is made at least once"),
            _ => Ok(()),
        }
    }

    /// The value that is kept of a row under way: the row, its request, and its event time if it has one.
    pub fn state_fields(&self) -> Fields {
        let row = self.schema.field(0).clone().with_name("row");
        let request = Field::new("request", DataType::Struct(request_fields()), true);
        Fields::from(vec![row, request, Field::new("time", DataType::Int64, true)])
    }

    /// Fields of the key under which a row is kept.
    pub fn key_schema() -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("sequence", DataType::Int64, false)]))
    }

    /// What checkpoints hold of rows under way.
    pub fn keyed_schema(&self) -> KeyedSchema {
        let row_hints = self.hints.first().cloned().unwrap_or_default();
        let value = Declared {
            field: Arc::new(Field::new(REQUESTS_STATE, DataType::Struct(self.state_fields()), true)),
            hints: Hints {
                children: vec![row_hints, Hints::default(), Hints::default()],
                ..Hints::default()
            },
        };
        let state = DeclaredState {
            value,
            migrations: Vec::new(),
            ttl: None,
            large: false,
            broadcast: false,
        };
        let key = RequestsDecl::key_schema();
        KeyedSchema {
            kind: KeyedKind::Keyed,
            windows: None,
            key: key.fields().iter().cloned().map(Declared::plain).collect(),
            states: vec![state],
        }
    }
}
