//! In place of [`avro`](super::avro) where Avro is not built in: the format is refused by name when its options are
//! read, so that nothing here is ever reached.

use std::fs::File;

use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use millrace_core::connector::{Elapsed, Poll, Position, SplitReader};
use millrace_core::{Error, Result};

use super::splits::Piece;
use crate::format::AvroCodec;

fn missing() -> Error {
    Error::internal("Avro is not built in")
}

pub(super) fn check(_: &str, _: &SchemaRef) -> Result<usize> {
    Err(missing())
}

pub(super) fn check_sink(_: &Schema) -> Result<()> {
    Err(missing())
}

pub(super) enum AvroReader {}

impl AvroReader {
    pub(super) fn open(_: &str, _: Piece, _: &SchemaRef, _: &Position) -> Result<Self> {
        Err(missing())
    }
}

impl SplitReader for AvroReader {
    fn poll(&mut self, _: usize, _: Elapsed) -> Result<Poll> {
        match *self {}
    }

    fn position(&self) -> Position {
        match *self {}
    }
}

pub(super) enum AvroFile {}

impl AvroFile {
    pub(super) fn create(_: File, _: AvroCodec, _: &SchemaRef) -> std::result::Result<Self, String> {
        Err(missing().to_string())
    }

    pub(super) fn write(&mut self, _: &RecordBatch) -> std::result::Result<bool, String> {
        match *self {}
    }

    pub(super) fn waiting_bytes(&self) -> u64 {
        match *self {}
    }

    pub(super) fn finish(self) -> std::result::Result<File, String> {
        match self {}
    }
}
