//! What happens to rows that a format or a function refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_connectors::DeadLetter;
use millrace_core::connector::Rejected;
use millrace_core::graph::{Graph, OperatorKind, RejectPolicy};
use millrace_core::{Error, Result};

/// Policies of all operators of a job, with the open dead-letter files. Shared by all slots.
pub(crate) struct Rejects {
    policies: Vec<Policy>,
}

enum Policy {
    Fail { name: String },
    Skip,
    DeadLetter { name: String, file: Arc<DeadLetter> },
}

impl Rejects {
    /// Opens the dead-letter files; one file may serve several operators.
    pub(crate) fn open(graph: &Graph) -> Result<Self> {
        let mut files: BTreeMap<String, Arc<DeadLetter>> = BTreeMap::new();
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
                    let file = match files.get(path) {
                        Some(file) => file.clone(),
                        None => {
                            let file =
                                DeadLetter::open(path).map_err(|error| error.context(format!("operator `{name}`")))?;
                            let file = Arc::new(file);
                            files.insert(path.clone(), file.clone());
                            file
                        }
                    };
                    Policy::DeadLetter { name, file }
                }
            });
        }
        Ok(Rejects { policies })
    }

    /// Applies the policy of an operator to one row.
    pub(crate) fn handle(&self, operator: u32, rejected: &Rejected) -> Result<()> {
        let Some(policy) = self.policies.get(operator as usize) else {
            return Err(Error::pipeline(
                "PL0007",
                format!("a row was rejected by operator {operator}, which is not there"),
            ));
        };
        match policy {
            Policy::Fail { name } => Err(failure(name, rejected)),
            Policy::Skip => Ok(()),
            Policy::DeadLetter { name, file } => file.append(name, rejected),
        }
    }

    /// Makes the dead-letter files durable.
    pub(crate) fn flush(&self) -> Result<()> {
        for policy in &self.policies {
            if let Policy::DeadLetter { file, .. } = policy {
                file.flush()?;
            }
        }
        Ok(())
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
