//! The flow: where a dataflow begins.

use std::cell::RefCell;
use std::rc::Rc;

use crate::Stream;
use crate::bindings::dataflow as wit;
use crate::chain::Rows;
use crate::connect::Source;
use crate::graph::{Finished, GraphBuilder, Handle, Origin};
use crate::value::Record;

/// A dataflow under construction: the argument of the function that describes a pipeline.
///
/// ```
/// use millrace::prelude::*;
///
/// #[derive(Record)]
/// struct Line { text: String }
///
/// #[millrace::pipeline]
/// fn errors(flow: &Flow) -> Result<()> {
///     flow.name("errors");
///     flow.source("log", Files::text::<Line>("log.txt"))
///         .filter(|line| line.text.contains("ERROR"))
///         .sink("out", Stdout::text());
///     Ok(())
/// }
/// # fn main() {}
/// ```
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

    /// Names the pipeline. Without this it has the name of the function that builds it.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn build(flow: &Flow) { flow.name("word count"); }
    /// ```
    pub fn name(&self, name: &str) {
        self.graph.borrow_mut().name = name.to_owned();
    }

    /// Upper bound of the parallelism of every keyed operator. It cannot be changed once there is state: keys
    /// are divided into that many groups. Without this, the host's default.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn build(flow: &Flow) { flow.max_parallelism(1024); }
    /// ```
    pub fn max_parallelism(&self, subtasks: u32) {
        let mut graph = self.graph.borrow_mut();
        if subtasks == 0 {
            graph.error("the maximum parallelism cannot be 0".to_owned());
        }
        graph.max_parallelism = subtasks;
    }

    /// Reads rows from a connector. The type of rows is the connector's, or that of the variable that takes
    /// the stream.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// #[derive(Record)]
    /// struct Line<'a> { text: &'a str }
    ///
    /// fn build(flow: &Flow) {
    ///     let lines: Stream<Rows<Line>> = flow.source("lines", Files::text("input.txt"));
    ///     lines.sink("out", Discard::new());
    /// }
    /// ```
    pub fn source<S: Source>(&self, name: &str, connector: S) -> Stream<Rows<S::Record>> {
        let mut graph = self.graph.borrow_mut();
        let description = connector.into_description();
        let source = wit::Source {
            connector: wit::Connector {
                kind: description.kind,
                options: description.options,
            },
            schema: graph.schema(S::Record::fields()),
            on_reject: description.on_reject.into_contract(),
        };
        let operator = graph.add_operator(name, wit::OperatorKind::Source(source));
        Stream::from_origins(Rc::clone(&self.graph), vec![Origin::forward(operator, 0)])
    }

    /// Ends the construction.
    pub(crate) fn finish(self) -> Result<Finished, String> {
        let graph = std::mem::take(&mut *self.graph.borrow_mut());
        graph.finish()
    }
}
