//! The flow: where a dataflow begins.

use std::cell::RefCell;
use std::rc::Rc;

use crate::Stream;
use crate::bindings::dataflow as wit;
use crate::chain::Rows;
use crate::connect::Source;
use crate::graph::{Finished, GraphBuilder, Handle, Origin};
use crate::value::Record;

/// A dataflow under construction.
pub struct Flow {
    graph: Handle,
}

impl std::fmt::Debug for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Flow")
    }
}

impl Flow {
    pub(crate) fn new() -> Self {
        Flow {
            graph: Rc::new(RefCell::new(GraphBuilder::default())),
        }
    }

    /// Names the pipeline.
    pub fn name(&self, name: &str) {
        self.graph.borrow_mut().name = name.to_owned();
    }

    /// Upper bound of the parallelism of keyed operators, and number of key groups.
    pub fn max_parallelism(&self, subtasks: u32) {
        self.graph.borrow_mut().max_parallelism = subtasks;
    }

    /// Reads rows from a connector.
    pub fn source<S: Source>(&self, name: &str, connector: S) -> Stream<Rows<S::Record>> {
        let mut graph = self.graph.borrow_mut();
        let source = wit::Source {
            connector: connector.connector(),
            schema: graph.schema(S::Record::fields()),
            on_reject: connector.on_reject(),
        };
        let operator = graph.add_operator(name, wit::OperatorKind::Source(source));
        Stream::from_origins(Rc::clone(&self.graph), vec![Origin::forward(operator, 0)])
    }

    /// Ends the construction.
    pub(crate) fn finish(self) -> Result<Finished, String> {
        Rc::try_unwrap(self.graph)
            .map_err(|_| {
                "a stream was kept beyond `build`: streams end with the function that builds the dataflow".to_owned()
            })?
            .into_inner()
            .finish()
    }
}
