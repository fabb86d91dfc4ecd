//! The state of a key of a running job: who has it, and what he says.
//!
//! ```text
//!   operator, key as text -- parsed by the key's schema, hashed --> task and subtask --question--> its slot, between blocks
//!   JSON <-- tables, as a savepoint has them <-- rows, as a snapshot has them <-------------------------'
//! ```
//!
//! The answer is what the subtask holds when it gets to the question. No checkpoint has to hold that, and a failure may take
//! it back.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use millrace_core::graph::{Chain, Graph};
use millrace_core::key::{KeyGroups, hash_rows};
use millrace_core::plan::{TaskIndex, TaskKind};
use millrace_core::schema::KeyedSchema;
use millrace_core::{Error, Result};
use millrace_state::savepoint::{self, Held, KeyText};

use crate::control::Control;
use crate::worker::{Attempt, Question, SlotJob};

/// How long a slot may take to come to a question.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is held for a key.
pub(crate) struct Found {
    /// Name and id of the operator.
    pub(crate) operator: (String, String),
    pub(crate) held: Vec<Held>,
    /// Large states that have more entries than were asked for.
    pub(crate) more: Vec<String>,
}

/// An operator with state.
struct Stateful<'g> {
    /// Its chain.
    chain: usize,
    name: &'g str,
    id: &'g str,
    schema: KeyedSchema,
}

/// Asks for what an operator, by id or name, holds for a key, a text for each of its fields.
pub(crate) fn look_up(job: &SlotJob, control: &Control, operator: &str, key: &[String], limit: usize) -> Result<Found> {
    let stateful = find(&job.graph, &job.ids, operator)?;
    let key = KeyText {
        operator: stateful.name,
        texts: key,
    };
    let key = key.parse(&stateful.schema)?;
    let Some(attempt) = control.attempt() else {
        return Err(Error::user("AP0011", "the job does not run now"));
    };
    let Attempt { shared, plan } = &attempt;
    let of_chain =
        |kind: &TaskKind| matches!(kind, TaskKind::Chain { chain, .. } if chain.0 as usize == stateful.chain);
    let task = plan.tasks.iter().position(|task| of_chain(&task.kind));
    let task = task.ok_or_else(|| Error::internal("a chain is no task"))?;
    let parallelism = plan.tasks[task].parallelism;
    let subtask = match savepoint::subtask_of_key(&stateful.schema, &key) {
        Some(subtask) if subtask < parallelism => subtask,
        Some(subtask) => {
            let message = format!(
                "operator `{}` has the subtasks 0 to {}, and no {subtask}",
                stateful.name,
                parallelism - 1
            );
            return Err(Error::user("CS0205", message));
        }
        None => {
            let mut hashes = Vec::new();
            hash_rows(&key, &mut hashes)?;
            KeyGroups::new(parallelism, plan.max_parallelism).subtask_of(hashes[0])
        }
    };
    let slot = plan.placement.slot_of(TaskIndex(task), subtask);
    let (answer, answered) = sync_channel(1);
    shared.ask(
        slot,
        Question {
            task,
            key,
            limit,
            answer,
        },
    );
    drop(attempt);
    let held = match answered.recv_timeout(PATIENCE) {
        Ok(held) => held?,
        Err(RecvTimeoutError::Timeout) => {
            let message = format!("slot {slot} has not come to the question within {PATIENCE:?}");
            return Err(Error::user("AP0011", message));
        }
        Err(RecvTimeoutError::Disconnected) => return Err(Error::user("AP0011", "the job does not run any more")),
    };
    let more = held.collections.iter().filter(|(_, _, more)| *more);
    let more = more.map(|(name, _, _)| name.clone()).collect();
    let collections = held.collections.into_iter().map(|(name, rows, _)| (name, rows));
    let collections: Vec<_> = collections.collect();
    Ok(Found {
        operator: (stateful.name.to_owned(), stateful.id.to_owned()),
        held: savepoint::held_of_rows(&stateful.schema, &held.rows, &collections)?,
        more,
    })
}

/// The operator of that id, or else of that name.
fn find<'g>(graph: &'g Graph, ids: &'g [String], wanted: &str) -> Result<Stateful<'g>> {
    let all: Vec<Stateful<'g>> = graph
        .chains
        .iter()
        .enumerate()
        .filter_map(|chain| stateful(graph, ids, chain))
        .collect();
    if let Some(found) = all.iter().position(|operator| operator.id == wanted) {
        return Ok(all.into_iter().nth(found).expect("it was just found"));
    }
    let shown = |operators: &[Stateful<'_>]| {
        let shown = operators.iter().map(|operator| match operator.id {
            id if id == operator.name => format!("`{id}`"),
            id => format!("`{}` (id `{id}`)", operator.name),
        });
        shown.collect::<Vec<_>>().join(", ")
    };
    let everything = shown(&all);
    let mut named: Vec<_> = all.into_iter().filter(|operator| operator.name == wanted).collect();
    match named.len() {
        1 => Ok(named.remove(0)),
        0 => {
            let there = match everything.is_empty() {
                true => "no operator of the job has any".to_owned(),
                false => format!("there are {everything}"),
            };
            Err(Error::user(
                "AP0010",
                format!("no operator `{wanted}` has state; {there}"),
            ))
        }
        _ => {
            let message = format!("several operators `{wanted}` have state: {}", shown(&named));
            Err(Error::user("AP0010", message))
        }
    }
}

/// The head of a chain, if it keeps something.
fn stateful<'g>(graph: &'g Graph, ids: &'g [String], (chain, declared): (usize, &'g Chain)) -> Option<Stateful<'g>> {
    let head = declared.operators[0].0 as usize;
    Some(Stateful {
        chain,
        name: &graph.operators[head].name,
        id: &ids[head],
        schema: KeyedSchema::of_head(&declared.head)?,
    })
}
