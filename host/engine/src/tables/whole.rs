//! A table in memory, and how it is read anew.
//!
//! Who sees that it is time (a subtask) has a thread read the table, and goes on. Rows meet what was read before, until all of
//! it has been read; then the table is another one at once, for all subtasks. A read that fails changes nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use millrace_core::block::Millis;
use millrace_core::connector::{Poll, Source, SubtaskContext, Waker};
use millrace_core::graph::{LookupDecl, TableAccess};
use millrace_core::{Error, Result};
use millrace_operators::lookup::{TableBuilder, WholeTable};
use millrace_wasm::{LogLevel, LogSink};

use super::skipped;

/// Rows that are read at a time.
const ROWS_PER_POLL: usize = 8192;

/// Longest wait for a source that has no row now.
const WAIT_MAX: Duration = Duration::from_millis(100);

/// What is read, and what was.
pub(crate) struct Whole {
    reading: Arc<Reading>,
    refresh_ms: Option<u64>,
    log: LogSink,
    state: Mutex<State>,
    reads: AtomicU64,
    failures: AtomicU64,
    rejected: AtomicU64,
}

/// What it takes to read the table.
struct Reading {
    name: String,
    declared: LookupDecl,
    source: Arc<dyn Source>,
}

struct State {
    table: Arc<WholeTable>,
    /// What the source said before the table was read.
    version: Option<String>,
    /// When it is to be read again; `None`: nobody has said what time it is.
    due: Option<Millis>,
    is_being_read: bool,
}

/// What became of reads so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) reads: u64,
    pub(crate) failures: u64,
    pub(crate) rejected: u64,
}

/// A table as it was read.
struct Read {
    table: WholeTable,
    version: Option<String>,
    rejected: u64,
}

impl Whole {
    /// Reads the table for the first time.
    pub(crate) fn read(name: &str, declared: &LookupDecl, source: Arc<dyn Source>, log: LogSink) -> Result<Arc<Self>> {
        let reading = Arc::new(Reading {
            name: name.to_owned(),
            declared: declared.clone(),
            source,
        });
        let read = reading.read(&|| true)?;
        let refresh_ms = match declared.access {
            TableAccess::Full { refresh_ms, .. } => refresh_ms,
            TableAccess::Cached { .. } | TableAccess::Uncached => None,
        };
        Ok(Arc::new(Whole {
            reading,
            refresh_ms,
            log,
            state: Mutex::new(State {
                table: Arc::new(read.table),
                version: read.version,
                due: None,
                is_being_read: false,
            }),
            reads: AtomicU64::new(1),
            failures: AtomicU64::new(0),
            rejected: AtomicU64::new(read.rejected),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The table as it is now.
    pub(crate) fn current(&self) -> Arc<WholeTable> {
        self.lock().table.clone()
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            reads: self.reads.load(Ordering::SeqCst),
            failures: self.failures.load(Ordering::SeqCst),
            rejected: self.rejected.load(Ordering::SeqCst),
        }
    }

    /// When somebody has to look whether the table is to be read again.
    pub(crate) fn due(&self) -> Option<Millis> {
        self.refresh_ms?;
        Some(self.lock().due.unwrap_or(Millis::MIN))
    }

    /// Has the table be read again if it is time.
    pub(crate) fn handle_time(self: &Arc<Self>, now: Millis) {
        let Some(refresh_ms) = self.refresh_ms else { return };
        let starts = {
            let mut state = self.lock();
            let is_due = state.due.is_some_and(|due| due <= now);
            if state.due.is_none() || is_due {
                state.due = Some(now.saturating_add_unsigned(refresh_ms));
            }
            let starts = is_due && !state.is_being_read;
            state.is_being_read |= starts;
            starts
        };
        if !starts {
            return;
        }
        let (table, reading) = (Arc::downgrade(self), self.reading.clone());
        let thread = std::thread::Builder::new().name("table".into());
        let spawned = thread.spawn(move || read_again(&table, &reading));
        if let Err(error) = spawned {
            let error = Error::external("IO0002", format!("a thread to read a table cannot be started: {error}"));
            self.handle_failure(&error);
        }
    }

    fn handle_failure(&self, error: &Error) {
        self.lock().is_being_read = false;
        self.failures.fetch_add(1, Ordering::SeqCst);
        let name = &self.reading.name;
        (self.log)(
            LogLevel::Warn,
            &format!(
                "operator `{name}`: the table cannot be read again, and stays as it was: {error} [{}]",
                error.code()
            ),
        );
    }
}

/// Reads a table again, unless it has not changed or nobody has it any more.
fn read_again(table: &Weak<Whole>, reading: &Reading) {
    let before = match table.upgrade() {
        None => return,
        Some(table) => table.lock().version.clone(),
    };
    let is_same = |version: Result<Option<String>>| before.is_some() && version.is_ok_and(|version| version == before);
    if is_same(reading.source.version()) {
        if let Some(table) = table.upgrade() {
            table.lock().is_being_read = false;
        }
        return;
    }
    let read = reading.read(&|| table.strong_count() > 0);
    let Some(table) = table.upgrade() else { return };
    match read {
        Err(error) => table.handle_failure(&error),
        Ok(read) => {
            let before = {
                let mut state = table.lock();
                state.version = read.version;
                state.is_being_read = false;
                std::mem::replace(&mut state.table, Arc::new(read.table))
            };
            // What takes long is done without the lock.
            drop(before);
            table.rejected.fetch_add(read.rejected, Ordering::SeqCst);
            table.reads.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Reading {
    /// Reads all of the table, as long as it is wanted.
    fn read(&self, is_wanted: &dyn Fn() -> bool) -> Result<Read> {
        // What changes from here on has another version.
        let version = self.source.version()?;
        let reader = std::thread::current();
        let context = SubtaskContext {
            subtask: 0,
            parallelism: 1,
            waker: Waker(Arc::new(move || reader.unpark())),
            checkpoints: false,
        };
        let (mut builder, mut rejected) = (TableBuilder::new(&self.declared), 0);
        for split in self.source.splits(1)? {
            let mut split = self.source.open(&split, &context)?;
            loop {
                if !is_wanted() {
                    return Err(Error::internal("a table is read that nobody wants"));
                }
                match split.poll(ROWS_PER_POLL, Duration::ZERO)? {
                    Poll::Rows(rows) => {
                        rejected += skipped(&rows, &self.name, &self.declared.on_reject)?;
                        builder.push(rows.rows)?;
                    }
                    Poll::Pending { wake_after } => {
                        std::thread::park_timeout(wake_after.map_or(WAIT_MAX, |wait| wait.min(WAIT_MAX)));
                    }
                    Poll::End => break,
                }
            }
        }
        Ok(Read {
            table: builder.finish()?,
            version,
            rejected,
        })
    }
}
