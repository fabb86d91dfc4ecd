//! The matcher against a naive model, where rows are conditions and patterns are random, and against facts about another.

mod flink;
mod matching;
mod model;
mod random;
