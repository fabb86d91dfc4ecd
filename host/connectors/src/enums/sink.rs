//! A sink whose connector takes names.

use std::sync::Arc;

use arrow_array::RecordBatch;
use millrace_core::Result;
use millrace_core::connector::{Committable, Delivery, Elapsed, KeptFor, Sink, SinkWriter, SubtaskContext};

use super::Enums;

/// The sink with names for numbers before `inner`, which was made for [`Enums::outside`].
pub fn with_names(inner: Arc<dyn Sink>, enums: Enums) -> Arc<dyn Sink> {
    let enums = Arc::new(enums);
    Arc::new(NamedSink { inner, enums })
}

struct NamedSink {
    inner: Arc<dyn Sink>,
    enums: Arc<Enums>,
}

struct NamedWriter {
    inner: Box<dyn SinkWriter>,
    enums: Arc<Enums>,
}

impl Sink for NamedSink {
    fn delivery(&self) -> Delivery {
        self.inner.delivery()
    }

    fn check(&self) -> Result<()> {
        self.inner.check()
    }

    fn recover(&self, prepared: &[Committable]) -> Result<()> {
        self.inner.recover(prepared)
    }

    fn keep(&self, savepoint: &KeptFor, prepared: &[Committable]) -> Result<()> {
        self.inner.keep(savepoint, prepared)
    }

    fn kept(&self) -> Result<Vec<KeptFor>> {
        self.inner.kept()
    }

    fn release(&self, id: &str) -> Result<()> {
        self.inner.release(id)
    }

    fn open(&self, context: &SubtaskContext) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(NamedWriter {
            inner: self.inner.open(context)?,
            enums: self.enums.clone(),
        }))
    }

    fn summary(&self) -> Vec<(String, String)> {
        self.inner.summary()
    }
}

impl SinkWriter for NamedWriter {
    fn write(&mut self, rows: &RecordBatch, now: Elapsed) -> Result<()> {
        self.inner.write(&self.enums.to_names(rows)?, now)
    }

    fn flush(&mut self) -> Result<()> {
        self.inner.flush()
    }

    fn pre_commit(&mut self) -> Result<Vec<Committable>> {
        self.inner.pre_commit()
    }

    fn commit(&mut self, committables: &[Committable]) -> Result<()> {
        self.inner.commit(committables)
    }

    fn abort(&mut self, prepared: &[Committable]) -> Result<()> {
        self.inner.abort(prepared)
    }

    fn bytes_written(&self) -> u64 {
        self.inner.bytes_written()
    }

    fn summary(&self) -> Vec<(String, String)> {
        self.inner.summary()
    }
}
