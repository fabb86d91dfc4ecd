//! What happens to rows that a format or a function refused, and to those that a function trapped on.
//!
//! [`RejectPolicies`] are the job's. Each slot has [`Rejects`] of its own, which keep its dead letters until their
//! checkpoint is complete, and each subtask its [`Letters`]: what it has pre-committed of them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use arrow_array::RecordBatch;
use millrace_connectors::{DeadLetter, Enums, Stage, json_row};
use millrace_core::checkpoint::CheckpointId;
use millrace_core::connector::{Committable, KeptFor, Rejected};
use millrace_core::graph::{Graph, Operator, OperatorKind, RejectPolicy};
use millrace_core::plan::TaskKind;
use millrace_core::{Error, Result};
use millrace_wasm::{Rejection, render_row};

use super::shared::Outcome;
use crate::prepare::OnTrap;

/// Policies of all operators of a job, with the open dead-letter files. Shared by all slots.
pub(crate) struct RejectPolicies {
    job: String,
    names: Vec<String>,
    /// Of the inputs of the chain that each operator is in.
    enums: Vec<Vec<Enums>>,
    policies: Vec<Policy>,
    /// For what functions trapped on, where their own policy has no dead letter; and whether it goes there at all.
    quarantine: Quarantine,
}

enum Quarantine {
    Off,
    On(Option<DeadLetter>),
}

enum Policy {
    Fail,
    Skip,
    DeadLetter(DeadLetter),
}

impl RejectPolicies {
    /// Opens the dead-letter files; one file may serve several operators.
    pub(crate) fn open(graph: &Graph, on_trap: &OnTrap) -> Result<Self> {
        let mut policies = Vec::new();
        for operator in &graph.operators {
            let name = &operator.name;
            let on_reject = match &operator.kind {
                OperatorKind::Source { on_reject, .. } | OperatorKind::Function { on_reject, .. } => on_reject,
                OperatorKind::Sink { .. }
                | OperatorKind::Watermarks(_)
                | OperatorKind::Requests(_)
                | OperatorKind::Lookup(_) => &RejectPolicy::Fail,
            };
            policies.push(match on_reject {
                RejectPolicy::Fail => Policy::Fail,
                RejectPolicy::Skip => Policy::Skip,
                RejectPolicy::DeadLetter(path) => {
                    let file = DeadLetter::open(path);
                    Policy::DeadLetter(file.map_err(|error| error.context(format!("operator `{name}`")))?)
                }
            });
        }
        let quarantine = match on_trap {
            OnTrap::Fail => Quarantine::Off,
            OnTrap::Quarantine { dead_letter, .. } => {
                let file = dead_letter.as_deref().map(DeadLetter::open).transpose()?;
                check_destinations(graph, file.is_some())?;
                Quarantine::On(file)
            }
        };
        let names = graph.operators.iter().map(|operator| operator.name.clone());
        Ok(RejectPolicies {
            job: graph.name.clone(),
            names: names.collect(),
            enums: graph
                .operators
                .iter()
                .map(|operator| enums_before(graph, operator))
                .collect(),
            policies,
            quarantine,
        })
    }

    /// The row with its enums by name, where they are known.
    fn with_names(&self, operator: u32, row: &RecordBatch) -> RecordBatch {
        let mut enums = self.enums.get(operator as usize).into_iter().flatten();
        let enums = enums.find(|enums| *enums.inside() == row.schema());
        enums
            .and_then(|enums| enums.to_names(row).ok())
            .unwrap_or_else(|| row.clone())
    }

    /// One row of an operator's input, as [`row_text`] has it.
    fn row_text(&self, operator: u32, row: &RecordBatch) -> String {
        row_text(&self.with_names(operator, row))
    }

    fn of(&self, operator: u32) -> Result<(&Policy, &str)> {
        let index = operator as usize;
        match (self.policies.get(index), self.names.get(index)) {
            (Some(policy), Some(name)) => Ok((policy, name)),
            _ => Err(Error::pipeline(
                "PL0007",
                format!("a row was rejected by operator {operator}, which is not there"),
            )),
        }
    }

    fn files(&self) -> impl Iterator<Item = &DeadLetter> {
        let own = self.policies.iter().filter_map(|policy| match policy {
            Policy::Fail | Policy::Skip => None,
            Policy::DeadLetter(file) => Some(file),
        });
        own.chain(match &self.quarantine {
            Quarantine::On(file) => file.as_ref(),
            Quarantine::Off => None,
        })
    }

    /// Makes the dead-letter files durable.
    pub(crate) fn flush(&self) -> Result<()> {
        self.files().try_for_each(DeadLetter::flush)
    }

    /// Commits what a checkpoint holds of dead letters, and drops whatever else was staged since, but for what is kept.
    pub(crate) fn recover(&self, prepared: &[Committable]) -> Result<()> {
        DeadLetter::commit(prepared)?;
        self.files().try_for_each(|file| file.sweep(&self.job))
    }

