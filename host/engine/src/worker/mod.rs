//! A worker's slots: threads that each run one subtask of every task that shares them.
//!
//! `wiring` turns a plan into channels, `slot` is the loop, `subtask` one task's copy, `inputs` what waits in front of
//! it, `outputs` where its rows go, `portion` how much it takes in a turn, `questions` what it is asked, `taking` its parts
//! in checkpoints and `piece` how much of its state it exports at a time; `source` (with `discovery` and `at_barriers`),
//! `watermarks`, `requests`, `lookup`, `chain` and `sink` are the kinds of task; `careful` is what a slot does after a trap.

mod at_barriers;
mod careful;
mod chain;
mod discovery;
mod inputs;
mod instance;
mod lookup;
mod outputs;
mod pace;
mod piece;
mod portion;
mod questions;
mod rejects;
mod requests;
mod shared;
mod sink;
mod slot;
mod source;
mod subtask;
mod taking;
mod watermarks;
mod wiring;

pub(crate) use discovery::SourceSplits;
pub(crate) use questions::Question;
pub(crate) use rejects::{ROW_REJECTED, RejectPolicies, rejected_by};
pub(crate) use shared::{Attempt, CarefulEvent, Command, Event, Outcome, Shared};
pub(crate) use slot::{Slot, SlotJob, SlotReport, Start};
pub(crate) use wiring::{SlotWiring, edge_names, wire};
