//! How a running job is shown: a view that is redrawn on a terminal, a line every second elsewhere, and a summary
//! at the end. All of it on stderr: stdout belongs to the job.
//!
//! The seam is [`Snapshot`], plain numbers since the start of the job. Whoever runs the job takes one from the
//! metrics a few times a second and calls [`Progress::update`]; rates are computed here, from one snapshot to the
//! next. [`view`] makes the text and knows no terminal.
//!
//! ```
//! use std::time::Duration;
//! use millrace_cli::progress::{Mode, Progress, Snapshot};
//!
//! let mut progress = Progress::new("word-count", Mode::Lines);
//! let mut snapshot = Snapshot { elapsed: Duration::from_secs(1), rows_in: 1000, ..Snapshot::default() };
//! progress.update(&snapshot);            // prints a line
//! snapshot.rows_in = 2500;
//! snapshot.elapsed = Duration::from_secs(2);
//! progress.finish(&snapshot);            // prints the summary
//! ```

pub mod view;

use std::io::{self, IsTerminal as _, Write};
use std::time::Duration;

use crossterm::cursor::{MoveToColumn, MoveUp};
use crossterm::queue;
use crossterm::terminal::{Clear, ClearType};
use millrace_core::block::Millis;
use serde::Serialize;

use crate::output::{printable, printable_line};

/// Time between two lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

/// Width of a terminal that does not say.
const WIDTH_DEFAULT: u16 = 100;

/// A job at one moment. Counts are since its start.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Snapshot {
    /// Time since the job started.
    #[serde(rename = "seconds", serialize_with = "as_seconds")]
    pub elapsed: Duration,
    /// Rows that sources gave.
    pub rows_in: u64,
    /// Rows that sinks took.
    pub rows_out: u64,
    /// The lowest watermark of all sinks, or of all operators where no sink has one.
    pub watermark: Option<Millis>,
    /// The operators, in the order of the graph.
    pub operators: Vec<OperatorRow>,
    /// The last checkpoint, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointRow>,
}

/// A completed checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CheckpointRow {
    /// Its id.
    pub id: u64,
    /// From its trigger until it was durable.
    #[serde(rename = "seconds", serialize_with = "as_seconds")]
    pub duration: Duration,
    /// Longest time that a subtask waited for its barriers.
    #[serde(rename = "alignment_seconds", serialize_with = "as_seconds")]
    pub alignment: Duration,
    /// Bytes of rows under way that it holds.
    pub in_flight_bytes: u64,
}

/// An operator, all its subtasks together.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct OperatorRow {
    /// Its name.
    pub name: String,
    /// Number of subtasks.
    pub subtasks: u32,
    /// Shares of the time since the previous snapshot, together 1 at most: mean over the subtasks.
    pub busy: f64,
    /// Waiting for room downstream.
    pub backpressured: f64,
    /// Waiting for input.
    pub idle: f64,
    /// Rows received; for a source, rows read.
    pub rows_in: u64,
    /// Rows put out; for a sink, rows written.
    pub rows_out: u64,
    /// Rows too late for any window.
    pub late: u64,
    /// Rows rejected: skipped or in a dead-letter file.
    pub rejected: u64,
    /// Its lowest watermark.
    pub watermark: Option<Millis>,
}

/// Where and how progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Lines on a terminal, redrawn in place.
    Terminal,
    /// A plain line every second.
    Lines,
    /// Nothing but the summary.
    Quiet,
}

impl Mode {
    /// The mode for this process. Where the job itself writes to a standard output that is the same terminal,
    /// redrawing would destroy its rows, so that plain lines are printed.
    pub fn detect(job_writes_stdout: bool) -> Self {
        let shared = job_writes_stdout && io::stdout().is_terminal();
        if io::stderr().is_terminal() && !shared {
            Mode::Terminal
        } else {
            Mode::Lines
        }
    }
}

/// Shows a job's progress.
pub struct Progress<W: Write = io::Stderr> {
    out: W,
    job: String,
    mode: Mode,
    previous: Snapshot,
    last_line: Duration,
    /// Lines of the view that are on the terminal, the cursor being below them.
    drawn: u16,
}

impl Progress {
    /// Progress on stderr.
    pub fn new(job: &str, mode: Mode) -> Self {
        Progress::on(io::stderr(), job, mode)
    }
}

