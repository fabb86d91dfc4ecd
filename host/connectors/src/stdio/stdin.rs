//! The `stdin` source: one split, read by a thread of its own.
//!
//! The thread reads blocks into a bounded channel and wakes the slot; the reader takes what is there. What
//! was read is gone, so there is no going back to a position: opening a second time is an error.

use std::io::Read;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_schema::SchemaRef;
use millrace_core::connector::{
    Boundedness, Connector, Elapsed, Options, Poll, Position, Replay, Rows, Sink, SinkContext, Source, Split,
    SplitReader, SubtaskContext, Waker,
};
use millrace_core::{Error, Result};

use crate::format::{Format, RowParser};
use crate::position;

/// Bytes asked for at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// Chunks that wait to be parsed; the thread stops reading when there are more.
const CHUNKS_MAX: usize = 16;

type Input = Box<dyn Read + Send>;

/// Connector kind `stdin`.
pub(crate) struct StdinConnector;

impl Connector for StdinConnector {
    fn kind(&self) -> &'static str {
        "stdin"
    }

    fn source(&self, options: Options, schema: SchemaRef) -> Result<Option<Arc<dyn Source>>> {
        Ok(Some(Arc::new(Stdin::new(options, schema, Box::new(std::io::stdin()))?)))
    }

    fn sink(&self, _: Options, _: SchemaRef, _: &SinkContext) -> Result<Option<Arc<dyn Sink>>> {
        Ok(None)
    }
}

struct Stdin {
    format: Format,
    schema: SchemaRef,
    input: Mutex<Option<Input>>,
}

impl Stdin {
    fn new(mut options: Options, schema: SchemaRef, input: Input) -> Result<Self> {
        let format = Format::take(&mut options, Some("text"), false)?;
        options.finish()?;
        format.check_schema(&schema)?;
        Ok(Stdin {
            format,
            schema,
            input: Mutex::new(Some(input)),
        })
    }
}

impl Source for Stdin {
    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    fn replay(&self) -> Replay {
        Replay::Refused
    }

    fn splits(&self, _parallelism: u32) -> Result<Vec<Split>> {
        Ok(vec![Split {
            id: "stdin".into(),
            position: Position::START,
        }])
    }

    fn open(&self, split: &Split, context: &SubtaskContext) -> Result<Box<dyn SplitReader>> {
        let input = self.input.lock().unwrap_or_else(PoisonError::into_inner).take();
        let input = input.filter(|_| split.position == Position::START).ok_or_else(|| {
            Error::user(
                "CN0111",
                "standard input cannot be read again: what was read from it is gone",
            )
        })?;
        let parser = RowParser::new("stdin", &self.format, &self.schema, None, Default::default())?;
        let (sender, chunks) = sync_channel(CHUNKS_MAX);
        let waker = context.waker.clone();
        std::thread::Builder::new()
            .name("stdin".into())
            .spawn(move || read(input, &sender, &waker))
            .map_err(|error| Error::external("IO0107", format!("no thread to read standard input: {error}")))?;
        Ok(Box::new(Reader { parser, chunks }))
    }
}

