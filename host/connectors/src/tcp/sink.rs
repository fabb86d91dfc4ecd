//! The sink: rows to a peer that listens, or to all that have connected.
//!
//! Rows gather and are written when there is nothing more to write, and at a checkpoint. When a connection breaks, a
//! writer connects again and sends once more what it was sending; what the system had taken for the peer before that
//! may be lost. Who listens writes to those that are there: rows that nobody hears are gone, and a peer that does not
//! read for a second is dropped.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use millrace_core::connector::{Committable, Delivery, Elapsed, Sink, SinkWriter, SubtaskContext};
use millrace_core::{Error, Result};

use super::{Mode, Settings, backoff};
use crate::format::Encoder;

/// Bytes that gather before they are sent without being asked to.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// A peer that was connected to may take so long to read.
const PEER_TIMEOUT: Duration = Duration::from_secs(30);

/// One of many listeners may not hold up the others.
const LISTENER_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) struct TcpSink {
    settings: Settings,
    schema: SchemaRef,
    /// In mode `listen`, once a writer was opened.
    hub: Mutex<Option<Arc<Hub>>>,
}

/// Those who have connected.
struct Hub {
    listener: TcpListener,
    peers: Mutex<Vec<TcpStream>>,
}

impl TcpSink {
    pub(super) fn new(settings: Settings, schema: SchemaRef) -> Self {
        TcpSink {
            settings,
            schema,
            hub: Mutex::default(),
        }
    }

    fn hub(&self) -> Result<Arc<Hub>> {
        let mut hub = self.hub.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hub) = hub.as_ref() {
            return Ok(hub.clone());
        }
        let listener = self.settings.listen()?;
        let nonblocking = listener.set_nonblocking(true);
        nonblocking.map_err(|error| Error::external("IO0150", format!("cannot listen: {error}")))?;
        let made = Arc::new(Hub {
            listener,
            peers: Mutex::default(),
        });
        *hub = Some(made.clone());
        Ok(made)
    }
}

impl Sink for TcpSink {
    fn delivery(&self) -> Delivery {
        Delivery::AtLeastOnce
    }

    fn check(&self) -> Result<()> {
        match self.settings.mode {
            Mode::Listen => self.hub().map(|_| ()),
            Mode::Connect => Ok(()),
        }
    }

    fn open(&self, _context: &SubtaskContext) -> Result<Box<dyn SinkWriter>> {
        let mut header = Vec::new();
        Encoder::new(self.settings.format.clone()).encode(&RecordBatch::new_empty(self.schema.clone()), &mut header)?;
        Ok(Box::new(Writer {
            encoder: Encoder::new(self.settings.format.clone()).without_header(),
            header,
            to: match self.settings.mode {
                Mode::Connect => To::Peer(None),
                Mode::Listen => To::Hub(self.hub()?),
            },
            settings: self.settings.clone(),
            buffer: Vec::new(),
            written: 0,
        }))
    }
}

enum To {
    Peer(Option<TcpStream>),
    Hub(Arc<Hub>),
}

struct Writer {
    settings: Settings,
    encoder: Encoder,
    /// Begins each connection.
    header: Vec<u8>,
    to: To,
    buffer: Vec<u8>,
    written: u64,
}

impl Writer {
    fn send(&mut self) -> Result<()> {
        match &mut self.to {
            To::Peer(peer) => send_to_peer(peer, &self.settings, &self.header, &self.buffer)?,
            To::Hub(hub) => hub.send(&self.header, &self.buffer),
        }
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

fn send_to_peer(peer: &mut Option<TcpStream>, settings: &Settings, header: &[u8], rows: &[u8]) -> Result<()> {
    let mut failures = 0;
    loop {
        let connected = match peer.take() {
            Some(stream) => Ok(stream),
            None => settings.connect().and_then(|mut stream| {
                stream.set_write_timeout(Some(PEER_TIMEOUT))?;
                stream.write_all(header)?;
                Ok(stream)
            }),
        };
        let sent = connected.and_then(|mut stream| stream.write_all(rows).map(|()| stream));
        match sent {
            Ok(stream) => {
                *peer = Some(stream);
                return Ok(());
            }
            Err(error) => {
                failures += 1;
                if settings.attempts.is_some_and(|attempts| failures > attempts) {
                    return Err(settings.unreachable(failures, &error));
                }
                std::thread::sleep(backoff(failures));
            }
        }
    }
}

impl Hub {
    fn send(&self, header: &[u8], rows: &[u8]) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        while let Ok((mut stream, _)) = self.listener.accept() {
            let ready = stream
                .set_nonblocking(false)
                .and_then(|()| stream.set_write_timeout(Some(LISTENER_TIMEOUT)))
                .and_then(|()| stream.write_all(header));
            if ready.is_ok() {
                peers.push(stream);
            }
        }
        peers.retain_mut(|peer| peer.write_all(rows).is_ok());
    }
}

impl SinkWriter for Writer {
    fn write(&mut self, rows: &RecordBatch, _now: Elapsed) -> Result<()> {
        self.encoder.encode(rows, &mut self.buffer)?;
        if self.buffer.len() >= BUFFER_BYTES_MAX {
            return self.send();
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        match self.buffer.is_empty() {
            true => Ok(()),
            false => self.send(),
        }
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
