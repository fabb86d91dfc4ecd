//! What happens to rows that a format or a function refused.
//!
//! [`RejectPolicies`] are the job's. Each slot has [`Rejects`] of its own, which keep its dead letters until their
//! checkpoint is complete, and each subtask its [`Letters`]: what it has pre-committed of them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use millrace_connectors::{DeadLetter, Stage};
use millrace_core::checkpoint::CheckpointId;
use millrace_core::connector::{Committable, Rejected};
use millrace_core::graph::{Graph, OperatorKind, RejectPolicy};
use millrace_core::plan::TaskKind;
use millrace_core::{Error, Result};

use super::shared::Outcome;

/// Policies of all operators of a job, with the open dead-letter files. Shared by all slots.
pub(crate) struct RejectPolicies {
    job: String,
    policies: Vec<Policy>,
}

enum Policy {
    Fail { name: String },
    Skip,
    DeadLetter { name: String, file: DeadLetter },
}

impl RejectPolicies {
    /// Opens the dead-letter files; one file may serve several operators.
    pub(crate) fn open(graph: &Graph) -> Result<Self> {
        let mut policies = Vec::new();
        for operator in &graph.operators {
            let name = operator.name.clone();
            let on_reject = match &operator.kind {
                OperatorKind::Source { on_reject, .. } | OperatorKind::Function { on_reject, .. } => on_reject,
                OperatorKind::Sink { .. } | OperatorKind::Watermarks(_) => &RejectPolicy::Fail,
            };
            policies.push(match on_reject {
                RejectPolicy::Fail => Policy::Fail { name },
                RejectPolicy::Skip => Policy::Skip,
                RejectPolicy::DeadLetter(path) => {
                    let file = DeadLetter::open(path);
                    let file = file.map_err(|error| error.context(format!("operator `{name}`")))?;
                    Policy::DeadLetter { name, file }
                }
            });
        }
        Ok(RejectPolicies {
            job: graph.name.clone(),
            policies,
        })
    }

    fn files(&self) -> impl Iterator<Item = &DeadLetter> {
        self.policies.iter().filter_map(|policy| match policy {
            Policy::Fail { .. } | Policy::Skip => None,
            Policy::DeadLetter { file, .. } => Some(file),
        })
    }

    /// Makes the dead-letter files durable.
    pub(crate) fn flush(&self) -> Result<()> {
        self.files().try_for_each(DeadLetter::flush)
    }

    /// Commits what a checkpoint holds of dead letters, and drops whatever else was kept since.
    pub(crate) fn recover(&self, prepared: &[Committable]) -> Result<()> {
        DeadLetter::commit(prepared)?;
        self.files().try_for_each(|file| file.sweep(&self.job, prepared))
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

    /// Applies the policy of an operator to one row.
    pub(crate) fn handle(&self, operator: u32, rejected: &Rejected) -> Result<()> {
        let Some(policy) = self.policies.policies.get(operator as usize) else {
            return Err(Error::pipeline(
                "PL0007",
                format!("a row was rejected by operator {operator}, which is not there"),
            ));
        };
        match (policy, &self.stages) {
            (Policy::Fail { name }, _) => Err(failure(name, rejected)),
            (Policy::Skip, _) => Ok(()),
            (Policy::DeadLetter { name, file }, None) => file.append(name, rejected),
            (Policy::DeadLetter { name, file }, Some(stages)) => {
                let mut stages = stages.borrow_mut();
                let stage = stages.entry(operator).or_insert_with(|| file.stage(&self.policies.job));
                stage.append(name, rejected)
            }
        }
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
            TaskKind::Watermarks { .. } | TaskKind::Sink { .. } => Vec::new(),
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

fn failure(name: &str, rejected: &Rejected) -> Error {
    let place = if rejected.place.is_empty() {
        String::new()
    } else {
        format!("{}: ", rejected.place)
    };
    let row = if rejected.raw.is_empty() {
        String::new()
    } else {
        format!("; the row is {{{}}}", rejected.raw)
    };
    Error::pipeline(
        "PL0010",
        format!("operator `{name}` rejected a row: {place}{}{row}", rejected.cause),
    )
}