    /// Notes that a savepoint holds these dead letters.
    pub(crate) fn keep(&self, savepoint: &KeptFor, prepared: &[Committable]) -> Result<()> {
        let mut files = self.files();
        files.try_for_each(|file| file.keep(&self.job, savepoint, prepared))
    }

    /// The savepoints for which dead letters are kept.
    pub(crate) fn kept(&self) -> Result<Vec<KeptFor>> {
        let kept = self.files().map(|file| file.kept(&self.job));
        Ok(kept.collect::<Result<Vec<_>>>()?.concat())
    }

    /// Nobody will go on from a savepoint.
    pub(crate) fn release(&self, id: &str) -> Result<()> {
        self.files().try_for_each(|file| file.release(&self.job, id))
    }
}

fn enums_before(graph: &Graph, operator: &Operator) -> Vec<Enums> {
    let OperatorKind::Function { chain, .. } = &operator.kind else {
        return Vec::new();
    };
    let chain = &graph.chains[chain.0 as usize];
    let inputs = chain.inputs.iter().zip(&chain.input_hints);
    inputs.filter_map(|(schema, hints)| Enums::of(schema, hints)).collect()
}

/// Whether it is known of each function where its rows go.
fn check_destinations(graph: &Graph, has_default: bool) -> Result<()> {
    let homeless = graph.operators.iter().find(|operator| match &operator.kind {
        OperatorKind::Function { on_reject, .. } => !matches!(on_reject, RejectPolicy::DeadLetter(_)),
        OperatorKind::Source { .. }
        | OperatorKind::Watermarks(_)
        | OperatorKind::Requests(_)
        | OperatorKind::Lookup(_)
        | OperatorKind::Sink { .. } => false,
    });
    match homeless.filter(|_| !has_default) {
        None => Ok(()),
        Some(operator) => Err(Error::user(
            "QU0002",
            format!(
                "operator `{}` has no dead letter for what it traps on: name one for the job (--dead-letter FILE)",
                operator.name
            ),
        )),
    }
}

/// What a slot does with rejected rows.
pub(crate) struct Rejects {
    policies: Arc<RejectPolicies>,
    /// By operator; `None`: no checkpoints are taken, and rows are written down at once.
    stages: Option<RefCell<BTreeMap<u32, Stage>>>,
}

impl Rejects {
    pub(crate) fn new(policies: Arc<RejectPolicies>, checkpoints: bool) -> Self {
        Rejects {
            policies,
            stages: checkpoints.then(RefCell::default),
        }
    }

    /// Applies the policy of a function to a row that it refused.
    pub(crate) fn refuse(&self, rejection: Rejection) -> Result<()> {
        let Rejection { operator, row, cause } = rejection;
        match self.policies.of(operator)? {
            (Policy::Fail, name) => {
                let raw = row.map(|row| render_row(&self.policies.with_names(operator, &row), 0));
                let rejected = Rejected {
                    place: String::new(),
                    cause,
                    raw: raw.unwrap_or_default(),
                };
                Err(Error::pipeline("PL0010", failure(name, &rejected)))
            }
            (Policy::Skip, _) => Ok(()),
            (Policy::DeadLetter(file), name) => {
                let rejected = Rejected {
                    place: operator_place(name),
                    cause,
                    raw: row.map(|row| self.row_text(operator, &row)).unwrap_or_default(),
                };
                self.bury(operator, name, file, &rejected)
            }
        }
    }

    /// One row of an operator's input as a dead letter has it.
    pub(crate) fn row_text(&self, operator: u32, row: &RecordBatch) -> String {
        self.policies.row_text(operator, row)
    }

    /// Whether a source fails with its first row that is none.
    pub(crate) fn fails(&self, operator: u32) -> bool {
        matches!(self.policies.of(operator), Ok((Policy::Fail, _)))
    }

    /// Applies the policy of a source to one row.
    pub(crate) fn handle(&self, operator: u32, rejected: &Rejected) -> Result<()> {
        match self.policies.of(operator)? {
            (Policy::Fail, name) => Err(rejected_by(name, rejected)),
            (Policy::Skip, _) => Ok(()),
            (Policy::DeadLetter(file), name) => self.bury(operator, name, file, rejected),
        }
    }

    /// Puts what a function trapped on into the dead letter.
    pub(crate) fn quarantine(&self, operator: u32, rejected: &Rejected) -> Result<()> {
        let (policy, name) = self.policies.of(operator)?;
        let places = [operator_place(name), rejected.place.clone()];
        let places = places.into_iter().filter(|place| !place.is_empty());
        let rejected = &Rejected {
            place: places.collect::<Vec<_>>().join(", "),
            ..rejected.clone()
        };
        match (policy, &self.policies.quarantine) {
            (Policy::DeadLetter(file), Quarantine::On(_)) | (_, Quarantine::On(Some(file))) => {
                self.bury(operator, name, file, rejected)
            }
            (_, Quarantine::On(None) | Quarantine::Off) => {
                Err(Error::internal(format!("operator `{name}` has no dead letter")))
            }
        }
    }

