//! The graph under construction: what `build` hands to the host, and the chains that run it.
//!
//! Every method of [`Stream`](crate::Stream) declares its operator, ports and edges here at once, in the
//! order of the program, so the same program always gives the same graph. Mistakes are gathered and all
//! reported together when the graph is finished.

use std::cell::RefCell;
use std::rc::Rc;

use crate::bindings::dataflow as wit;
use crate::chain::closed::ErasedChain;
use crate::chain::sides::Sides;
use crate::contract::to_contract;
use crate::schema::Field;
use crate::value::Record;

/// The graph, shared by the flow and its streams.
pub(crate) type Handle = Rc<RefCell<GraphBuilder>>;

/// A graph that grows.
#[derive(Default)]
pub(crate) struct GraphBuilder {
    pub(crate) name: String,
    pub(crate) max_parallelism: u32,
    schemas: Vec<Vec<Field>>,
    pub(crate) operators: Vec<wit::Operator>,
    pub(crate) edges: Vec<wit::Edge>,
    chains: Vec<ChainDraft>,
    errors: Vec<Mistake>,
    /// Operators whose input has event time, or is refused.
    event_time: Vec<u32>,
    /// Operators that are named after another: which, after whom, and what follows the name.
    named_after: Vec<(u32, u32, &'static str)>,
    /// Operators of the host that work for a function, each with that.
    helpers: Vec<(u32, u32)>,
}

/// A mistake of the pipeline's author.
struct Mistake {
    /// Whose it is, if it is one operator's: it may get its name later.
    operator: Option<u32>,
    message: String,
}

/// A chain that grows.
struct ChainDraft {
    operators: Vec<u32>,
    inputs: Vec<u32>,
    head: wit::Head,
    ports: Vec<wit::Port>,
    /// Side outputs declared before the chain is closed.
    sides: Sides,
    closed: Option<Box<dyn ErasedChain>>,
}

/// Where rows come from: a port of an operator, and how they are spread.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) operator: u32,
    pub(crate) port: u32,
    pub(crate) partition: wit::Partition,
}

impl Origin {
    pub(crate) fn forward(operator: u32, port: u32) -> Self {
        Origin {
            operator,
            port,
            partition: wit::Partition::Forward,
        }
    }
}

/// An input of a chain to be.
pub(crate) struct Input {
    /// Its rows.
    pub(crate) fields: Vec<Field>,
    /// Where they come from.
    pub(crate) origins: Vec<Origin>,
}

/// The finished graph and its chains, by index.
pub(crate) struct Finished {
    pub(crate) graph: wit::Graph,
    pub(crate) chains: Vec<Box<dyn ErasedChain>>,
}

impl GraphBuilder {
    /// Notes a mistake of the pipeline's author.
    pub(crate) fn error(&mut self, message: String) {
        let operator = None;
        self.errors.push(Mistake { operator, message });
    }

    /// Notes what is wrong with an operator.
    pub(crate) fn error_of(&mut self, operator: u32, message: impl Into<String>) {
        let (operator, message) = (Some(operator), message.into());
        self.errors.push(Mistake { operator, message });
    }

    /// The mistakes, one in a line, with the names that operators have now.
    fn mistakes(&self) -> String {
        let shown = |mistake: &Mistake| match mistake.operator {
            Some(operator) => format!("{}: {}", self.shown(operator), mistake.message),
            None => mistake.message.clone(),
        };
        self.errors.iter().map(shown).collect::<Vec<_>>().join("\n")
    }

    /// An operator as people know it: by its name, and what it is if that is not its name.
    fn shown(&self, operator: u32) -> String {
        let operator = &self.operators[operator as usize];
        match &operator.kind {
            wit::OperatorKind::Function(function) if function.construct != operator.name => {
                format!("operator `{}` (`{}`)", operator.name, function.construct)
            }
            _ => format!("operator `{}`", operator.name),
        }
    }

    /// The first operator, and its state, is named after the second, in whatever order they are named.
    pub(crate) fn name_after(&mut self, operator: u32, other: u32, suffix: &'static str) {
        self.named_after.push((operator, other, suffix));
    }

