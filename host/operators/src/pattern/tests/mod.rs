//! The matcher against a naive model: rows are conditions, patterns are random.

mod matching;
mod model;
mod operator;
