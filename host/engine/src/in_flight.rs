//! What was under way at an unaligned checkpoint: whether it has somewhere to go, and in what shape.

use std::collections::BTreeMap;

use millrace_core::checkpoint::{ChannelSnapshot, EdgeName};
use millrace_core::graph::Graph;
use millrace_core::plan::{Exchange, Plan};
use millrace_core::{Error, Result};
use millrace_state::Restorable;
use millrace_state::convert::RowsConverter;
use millrace_state::format::{Operator, fingerprint};

use crate::prepare::output_schema;
use crate::restore::named;
use crate::snapshot_tasks::SnapshotTask;
use crate::worker::edge_names;

/// How rows of edges whose schema changed become what they are now, by the identity of the receiver.
#[derive(Debug, Default)]
pub(crate) struct Conversions(BTreeMap<(String, EdgeName), RowsConverter>);

impl Conversions {
    /// What is to be done with the rows in flight of a checkpoint, for tasks of this plan.
    ///
    /// # Errors
    /// `CK0013` if an edge is gone, `CK0014` if its rows cannot become what they are now.
    pub(crate) fn decide(
        graph: &Graph,
        plan: &Plan,
        tasks: &[SnapshotTask],
        restorable: &Restorable,
    ) -> Result<Conversions> {
        let ids: Vec<&str> = tasks.iter().map(|task| task.id.as_str()).collect();
        let edges: Vec<_> = plan.exchanges.iter().zip(edge_names(plan, &ids)).collect();
        let what = named(restorable);
        let mut conversions = BTreeMap::new();
        for operator in &restorable.metadata().operators {
            let in_flight = operator.subtasks.iter().flat_map(|subtask| &subtask.in_flight);
            for (in_flight, rows) in in_flight.filter_map(|in_flight| Some((in_flight, in_flight.rows.as_ref()?))) {
                let (to, from, count) = (&operator.name, &in_flight.edge.from, rows.rows);
                let between = format!("{what} holds {count} rows in flight from `{from}` to `{to}`");
                let is_it = |(exchange, name): &&(&Exchange, EdgeName)| {
                    ids[exchange.to.0] == operator.id && *name == in_flight.edge
                };
                let Some((exchange, _)) = edges.iter().find(is_it) else {
                    let message = format!("{between}, an edge that the pipeline does not have");
                    return Err(Error::user("CK0013", message));
                };
                let schema = output_schema(graph, plan, exchange);
                if fingerprint(&schema)? == rows.schema {
                    continue;
                }
                let stored = restorable.in_flight_schema(rows)?;
                let converter = RowsConverter::new(&stored, &schema).map_err(|refusals| {
                    let refusals = refusals.iter().map(ToString::to_string).collect::<Vec<_>>();
                    let refusals = refusals.join("; ");
                    let message = format!("{between}, which cannot become rows as they are now: {refusals}");
                    Error::user("CK0014", message)
                })?;
                conversions.insert((operator.id.clone(), in_flight.edge.clone()), converter);
            }
        }
        Ok(Conversions(conversions))
    }

    /// Whether all values fit, where only they can say.
    pub(crate) fn check(&self, restorable: &Restorable) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        for operator in &restorable.metadata().operators {
            for subtask in 0..operator.parallelism {
                self.channels(restorable, operator, subtask)?;
            }
        }
        Ok(())
    }

    /// The channels of a subtask.
    pub(crate) fn channels(
        &self,
        restorable: &Restorable,
        operator: &Operator,
        subtask: u32,
    ) -> Result<Vec<ChannelSnapshot>> {
        let mut channels = Vec::new();
        for channel in restorable.channels(operator, subtask)? {
            let from = channel.edge.from.clone();
            match self.0.get(&(operator.id.clone(), channel.edge.clone())) {
                None => channels.push(channel),
                Some(converter) => channels.extend(converter.convert(vec![channel]).map_err(|error| {
                    let context = format!("rows in flight from `{from}` to `{}`", operator.name);
                    error.context(context).context(named(restorable))
                })?),
            }
        }
        Ok(channels)
    }
}
