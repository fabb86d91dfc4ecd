//! Random jobs, and what a run of them without failures gives.

use std::collections::BTreeMap;
use std::time::Duration;

use millrace_core::checkpoint::{CheckpointConfig, CheckpointMode};
use millrace_tests::random::Random;

/// Key groups of every job.
pub(crate) const MAX_PARALLELISM: u32 = 16;

/// A row, or the result of a window: how many source rows went into it, and their sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Row {
    pub(crate) key: u64,
    pub(crate) time: i64,
    pub(crate) value: i64,
    pub(crate) count: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Task {
    /// Of a source: the rows of each split, by time.
    pub(crate) splits: Vec<Vec<Row>>,
    /// Counts and sums rows by key in windows of this length.
    pub(crate) window: Option<i64>,
    /// Writes its rows outside; others send them on.
    pub(crate) is_sink: bool,
    pub(crate) parallelism: u32,
    /// Gets each row once per subtask, so that its parallelism is part of the result.
    pub(crate) is_broadcast: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Partition {
    Forward,
    Keyed,
    Rebalance,
    Broadcast,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Edge {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) partition: Partition,
}

#[derive(Debug, Clone)]
pub(crate) struct Job {
    /// Each after those that feed it.
    pub(crate) tasks: Vec<Task>,
    pub(crate) edges: Vec<Edge>,
    pub(crate) config: CheckpointConfig,
    pub(crate) restarts: &'static str,
    /// Elements in a channel beyond which its sender does not step.
    pub(crate) queue_elements: usize,
    /// Longest way through a channel, in ms.
    pub(crate) channel_delay: i64,
    /// A source polls in one of so many steps.
    pub(crate) poll_every: i64,
}

pub(crate) fn chance(random: &mut Random, percent: i64) -> bool {
    random.below(100) < percent
}

impl Job {
    pub(crate) fn random(random: &mut Random, mode: CheckpointMode) -> Self {
        let count = 1 + random.below(6) as usize;
        let sources = 1 + random.below(count.min(3) as i64) as usize;
        let mut job = Job {
            tasks: (0..count).map(|task| random_task(random, task < sources)).collect(),
            edges: Vec::new(),
            config: random_config(random, mode),
            restarts: [
                "fixed-delay:attempts=3,delay=20ms",
                "exponential-delay:initial=5ms,max=100ms",
                "failure-rate:max-failures=2,interval=300ms,delay=0ms",
                "none",
            ][random.below(4) as usize],
            queue_elements: 1 + random.below(6) as usize,
            channel_delay: 1 + random.below(30),
            poll_every: 1 + random.below(6),
        };
        for to in sources..count {
            job.connect(random, to, sources);
        }
        for task in 0..count {
            job.tasks[task].is_sink = job.edges.iter().all(|edge| edge.from != task);
        }
        job
    }

    /// Gives a task one or two inputs. Only one edge of a job copies its rows.
    fn connect(&mut self, random: &mut Random, to: usize, sources: usize) {
        let inputs = 1 + usize::from(chance(random, 30));
        for input in 0..inputs {
            let unread = (0..sources).find(|from| self.edges.iter().all(|edge| edge.from != *from));
            let from = match unread.filter(|_| chance(random, 60)) {
                Some(source) => source,
                None if input == 0 && to > sources => to - 1,
                None => random.below(to as i64) as usize,
            };
            let copied = self.tasks.iter().any(|task| task.is_broadcast);
            let partition = match random.below(4) {
                _ if self.tasks[to].window.is_some() => Partition::Keyed,
                0 if !copied => Partition::Broadcast,
                1 => Partition::Keyed,
                2 => Partition::Rebalance,
                _ => Partition::Forward,
            };
            self.tasks[to].is_broadcast |= partition == Partition::Broadcast;
            self.edges.push(Edge { from, to, partition });
        }
    }

    /// Parallelism of each task.
    pub(crate) fn shape(&self) -> Vec<u32> {
        self.tasks.iter().map(|task| task.parallelism).collect()
    }

    /// The same job with these.
    pub(crate) fn shaped(mut self, shape: &[u32]) -> Self {
        for (task, parallelism) in self.tasks.iter_mut().zip(shape) {
            task.parallelism = *parallelism;
        }
        self
    }

    /// Other parallelisms, where they do not change the result.
    pub(crate) fn rescale(&mut self, random: &mut Random) {
        for task in self.tasks.iter_mut().filter(|task| !task.is_broadcast) {
            task.parallelism = 1 + random.below(4) as u32;
        }
    }

    /// What each task writes outside, sorted; nothing for those that send on.
    pub(crate) fn results(&self) -> Vec<Vec<Row>> {
        let mut inputs: Vec<Vec<Row>> = vec![Vec::new(); self.tasks.len()];
        let mut results = vec![Vec::new(); self.tasks.len()];
        for (at, task) in self.tasks.iter().enumerate() {
            let mut rows: Vec<Row> = std::mem::take(&mut inputs[at]);
            rows.extend(task.splits.iter().flatten());
            if let Some(size) = task.window {
                let mut windows = BTreeMap::new();
                rows.iter().for_each(|row| add(&mut windows, size, row));
                rows = windows.into_iter().map(result).collect();
            }
            for edge in self.edges.iter().filter(|edge| edge.from == at) {
                let copies = match edge.partition {
                    Partition::Broadcast => self.tasks[edge.to].parallelism,
                    Partition::Forward | Partition::Keyed | Partition::Rebalance => 1,
                };
                (0..copies).for_each(|_| inputs[edge.to].extend(&rows));
            }
            if task.is_sink {
                rows.sort_unstable();
                results[at] = rows;
            }
        }
        results
    }
}

/// Open windows, by end and key: count and sum.
pub(crate) type Windows = BTreeMap<(i64, u64), (u64, i64)>;

pub(crate) fn add(windows: &mut Windows, size: i64, row: &Row) {
    let window = windows.entry(((row.time / size + 1) * size, row.key)).or_default();
    window.0 += row.count;
    window.1 += row.value;
}

pub(crate) fn result(((end, key), (count, value)): ((i64, u64), (u64, i64))) -> Row {
    Row {
        key,
        time: end - 1,
        value,
        count,
    }
}

fn random_task(random: &mut Random, is_source: bool) -> Task {
    let splits = if is_source { 1 + random.below(4) } else { 0 };
    Task {
        splits: (0..splits).map(|_| random_rows(random)).collect(),
        window: (!is_source && chance(random, 50)).then(|| 10 + random.below(100)),
        is_sink: false,
        parallelism: 1 + random.below(4) as u32,
        is_broadcast: false,
    }
}

fn random_rows(random: &mut Random) -> Vec<Row> {
    let (rows, keys, step) = (random.below(120), 1 + random.below(8), 1 + random.below(30));
    let mut time = random.below(50);
    let rows = (0..rows).map(|_| {
        time += random.below(step);
        Row {
            key: random.below(keys) as u64,
            time,
            value: random.below(1000),
            count: 1,
        }
    });
    rows.collect()
}

fn random_config(random: &mut Random, mode: CheckpointMode) -> CheckpointConfig {
    let ms = |ms: i64| Duration::from_millis(ms as u64);
    let max_concurrent = [1, 1, 2, 3][random.below(4) as usize];
    let may_overtake = max_concurrent == 1 && mode == CheckpointMode::ExactlyOnce;
    let timeout = ms([0, random.below(150)][random.below(2) as usize]);
    CheckpointConfig {
        mode,
        aligned_timeout: (may_overtake && chance(random, 60)).then_some(timeout),
        interval: chance(random, 90).then(|| ms(10 + random.below(200))),
        min_pause: ms(if max_concurrent == 1 { random.below(60) } else { 0 }),
        timeout: ms(3_000 + random.below(3_000)),
        tolerable_failures: random.below(4) as u32,
        max_concurrent,
        retained: 1 + random.below(3) as u32,
    }
}
