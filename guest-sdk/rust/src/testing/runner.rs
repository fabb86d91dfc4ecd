//! The test host's loop: elements through channels, one at a time, until nothing is left to do.
//!
//! Everything runs in the caller's thread. Which channel is next is fixed, or drawn from a seed: then it differs from
//! that of another seed as the timing of threads and networks would make it differ.

use std::collections::{BTreeMap, VecDeque};

use super::datum::columns;
use super::guest::{ChainInfo, Guest, Refused, Row};
use super::lookup::Tables;
use super::operator::{Body, HeadOperator, Split, Strategy};
use super::plan::{Kind, Plan};
use super::random::Random;
use super::requests::Server;
use super::spread::Sender;
use super::time::{Generator, LAST, Merge, Progress};
use crate::Flow;
use crate::abi::Instance;
use crate::abi::host::{Recorded, recorded};
use crate::bindings::dataflow::{EventTime, Graph, OperatorKind, RejectPolicy, WatermarkSource};
use crate::bindings::operators::Moment;
use crate::chain::Work;
use crate::chain::closed::ErasedChain;

/// Key groups where the pipeline does not say.
const MAX_PARALLELISM: u32 = 128;

/// What travels.
#[derive(Debug, Clone)]
enum Element {
    Rows(Vec<Row>),
    Watermark(i64),
    Idle,
    End,
}

/// One parallel copy of a task.
#[derive(Debug)]
pub(crate) struct Subtask {
    queues: Vec<VecDeque<Element>>,
    merge: Merge,
    open_channels: usize,
    pub(crate) body: Body,
    /// By edge, the receiver that had the last rows of a rebalance.
    turns: BTreeMap<usize, usize>,
    has_ended: bool,
}

/// How a pipeline is run.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) parallelism: u32,
    pub(crate) seed: Option<u64>,
    pub(crate) splits: BTreeMap<String, usize>,
    pub(crate) now: i64,
    pub(crate) attempt: u32,
    pub(crate) server: Server,
}

/// A pipeline that runs.
pub(crate) struct Runner {
    pub(crate) graph: Graph,
    pub(crate) plan: Plan,
    /// By task; chains have one.
    pub(crate) chains: Vec<Option<ChainInfo>>,
    pub(crate) subtasks: Vec<Vec<Subtask>>,
    instances: Vec<Instance>,
    surroundings: Recorded,
    random: Option<Random>,
    server: Server,
    /// Tables that rows are looked up in.
    pub(crate) tables: Tables,
    pub(crate) now: i64,
    /// Rows that sinks were given.
    pub(crate) written: BTreeMap<u32, Vec<Row>>,
    pub(crate) refused: Vec<Refused>,
}

/// Builds a pipeline, as often as there are instances.
pub(crate) type Build = dyn Fn(&Flow) -> Result<(), String>;

fn build_once(build: &Build) -> Result<(Graph, Vec<Box<dyn ErasedChain>>), String> {
    let flow = Flow::new();
    build(&flow)?;
    let finished = flow.finish()?;
    Ok((finished.graph, finished.chains))
}

impl Runner {
    /// A pipeline that nothing was given to yet; [`open`](Self::open) follows.
    pub(crate) fn new(build: &Build, settings: &Settings) -> Result<Runner, String> {
        let (graph, chains) = build_once(build)?;
        let plan = Plan::new(&graph, settings.parallelism);
        let slots = plan.tasks.iter().map(|task| task.parallelism).max().unwrap_or(1);
        let mut instances = vec![Instance::new(chains)];
        for _ in 1..slots {
            instances.push(Instance::new(build_once(build)?.1));
        }
        let info = |task: &super::plan::Task| match task.kind {
            Kind::Chain(chain) => ChainInfo::new(&graph, chain, task.has_time).map(Some),
            Kind::Source | Kind::Given | Kind::Watermarks | Kind::Requests | Kind::Lookup | Kind::Sink => Ok(None),
        };
        let chains: Vec<Option<ChainInfo>> = plan.tasks.iter().map(info).collect::<Result<_, _>>()?;
        let mut runner = Runner {
            graph,
            plan,
            chains,
            subtasks: Vec::new(),
            instances,
            surroundings: Recorded::default(),
            random: settings.seed.map(Random::new),
            server: settings.server.clone(),
            tables: Tables::default(),
            now: settings.now,
            written: BTreeMap::new(),
            refused: Vec::new(),
        };
        runner.subtasks = (0..runner.plan.tasks.len())
            .map(|task| runner.make_subtasks(task, settings))
            .collect();
        runner.open(settings);
        Ok(runner)
    }

