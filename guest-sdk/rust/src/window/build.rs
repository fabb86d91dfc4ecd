//! From windows as they were asked for to a chain: whether they are the host's or the guest's, and what does not go together.

use std::rc::Rc;
use std::time::Duration;

use super::evictor::{Evictor, RowStore, WithEvictor};
use super::guest::{Contents, GuestWindows, Inputs, OneStream};
use super::head::{WindowFunction, WindowHead};
use super::stream::{MakeTrigger, WindowedStream};
use super::trigger::{EventTimeTrigger, Life, ProcessingTimeTrigger, Trigger, TriggerStore, Triggered};
use super::{OwnStates, WindowAssigner};
use crate::Stream;
use crate::bindings::dataflow as wit;
use crate::graph::Handle;
use crate::keyed::KeyedStream;
use crate::metrics::Counter;
use crate::process::{States, TimerKind};
use crate::state::kept::state_fields;
use crate::time::{check_whole, millis};
use crate::value::{Owned, Record};

impl<T: Record, K: Owned + Clone> WindowedStream<T, K> {
    /// Begins the chain of a function.
    pub(super) fn head<W: WindowFunction<In = T, Key = K>>(
        self,
        construct: &str,
        mut function: W,
    ) -> Stream<WindowHead<W>> {
        let own = function.take_states();
        let asked = Asked {
            assigner: self.assigner,
            allowed_lateness: self.allowed_lateness,
            trigger: self.trigger,
            evictor: self.evictor,
        };
        let errors = asked.errors();
        let (flow, is_global) = (self.keyed.flow.clone(), self.is_global);
        let from = (self.keyed, self.late);
        let stream = match asked.host().filter(|_| own.states.is_empty()) {
            Some(window) => of_host(from, construct, window, function),
            None => of_guest(from, construct, asked, (function, own)),
        };
        let mut graph = flow.borrow_mut();
        if is_global {
            graph.set_parallelism(stream.operator(), 1);
        }
        errors
            .into_iter()
            .for_each(|error| graph.error_of(stream.operator(), error));
        drop(graph);
        stream
    }
}

