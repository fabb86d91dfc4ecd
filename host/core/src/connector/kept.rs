//! For whom a sink keeps what it has pre-committed.
//!
//! A savepoint commits nothing: what sinks had prepared for it is hidden until a checkpoint or a job that begins with the
//! savepoint commits it. A job that is started over the same output without it would take that for what a dead process has
//! left, so a note of it lies beside the output:
//!
//! ```text
//!   keep (not written) --> manifest of the savepoint --> keep (written)     a kill behind the first arrow: the note says
//!        '---------------- it fails: release                                where to look whether there is a savepoint
//! ```

/// A savepoint that sinks keep something for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeptFor {
    /// Unique among all savepoints of all jobs, of letters, digits, `.` and `-`.
    pub id: String,
    /// URL that it was written to. It may be elsewhere since.
    pub savepoint: String,
    /// It was completed. Otherwise it may be that there is no such savepoint: its process may have ended before.
    pub is_written: bool,
}