    fn make_subtasks(&self, task: usize, settings: &Settings) -> Vec<Subtask> {
        let parallelism = self.plan.tasks[task].parallelism as usize;
        let channels = self.plan.channels(task);
        let subtask = |number: usize| {
            let missing = self.plan.missing_channels(task, number);
            let mut merge = Merge::new(channels);
            missing.iter().for_each(|channel| merge.leave_out(*channel));
            Subtask {
                queues: vec![VecDeque::new(); channels],
                merge,
                open_channels: channels - missing.len(),
                body: self.body(task, number, settings),
                turns: BTreeMap::new(),
                has_ended: false,
            }
        };
        (0..parallelism).map(subtask).collect()
    }

    fn body(&self, task: usize, subtask: usize, settings: &Settings) -> Body {
        let declared = &self.graph.operators[self.plan.tasks[task].operator as usize];
        match (&declared.kind, &self.chains[task]) {
            (_, Some(info)) => Body::Chain {
                head: HeadOperator::new(info, subtask),
                watermark: super::time::FIRST,
            },
            (OperatorKind::Source(source), _) => {
                let count = settings.splits.get(&declared.name).copied().unwrap_or(1);
                let parallelism = self.plan.tasks[task].parallelism as usize;
                let strategy = self.strategy_of_source(task);
                let is_given = self.is_given(task);
                let columns = columns(&self.graph.schemas[source.schema as usize]);
                let split = |number: usize| Split {
                    number,
                    generator: strategy.map(|strategy| Generator::new(strategy, settings.now)),
                    has_ended: false,
                };
                Body::Source {
                    splits: (subtask..count).step_by(parallelism).map(split).collect(),
                    strategy: strategy
                        .filter(|_| !is_given)
                        .map(|strategy| Strategy::new(strategy, &columns)),
                }
            }
            (OperatorKind::Requests(_), _) => Body::Requests,
            (OperatorKind::Lookup(_), _) => Body::Lookup,
            (OperatorKind::Watermarks(_), _) if self.passes(task) => Body::Passing,
            (OperatorKind::Watermarks(strategy), _) => Body::Watermarks {
                strategy: Strategy::new(strategy, &self.columns_into(task)),
                generator: Generator::new(strategy, settings.now),
            },
            (OperatorKind::Sink(_) | OperatorKind::Function(_), _) => Body::Sink,
        }
    }

    /// The watermarks that directly and alone follow a source are made by it, for each split.
    fn strategy_of_source(&self, source: usize) -> Option<&crate::bindings::dataflow::Watermarks> {
        let mut edges = self.plan.edges.iter().filter(|edge| edge.from == source);
        let (Some(edge), None) = (edges.next(), edges.next()) else {
            return None;
        };
        let to = &self.plan.tasks[edge.to];
        let is_alone = self.plan.edges.iter().filter(|other| other.to == edge.to).count() == 1;
        let is_same = to.parallelism == self.plan.tasks[source].parallelism;
        match &self.graph.operators[to.operator as usize].kind {
            OperatorKind::Watermarks(strategy) if to.kind == Kind::Given || is_alone && is_same => {
                let is_computed = matches!(strategy.time, EventTime::Computed)
                    || matches!(strategy.source, WatermarkSource::Computed);
                (to.kind == Kind::Given || !is_computed).then_some(strategy)
            }
            _ => None,
        }
    }

    fn passes(&self, task: usize) -> bool {
        let mut feeders = self.plan.edges.iter().filter(|edge| edge.to == task);
        feeders
            .any(|edge| self.plan.tasks[edge.from].kind == Kind::Source && self.strategy_of_source(edge.from).is_some())
    }

    fn open(&mut self, settings: &Settings) {
        self.enter();
        let max_parallelism = match self.graph.max_parallelism {
            0 => MAX_PARALLELISM,
            given => given,
        };
        for (task, info) in self.chains.iter().enumerate() {
            let Some(info) = info else { continue };
            let parallelism = self.plan.tasks[task].parallelism;
            for subtask in 0..parallelism {
                let config = info.config(subtask, parallelism, max_parallelism, settings.attempt);
                let opened = self.instances[subtask as usize].open(info.number, &config);
                opened.unwrap_or_else(|error| panic!("a chain cannot be opened: {}", error.message));
            }
        }
        self.leave();
    }

    /// What user code leaves behind in this thread is this job's from here on.
    fn enter(&mut self) {
        self.surroundings.now = self.now;
        recorded(|recorded| std::mem::swap(recorded, &mut self.surroundings));
    }

    fn leave(&mut self) {
        recorded(|recorded| std::mem::swap(recorded, &mut self.surroundings));
    }

