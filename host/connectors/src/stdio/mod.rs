//! Standard input as a source and standard output as a sink.

mod stdin;
mod stdout;

pub(crate) use stdin::StdinConnector;
pub(crate) use stdout::StdoutConnector;

/// Code of the error that says that the reader of standard output went away. Like other command-line tools,
/// a program should then end quietly: whoever read has seen enough.
pub const STDOUT_CLOSED: &str = "IO0109";