impl<W: Write> Progress<W> {
    /// Progress on any writer.
    pub fn on(out: W, job: &str, mode: Mode) -> Self {
        Progress {
            out,
            job: printable_line(job),
            mode,
            previous: Snapshot::default(),
            last_line: Duration::ZERO,
            drawn: 0,
        }
    }

    /// Shows the job as it is now. To be called a few times a second.
    pub fn update(&mut self, now: &Snapshot) {
        match self.mode {
            Mode::Quiet => return,
            Mode::Terminal => {
                let (width, height) = crossterm::terminal::size().unwrap_or((WIDTH_DEFAULT, 25));
                let lines = view::screen(&self.job, &self.previous, now, width.into(), height.into());
                self.redraw(&lines);
            }
            Mode::Lines => {
                if now.elapsed < self.last_line + LINE_INTERVAL {
                    return;
                }
                self.last_line = now.elapsed;
                let line = view::line(&self.previous, now);
                self.print(&format!("{line}\n"));
            }
        }
        self.previous = now.clone();
    }

    /// Prints something else (a line of the job's log), above the view if there is one.
    pub fn message(&mut self, text: &str) {
        self.clear();
        self.print(&format!("{}\n", printable(text.trim_end())));
    }

    /// Takes the view off the terminal and prints the summary.
    pub fn finish(&mut self, end: &Snapshot) {
        self.clear();
        let summary = view::summary(&self.job, end);
        self.print(&summary);
    }

    /// Takes the view off the terminal.
    pub fn clear(&mut self) {
        if self.drawn > 0 {
            let up = MoveUp(self.drawn);
            // Nobody is left to tell if stderr is gone; the same below.
            let _ = queue!(self.out, MoveToColumn(0), up, Clear(ClearType::FromCursorDown));
            let _ = self.out.flush();
            self.drawn = 0;
        }
    }

    fn redraw(&mut self, lines: &[String]) {
        let mut frame = Vec::new();
        if self.drawn > 0 {
            let _ = queue!(frame, MoveToColumn(0), MoveUp(self.drawn));
        }
        for line in lines {
            frame.extend_from_slice(line.as_bytes());
            let _ = queue!(frame, Clear(ClearType::UntilNewLine));
            frame.push(b'\n');
        }
        let _ = queue!(frame, Clear(ClearType::FromCursorDown));
        // One write, so that the terminal never shows half a view.
        let _ = self.out.write_all(&frame);
        let _ = self.out.flush();
        self.drawn = u16::try_from(lines.len()).expect("a view is no higher than the terminal");
    }

    fn print(&mut self, text: &str) {
        let _ = self.out.write_all(text.as_bytes());
        let _ = self.out.flush();
    }
}

fn as_seconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64, rows_in: u64) -> Snapshot {
        Snapshot {
            elapsed: Duration::from_millis(milliseconds),
            rows_in,
            ..Snapshot::default()
        }
    }

    #[test]
    fn plain_lines_come_once_a_second() {
        let mut out = Vec::new();
        let mut progress = Progress::on(&mut out, "job", Mode::Lines);
        for step in 1..=12 {
            progress.update(&at(step * 250, step * 1000));
        }
        let text = String::from_utf8(out).expect("UTF-8");
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(
            text.lines().nth(1).is_some_and(|line| line.contains("4.00 k/s")),
            "{text}"
        );
    }

    #[test]
    fn a_view_is_drawn_over_the_one_before_and_gone_at_the_end() {
        let mut out = Vec::new();
        let mut progress = Progress::on(&mut out, "job", Mode::Terminal);
        progress.update(&at(250, 10));
        let lines = progress.drawn;
        assert!(lines > 0);
        progress.update(&at(500, 20));
        assert_eq!(progress.drawn, lines);
        progress.finish(&at(600, 20));
        assert_eq!(progress.drawn, 0);
        let text = String::from_utf8(out).expect("UTF-8");
        assert_eq!(text.matches(&format!("\x1b[{lines}A")).count(), 2, "{text:?}");
    }

    #[test]
    fn quiet_prints_the_summary_alone() {
        let mut out = Vec::new();
        let mut progress = Progress::on(&mut out, "job", Mode::Quiet);
        progress.update(&at(250, 10));
        progress.finish(&at(500, 10));
        let text = String::from_utf8(out).expect("UTF-8");
        assert!(text.starts_with("job: 10 rows in"), "{text}");
    }
}
