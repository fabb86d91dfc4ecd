//! The lookup task: rows that are looked up in a table.
//!
//! A table in memory is looked at here; one that is asked for keys has a thread of its own, and wakes the slot. While a block waits for
//! its answer, or for room, the subtask takes nothing else: no barrier either, so that checkpoints hold nothing of it.

use std::sync::Arc;

use millrace_core::Result;
use millrace_core::block::{Block, Millis};
use millrace_core::connector::SubtaskContext;
use millrace_core::graph::{LookupDecl, RejectPolicy};
use millrace_operators::LookupOperator;
use millrace_operators::lookup::Counts;

use super::outputs::Outputs;
use crate::metrics::SubtaskMetrics;
use crate::tables::{Asker, OpenTable, Whole, skipped};

/// Where rows are found.
enum Finder {
    Whole(Arc<Whole>),
    Asked(Asker),
}

/// One subtask of a lookup.
pub(crate) struct LookupTask {
    name: String,
    operator: LookupOperator,
    finder: Finder,
    on_reject: RejectPolicy,
    /// What is the job's is said by the first subtask.
    is_first: bool,
    counted: Counts,
    /// Reads of the table by this subtask, and those in vain.
    read: (u64, u64),
}

impl LookupTask {
    pub(crate) fn open(name: &str, declared: &LookupDecl, table: &OpenTable, context: &SubtaskContext) -> Result<Self> {
        let finder = match table {
            OpenTable::Whole(whole) => Finder::Whole(whole.clone()),
            OpenTable::Keyed(table) => Finder::Asked(Asker::start(table.clone(), context.waker.clone())?),
        };
        Ok(LookupTask {
            name: name.to_owned(),
            operator: LookupOperator::new(declared)?,
            finder,
            on_reject: declared.on_reject.clone(),
            is_first: context.subtask == 0,
            counted: Counts::default(),
            read: (0, 0),
        })
    }

    /// Whether a block is on its way, so that nothing else is taken.
    pub(crate) fn is_busy(&self) -> bool {
        !self.operator.is_idle()
    }

    /// Whether there is something to do without input.
    pub(crate) fn has_work(&self) -> bool {
        let is_answered = match &self.finder {
            Finder::Whole(_) => false,
            Finder::Asked(asker) => asker.is_answered(),
        };
        is_answered || self.operator.has_output()
    }

    pub(crate) fn handle_block(&mut self, block: Block, now: Millis) -> Result<()> {
        match &self.finder {
            Finder::Whole(whole) => self.operator.join(block, &whole.current()),
            Finder::Asked(asker) => match self.operator.ask(block, now)? {
                None => Ok(()),
                Some(keys) => asker.ask(keys),
            },
        }
    }

    /// When the table may have to be read again.
    pub(crate) fn next_time(&self) -> Option<Millis> {
        match &self.finder {
            Finder::Whole(whole) => whole.due(),
            Finder::Asked(_) => None,
        }
    }

    pub(crate) fn handle_time(&self, now: Millis) {
        if let Finder::Whole(whole) = &self.finder {
            whole.handle_time(now);
        }
    }

    /// Takes an answer and sends on what may go, whether there is room or not if `hurries`; whether anything was done.
    pub(crate) fn step(&mut self, outputs: &mut Outputs, metrics: &SubtaskMetrics, hurries: bool) -> Result<bool> {
        let mut worked = false;
        if let Finder::Asked(asker) = &self.finder
            && let Some(answer) = asker.take()
        {
            let rows = answer?;
            metrics
                .lookup_rejected
                .add(skipped(&rows, &self.name, &self.on_reject)?);
            self.operator.handle_answer(&rows.rows)?;
            worked = true;
        }
        while (hurries || outputs.has_room())
            && let Some(rows) = self.operator.poll_output()?
        {
            outputs.emit(0, rows)?;
            worked = true;
        }
        self.count(metrics);
        Ok(worked)
    }

    /// The metrics are those of earlier attempts, too.
    fn count(&mut self, metrics: &SubtaskMetrics) {
        match &self.finder {
            Finder::Whole(whole) if self.is_first => {
                let counts = whole.counts();
                metrics.lookup_reads.set(counts.reads);
                metrics.lookup_failures.set(counts.failures);
                metrics.lookup_rejected.set(counts.rejected);
                metrics.lookup_rows.set(whole.current().row_count() as u64);
            }
            Finder::Whole(_) => {}
            Finder::Asked(asker) => {
                let (read, counted) = (asker.counts(), self.operator.counts());
                let (read_before, before) = (self.read, self.counted);
                (self.read, self.counted) = (read, counted);
                metrics.lookup_reads.add(read.0 - read_before.0);
                metrics.lookup_failures.add(read.1 - read_before.1);
                metrics.lookup_hits.add(counted.hits - before.hits);
                metrics.lookup_misses.add(counted.misses - before.misses);
                metrics.lookup_rows.set(self.operator.cached_rows());
            }
        }
    }
}
