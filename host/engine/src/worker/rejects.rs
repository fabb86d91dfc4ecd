//! What happens to rows that a format or a function refused, and to those that a function trapped on.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_connectors::DeadLetter;
use millrace_core::connector::Rejected;
use millrace_core::graph::{Graph, OperatorKind, RejectPolicy};
use millrace_core::{Error, Result};

use crate::prepare::OnTrap;

/// Policies of all operators of a job, with the open dead-letter files. Shared by all slots.
pub(crate) struct Rejects {
    names: Vec<String>,
    policies: Vec<Policy>,
    /// For what functions trapped on, where their own policy has no dead letter; and whether it goes there at all.
    quarantine: Quarantine,
}

enum Quarantine {
    Off,
    On(Option<Arc<DeadLetter>>),
}

enum Policy {
    Fail,
    Skip,
    DeadLetter(Arc<DeadLetter>),
}

impl Rejects {
    /// Opens the dead-letter files; one file may serve several operators.
    pub(crate) fn open(graph: &Graph, on_trap: &OnTrap) -> Result<Self> {
        let mut files = Files::default();
        let mut policies = Vec::new();
        for operator in &graph.operators {
            let name = &operator.name;
            let on_reject = match &operator.kind {
                OperatorKind::Source { on_reject, .. } | OperatorKind::Function { on_reject, .. } => on_reject,
                OperatorKind::Sink { .. } | OperatorKind::Watermarks(_) => &RejectPolicy::Fail,
            };
            policies.push(match on_reject {
                RejectPolicy::Fail => Policy::Fail,
                RejectPolicy::Skip => Policy::Skip,
                RejectPolicy::DeadLetter(path) => {
                    let file = files
                        .open(path)
                        .map_err(|error| error.context(format!("operator `{name}`")))?;
                    Policy::DeadLetter(file)
                }
            });
        }
        let quarantine = match on_trap {
            OnTrap::Fail => Quarantine::Off,
            OnTrap::Quarantine { dead_letter, .. } => {
                let file = dead_letter.as_deref().map(|path| files.open(path)).transpose()?;
                check_destinations(graph, file.is_some())?;
                Quarantine::On(file)
            }
        };
        let names = graph.operators.iter().map(|operator| operator.name.clone());
        Ok(Rejects {
            names: names.collect(),
            policies,
            quarantine,
        })
    }

    /// Puts what a function trapped on into the dead letter, for good: there are few of these, and none may be missing after
    /// the checkpoint that lies behind it.
    pub(crate) fn quarantine(&self, operator: u32, rejected: &Rejected) -> Result<()> {
        let (policy, name) = self.of(operator)?;
        match (policy, &self.quarantine) {
            (Policy::DeadLetter(file), Quarantine::On(_)) | (_, Quarantine::On(Some(file))) => {
                file.append(name, rejected)?;
                file.flush()
            }
            (_, Quarantine::On(None) | Quarantine::Off) => {
                Err(Error::internal(format!("operator `{name}` has no dead letter")))
            }
        }
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

    /// Applies the policy of an operator to one row.
    pub(crate) fn handle(&self, operator: u32, rejected: &Rejected) -> Result<()> {
        match self.of(operator)? {
            (Policy::Fail, name) => Err(failure(name, rejected)),
            (Policy::Skip, _) => Ok(()),
            (Policy::DeadLetter(file), name) => file.append(name, rejected),
        }
    }

    /// Makes the dead-letter files durable.
    pub(crate) fn flush(&self) -> Result<()> {
        for policy in &self.policies {
            if let Policy::DeadLetter(file) = policy {
                file.flush()?;
            }
        }
        match &self.quarantine {
            Quarantine::On(Some(file)) => file.flush(),
            Quarantine::On(None) | Quarantine::Off => Ok(()),
        }
    }
}

/// Dead-letter files by path.
#[derive(Default)]
struct Files(BTreeMap<String, Arc<DeadLetter>>);

impl Files {
    fn open(&mut self, path: &str) -> Result<Arc<DeadLetter>> {
        if let Some(file) = self.0.get(path) {
            return Ok(file.clone());
        }
        let file = Arc::new(DeadLetter::open(path)?);
        self.0.insert(path.to_owned(), file.clone());
        Ok(file)
    }
}

/// Whether it is known of each function where its rows go.
fn check_destinations(graph: &Graph, has_default: bool) -> Result<()> {
    let homeless = graph.operators.iter().find(|operator| match &operator.kind {
        OperatorKind::Function { on_reject, .. } => !matches!(on_reject, RejectPolicy::DeadLetter(_)),
        OperatorKind::Source { .. } | OperatorKind::Watermarks(_) | OperatorKind::Sink { .. } => false,
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
