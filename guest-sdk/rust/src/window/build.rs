//! From windows as they were asked for to a chain: whether they are the host's or the guest's, and what does not go together.

use super::OwnStates;
use super::guest::{Contents, GuestWindows};
use super::head::{WindowFunction, WindowHead};
use super::stream::WindowedStream;
use super::trigger::{EventTimeTrigger, Life, ProcessingTimeTrigger, TriggerStore, Triggered};
use crate::Stream;
use crate::bindings::dataflow as wit;
use crate::metrics::Counter;
use crate::process::{States, TimerKind};
use crate::state::kept::state_fields;
use crate::time::millis;
use crate::value::{Owned, Record};

impl<T: Record, K: Owned + Clone> WindowedStream<T, K> {
    /// Begins the chain of a function.
    pub(super) fn head<W: WindowFunction<In = T, Key = K>>(
        self,
        construct: &str,
        mut function: W,
    ) -> Stream<WindowHead<W>> {
        let own = function.take_states();
        let built_in = self.assigner.built_in();
        let plain = self.trigger.is_none() && self.evictor.is_none() && own.states.is_empty();
        let is_global = self.is_global;
        let endless = "these windows never end: say with `trigger` when they fire";
        let never_fires = built_in.is_endless && self.trigger.is_none();
        let error = built_in.error.or_else(|| never_fires.then(|| endless.to_owned()));
        let error = error.map(|error| format!("`{construct}`: {error}"));
        let flow = self.keyed.flow.clone();
        let stream = match built_in.host.filter(|_| plain) {
            Some(assigner) => self.of_host(construct, assigner, function),
            None => self.of_guest(construct, function, own),
        };
        let mut graph = flow.borrow_mut();
        if is_global {
            graph.set_parallelism(stream.operator(), 1);
        }
        error.into_iter().for_each(|error| graph.error(error));
        drop(graph);
        stream
    }

    /// Windows of the host.
    fn of_host<W: WindowFunction<In = T, Key = K>>(
        self,
        construct: &str,
        assigner: wit::WindowAssigner,
        function: W,
    ) -> Stream<WindowHead<W>> {
        let (chain, operator) = self.keyed.begin(construct, |graph, key_schema| {
            let accumulator = wit::StateDecl {
                // Sums are no counts, though both may be numbers.
                name: state_name(construct).to_owned(),
                aliases: Vec::new(),
                kind: wit::StateKind::Accumulator,
                schema: graph.schema(state_fields::<W::Stored>()),
                migrations: Vec::new(),
                ttl: None,
            };
            let window = wit::Window {
                assigner,
                allowed_lateness_ms: millis(self.allowed_lateness),
                // The chain's first port.
                late_ports: vec![self.late.map(|_| 0)],
            };
            wit::Head::Window(wit::KeyedWindow {
                key_schema,
                window,
                accumulator,
            })
        });
        if let Some(late) = self.late {
            let mut graph = self.keyed.flow.borrow_mut();
            let schema = graph.schema(T::fields());
            graph.add_side_port(chain, operator, late, schema);
        }
        Stream::opened(
            self.keyed.flow,
            chain,
            operator,
            WindowHead::of_host(function, operator),
        )
    }

    /// Windows of the guest: to the host a keyed function with state and timers.
    fn of_guest<W: WindowFunction<In = T, Key = K>>(
        mut self,
        construct: &str,
        function: W,
        own: OwnStates,
    ) -> Stream<WindowHead<W>> {
        let life = Life {
            clock: self.assigner.clock(),
            lateness_ms: millis(self.allowed_lateness) as i64,
        };
        let trigger: Box<dyn TriggerStore<T>> = match (self.trigger.take(), life.clock) {
            (Some(make), _) => make(life),
            (None, TimerKind::EventTime) => Box::new(Triggered::new(EventTimeTrigger, life)),
            (None, TimerKind::ProcessingTime) => Box::new(Triggered::new(ProcessingTimeTrigger, life)),
        };
        let contents = Contents::new(self.evictor.take());
        let mut states = vec![contents.declared(state_name(construct)), trigger.declared()];
        states.extend(own.states);
        let states = States::new(states);
        let (chain, operator) = self.keyed.begin(construct, |graph, key_schema| {
            states.head(graph, Some(key_schema), false)
        });
        self.check(construct, operator, &states, own.by_window, trigger.merges());
        if let Some(late) = self.late {
            let mut graph = self.keyed.flow.borrow_mut();
            let schema = graph.schema(T::fields());
            let port = graph.add_side_port(chain, operator, late, schema);
            graph.sides(chain).add::<T>(operator, late, port);
        }
        let windows = GuestWindows {
            function,
            operator,
            selector: self.keyed.selector.clone(),
            merges: self.assigner.merges(),
            only_waits: trigger.only_waits(),
            assigner: self.assigner,
            trigger,
            contents,
            states,
            life,
            late: self.late,
            dropped: Counter::new(operator, "late_rows_dropped"),
            assigned: Vec::new(),
            given: 0,
        };
        Stream::opened(self.keyed.flow, chain, operator, WindowHead::of_guest(windows))
    }

    /// Notes what does not go together.
    fn check(&self, construct: &str, operator: u32, states: &States, by_window: bool, trigger_merges: bool) {
        let mut graph = self.keyed.flow.borrow_mut();
        if let Some(name) = states.repeated_name() {
            graph.error(format!(
                "`{construct}`: state `{name}` is declared twice; the window has states of its own"
            ));
        }
        if self.assigner.merges() && !trigger_merges {
            graph.error(format!(
                "`{construct}`: these windows merge, and the trigger cannot follow them"
            ));
        }
        if self.assigner.merges() && by_window {
            graph.error(format!(
                "`{construct}`: these windows merge, and a state of each window cannot follow them"
            ));
        }
        if self.assigner.clock() == TimerKind::EventTime {
            graph.needs_event_time(operator);
        }
    }
}

/// What is kept of the rows, named after the function.
fn state_name(construct: &str) -> &str {
    construct.trim_start_matches("window.")
}
