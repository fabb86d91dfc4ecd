//! How fast a source may read.

use std::time::Duration;

/// Time that may be made up for: a source that was kept waiting reads faster for so long, and then no faster than it may.
const CATCH_UP: Duration = Duration::from_millis(100);

/// Blocks a second that a source reads at a limited rate, so that rows come evenly.
const POLLS_PER_SECOND: u64 = 100;

/// Rows a second of one subtask of a source.
#[derive(Debug)]
pub(crate) struct Pace {
    rows_per_second: f64,
    /// Elapsed time before which nothing is read.
    next: Duration,
}

impl Pace {
    /// For one of `parallelism` subtasks that together read so many rows a second.
    pub(crate) fn new(rows_per_second: u64, parallelism: u32) -> Self {
        Pace {
            rows_per_second: rows_per_second as f64 / f64::from(parallelism),
            next: Duration::ZERO,
        }
    }

    /// How many rows to read at a time, and no more than these.
    pub(crate) fn rows_per_poll(&self, rows: usize) -> usize {
        rows.min((self.rows_per_second / POLLS_PER_SECOND as f64) as usize)
            .max(1)
    }

    /// How long nothing is to be read.
    pub(crate) fn wait(&self, now: Duration) -> Option<Duration> {
        self.next.checked_sub(now).filter(|wait| !wait.is_zero())
    }

    /// So many rows were read.
    pub(crate) fn handle_rows(&mut self, rows: usize, now: Duration) {
        let took = Duration::from_secs_f64(rows as f64 / self.rows_per_second);
        self.next = self.next.max(now.saturating_sub(CATCH_UP)) + took;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows read in two seconds that are looked at every `step`.
    fn read(mut pace: Pace, step: Duration) -> usize {
        let (mut now, mut rows) = (Duration::ZERO, 0);
        while now < Duration::from_secs(2) {
            while pace.wait(now).is_none() {
                let some = pace.rows_per_poll(8192);
                pace.handle_rows(some, now);
                rows += some;
            }
            now += step;
        }
        rows
    }

    #[test]
    fn as_many_rows_are_read_as_may_be() {
        for (rate, parallelism, expect) in [(1, 1, 2), (10, 4, 5), (5_000, 2, 5_000), (3_000_000, 1, 6_000_000)] {
            for step in [Duration::from_micros(500), Duration::from_millis(30)] {
                let rows = read(Pace::new(rate, parallelism), step);
                // What may be made up for at the start, and the last poll.
                assert!((expect..=expect + expect / 16 + 1).contains(&rows), "{rate}: {rows}");
            }
        }
    }

    #[test]
    fn a_source_that_was_held_up_does_not_make_up_for_all_of_it() {
        let mut pace = Pace::new(100, 1);
        pace.handle_rows(1, Duration::ZERO);
        let later = Duration::from_secs(10);
        let burst = (0..1000).take_while(|_| {
            let may = pace.wait(later).is_none();
            pace.handle_rows(usize::from(may), later);
            may
        });
        assert_eq!(burst.count(), 11);
    }
}