    /// Does something in which user code may run.
    pub(crate) fn entered<R>(&mut self, act: impl FnOnce(&mut Runner) -> R) -> R {
        self.enter();
        let result = act(self);
        self.leave();
        result
    }

    /// Whether a source gives what the test gives, times too.
    pub(crate) fn is_given(&self, task: usize) -> bool {
        let mut receivers = self.plan.edges.iter().filter(|edge| edge.from == task);
        receivers.any(|edge| self.plan.tasks[edge.to].kind == Kind::Given)
    }

    /// What user code has left behind so far.
    pub(crate) fn recorded(&self) -> &Recorded {
        &self.surroundings
    }

    /// Ends subtasks of sources that have no split that goes on.
    pub(crate) fn end_sources(&mut self) {
        for task in 0..self.subtasks.len() {
            for subtask in 0..self.subtasks[task].len() {
                let Body::Source { splits, .. } = &self.subtasks[task][subtask].body else {
                    continue;
                };
                let is_over = splits.iter().all(|split| split.has_ended);
                if is_over && !std::mem::replace(&mut self.subtasks[task][subtask].has_ended, true) {
                    self.announce(task, subtask, &Element::End);
                }
            }
        }
    }

    /// The subtask that reads a split, and the place of the split there.
    pub(crate) fn place_of_split(&self, task: usize, split: usize) -> (usize, usize) {
        let subtask = split % self.subtasks[task].len();
        let Body::Source { splits, .. } = &self.subtasks[task][subtask].body else {
            panic!("only sources have splits");
        };
        let found = splits.iter().position(|other| other.number == split);
        (
            subtask,
            found.unwrap_or_else(|| panic!("the source has no split {split}")),
        )
    }

    /// Rows of a split, and the watermark behind them.
    pub(crate) fn feed(&mut self, task: usize, split: usize, mut rows: Vec<Row>) {
        let (subtask, place) = self.place_of_split(task, split);
        let now = self.now;
        let Body::Source { splits, strategy } = &mut self.subtasks[task][subtask].body else {
            return;
        };
        let split = &mut splits[place];
        assert!(!split.has_ended, "the split has ended");
        match (&mut split.generator, strategy) {
            (Some(generator), Some(strategy)) => strategy.assign(&mut rows, generator, now),
            (Some(generator), None) => generator.is_idle = false,
            (None, _) => {}
        }
        self.send(task, subtask, 0, rows);
        self.announce_splits(task, subtask);
    }

    /// Changes a split, and says what follows from it.
    pub(crate) fn change_split(&mut self, task: usize, split: usize, change: impl FnOnce(&mut Split)) {
        let (subtask, place) = self.place_of_split(task, split);
        if let Body::Source { splits, .. } = &mut self.subtasks[task][subtask].body {
            change(&mut splits[place]);
        }
        self.announce_splits(task, subtask);
        self.end_sources();
    }

    /// The least watermark of the splits of a subtask, if it has advanced.
    fn announce_splits(&mut self, task: usize, subtask: usize) {
        let subtask_of = &mut self.subtasks[task][subtask];
        let Body::Source { splits, .. } = &subtask_of.body else {
            return;
        };
        if splits.iter().all(|split| split.generator.is_none()) {
            return;
        }
        let mut merge = Merge::new(splits.len());
        merge.watermark = subtask_of.merge.watermark;
        let mut progress = None;
        for (index, split) in splits.iter().enumerate() {
            let generator = split.generator.as_ref();
            let watermark = match (split.has_ended, generator) {
                (true, _) => LAST,
                (false, generator) => generator.map_or(super::time::FIRST, |generator| generator.watermark),
            };
            progress = merge.watermark(index, watermark).or(progress);
            if generator.is_some_and(|generator| generator.is_idle) && !split.has_ended {
                progress = merge.idle(index).or(progress);
            }
        }
        subtask_of.merge.watermark = merge.watermark;
        match progress {
            Some(Progress::Watermark(watermark)) => self.announce(task, subtask, &Element::Watermark(watermark)),
            Some(Progress::Idle) => self.announce(task, subtask, &Element::Idle),
            None => {}
        }
    }