    /// An operator has one dead letter: its own, or that of the job.
    fn bury(&self, operator: u32, name: &str, file: &DeadLetter, rejected: &Rejected) -> Result<()> {
        let Some(stages) = &self.stages else {
            return file.append(name, rejected);
        };
        let mut stages = stages.borrow_mut();
        let stage = stages.entry(operator).or_insert_with(|| file.stage(&self.policies.job));
        stage.append(name, rejected)
    }
}

/// Dead letters of one subtask in checkpoints.
pub(crate) struct Letters {
    rejects: Rc<Rejects>,
    /// Those that may refuse rows there.
    operators: Vec<u32>,
    /// Pre-committed, by the checkpoint that they are part of.
    prepared: BTreeMap<CheckpointId, Vec<Committable>>,
}

impl Letters {
    pub(crate) fn new(rejects: Rc<Rejects>, graph: &Graph, task: &TaskKind) -> Self {
        let operators = match task {
            TaskKind::Source { operator, .. } => vec![operator.0],
            TaskKind::Chain { chain, .. } => {
                let members = &graph.chains[chain.0 as usize].operators;
                members.iter().map(|member| member.0).collect()
            }
            TaskKind::Watermarks { .. }
            | TaskKind::Requests { .. }
            | TaskKind::Lookup { .. }
            | TaskKind::Sink { .. } => Vec::new(),
        };
        Letters {
            rejects,
            operators,
            prepared: BTreeMap::new(),
        }
    }

    fn stages(&self, mut each: impl FnMut(&mut Stage) -> Result<()>) -> Result<()> {
        let Some(stages) = &self.rejects.stages else {
            return Ok(());
        };
        let mut stages = stages.borrow_mut();
        let own = stages
            .iter_mut()
            .filter(|(operator, _)| self.operators.contains(operator));
        own.map(|(_, stage)| stage).try_for_each(&mut each)
    }

    /// A barrier: rows refused before it are durable. Returns all that waits for its commit, what was prepared for
    /// earlier checkpoints included: these may never complete.
    pub(crate) fn prepare(&mut self, id: CheckpointId) -> Result<Vec<Committable>> {
        let mut prepared = Vec::new();
        self.stages(|stage| {
            prepared.extend(stage.pre_commit()?);
            Ok(())
        })?;
        if !prepared.is_empty() {
            self.prepared.insert(id, prepared);
        }
        Ok(self.prepared.values().flatten().cloned().collect())
    }

    /// This checkpoint is durable, and so is all that was prepared up to it.
    pub(crate) fn commit(&mut self, id: CheckpointId) -> Result<()> {
        let later = self.prepared.split_off(&CheckpointId(id.0 + 1));
        let prepared = std::mem::replace(&mut self.prepared, later);
        DeadLetter::commit(&prepared.into_values().flatten().collect::<Vec<_>>())
    }

    /// Carries out what was decided at the end of the attempt.
    pub(crate) fn finish(&mut self, outcome: Outcome) -> Result<()> {
        match outcome {
            Outcome::Commit => self.commit(CheckpointId(u64::MAX - 1)),
            // What was prepared may be part of a checkpoint: whoever restores decides.
            Outcome::Abort | Outcome::Leave => self.stages(|stage| {
                stage.abort();
                Ok(())
            }),
        }
    }
}

/// Where a function's row was refused, for the dead letter.
fn operator_place(name: &str) -> String {
    format!("operator `{name}`")
}

/// One row as JSON, as JSON lines have it; as text for people, where a column is nothing that JSON knows.
pub(crate) fn row_text(row: &RecordBatch) -> String {
    json_row(row).unwrap_or_else(|_| render_row(row, 0))
}

/// The code of [`rejected_by`].
pub(crate) const ROW_REJECTED: &str = "RW0105";

/// The error that a row is which cannot be read. It names the operator.
pub(crate) fn rejected_by(name: &str, rejected: &Rejected) -> Error {
    Error::external(ROW_REJECTED, failure(name, rejected))
}

fn failure(name: &str, rejected: &Rejected) -> String {
    let place = if rejected.place.is_empty() {
        String::new()
    } else {
        format!("{}: ", rejected.place)
    };
    let row = match rejected.raw.as_str() {
        "" => String::new(),
        object if object.starts_with('{') => format!("; the row is {object}"),
        fields => format!("; the row is {{{fields}}}"),
    };
    format!("operator `{name}` rejected a row: {place}{}{row}", rejected.cause)
}
