//! The stream after `key_by`.

use std::marker::PhantomData;
use std::rc::Rc;

use super::rolling::{Kept, Number, Rolling, RollingFunction, Sum};
use super::selector::{KeySelector, Shared};
use crate::Stream;
use crate::bindings::dataflow as wit;
use crate::graph::{Handle, Origin};
use crate::state::codec::state_fields;
use crate::value::{FieldRef, Record};

/// Rows grouped by a key.
///
/// All rows of a key go to the same subtask, which keeps state for it.
pub struct KeyedStream<T: Record, S: KeySelector<T>> {
    flow: Handle,
    origins: Vec<Origin>,
    selector: Shared<S>,
    record: PhantomData<fn() -> T>,
}

impl<T: Record, S: KeySelector<T>> std::fmt::Debug for KeyedStream<T, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyedStream")
    }
}

impl<T: Record, S: KeySelector<T>> KeyedStream<T, S> {
    pub(crate) fn new(flow: Handle, origins: Vec<Origin>, selector: Rc<S>) -> Self {
        KeyedStream {
            flow,
            origins,
            selector: Shared(selector),
            record: PhantomData,
        }
    }

    /// The row with a field replaced by the running sum of that field over all rows of the key so far.
    pub fn sum<N: Number>(self, field: FieldRef<T, N>) -> Stream<Rolling<Sum<T, N>>> {
        self.rolling("sum", Sum::new(field))
    }

    fn rolling<R: RollingFunction<In = T>>(self, construct: &str, function: R) -> Stream<Rolling<R>> {
        let states = vec![(
            construct,
            wit::StateKind::Value,
            state_fields::<<R::Kept as Kept>::Stored>(),
        )];
        let (chain, operator) = self.begin(construct, |graph, key_schema| {
            let states = states
                .into_iter()
                .map(|(name, kind, fields)| wit::StateDecl {
                    name: name.to_owned(),
                    kind,
                    schema: graph.schema(fields),
                })
                .collect();
            wit::Head::Keyed(wit::Keyed {
                key_schema,
                states,
                always_writes: true,
            })
        });
        Stream::opened(self.flow, chain, operator, Rolling::new(function, operator))
    }

    /// Declares a chain with a keyed head and its first operator.
    fn begin(
        &self,
        construct: &str,
        head: impl FnOnce(&mut crate::graph::GraphBuilder, u32) -> wit::Head,
    ) -> (u32, u32) {
        let mut graph = self.flow.borrow_mut();
        let key_schema = graph.schema(self.selector.0.fields());
        let head = head(&mut graph, key_schema);
        let chain = graph.open_chain(T::fields(), head);
        let operator = graph.add_function(chain, construct);
        graph.connect(&self.origins, operator);
        (chain, operator)
    }
}