    /// Rows of a port to those that take them.
    fn send(&mut self, task: usize, subtask: usize, port: u32, rows: Vec<Row>) {
        if rows.is_empty() {
            return;
        }
        for number in 0..self.plan.edges.len() {
            let edge = &self.plan.edges[number];
            if edge.from != task || edge.port != port {
                continue;
            }
            let (to, channel) = (edge.to, edge.first_channel + subtask);
            let receivers = self.subtasks[to].len();
            let senders = self.subtasks[task].len();
            let turn = self.subtasks[task][subtask].turns.entry(number).or_insert(0);
            let sender = Sender {
                subtask,
                senders,
                turn,
                random: self.random.as_mut(),
            };
            let parts = sender.spread(&edge.partition, &rows, receivers);
            for (receiver, part) in parts.into_iter().enumerate().filter(|(_, part)| !part.is_empty()) {
                self.subtasks[to][receiver].queues[channel].push_back(Element::Rows(part));
            }
        }
    }

    /// What is no row goes to all receivers of all ports; over a forward edge that is one.
    fn announce(&mut self, task: usize, subtask: usize, element: &Element) {
        for edge in self.plan.edges.iter().filter(|edge| edge.from == task) {
            for (number, receiver) in self.subtasks[edge.to].iter_mut().enumerate() {
                if edge.connects(subtask, number) {
                    receiver.queues[edge.first_channel + subtask].push_back(element.clone());
                }
            }
        }
    }

    /// Goes on until no channel holds anything, or for so many steps.
    pub(crate) fn run(&mut self, steps: Option<usize>) {
        self.enter();
        let mut left = steps.unwrap_or(usize::MAX);
        while left > 0
            && let Some((task, subtask, channel)) = self.pick()
        {
            if let Some(element) = self.subtasks[task][subtask].queues[channel].pop_front() {
                self.handle(task, subtask, channel, element);
            }
            left -= 1;
        }
        self.leave();
    }

    /// A number below a bound, if there is a seed.
    pub(crate) fn draw(&mut self, bound: usize) -> Option<usize> {
        self.random.as_mut().map(|random| random.below(bound))
    }

    fn pick(&mut self) -> Option<(usize, usize, usize)> {
        let mut full = Vec::new();
        for (task, subtasks) in self.subtasks.iter().enumerate() {
            for (subtask, entry) in subtasks.iter().enumerate() {
                let channels = entry.queues.iter().enumerate().filter(|(_, queue)| !queue.is_empty());
                full.extend(channels.map(|(channel, _)| (task, subtask, channel)));
                if self.random.is_none() && !full.is_empty() {
                    return full.first().copied();
                }
            }
        }
        let bound = full.len();
        if bound == 0 {
            return None;
        }
        self.draw(bound).map(|index| full[index])
    }

    fn handle(&mut self, task: usize, subtask: usize, channel: usize, element: Element) {
        let entry = &mut self.subtasks[task][subtask];
        let progress = match element {
            Element::Rows(rows) => {
                entry.merge.rows(channel);
                self.handle_rows(task, subtask, channel, rows);
                return;
            }
            Element::Watermark(watermark) => entry.merge.watermark(channel, watermark),
            Element::Idle => entry.merge.idle(channel),
            Element::End => {
                entry.open_channels -= 1;
                entry.merge.watermark(channel, LAST)
            }
        };
        let is_over = entry.open_channels == 0 && !entry.has_ended;
        // A watermark operator makes its own.
        if !matches!(entry.body, Body::Watermarks { .. }) {
            match progress {
                Some(Progress::Watermark(watermark)) => self.handle_watermark(task, subtask, watermark),
                Some(Progress::Idle) => self.announce(task, subtask, &Element::Idle),
                None => {}
            }
        }
        if is_over {
            self.handle_end(task, subtask);
        }
    }

    fn handle_rows(&mut self, task: usize, subtask: usize, channel: usize, mut rows: Vec<Row>) {
        let now = self.now;
        match &mut self.subtasks[task][subtask].body {
            Body::Sink => {
                let operator = self.plan.tasks[task].operator;
                self.written.entry(operator).or_default().extend(rows);
            }
            Body::Passing => self.send(task, subtask, 0, rows),
            Body::Requests => {
                let answered = self.server.answer(rows);
                self.send(task, subtask, 0, answered);
            }
            Body::Lookup => {
                let joined = self.look_up(task, &rows);
                self.send(task, subtask, 0, joined);
            }
            Body::Watermarks { strategy, generator } => {
                let before = generator.watermark;
                strategy.assign(&mut rows, generator, now);
                let watermark = generator.watermark;
                self.send(task, subtask, 0, rows);
                if watermark > before {
                    self.announce(task, subtask, &Element::Watermark(watermark));
                }
            }
            Body::Chain { .. } => {
                let edge = self.plan.edge_of(task, channel);
                let (input, partition) = (edge.input, edge.partition.clone());
                self.with_chain(task, subtask, |head, guest| head.rows(guest, input, &partition, &rows));
            }
            Body::Source { .. } => unreachable!("nothing comes to a source"),
        }
    }

