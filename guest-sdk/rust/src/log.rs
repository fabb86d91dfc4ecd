//! Lines for the job's log: `info!("{} rows", n)` and its relatives.
//!
//! The host limits their rate, and drops what is too much.

use std::fmt::Arguments;

use crate::abi::host::{self, Level};

/// How important a line is.
///
/// ```
/// assert_ne!(millrace::log::Severity::Info, millrace::log::Severity::Warn);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Every step.
    Trace,
    /// What helps to find a mistake.
    Debug,
    /// What an operator wants to know.
    Info,
    /// What may be wrong.
    Warn,
    /// What is wrong.
    Error,
}

/// Writes a line. The macros call it.
///
/// ```
/// millrace::log::write(millrace::log::Severity::Info, format_args!("started"));
/// ```
pub fn write(severity: Severity, line: Arguments<'_>) {
    let level = match severity {
        Severity::Trace => Level::Trace,
        Severity::Debug => Level::Debug,
        Severity::Info => Level::Info,
        Severity::Warn => Level::Warn,
        Severity::Error => Level::Error,
    };
    match line.as_str() {
        Some(line) => host::log(level, line),
        None => host::log(level, &line.to_string()),
    }
}

/// Writes a line of severity trace to the job's log.
///
/// ```
/// millrace::trace!("row {}", 7);
/// ```
#[macro_export]
macro_rules! trace {
    ($($argument:tt)+) => { $crate::log::write($crate::log::Severity::Trace, ::std::format_args!($($argument)+)) };
}

/// Writes a line of severity debug to the job's log.
///
/// ```
/// millrace::debug!("row {}", 7);
/// ```
#[macro_export]
macro_rules! debug {
    ($($argument:tt)+) => { $crate::log::write($crate::log::Severity::Debug, ::std::format_args!($($argument)+)) };
}

/// Writes a line of severity info to the job's log.
///
/// ```
/// millrace::info!("row {}", 7);
/// ```
#[macro_export]
macro_rules! info {
    ($($argument:tt)+) => { $crate::log::write($crate::log::Severity::Info, ::std::format_args!($($argument)+)) };
}

/// Writes a line of severity warn to the job's log.
///
/// ```
/// millrace::warn!("row {}", 7);
/// ```
#[macro_export]
macro_rules! warn {
    ($($argument:tt)+) => { $crate::log::write($crate::log::Severity::Warn, ::std::format_args!($($argument)+)) };
}

/// Writes a line of severity error to the job's log.
///
/// ```
/// millrace::error!("row {}", 7);
/// ```
#[macro_export]
macro_rules! error {
    ($($argument:tt)+) => { $crate::log::write($crate::log::Severity::Error, ::std::format_args!($($argument)+)) };
}