    /// The first operator works for the second, after which it is called, and has as many subtasks.
    pub(crate) fn helper_of(&mut self, helper: u32, function: u32, work: &'static str) {
        self.helpers.push((helper, function));
        self.name_after(helper, function, work);
    }

    /// The operator's input must have event time.
    pub(crate) fn needs_event_time(&mut self, operator: u32) {
        self.event_time.push(operator);
    }

    /// Refuses operators that need event time where it is not on all ways.
    fn check_event_time(&mut self) {
        for operator in std::mem::take(&mut self.event_time) {
            if !self.has_event_time(operator) {
                self.error_of(
                    operator,
                    "it goes by event time, but not all of its inputs have it; assign it with `watermarks`, or use windows \
                     of processing time",
                );
            }
        }
    }

    /// Whether what comes to an operator, or to its chain, has event time.
    fn has_event_time(&self, operator: u32) -> bool {
        let first = match &self.operators[operator as usize].kind {
            wit::OperatorKind::Watermarks(_) => return true,
            wit::OperatorKind::Source(_) => return false,
            wit::OperatorKind::Function(function) => self.chains[function.chain as usize].operators[0],
            wit::OperatorKind::Sink(_) | wit::OperatorKind::Requests(_) | wit::OperatorKind::Lookup(_) => operator,
        };
        let mut feeders = self.edges.iter().filter(|edge| edge.to_operator == first);
        feeders.all(|edge| self.has_event_time(edge.from_operator))
    }

    /// Number of a schema; equal ones share it.
    pub(crate) fn schema(&mut self, fields: Vec<Field>) -> u32 {
        if let Some(known) = self.schemas.iter().position(|schema| *schema == fields) {
            return known as u32;
        }
        self.schemas.push(fields);
        self.schemas.len() as u32 - 1
    }

    pub(crate) fn add_operator(&mut self, name: &str, kind: wit::OperatorKind) -> u32 {
        self.operators.push(wit::Operator {
            name: name.to_owned(),
            uid: None,
            kind,
            parallelism: None,
            slot_sharing_group: None,
        });
        self.operators.len() as u32 - 1
    }

    /// Adds a function at the end of a chain, named after its construct until the user names it.
    pub(crate) fn add_function(&mut self, chain: u32, construct: &str) -> u32 {
        let function = wit::Function {
            construct: construct.to_owned(),
            chain,
            on_reject: wit::RejectPolicy::Fail,
        };
        let operator = self.add_operator(construct, wit::OperatorKind::Function(function));
        self.chains[chain as usize].operators.push(operator);
        operator
    }

    /// Begins a chain with its first operator, which takes rows of these inputs.
    pub(crate) fn begin_chain(&mut self, construct: &str, inputs: Vec<Input>, head: wit::Head) -> (u32, u32) {
        let fields = inputs.iter().map(|input| input.fields.clone());
        let chain = self.open_chain(fields.collect::<Vec<_>>(), head);
        let operator = self.add_function(chain, construct);
        for (number, input) in (0..).zip(&inputs) {
            self.connect(&input.origins, operator, number);
        }
        (chain, operator)
    }

    /// Begins a chain with these inputs.
    pub(crate) fn open_chain(&mut self, inputs: impl IntoIterator<Item = Vec<Field>>, head: wit::Head) -> u32 {
        let inputs = inputs.into_iter().map(|input| self.schema(input)).collect();
        self.chains.push(ChainDraft {
            operators: Vec::new(),
            inputs,
            head,
            ports: Vec::new(),
            sides: Sides::default(),
            closed: None,
        });
        self.chains.len() as u32 - 1
    }

    /// Gives all states of a chain's head a time to live.
    pub(crate) fn set_ttl(&mut self, chain: u32, ttl: wit::TimeToLive) {
        if let wit::Head::Keyed(keyed) = &mut self.chains[chain as usize].head {
            keyed.always_writes = false;
            keyed.states.iter_mut().for_each(|state| state.ttl = Some(ttl));
        }
    }

