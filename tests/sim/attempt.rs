//! One attempt at running a job: its subtasks and the channels between them.

use std::collections::{BTreeMap, VecDeque};

use millrace_core::block::{WATERMARK_MAX, WATERMARK_MIN};
use millrace_core::checkpoint::{Aligner, CheckpointId, CheckpointMode};
use millrace_core::key::{KeyGroup, KeyGroups, hash_integer};
use millrace_core::time::WatermarkMerge;

use crate::job::Row;
use crate::job::{Job, MAX_PARALLELISM, Partition, Windows};
use crate::outside::{Part, Transaction};

#[derive(Debug, Clone)]
pub(crate) enum Element {
    Rows(Vec<Row>),
    Watermark(i64),
    Barrier(CheckpointId),
    End,
}

/// Elements with the time at which each arrives, in order.
#[derive(Debug, Default)]
pub(crate) struct Channel {
    pub(crate) queue: VecDeque<(u64, Element)>,
    pub(crate) ended: bool,
    last_arrival: u64,
}

impl Channel {
    pub(crate) fn send(&mut self, arrival: u64, element: Element) {
        assert!(!self.ended, "nothing is sent behind the end");
        self.ended = matches!(element, Element::End);
        self.last_arrival = self.last_arrival.max(arrival);
        self.queue.push_back((self.last_arrival, element));
    }
}

/// The channels of one edge that begin at one subtask.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) partition: Partition,
    pub(crate) groups: KeyGroups,
    /// By receiver.
    pub(crate) channels: Vec<usize>,
    pub(crate) next: usize,
}

#[derive(Debug)]
pub(crate) struct Subtask {
    pub(crate) task: usize,
    pub(crate) window: Option<i64>,
    pub(crate) is_sink: bool,
    pub(crate) inputs: Vec<usize>,
    pub(crate) outputs: Vec<Output>,
    pub(crate) aligner: Aligner,
    pub(crate) merge: WatermarkMerge,
    /// Checkpoints that overtook rows which are still being copied.
    pub(crate) recording: Vec<(CheckpointId, Part)>,
    /// Open inputs.
    pub(crate) open: usize,
    /// Of a source: its splits and how many rows of each were read.
    pub(crate) splits: Vec<(usize, usize)>,
    pub(crate) split_merge: WatermarkMerge,
    pub(crate) windows: Windows,
    /// Rows of windows that fired before the restored checkpoint would be late.
    pub(crate) watermark: i64,
    /// Rows written since the last barrier.
    pub(crate) written: Vec<Row>,
    pub(crate) prepared: Vec<(CheckpointId, Transaction)>,
    pub(crate) stop: Option<CheckpointId>,
    pub(crate) stopped: bool,
    pub(crate) finished: bool,
    /// Steps in one of so many chances.
    pub(crate) slowness: i64,
    /// When the last message from the coordinator arrives.
    pub(crate) last_message: u64,
}

#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) subtasks: Vec<Subtask>,
    pub(crate) channels: Vec<Channel>,
    /// Subtasks that said that they are finished.
    pub(crate) finished: usize,
    /// Subtasks that have committed the last checkpoint.
    pub(crate) committed: usize,
}

impl Attempt {
    /// Subtasks without state, connected.
    pub(crate) fn new(job: &Job) -> Self {
        let mut first = Vec::new();
        let mut subtasks = Vec::new();
        for (task, declared) in job.tasks.iter().enumerate() {
            first.push(subtasks.len());
            for _ in 0..declared.parallelism {
                subtasks.push(Subtask::new(task, job));
            }
        }
        let mut channels = Vec::new();
        for edge in &job.edges {
            let (senders, receivers) = (job.tasks[edge.from].parallelism, job.tasks[edge.to].parallelism);
            let partition = match edge.partition {
                Partition::Forward if senders != receivers => Partition::Rebalance,
                partition => partition,
            };
            for sender in 0..senders {
                let mut output = Output {
                    partition,
                    groups: KeyGroups::new(receivers, MAX_PARALLELISM),
                    channels: Vec::new(),
                    next: sender as usize,
                };
                for receiver in (0..receivers).filter(|at| partition != Partition::Forward || *at == sender) {
                    subtasks[first[edge.to] + receiver as usize].inputs.push(channels.len());
                    output.channels.push(channels.len());
                    channels.push(Channel::default());
                }
                subtasks[first[edge.from] + sender as usize].outputs.push(output);
            }
        }
        for subtask in &mut subtasks {
            subtask.open = subtask.inputs.len();
            subtask.aligner = Aligner::new(job.config.mode, subtask.open);
            subtask.merge = WatermarkMerge::new(subtask.open);
        }
        Attempt {
            subtasks,
            channels,
            finished: 0,
            committed: 0,
        }
    }

    /// Index of a task's first subtask.
    pub(crate) fn first_of(&self, task: usize) -> usize {
        self.subtasks.iter().take_while(|subtask| subtask.task != task).count()
    }

    /// Goes on with the channels of a checkpoint that was taken of the same subtasks. The last watermark comes again,
    /// unless the attempt `settles` and sources stand still.
    pub(crate) fn restore_channels(&mut self, parts: &[Part], settles: bool) {
        for (subtask, part) in self.subtasks.iter_mut().zip(parts) {
            for (input, (watermark, elements)) in part.channels.iter().enumerate() {
                let comes_again = *watermark == WATERMARK_MAX && !settles;
                let watermark = if comes_again { WATERMARK_MIN } else { *watermark };
                subtask.merge.restore([(input, watermark, false)]);
                let queue = &mut self.channels[subtask.inputs[input]].queue;
                queue.extend(elements.iter().map(|element| (0, element.clone())));
            }
        }
    }