/// The rows of a keyed stream, and the tag of the side output that gets late ones.
type Fed<T, K> = (KeyedStream<T, K>, Option<&'static str>);

/// Windows of the host.
fn of_host<W: WindowFunction>(
    (keyed, late): Fed<W::In, W::Key>,
    construct: &str,
    mut window: wit::Window,
    function: W,
) -> Stream<WindowHead<W>> {
    let (chain, operator) = keyed.begin(construct, |graph, key_schema| {
        let accumulator = wit::StateDecl {
            // Sums are no counts, though both may be numbers.
            name: state_name(construct).to_owned(),
            aliases: Vec::new(),
            kind: wit::StateKind::Accumulator,
            schema: graph.schema(state_fields::<W::Stored>()),
            migrations: Vec::new(),
            ttl: None,
        };
        // The chain's first port.
        window.late_ports = vec![late.map(|_| 0)];
        wit::Head::Window(wit::KeyedWindow {
            key_schema,
            window,
            accumulator,
        })
    });
    if let Some(late) = late {
        let mut graph = keyed.flow.borrow_mut();
        let schema = graph.schema(W::In::fields());
        graph.add_side_port(chain, operator, late, schema);
    }
    Stream::opened(keyed.flow, chain, operator, WindowHead::of_host(function, operator))
}

/// Windows of the guest: to the host a keyed function with state and timers.
fn of_guest<W: WindowFunction>(
    (keyed, late): Fed<W::In, W::Key>,
    construct: &str,
    asked: Asked<W::In>,
    function: (W, OwnStates),
) -> Stream<WindowHead<W>> {
    let selector = keyed.selector.clone();
    let inputs = OneStream { selector, late };
    let (chain, windows) = asked.begin((construct, &keyed.flow), function, inputs, |states| {
        keyed.begin(construct, |graph, key_schema| {
            states.head(graph, Some(key_schema), false)
        })
    });
    let operator = windows.operator;
    if let Some(late) = late {
        let mut graph = keyed.flow.borrow_mut();
        let schema = graph.schema(W::In::fields());
        let port = graph.add_side_port(chain, operator, late, schema);
        graph.sides(chain).add::<W::In>(operator, late, port);
    }
    Stream::opened(keyed.flow, chain, operator, WindowHead::of_guest(windows))
}

/// Windows as they were asked for. `R` is what their rows are.
pub(crate) struct Asked<R: Record> {
    pub(crate) assigner: Rc<dyn WindowAssigner<R>>,
    pub(crate) allowed_lateness: Duration,
    pub(crate) trigger: Option<MakeTrigger<R>>,
    pub(crate) evictor: Option<Box<dyn RowStore<R>>>,
}

impl<R: Record> Asked<R> {
    pub(crate) fn new(assigner: impl WindowAssigner<R>) -> Self {
        Asked {
            assigner: Rc::new(assigner),
            allowed_lateness: Duration::ZERO,
            trigger: None,
            evictor: None,
        }
    }

    pub(crate) fn set_trigger(&mut self, trigger: impl Trigger<R>) {
        self.trigger = Some(Box::new(|life| Box::new(Triggered::new(trigger, life))));
    }

    pub(crate) fn set_evictor(&mut self, evictor: impl Evictor<R>)
    where
        R: Owned + Clone,
    {
        self.evictor = Some(Box::new(WithEvictor::new(evictor)));
    }

    /// As the host does it, if it can. Its late ports are still to be said.
    pub(crate) fn host(&self) -> Option<wit::Window> {
        let plain = self.trigger.is_none() && self.evictor.is_none();
        let assigner = self.assigner.built_in().host.filter(|_| plain)?;
        Some(wit::Window {
            assigner,
            allowed_lateness_ms: millis(self.allowed_lateness),
            late_ports: Vec::new(),
        })
    }

    /// Why these windows cannot be, whoever runs them.
    pub(crate) fn errors(&self) -> Vec<String> {
        let lateness = check_whole("the allowed lateness", self.allowed_lateness);
        let never_fires = self.assigner.built_in().is_endless && self.trigger.is_none();
        let endless = match never_fires {
            true => Err("these windows never end: say with `trigger` when they fire".to_owned()),
            false => Ok(()),
        };
        let checks = [self.assigner.check(), lateness, endless];
        checks.into_iter().filter_map(Result::err).collect()
    }

    /// Makes the windows, and begins their chain by `begin`, which returns the numbers of chain and operator.
    pub(crate) fn begin<W, I>(
        self,
        (construct, flow): (&str, &Handle),
        (function, own): (W, OwnStates),
        inputs: I,
        begin: impl FnOnce(&States) -> (u32, u32),
    ) -> (u32, GuestWindows<W, I>)
    where
        W: WindowFunction<In = R>,
        I: Inputs<W>,
    {
        let life = Life {
            clock: self.assigner.clock(),
            lateness_ms: millis(self.allowed_lateness) as i64,
        };
        // Without a trigger they are refused as they are.
        let is_endless = self.assigner.built_in().is_endless && self.trigger.is_some();
        let trigger: Box<dyn TriggerStore<R>> = match (self.trigger, life.clock) {
            (Some(make), _) => make(life),
            (None, TimerKind::EventTime) => Box::new(Triggered::new(EventTimeTrigger, life)),
            (None, TimerKind::ProcessingTime) => Box::new(Triggered::new(ProcessingTimeTrigger, life)),
        };
        let checks = [
            trigger.check(),
            self.evictor.as_ref().map_or(Ok(()), |rows| rows.check()),
        ];
        // Other rows are kept, or in another way.
        let two_streams = if I::STREAMS > 1 { " of two streams" } else { "" };
        let all_rows = self.evictor.as_ref().map_or("", |_| " with an evictor");
        let contents = Contents::new(self.evictor);
        let mut states = vec![contents.declared(state_name(construct)), trigger.declared()];
        states.extend(own.states);
        let states = States::new(states);
        let (chain, operator) = begin(&states);
        let mut graph = flow.borrow_mut();
        let mismatches = mismatches(&states, (self.assigner.merges(), trigger.merges()), own.by_window);
        let errors = checks.into_iter().filter_map(Result::err).chain(mismatches);
        errors.for_each(|error| graph.error_of(operator, error));
        if is_endless && trigger.only_waits() {
            let error = "these windows never end, and the trigger waits for their end: say another one with `trigger`";
            graph.error_of(operator, error);
        }
        if let Some(windows) = self.assigner.description() {
            graph.set_windows(chain, format!("{windows}{two_streams}{all_rows}"));
        }
        if life.clock == TimerKind::EventTime {
            graph.needs_event_time(operator);
        }
        drop(graph);
        let windows = GuestWindows {
            function,
            operator,
            inputs,
            merges: self.assigner.merges(),
            only_waits: trigger.only_waits(),
            assigner: self.assigner,
            trigger,
            contents,
            states,
            life,
            dropped: Counter::new(operator, "late_rows_dropped"),
            assigned: Vec::new(),
            given: 0,
        };
        (chain, windows)
    }
}

/// What does not go together: `(windows merge, the trigger can follow)`.
fn mismatches(states: &States, (merges, trigger_merges): (bool, bool), by_window: bool) -> Vec<String> {
    let mut errors = Vec::new();
    if let Some(mistake) = states.mistake() {
        errors.push(format!("{mistake}; the window has states of its own"));
    }
    if merges && !trigger_merges {
        errors.push("these windows merge, and the trigger cannot follow them".to_owned());
    }
    if merges && by_window {
        errors.push("these windows merge, and a state of each window cannot follow them".to_owned());
    }
    errors
}

/// What is kept of the rows, named after the function.
fn state_name(construct: &str) -> &str {
    construct.trim_start_matches("window.")
}
