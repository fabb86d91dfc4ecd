//! The `stdout` sink: rows to standard output, each block whole.
//!
//! Each subtask collects what it has encoded and writes it in one piece, at the latest when the engine has
//! nothing more for it, so that lines of different subtasks never mix. What is written is visible at once
//! and repeated after a restart.

use std::io::{ErrorKind, Write};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use millrace_core::connector::{
    Committable, Connector, Delivery, Elapsed, Options, Sink, SinkContext, SinkWriter, Source, SubtaskContext,
};
use millrace_core::{Error, Result};

use super::STDOUT_CLOSED;
use crate::format::{Encoder, Format};

/// Bytes collected before they are written without being asked to.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// Connector kind `stdout`.
pub(crate) struct StdoutConnector;

impl Connector for StdoutConnector {
    fn kind(&self) -> &'static str {
        "stdout"
    }

    fn source(&self, _options: Options, _schema: SchemaRef) -> Result<Option<Arc<dyn Source>>> {
        Ok(None)
    }

    fn sink(&self, options: Options, schema: SchemaRef, _: &SinkContext) -> Result<Option<Arc<dyn Sink>>> {
        Ok(Some(Arc::new(Stdout::new(
            options,
            &schema,
            Box::new(std::io::stdout()),
        )?)))
    }
}

struct Stdout {
    format: Format,
    shared: Arc<Mutex<Output>>,
}

struct Output {
    stream: Box<dyn Write + Send>,
    /// Whether nobody has begun to write: the first writes the header.
    fresh: bool,
}

impl Stdout {
    fn new(mut options: Options, schema: &SchemaRef, stream: Box<dyn Write + Send>) -> Result<Self> {
        let format = Format::take(&mut options, Some("text"), false)?;
        options.finish()?;
        format.check_schema(schema)?;
        Ok(Stdout {
            format,
            shared: Arc::new(Mutex::new(Output { stream, fresh: true })),
        })
    }
}

impl Sink for Stdout {
    fn delivery(&self) -> Delivery {
        Delivery::AtLeastOnce
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn open(&self, _context: &SubtaskContext) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(Writer {
            format: self.format.clone(),
            encoder: None,
            shared: self.shared.clone(),
            buffer: Vec::new(),
            written: 0,
        }))
    }
}

struct Writer {
    format: Format,
    encoder: Option<Encoder>,
    shared: Arc<Mutex<Output>>,
    buffer: Vec<u8>,
    written: u64,
}

impl Writer {
    /// The header is written when it is taken: rows of another subtask must not come before it.
    fn encoder(&mut self) -> Result<&mut Encoder> {
        if self.encoder.is_none() {
            let mut output = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
            let encoder = Encoder::new(self.format.clone());
            let first = std::mem::replace(&mut output.fresh, false);
            self.encoder = Some(if first { encoder } else { encoder.without_header() });
        }
        self.encoder
            .as_mut()
            .ok_or_else(|| Error::internal("the encoder was just made"))
    }
}

impl SinkWriter for Writer {
    fn write(&mut self, rows: &RecordBatch, _now: Elapsed) -> Result<()> {
        let first = self.encoder.is_none();
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = self.encoder()?.encode(rows, &mut buffer);
        self.buffer = buffer;
        result?;
        if first || self.buffer.len() >= BUFFER_BYTES_MAX {
            self.flush()
        } else {
            Ok(())
        }
    }

    fn flush(&mut self) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let mut output = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let result = output
            .stream
            .write_all(&self.buffer)
            .and_then(|()| output.stream.flush());
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        result.map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => Error::external(STDOUT_CLOSED, "standard output was closed by its reader"),
            _ => Error::external("IO0108", format!("standard output cannot be written: {error}")),
        })
    }

    fn pre_commit(&mut self) -> Result<Vec<Committable>> {
        self.flush()?;
        Ok(Vec::new())
    }

    fn commit(&mut self, _committables: &[Committable]) -> Result<()> {
        Ok(())
    }

    fn abort(&mut self, _prepared: &[Committable]) -> Result<()> {
        self.buffer.clear();
        Ok(())
    }

    fn bytes_written(&self) -> u64 {
        self.written
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use arrow_array::{Int64Array, StringArray};
    use arrow_schema::{DataType, Field, Schema};

    use super::*;
    use crate::testing::{context, options};

    #[derive(Clone, Default)]
    struct Screen(Arc<Mutex<Vec<u8>>>);

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _bytes: &[u8]) -> std::io::Result<usize> {
            Err(ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("w", DataType::Utf8, true),
            Field::new("n", DataType::Int64, false),
        ]))
    }

    fn rows(words: Vec<Option<&str>>) -> RecordBatch {
        let numbers = Int64Array::from_iter_values(0..words.len() as i64);
        RecordBatch::try_new(schema(), vec![Arc::new(StringArray::from(words)), Arc::new(numbers)]).unwrap()
    }

    #[test]
    fn the_header_comes_first_and_once() {
        let screen = Screen::default();
        let sink = Stdout::new(options(&[("format", "csv")]), &schema(), Box::new(screen.clone())).unwrap();
        let mut writers = [0, 1].map(|subtask| sink.open(&context(subtask, 2)).unwrap());
        writers[1]
            .write(&rows(vec![Some("a,b"), None]), Duration::ZERO)
            .unwrap();
        writers[0].write(&rows(vec![Some("c")]), Duration::ZERO).unwrap();
        writers[0].write(&rows(vec![Some("d")]), Duration::ZERO).unwrap();
        writers[0].flush().unwrap();
        writers[1].pre_commit().unwrap();
        let text = String::from_utf8(screen.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text, "w,n\n\"a,b\",0\n,1\nc,0\nd,0\n");
    }

    #[test]
    fn a_closed_pipe_has_a_code_of_its_own() {
        let sink = Stdout::new(options(&[("format", "ndjson")]), &schema(), Box::new(Closed)).unwrap();
        let mut writer = sink.open(&context(0, 1)).unwrap();
        let error = writer.write(&rows(vec![Some("x")]), Duration::ZERO).unwrap_err();
        assert_eq!(error.code(), STDOUT_CLOSED);
    }

    #[test]
    fn text_needs_one_column() {
        let error = Stdout::new(options(&[]), &schema(), Box::new(Closed)).err().unwrap();
        assert_eq!(error.code(), "CN0109");
    }
}
