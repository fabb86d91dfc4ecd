//! A table that a subtask asks for keys: a thread waits for the database, and wakes the slot when it has answered.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::RecordBatch;
use millrace_core::connector::{KeyedReader, KeyedTable, Rows, Waker};
use millrace_core::{Error, Fault, Result};

/// How often keys are asked for, each time on another connection, before the job fails.
const ATTEMPTS: u32 = 2;

/// Asks for keys, one block's at a time. The thread ends when this is dropped, and the database has answered.
pub(crate) struct Asker {
    questions: SyncSender<RecordBatch>,
    shared: Arc<Shared>,
}

struct Shared {
    answer: Mutex<Option<Result<Rows>>>,
    is_answered: AtomicBool,
    /// How often the table was asked.
    reads: AtomicU64,
    /// How often that failed and was done again.
    failures: AtomicU64,
    waker: Waker,
}

impl Asker {
    pub(crate) fn start(table: Arc<dyn KeyedTable>, waker: Waker) -> Result<Self> {
        let (questions, receiver) = sync_channel(1);
        let shared = Arc::new(Shared {
            answer: Mutex::new(None),
            is_answered: AtomicBool::new(false),
            reads: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            waker,
        });
        let answers = shared.clone();
        let thread = std::thread::Builder::new().name("lookup".into());
        let spawned = thread.spawn(move || serve(&*table, &receiver, &answers));
        spawned.map_err(|error| {
            let message = format!("a thread that asks a table cannot be started: {error}");
            Error::external("IO0002", message)
        })?;
        Ok(Asker { questions, shared })
    }

    /// Asks for keys. The answer to what was asked before has been taken.
    pub(crate) fn ask(&self, keys: RecordBatch) -> Result<()> {
        let sent = self.questions.try_send(keys);
        sent.map_err(|_| Error::internal("the thread that asks a table is gone, or still asks"))
    }

    /// Whether there is an answer.
    pub(crate) fn is_answered(&self) -> bool {
        self.shared.is_answered.load(Ordering::SeqCst)
    }

    /// The answer, once it is there.
    pub(crate) fn take(&self) -> Option<Result<Rows>> {
        if !self.shared.is_answered.swap(false, Ordering::SeqCst) {
            return None;
        }
        self.shared.answer.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// How often the table was asked, and how often in vain.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let Shared { reads, failures, .. } = &*self.shared;
        (reads.load(Ordering::Relaxed), failures.load(Ordering::Relaxed))
    }
}

fn serve(table: &dyn KeyedTable, questions: &Receiver<RecordBatch>, shared: &Shared) {
    let mut reader = None;
    while let Ok(keys) = questions.recv() {
        let answer = find(table, &mut reader, &keys, shared);
        *shared.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        shared.is_answered.store(true, Ordering::SeqCst);
        (shared.waker.0)();
    }
}

/// Asks; if the outside fails, once more on another connection.
fn find(
    table: &dyn KeyedTable,
    reader: &mut Option<Box<dyn KeyedReader>>,
    keys: &RecordBatch,
    shared: &Shared,
) -> Result<Rows> {
    let mut attempt = 1;
    loop {
        shared.reads.fetch_add(1, Ordering::Relaxed);
        let open = match reader.take() {
            Some(open) => Ok(open),
            None => table.open(),
        };
        let found = open.and_then(|mut open| {
            let found = open.find(keys)?;
            *reader = Some(open);
            Ok(found)
        });
        match found {
            Err(error) if error.fault() == Fault::External && attempt < ATTEMPTS => attempt += 1,
            found => return found,
        }
        shared.failures.fetch_add(1, Ordering::Relaxed);
    }
}