    /// Adds the schema of an earlier version to the first state of a chain's head.
    pub(crate) fn add_migration(&mut self, chain: u32, fields: Vec<Field>) {
        let schema = self.schema(fields);
        match &mut self.chains[chain as usize].head {
            wit::Head::Keyed(keyed) => {
                let first = keyed.states.first_mut();
                first.into_iter().for_each(|state| state.migrations.push(schema));
            }
            wit::Head::Window(window) => window.accumulator.migrations.push(schema),
            wit::Head::Stateless | wit::Head::Pattern(_) | wit::Head::Unkeyed(_) => {}
        }
    }

    /// Says in words which windows the states of a chain's head are of.
    pub(crate) fn set_windows(&mut self, chain: u32, windows: String) {
        if let wit::Head::Keyed(keyed) = &mut self.chains[chain as usize].head {
            keyed.windows = Some(windows);
        }
    }

    /// Takes the last operator out of a chain, if there is one before it: the number of that.
    pub(crate) fn split_last(&mut self, chain: u32) -> Option<u32> {
        let draft = &mut self.chains[chain as usize];
        let &[.., before, last] = draft.operators.as_slice() else {
            return None;
        };
        draft.operators.pop();
        if draft.ports.iter().any(|port| port.operator == last) {
            self.error_of(
                last,
                "it is put into a slot-sharing group behind its side output: name the group before the side output is taken",
            );
        }
        Some(before)
    }

    /// Begins a chain with an operator that was taken out of another.
    pub(crate) fn begin_with(&mut self, operator: u32, rows: Vec<Field>, origins: &[Origin]) -> u32 {
        let chain = self.open_chain([rows], wit::Head::Stateless);
        self.chains[chain as usize].operators.push(operator);
        if let wit::OperatorKind::Function(function) = &mut self.operators[operator as usize].kind {
            function.chain = chain;
        }
        self.connect(origins, operator, 0);
        chain
    }

    pub(crate) fn has_chain(&self, chain: u32) -> bool {
        (chain as usize) < self.chains.len()
    }

    /// Leads rows into an input of an operator.
    pub(crate) fn connect(&mut self, origins: &[Origin], to_operator: u32, to_input: u32) {
        for origin in origins {
            self.edges.push(wit::Edge {
                from_operator: origin.operator,
                from_port: origin.port,
                to_operator,
                to_input,
                partition: origin.partition.clone(),
            });
        }
    }

    pub(crate) fn add_port(&mut self, chain: u32, port: wit::Port) -> u32 {
        let ports = &mut self.chains[chain as usize].ports;
        ports.push(port);
        ports.len() as u32 - 1
    }

    /// Adds a side output that the host fills or that a function of the chain does.
    pub(crate) fn add_side_port(&mut self, chain: u32, operator: u32, tag: &str, schema: u32) -> u32 {
        let port = wit::Port {
            operator,
            side: Some(tag.to_owned()),
            schema,
            computes_time: false,
            computed_key: None,
        };
        self.add_port(chain, port)
    }

    pub(crate) fn close_chain(&mut self, chain: u32, closed: Box<dyn ErasedChain>) {
        self.chains[chain as usize].closed = Some(closed);
    }

    /// The side outputs of a chain, closed or not.
    pub(crate) fn sides(&mut self, chain: u32) -> &mut Sides {
        let draft = &mut self.chains[chain as usize];
        match &mut draft.closed {
            Some(closed) => closed.sides(),
            None => &mut draft.sides,
        }
    }

