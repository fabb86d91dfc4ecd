//! The source: threads read sockets, the reader parses what has come.
//!
//! ```text
//! connect   one thread: connect, read to the end, wait, connect again ...   --+
//! listen    one thread accepts, one reads each connection                   --+--> bounded channel --> reader
//! ```
//!
//! Each connection is a stream of its own, with a CSV header of its own if there is one; it has a parser from when it
//! begins until its end. What stands behind the last line end is a row if the peer has closed the connection, and is
//! dropped if that broke. The channel is bounded: a sender that is faster than the job waits.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use arrow_schema::SchemaRef;
use millrace_core::connector::{
    Boundedness, Elapsed, Poll, Position, Replay, Rows, Source, Split, SplitReader, SubtaskContext, Waker,
};
use millrace_core::{Error, Result};

use super::{Mode, Settings, backoff};
use crate::format::RowParser;
use crate::position;

/// Bytes asked for at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// Chunks of all connections that wait to be parsed.
const CHUNKS_MAX: usize = 32;

/// How often a thread that waits looks whether it is to end.
const LOOK: Duration = Duration::from_millis(20);

pub(super) struct TcpSource {
    settings: Settings,
    connections_max: usize,
    schema: SchemaRef,
}

impl TcpSource {
    pub(super) fn new(settings: Settings, connections_max: usize, schema: SchemaRef) -> Self {
        TcpSource {
            settings,
            connections_max,
            schema,
        }
    }
}

impl Source for TcpSource {
    fn boundedness(&self) -> Boundedness {
        match (self.settings.mode, self.settings.attempts) {
            (Mode::Connect, Some(0)) => Boundedness::Bounded,
            (Mode::Connect | Mode::Listen, _) => Boundedness::Unbounded,
        }
    }

    fn splits(&self, _parallelism: u32) -> Result<Vec<Split>> {
        Ok(vec![Split {
            id: "tcp".to_owned(),
            position: Position::START,
        }])
    }

    fn replay(&self) -> Replay {
        Replay::Lost
    }

    fn lost_on_restart(&self) -> Option<String> {
        Some(format!(
            "rows that `{}` has sent since the last checkpoint are lost when the job goes on from it: a socket does not \
             give them again",
            self.settings.address
        ))
    }

    fn open(&self, split: &Split, context: &SubtaskContext) -> Result<Box<dyn SplitReader>> {
        let ended = position::decode::<1>(&split.position)? == Some([1]);
        let (sender, receiver) = sync_channel(CHUNKS_MAX);
        let shared = Arc::new(Shared {
            sender,
            waker: context.waker.clone(),
            stopped: AtomicBool::new(false),
            streams: Mutex::default(),
        });
        let mut reader = Reader {
            settings: self.settings.clone(),
            schema: self.schema.clone(),
            shared: shared.clone(),
            receiver: Some(receiver),
            thread: None,
            parsers: BTreeMap::new(),
            ended,
        };
        if !ended {
            let settings = self.settings.clone();
            let max = self.connections_max;
            let work: Box<dyn FnOnce() + Send> = match settings.mode {
                Mode::Connect => Box::new(move || shared.connect(&settings)),
                Mode::Listen => {
                    let listener = settings.listen()?;
                    let nonblocking = listener.set_nonblocking(true);
                    nonblocking.map_err(|error| Error::external("IO0150", format!("cannot listen: {error}")))?;
                    Box::new(move || accept(&shared, &listener, max))
                }
            };
            reader.thread = Some(spawn("tcp", work)?);
        }
        Ok(Box::new(reader))
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    thread.map_err(|error| Error::external("IO0152", format!("no thread to read a socket: {error}")))
}

/// What threads say, by connection.
enum Event {
    Begun(u64),
    Bytes(u64, Vec<u8>),
    /// The peer has closed it (true), or it broke.
    Ended(u64, bool),
    /// It cannot be had, after so many tries.
    Unreachable(u32, std::io::Error),
    /// There will be no other.
    Finished,
}

/// What the threads share with the reader.
struct Shared {
    sender: SyncSender<Event>,
    waker: Waker,
    stopped: AtomicBool,
    /// By connection, to end threads that wait for bytes.
    streams: Mutex<BTreeMap<u64, TcpStream>>,
}

impl Shared {
    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// False: the reader is gone.
    fn send(&self, event: Event) -> bool {
        let sent = !self.is_stopped() && self.sender.send(event).is_ok();
        (self.waker.0)();
        sent
    }

    fn sleep(&self, time: Duration) {
        let mut slept = Duration::ZERO;
        while slept < time && !self.is_stopped() {
            std::thread::sleep(LOOK);
            slept += LOOK;
        }
    }

    /// Connects again and again.
    fn connect(&self, settings: &Settings) {
        let (mut connection, mut failures) = (0, 0);
        while !self.is_stopped() {
            match settings.connect() {
                Ok(stream) => {
                    failures = 0;
                    connection += 1;
                    self.read(connection, stream);
                    if settings.attempts == Some(0) {
                        self.send(Event::Finished);
                        return;
                    }
                    self.sleep(backoff(1));
                }
                Err(error) => {
                    failures += 1;
                    if settings.attempts.is_some_and(|attempts| failures > attempts) {
                        self.send(Event::Unreachable(failures, error));
                        return;
                    }
                    self.sleep(backoff(failures));
                }
            }
        }
    }