    /// Hands splits and windows of a checkpoint out over the subtasks that there are now.
    pub(crate) fn restore(&mut self, job: &Job, parts: &[Part], settles: bool) {
        let mut read: BTreeMap<(usize, usize), usize> = BTreeMap::new();
        for part in parts {
            read.extend(part.splits.iter().map(|(split, rows)| ((part.task, *split), *rows)));
        }
        for (task, declared) in job.tasks.iter().enumerate() {
            let first = self.first_of(task);
            let parallelism = declared.parallelism as usize;
            let own = || parts.iter().filter(|part| part.task == task);
            for split in 0..declared.splits.len() {
                let position = read.get(&(task, split)).copied().unwrap_or(0);
                let subtask = &mut self.subtasks[first + split % parallelism];
                subtask.splits.push((split, position));
            }
            let groups = KeyGroups::new(declared.parallelism, MAX_PARALLELISM);
            for (index, subtask) in self.subtasks[first..first + parallelism].iter_mut().enumerate() {
                subtask.restore_watermarks(&declared.splits);
                let range = groups.groups_of(index as u32);
                let owned = |key: u64| range.contains(&KeyGroup::of_hash(hash_integer(key as i64), MAX_PARALLELISM).0);
                let windows = own().flat_map(|part| &part.windows);
                subtask.windows = windows
                    .filter(|((_, key), _)| owned(*key))
                    .map(|(at, sum)| (*at, *sum))
                    .collect();
                // Where all windows had fired time begins anew: the job may have been drained.
                let watermark = own().map(|part| part.watermark).min();
                let kept = watermark.filter(|at| *at != WATERMARK_MAX || settles);
                subtask.watermark = kept.unwrap_or(WATERMARK_MIN);
            }
        }
    }
}

impl Subtask {
    fn new(task: usize, job: &Job) -> Self {
        Subtask {
            task,
            window: job.tasks[task].window,
            is_sink: job.tasks[task].is_sink,
            inputs: Vec::new(),
            outputs: Vec::new(),
            aligner: Aligner::new(CheckpointMode::ExactlyOnce, 0),
            merge: WatermarkMerge::new(0),
            recording: Vec::new(),
            open: 0,
            splits: Vec::new(),
            split_merge: WatermarkMerge::new(0),
            windows: Windows::new(),
            watermark: WATERMARK_MIN,
            written: Vec::new(),
            prepared: Vec::new(),
            stop: None,
            stopped: false,
            finished: false,
            slowness: 1,
            last_message: 0,
        }
    }

    /// Splits begin where the last rows that were read have left them.
    fn restore_watermarks(&mut self, splits: &[Vec<Row>]) {
        self.split_merge = WatermarkMerge::new(self.splits.len());
        for (at, (split, position)) in self.splits.iter().enumerate() {
            if let Some(row) = position.checked_sub(1).map(|last| splits[*split][last]) {
                let _ = self.split_merge.handle_watermark(at, row.time - 1);
            }
        }
    }

    pub(crate) fn has_room(&self, channels: &[Channel], bound: usize) -> bool {
        let mut outputs = self.outputs.iter().flat_map(|output| &output.channels);
        outputs.all(|channel| channels[*channel].queue.len() < bound)
    }

    /// What is handed over at a barrier.
    pub(crate) fn part(&self, keeps_channels: bool) -> Part {
        let inputs = if keeps_channels { self.inputs.len() } else { 0 };
        Part {
            channels: (0..inputs)
                .map(|input| (self.merge.input(input).0, Vec::new()))
                .collect(),
            task: self.task,
            splits: self.splits.clone(),
            windows: self.windows.clone(),
            watermark: self.watermark,
            committables: self.prepared.iter().map(|(_, transaction)| *transaction).collect(),
        }
    }

    /// Keeps what was under way at a checkpoint.
    pub(crate) fn copy(&mut self, id: CheckpointId, input: usize, element: &Element) {
        let part = self.recording.iter_mut().find(|(of, _)| *of == id);
        match (part, element) {
            (Some((_, part)), Element::Rows(_) | Element::Watermark(_)) => part.channels[input].1.push(element.clone()),
            (None, _) | (_, Element::Barrier(_) | Element::End) => {}
        }
    }

    /// Takes rows in: into windows, or through to what comes behind.
    pub(crate) fn take(&mut self, rows: Vec<Row>) -> Vec<Row> {
        let Some(size) = self.window else { return rows };
        rows.iter()
            .for_each(|row| crate::job::add(&mut self.windows, size, row));
        Vec::new()
    }

    /// Windows that a watermark closes, in order.
    pub(crate) fn fire(&mut self, watermark: i64) -> Vec<Row> {
        self.watermark = self.watermark.max(watermark);
        let open = match watermark {
            WATERMARK_MAX => Windows::new(),
            _ => self.windows.split_off(&(watermark + 2, 0)),
        };
        let fired = std::mem::replace(&mut self.windows, open);
        fired.into_iter().map(crate::job::result).collect()
    }
}