    fn handle_watermark(&mut self, task: usize, subtask: usize, watermark: i64) {
        if let Body::Chain {
            watermark: of_chain, ..
        } = &mut self.subtasks[task][subtask].body
        {
            *of_chain = watermark.max(*of_chain);
            self.with_chain(task, subtask, |head, guest| {
                let watermark = guest.at.watermark;
                head.watermark(guest, watermark);
            });
        }
        self.announce(task, subtask, &Element::Watermark(watermark));
    }

    fn handle_end(&mut self, task: usize, subtask: usize) {
        match &self.subtasks[task][subtask].body {
            Body::Chain { .. } => self.with_chain(task, subtask, |head, guest| match head {
                HeadOperator::Keyed(keyed) if keyed.own_key.is_some() => keyed.end(guest),
                HeadOperator::Stateless
                | HeadOperator::Keyed(_)
                | HeadOperator::Windows(_)
                | HeadOperator::Patterns(_) => {
                    guest.call(&Work::Close, |_| String::new());
                }
            }),
            Body::Watermarks { .. } => self.announce(task, subtask, &Element::Watermark(LAST)),
            Body::Source { .. } | Body::Passing | Body::Requests | Body::Lookup | Body::Sink => {}
        }
        self.subtasks[task][subtask].has_ended = true;
        self.announce(task, subtask, &Element::End);
    }

    /// Has a chain called, and sends on what that brings.
    pub(crate) fn with_chain<R>(
        &mut self,
        task: usize,
        subtask: usize,
        call: impl FnOnce(&mut HeadOperator, &mut Guest<'_>) -> R,
    ) -> R {
        let Body::Chain { head, watermark } = &mut self.subtasks[task][subtask].body else {
            panic!("only chains are called");
        };
        let mut guest = Guest {
            instance: &mut self.instances[subtask],
            info: self.chains[task].as_ref().expect("a chain has its schemas"),
            at: Moment {
                watermark: *watermark,
                now: self.now,
            },
            outputs: Vec::new(),
            refused: Vec::new(),
        };
        let result = call(head, &mut guest);
        let (outputs, refused) = (guest.outputs, guest.refused);
        for (port, rows) in outputs {
            self.send(task, subtask, port, rows);
        }
        self.refuse(refused);
        result
    }

    fn refuse(&mut self, refused: Vec<Refused>) {
        for refused in refused {
            let operator = &self.graph.operators[refused.operator as usize];
            if let OperatorKind::Function(function) = &operator.kind
                && matches!(function.on_reject, RejectPolicy::Fail)
            {
                panic!("`{}` refuses the row {}: {}", operator.name, refused.row, refused.cause);
            }
            self.refused.push(refused);
        }
    }

    /// The next moment at which something happens by itself.
    pub(crate) fn next_time(&self) -> Option<i64> {
        let due = |subtask: &Subtask| match &subtask.body {
            Body::Chain { head, .. } => head.next_time(),
            Body::Watermarks { generator, .. } if !subtask.has_ended => generator.next_time(),
            Body::Source { splits, .. } => {
                let open = splits.iter().filter(|split| !split.has_ended);
                let times = open.filter_map(|split| split.generator.as_ref()?.next_time());
                times.min()
            }
            Body::Watermarks { .. } | Body::Passing | Body::Requests | Body::Lookup | Body::Sink => None,
        };
        self.subtasks.iter().flatten().filter_map(due).min()
    }

    /// What is due now happens.
    pub(crate) fn tick(&mut self) {
        let now = self.now;
        self.enter();
        for task in 0..self.subtasks.len() {
            for subtask in 0..self.subtasks[task].len() {
                match &mut self.subtasks[task][subtask].body {
                    Body::Chain { .. } => self.with_chain(task, subtask, |head, guest| head.time(guest, now)),
                    Body::Watermarks { generator, .. } => {
                        if generator.tick(now) {
                            let element = match generator.is_idle {
                                true => Element::Idle,
                                false => Element::Watermark(generator.watermark),
                            };
                            self.announce(task, subtask, &element);
                        }
                    }
                    Body::Source { splits, .. } => {
                        let generators = splits.iter_mut().filter_map(|split| split.generator.as_mut());
                        let changed = generators.filter_map(|generator| generator.tick(now).then_some(()));
                        if changed.count() > 0 {
                            self.announce_splits(task, subtask);
                        }
                    }
                    Body::Passing | Body::Requests | Body::Lookup | Body::Sink => {}
                }
            }
        }
        self.leave();
    }
}