    /// Reads a connection to its end.
    fn read(&self, connection: u64, mut stream: TcpStream) {
        let kept = stream.try_clone();
        let streams = || self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(kept) = kept {
            streams().insert(connection, kept);
        }
        // Whoever stops looks into the table before or after this: either way it ends.
        let mut open = !self.is_stopped() && self.send(Event::Begun(connection));
        while open {
            let mut chunk = vec![0; CHUNK_BYTES];
            open = match stream.read(&mut chunk) {
                Ok(0) => {
                    self.send(Event::Ended(connection, true));
                    false
                }
                Ok(bytes) => {
                    chunk.truncate(bytes);
                    self.send(Event::Bytes(connection, chunk))
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => true,
                Err(_) => {
                    self.send(Event::Ended(connection, false));
                    false
                }
            };
        }
        streams().remove(&connection);
    }
}

/// Accepts connections and reads each in a thread.
fn accept(shared: &Arc<Shared>, listener: &TcpListener, connections_max: usize) {
    let mut connection = 0;
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    while !shared.is_stopped() {
        threads.retain(|thread| !thread.is_finished());
        // More wait in the system's queue until one has ended.
        let accepted = match threads.len() < connections_max {
            true => listener.accept(),
            false => Err(ErrorKind::WouldBlock.into()),
        };
        let Ok((stream, _)) = accepted else {
            std::thread::sleep(LOOK);
            continue;
        };
        if stream.set_nonblocking(false).is_err() {
            continue;
        }
        connection += 1;
        let (shared, number) = (shared.clone(), connection);
        if let Ok(thread) = spawn("tcp-connection", move || shared.read(number, stream)) {
            threads.push(thread);
        }
    }
}

struct Reader {
    settings: Settings,
    schema: SchemaRef,
    shared: Arc<Shared>,
    receiver: Option<Receiver<Event>>,
    thread: Option<JoinHandle<()>>,
    /// By connection; whether what is behind its last line end counts, if it has ended.
    parsers: BTreeMap<u64, (RowParser, Option<bool>)>,
    ended: bool,
}

impl Reader {
    /// Takes what has come, up to a block's worth of one connection; bytes.
    fn receive(&mut self, rows_max: usize) -> Result<u64> {
        let mut bytes = 0;
        loop {
            let event = match self.receiver.as_ref().map(Receiver::try_recv) {
                Some(Ok(event)) => event,
                Some(Err(TryRecvError::Empty | TryRecvError::Disconnected)) | None => return Ok(bytes),
            };
            match event {
                Event::Begun(connection) => {
                    let (name, format) = (&self.settings.address, &self.settings.format);
                    let parser = RowParser::new(name, format, &self.schema, None, Default::default())?;
                    self.parsers.insert(connection, (parser, None));
                }
                Event::Bytes(connection, chunk) => {
                    bytes += chunk.len() as u64;
                    if let Some((parser, _)) = self.parsers.get_mut(&connection) {
                        parser.buffer_mut().extend_from_slice(&chunk);
                        if parser.frame(rows_max)? {
                            return Ok(bytes);
                        }
                    }
                }
                Event::Ended(connection, whole) => {
                    if let Some((parser, ended)) = self.parsers.get_mut(&connection) {
                        *ended = Some(whole);
                        if whole {
                            parser.close();
                        }
                        return Ok(bytes);
                    }
                }
                Event::Unreachable(attempts, error) => return Err(self.settings.unreachable(attempts, &error)),
                Event::Finished => {
                    self.ended = true;
                    return Ok(bytes);
                }
            }
        }
    }

    /// Rows of the first connection that has some.
    fn take(&mut self, rows_max: usize, bytes: u64) -> Result<Option<Rows>> {
        let connections: Vec<u64> = self.parsers.keys().copied().collect();
        for connection in connections {
            let Some((parser, ended)) = self.parsers.get_mut(&connection) else {
                continue;
            };
            parser.frame(rows_max)?;
            match parser.take(&mut || 0)? {
                Some((rows, rejected)) => return Ok(Some(Rows { rows, rejected, bytes })),
                None if ended.is_some() => {
                    self.parsers.remove(&connection);
                }
                None => {}
            }
        }
        Ok(None)
    }
}

impl SplitReader for Reader {
    fn poll(&mut self, rows_max: usize, _now: Elapsed) -> Result<Poll> {
        // What has come is given before more is taken: no sender gets ahead by more than the channel holds.
        if let Some(rows) = self.take(rows_max, 0)? {
            return Ok(Poll::Rows(rows));
        }
        let bytes = self.receive(rows_max)?;
        match self.take(rows_max, bytes)? {
            Some(rows) => Ok(Poll::Rows(rows)),
            None if self.ended => Ok(Poll::End),
            // Something more may have come that is not a row yet.
            None if bytes > 0 => Ok(Poll::Pending {
                wake_after: Some(Duration::ZERO),
            }),
            None => Ok(Poll::Pending { wake_after: None }),
        }
    }

    fn position(&self) -> Position {
        let over = self.ended && self.parsers.is_empty();
        position::encode([u64::from(over)])
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        // Who waits for room in the channel is woken by its end.
        self.receiver = None;
        let streams = self.shared.streams.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in streams.values() {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
        drop(streams);
        // The address is free when this returns, for a job that goes on.
        if let Some(thread) = self.thread.take().filter(|_| self.settings.mode == Mode::Listen) {
            let _ = thread.join();
        }
    }
}