/// Reads until the end, an error, or the reader is dropped.
fn read(mut input: Input, chunks: &SyncSender<std::io::Result<Vec<u8>>>, waker: &Waker) {
    loop {
        let mut chunk = vec![0; CHUNK_BYTES];
        let result = match input.read(&mut chunk) {
            Ok(bytes) => {
                chunk.truncate(bytes);
                Ok(chunk)
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let last = result.as_ref().map_or(true, Vec::is_empty);
        let gone = chunks.send(result).is_err();
        (waker.0)();
        if last || gone {
            return;
        }
    }
}

struct Reader {
    parser: RowParser,
    chunks: Receiver<std::io::Result<Vec<u8>>>,
}

impl SplitReader for Reader {
    fn poll(&mut self, rows_max: usize, _now: Elapsed) -> Result<Poll> {
        let mut bytes = 0;
        while !self.parser.frame(rows_max)? {
            match self.chunks.try_recv() {
                Ok(Ok(chunk)) if chunk.is_empty() => self.parser.close(),
                Ok(Ok(chunk)) => {
                    bytes += chunk.len() as u64;
                    self.parser.buffer_mut().extend_from_slice(&chunk);
                }
                Ok(Err(error)) => {
                    return Err(Error::external(
                        "IO0107",
                        format!("standard input cannot be read: {error}"),
                    ));
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => self.parser.close(),
            }
        }
        match self.parser.take(&mut || 0)? {
            Some((rows, rejected)) => Ok(Poll::Rows(Rows { rows, rejected, bytes })),
            None if self.parser.is_finished() => Ok(Poll::End),
            None => Ok(Poll::Pending { wake_after: None }),
        }
    }

    fn position(&self) -> Position {
        position::encode([self.parser.place().0])
    }

    fn place(&mut self, row: usize) -> Option<String> {
        self.parser.row_place(row, 0)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};
    use std::time::Duration;

    use arrow_array::cast::AsArray;
    use arrow_schema::{DataType, Field, Schema};

    use super::*;
    use crate::testing::options;

    /// A pipe whose other end the test holds.
    struct Pipe(Receiver<&'static [u8]>);

    impl Read for Pipe {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            let bytes = self.0.recv().unwrap_or_default();
            out[..bytes.len()].copy_from_slice(bytes);
            Ok(bytes.len())
        }
    }

    /// What is typed, wake-ups, the source and its reader.
    type Opened = (Sender<&'static [u8]>, Receiver<()>, Stdin, Box<dyn SplitReader>);

    fn open(pairs: &[(&str, &str)]) -> Opened {
        let (sender, receiver) = channel();
        let schema = Arc::new(Schema::new(vec![Field::new("word", DataType::Utf8, false)]));
        let source = Stdin::new(options(pairs), schema, Box::new(Pipe(receiver))).unwrap();
        let (woken, wakes) = channel();
        let context = SubtaskContext {
            subtask: 0,
            parallelism: 1,
            waker: Waker(Arc::new(move || woken.send(()).unwrap())),
            checkpoints: false,
        };
        let reader = source.open(&source.splits(1).unwrap()[0], &context).unwrap();
        (sender, wakes, source, reader)
    }

    fn words(poll: Poll) -> Vec<String> {
        let Poll::Rows(rows) = poll else { panic!("{poll:?}") };
        rows.rows
            .column(0)
            .as_string::<i32>()
            .iter()
            .map(|word| word.unwrap().to_owned())
            .collect()
    }

    #[test]
    fn rows_come_as_they_arrive() {
        let (sender, wakes, source, mut reader) = open(&[]);
        assert!(matches!(
            reader.poll(10, Duration::ZERO).unwrap(),
            Poll::Pending { wake_after: None }
        ));
        sender.send(b"one\ntw").unwrap();
        wakes.recv().unwrap();
        assert_eq!(words(reader.poll(10, Duration::ZERO).unwrap()), ["one"]);
        assert!(matches!(
            reader.poll(10, Duration::ZERO).unwrap(),
            Poll::Pending { wake_after: None }
        ));
        sender.send(b"o\nthree").unwrap();
        wakes.recv().unwrap();
        assert_eq!(words(reader.poll(10, Duration::ZERO).unwrap()), ["two"]);
        drop(sender);
        wakes.recv().unwrap();
        assert_eq!(words(reader.poll(10, Duration::ZERO).unwrap()), ["three"]);
        assert!(matches!(reader.poll(10, Duration::ZERO).unwrap(), Poll::End));
        let again = source
            .open(&source.splits(1).unwrap()[0], &crate::testing::context(0, 1))
            .err()
            .unwrap();
        assert_eq!(again.code(), "CN0111");
    }

    #[test]
    fn a_csv_header_may_come_late() {
        let (sender, wakes, _source, mut reader) = open(&[("format", "csv")]);
        sender.send(b"n,wo").unwrap();
        wakes.recv().unwrap();
        assert!(matches!(
            reader.poll(10, Duration::ZERO).unwrap(),
            Poll::Pending { wake_after: None }
        ));
        sender.send(b"rd\n1,a\n2,b\n").unwrap();
        wakes.recv().unwrap();
        assert_eq!(words(reader.poll(1, Duration::ZERO).unwrap()), ["a"]);
        assert_eq!(words(reader.poll(1, Duration::ZERO).unwrap()), ["b"]);
    }
}