    /// The side output with this tag of the operator, or of the nearest before it in its chain that can have
    /// one. Declares it if it is not there yet.
    pub(crate) fn side_output<T: Record>(&mut self, operator: u32, tag: &'static str) -> Option<Origin> {
        let wit::OperatorKind::Function(function) = &self.operators[operator as usize].kind else {
            self.error_of(
                operator,
                format!("it has no side output `{tag}`: only functions have side outputs"),
            );
            return None;
        };
        let chain = function.chain;
        let schema = self.schema(T::fields());
        let operators = &self.chains[chain as usize].operators;
        let before: Vec<u32> = operators
            .iter()
            .rev()
            .copied()
            .skip_while(|&other| other != operator)
            .collect();
        for &before in &before {
            if let Some(port) = self.side_port(chain, before, tag) {
                if self.chains[chain as usize].ports[port as usize].schema != schema {
                    self.error_of(
                        operator,
                        format!("its side output `{tag}` is taken with two types of rows"),
                    );
                }
                return Some(Origin::forward(before, port));
            }
        }
        let Some(&operator) = before.iter().find(|&&operator| self.has_sides(operator)) else {
            self.error_of(
                operator,
                format!("it has no side output `{tag}`: {}", self.how_to_get(operator)),
            );
            return None;
        };
        let port = self.add_side_port(chain, operator, tag, schema);
        self.sides(chain).add::<T>(operator, tag, port);
        Some(Origin::forward(operator, port))
    }

