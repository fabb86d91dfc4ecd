//! From the engine's metrics to what the progress view shows.

use std::time::Duration;

use millrace_core::block::{Millis, WATERMARK_MAX, WATERMARK_MIN};
use millrace_engine::metrics::{TaskMetrics, TaskRole};
use millrace_engine::{CheckpointStatistics, Job, Report};

use crate::output::printable_line;
use crate::progress::{CheckpointRow, OperatorRow, Snapshot};

/// Takes snapshots of a job; shares of time are those since the previous one.
#[derive(Debug, Default)]
pub struct Snapshots {
    previous: Vec<[u64; 3]>,
}

impl Snapshots {
    /// The job as it is now.
    pub fn take(&mut self, job: &Job) -> Snapshot {
        let now = self.of(job.tasks(), job.elapsed());
        Snapshot {
            checkpoint: last_checkpoint(&job.checkpoints()),
            ..now
        }
    }

    /// A job that has ended, shares of time over its whole life.
    pub fn whole(report: &Report) -> Snapshot {
        Snapshots::default().of(&report.tasks, report.elapsed)
    }

    fn of(&mut self, tasks: &[TaskMetrics], elapsed: Duration) -> Snapshot {
        self.previous.resize(tasks.len(), [0; 3]);
        let operators = tasks
            .iter()
            .zip(&mut self.previous)
            .map(|(task, previous)| row(task, task.spent(elapsed), previous))
            .collect();
        let total =
            |role, counter: fn(&TaskMetrics) -> u64| tasks.iter().filter(|task| task.role == role).map(counter).sum();
        Snapshot {
            elapsed,
            rows_in: total(TaskRole::Source, |task| task.total(|metrics| &metrics.rows_in)),
            rows_out: total(TaskRole::Sink, |task| task.total(|metrics| &metrics.rows_out)),
            watermark: lowest_watermark(tasks),
            operators,
            checkpoint: None,
        }
    }
}

fn last_checkpoint(taken: &CheckpointStatistics) -> Option<CheckpointRow> {
    (taken.completed > 0).then_some(CheckpointRow {
        id: taken.last_id,
        duration: taken.last_duration,
        alignment: taken.last_alignment,
        in_flight_bytes: taken.last_in_flight_bytes,
    })
}

fn row(task: &TaskMetrics, now: [u64; 3], previous: &mut [u64; 3]) -> OperatorRow {
    let spent: Vec<u64> = now
        .iter()
        .zip(previous.iter())
        .map(|(now, previous)| now.saturating_sub(*previous))
        .collect();
    *previous = now;
    let all = spent.iter().sum::<u64>().max(1) as f64;
    OperatorRow {
        name: printable_line(&task.name),
        subtasks: task.subtasks.len() as u32,
        busy: spent[0] as f64 / all,
        backpressured: spent[1] as f64 / all,
        idle: spent[2] as f64 / all,
        rows_in: task.total(|metrics| &metrics.rows_in),
        rows_out: task.total(|metrics| &metrics.rows_out),
        late: task.total(|metrics| &metrics.late),
        rejected: task.total(|metrics| &metrics.rejected),
        watermark: known(task.watermark()),
    }
}

/// A watermark that says something: not before the first, nor after the end.
fn known(watermark: Millis) -> Option<Millis> {
    (watermark != WATERMARK_MIN && watermark != WATERMARK_MAX).then_some(watermark)
}

fn lowest_watermark(tasks: &[TaskMetrics]) -> Option<Millis> {
    let lowest = |role| {
        tasks
            .iter()
            .filter(|task| task.role == role)
            .filter_map(|task| known(task.watermark()))
            .min()
    };
    lowest(TaskRole::Sink)
        .or_else(|| lowest(TaskRole::Operator))
        .or_else(|| lowest(TaskRole::Source))
}