    /// How the side output that somebody wanted of this operator, or of one before it, comes to be.
    fn how_to_get(&self, operator: u32) -> &'static str {
        match &self.operators[operator as usize].kind {
            wit::OperatorKind::Function(function) if function.construct.starts_with("window.") => {
                "late rows become one with `late_output` (of two streams `late_outputs`) before the function of the windows, and \
                 `process_with` puts out rows of its own"
            }
            _ => "only `process`, `flat_map` and their relatives put rows out beside their main output",
        }
    }

    /// Whether the operator's function can put rows out beside its main output.
    fn has_sides(&self, operator: u32) -> bool {
        match &self.operators[operator as usize].kind {
            wit::OperatorKind::Function(function) => {
                let construct = function.construct.as_str();
                let groups = construct == "window.co_group" || construct.starts_with("interval_");
                let joins = construct.ends_with("temporal_join");
                let matches = construct.starts_with("pattern.");
                groups || joins || matches || construct.ends_with("process") || construct.ends_with("flat_map")
            }
            wit::OperatorKind::Source(_)
            | wit::OperatorKind::Sink(_)
            | wit::OperatorKind::Watermarks(_)
            | wit::OperatorKind::Requests(_)
            | wit::OperatorKind::Lookup(_) => false,
        }
    }

    fn side_port(&self, chain: u32, operator: u32, tag: &str) -> Option<u32> {
        let ports = &self.chains[chain as usize].ports;
        let found = |port: &wit::Port| port.operator == operator && port.side.as_deref() == Some(tag);
        ports.iter().position(found).map(|index| index as u32)
    }

    pub(crate) fn set_parallelism(&mut self, operator: u32, subtasks: u32) {
        self.operators[operator as usize].parallelism = Some(subtasks);
        if subtasks == 0 {
            self.error_of(operator, "its parallelism cannot be 0");
        }
    }

    pub(crate) fn set_slot_sharing_group(&mut self, operator: u32, group: &str) {
        self.operators[operator as usize].slot_sharing_group = Some(group.to_owned());
        // Watermarks of each split are made where they are read.
        if matches!(self.operators[operator as usize].kind, wit::OperatorKind::Watermarks(_))
            && let Some(source) = self.source_of(operator)
        {
            let read_in = &mut self.operators[source as usize].slot_sharing_group;
            read_in.get_or_insert_with(|| group.to_owned());
        }
        if group.trim().is_empty() {
            self.error_of(operator, "it cannot be in a slot-sharing group without a name");
        }
    }

    /// The source that alone leads into an operator, with nothing in between.
    fn source_of(&self, operator: u32) -> Option<u32> {
        let mut feeders = self.edges.iter().filter(|edge| edge.to_operator == operator);
        let (first, others) = (feeders.next()?.from_operator, feeders.count());
        let is_source = matches!(self.operators[first as usize].kind, wit::OperatorKind::Source(_));
        (is_source && others == 0).then_some(first)
    }

    /// Says what happens to rows that an operator refuses.
    pub(crate) fn on_reject(&mut self, operator: u32, policy: wit::RejectPolicy) {
        match &mut self.operators[operator as usize].kind {
            wit::OperatorKind::Source(source) => source.on_reject = policy,
            wit::OperatorKind::Function(function) if function.construct.starts_with("try_") => {
                function.on_reject = policy;
            }
            wit::OperatorKind::Function(_)
            | wit::OperatorKind::Sink(_)
            | wit::OperatorKind::Watermarks(_)
            | wit::OperatorKind::Requests(_)
            | wit::OperatorKind::Lookup(_) => self.error_of(
                operator,
                "it refuses no rows: `on_reject` belongs to sources, `try_map` and `try_flat_map`",
            ),
        }
    }

    /// Checks what only the SDK can know, and hands the graph over.
    pub(crate) fn finish(mut self) -> Result<Finished, String> {
        self.share_parallelism();
        self.share_with_helpers();
        self.check_slot_sharing_groups();
        self.share_names();
        self.check_event_time();
        if !self.errors.is_empty() {
            return Err(self.mistakes());
        }
        let mut chains = Vec::new();
        let mut closed = Vec::new();
        for draft in self.chains {
            chains.push(wit::Chain {
                operators: draft.operators,
                inputs: draft.inputs,
                head: draft.head,
                ports: draft.ports,
            });
            closed.push(draft.closed.ok_or(
                "a stream was kept beyond `build`: streams end when the function that builds the dataflow returns",
            )?);
        }
        let graph = wit::Graph {
            name: self.name,
            schemas: self.schemas.iter().map(|schema| to_contract(schema)).collect(),
            operators: self.operators,
            edges: self.edges,
            chains,
            max_parallelism: self.max_parallelism,
        };
        Ok(Finished { graph, chains: closed })
    }

    fn share_with_helpers(&mut self) {
        for (helper, function) in std::mem::take(&mut self.helpers) {
            let function = &self.operators[function as usize];
            let (parallelism, group) = (function.parallelism, function.slot_sharing_group.clone());
            let helper = &mut self.operators[helper as usize];
            (helper.parallelism, helper.slot_sharing_group) = (parallelism, group);
        }
    }

    fn share_names(&mut self) {
        for (operator, other, suffix) in std::mem::take(&mut self.named_after) {
            let other = &self.operators[other as usize];
            let (name, uid) = (format!("{} {suffix}", other.name), other.uid.as_ref());
            let uid = uid.map(|uid| format!("{uid}-{suffix}"));
            let operator = &mut self.operators[operator as usize];
            (operator.name, operator.uid) = (name, uid);
        }
    }

    /// Gives all operators of a chain the parallelism that one of them asks for.
    fn share_parallelism(&mut self) {
        for chain in &self.chains {
            let mut asked: Option<(u32, u32)> = None;
            for &operator in &chain.operators {
                let Some(parallelism) = self.operators[operator as usize].parallelism else {
                    continue;
                };
                match asked {
                    Some((other, before)) if before != parallelism => self.errors.push(Mistake {
                        operator: None,
                        message: format!(
                            "`{}` asks for parallelism {before} and `{}` for {parallelism}, but they are fused into one: \
                             put `.rebalance()` between them",
                            self.operators[other as usize].name, self.operators[operator as usize].name
                        ),
                    }),
                    Some(_) => {}
                    None => asked = Some((operator, parallelism)),
                }
            }
            for &operator in &chain.operators {
                self.operators[operator as usize].parallelism = asked.map(|(_, parallelism)| parallelism);
            }
        }
    }

    /// Refuses chains that were ended before one of their functions got another group than those before it.
    fn check_slot_sharing_groups(&mut self) {
        for chain in &self.chains {
            let operators = chain
                .operators
                .iter()
                .map(|operator| &self.operators[*operator as usize]);
            let mut said =
                operators.filter_map(|operator| Some((&operator.name, operator.slot_sharing_group.as_ref()?)));
            let Some((first, group)) = said.next() else { continue };
            if let Some((second, other)) = said.find(|(_, other)| *other != group) {
                self.errors.push(Mistake {
                    operator: None,
                    message: format!(
                        "`{first}` is in the slot-sharing group `{group}` and `{second}` in `{other}`, but they are fused into \
                         one: name the group directly behind `{second}`"
                    ),
                });
            }
        }
    }
}
