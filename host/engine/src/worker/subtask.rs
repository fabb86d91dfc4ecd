//! One subtask: its channels, its merged watermark, what it does with each element.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use millrace_core::Result;
use millrace_core::block::{Element, Millis, WATERMARK_MAX, WATERMARK_MIN};
use millrace_core::checkpoint::{Aligner, Alignment, CheckpointId, CheckpointMode, SubtaskSnapshot};
use millrace_core::time::{Progress, WatermarkMerge};

use super::chain::{ChainContext, ChainTask};
use super::outputs::Outputs;
use super::rejects::Rejects;
use super::shared::{Event, Shared};
use super::sink::SinkTask;
use super::source::{SourceStep, SourceTask};
use super::watermarks::WatermarksTask;
use super::wiring::{Channel, Origin};
use crate::metrics::{Activity, Meter, SubtaskMetrics};

/// Elements taken in one visit before the slot looks at the others again.
const ELEMENTS_PER_VISIT: usize = 16;

/// What a task does.
pub(crate) enum Body {
    Source(SourceTask),
    Watermarks(WatermarksTask),
    Chain(Box<ChainTask>),
    Sink(SinkTask),
}

/// What a visit came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Visit {
    /// Something was done.
    pub(crate) worked: bool,
    /// Look again after this long at most.
    pub(crate) wait: Option<Duration>,
}

/// What a chain fires, step by step, before it takes another element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Firing {
    /// What this watermark made due; it is passed on behind the results.
    Watermark(Millis),
    /// Processing-time timers.
    Time,
}

/// Which subtask of which task of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) task: usize,
    pub(crate) subtask: u32,
}

/// Entries of a snapshot exported at a time: some 0.1 ms.
const ENTRIES_PER_EXPORT: usize = 4096;

/// One parallel copy of a task.
pub(crate) struct Subtask {
    pub(crate) name: String,
    pub(crate) body: Body,
    channels: Vec<Channel>,
    /// Elements from the same slot.
    inbox: VecDeque<(usize, Element)>,
    /// How many of them are of each channel.
    waiting: Vec<usize>,
    merge: WatermarkMerge,
    open_channels: usize,
    next_channel: usize,
    firing: Option<Firing>,
    aligner: Aligner,
    /// The snapshot of which pieces are still to be exported.
    exporting: Option<(CheckpointId, SubtaskSnapshot)>,
    /// Checkpoints announced in the middle of a firing.
    announced: Vec<CheckpointId>,
    pub(crate) place: Place,
    pub(crate) outputs: Outputs,
    metrics: Arc<SubtaskMetrics>,
    meter: Meter,
    pub(crate) done: bool,
}

impl Subtask {
    pub(crate) fn new(
        name: String,
        place: Place,
        mode: CheckpointMode,
        body: Body,
        channels: Vec<Channel>,
        outputs: Outputs,
        metrics: Arc<SubtaskMetrics>,
    ) -> Self {
        let aligner = Aligner::new(mode, channels.len());
        Subtask {
            name,
            body,
            waiting: vec![0; channels.len()],
            merge: WatermarkMerge::new(channels.len()),
            open_channels: channels.len(),
            next_channel: 0,
            firing: None,
            aligner,
            exporting: None,
            announced: Vec::new(),
            place,
            channels,
            inbox: VecDeque::new(),
            outputs,
            metrics,
            meter: Meter::start(Duration::ZERO),
            done: false,
        }
    }

    /// An element from the same slot.
    pub(crate) fn deliver(&mut self, channel: usize, element: Element) {
        self.inbox.push_back((channel, element));
        self.waiting[channel] += 1;
    }

    /// Whether there is something to do here.
    pub(crate) fn has_input(&self) -> bool {
        self.firing.is_some()
            || self.exporting.is_some()
            || self.inbox.iter().any(|(channel, _)| !self.aligner.is_blocked(*channel))
            || self
                .channels
                .iter()
                .enumerate()
                .any(|(index, channel)| match &channel.origin {
                    Origin::Remote(receiver) => receiver.has_element() && !self.aligner.is_blocked(index),
                    Origin::Local => false,
                })
    }

    /// Elements of a channel from the same slot that wait here. Each channel has a bound of its own: one that waits
    /// behind its barrier must not hold up those whose barriers it waits for.
    pub(crate) fn waiting(&self, channel: usize) -> usize {
        self.waiting[channel]
    }

    /// Whether the last turn found no room in its outputs.
    pub(crate) fn was_blocked(&self) -> bool {
        !self.done && self.meter.activity() == Activity::Backpressured
    }

    pub(crate) fn set_activity(&mut self, activity: Activity, shared: &Shared) {
        self.meter.enter(activity, shared.clock.elapsed(), &self.metrics);
    }

    fn next_element(&mut self) -> Option<(usize, Element)> {
        let waiting = self
            .inbox
            .iter()
            .position(|(channel, _)| !self.aligner.is_blocked(*channel));
        if let Some((channel, element)) = waiting.and_then(|waiting| self.inbox.remove(waiting)) {
            self.waiting[channel] -= 1;
            return Some((channel, element));
        }
        for turn in 0..self.channels.len() {
            let index = (self.next_channel + turn) % self.channels.len();
            if let Origin::Remote(receiver) = &self.channels[index].origin
                && !self.aligner.is_blocked(index)
                && let Some(element) = receiver.pop()
            {
                self.next_channel = index + 1;
                return Some((index, element));
            }
        }
        None
    }

    /// Works on what is there, as long as outputs have room.
    pub(crate) fn visit(&mut self, shared: &Shared, rejects: &Rejects) -> Result<Visit> {
        let mut visit = Visit {
            worked: false,
            wait: None,
        };
        if matches!(self.body, Body::Source(_)) {
            self.visit_source(shared, rejects, &mut visit)?;
        } else {
            for _ in 0..ELEMENTS_PER_VISIT {
                if !self.outputs.has_room() {
                    break;
                }
                if self.firing.is_some() {
                    self.go_on_firing(shared, rejects)?;
                    visit.worked = true;
                    continue;
                }
                if self.done {
                    break;
                }
                let Some((channel, element)) = self.next_element() else {
                    break;
                };
                self.handle(channel, element, shared, rejects)?;
                visit.worked = true;
            }
            self.visit_clock(shared, &mut visit)?;
        }
        if visit.worked {
            self.metrics
                .rows_out
                .set(self.outputs.rows.max(self.metrics.rows_out.get()));
            if self.outputs.bytes > 0 {
                self.metrics.bytes_out.set(self.outputs.bytes);
            }
        }
        Ok(visit)
    }

    fn visit_source(&mut self, shared: &Shared, rejects: &Rejects, visit: &mut Visit) -> Result<()> {
        let Body::Source(source) = &mut self.body else {
            return Ok(());
        };
        // With checkpoints a source ends behind the barrier of the last one ([`Self::stop_source`]): before it, what
        // follows could come to its end without having handed over its state.
        let stopping = shared.sources_end();
        let step = if stopping {
            SourceStep::Ended
        } else {
            let (now, now_millis) = (shared.clock.elapsed(), shared.clock.now_millis());
            source.step(now, now_millis, rejects, &self.metrics, &mut self.outputs)?
        };
        match step {
            SourceStep::Worked => visit.worked = true,
            SourceStep::Waiting(wait) => visit.wait = wait,
            SourceStep::Ended => {
                if source.has_watermarks() && !stopping {
                    self.outputs.watermark(WATERMARK_MAX);
                }
                self.outputs.end();
                self.done = true;
                visit.worked = true;
            }
        }
        if let Body::Source(source) = &self.body
            && source.has_watermarks()
        {
            self.metrics.set_watermark(source.watermark());
        }
        Ok(())
    }

    /// Timers and idleness follow the clock, not elements.
    fn visit_clock(&mut self, shared: &Shared, visit: &mut Visit) -> Result<()> {
        if self.firing.is_some() || self.done {
            return Ok(());
        }
        let due = match &mut self.body {
            Body::Watermarks(task) => task.next_idle(),
            Body::Chain(task) => task.next_time(),
            Body::Source(_) | Body::Sink(_) => None,
        };
        let Some(due) = due else { return Ok(()) };
        let now = shared.clock.now_millis();
        if due > now {
            visit.wait = Some(Duration::from_millis(u64::try_from(due - now).unwrap_or(1)));
            return Ok(());
        }
        match &mut self.body {
            Body::Watermarks(task) => task.poll_idle(now, &mut self.outputs),
            Body::Chain(task) => {
                task.handle_time(now);
                self.firing = Some(Firing::Time);
            }
            Body::Source(_) | Body::Sink(_) => {}
        }
        visit.worked = true;
        Ok(())
    }

    fn handle(&mut self, channel: usize, element: Element, shared: &Shared, rejects: &Rejects) -> Result<()> {
        let progress = match element {
            Element::Block(block) => {
                self.merge.handle_block(channel);
                self.metrics.rows_in.add(block.row_count() as u64);
                self.metrics.bytes_in.add(block.byte_count() as u64);
                let entry = &self.channels[channel];
                match &mut self.body {
                    Body::Source(_) => {}
                    Body::Sink(task) => task.handle_block(&block, shared.clock.elapsed(), &self.metrics)?,
                    Body::Watermarks(task) => {
                        let watermark = task.handle_block(block, shared.clock.now_millis(), &mut self.outputs)?;
                        if let Some(watermark) = watermark {
                            self.metrics.set_watermark(watermark);
                        }
                    }
                    Body::Chain(task) => {
                        let context = &mut ChainContext::new(shared.clock, rejects, &self.metrics, &mut self.outputs);
                        task.handle_block(entry.input, &entry.keys, &block, context)?;
                    }
                }
                return Ok(());
            }
            Element::Barrier(id) => {
                let alignment = self.aligner.handle_barrier(channel, id);
                return self.follow(&alignment, shared);
            }
            Element::Watermark(watermark) => self.merge.handle_watermark(channel, watermark),
            Element::Idle => self.merge.handle_idle(channel),
            Element::End => {
                // What the end makes due comes behind the barriers that it stands for.
                let alignment = self.aligner.handle_end(channel);
                self.follow(&alignment, shared)?;
                self.open_channels -= 1;
                // A stopped job leaves windows open: they have not ended, its user has gone.
                if shared.is_stopping() {
                    None
                } else {
                    self.merge.handle_end(channel)
                }
            }
        };
        self.handle_progress(progress);
        self.end_if_over(shared, rejects)
    }

    fn handle_progress(&mut self, progress: Option<Progress>) {
        // A watermark operator makes its own.
        if matches!(self.body, Body::Watermarks(_)) {
            return;
        }
        match progress {
            None => {}
            Some(Progress::Idle) => self.outputs.idle(),
            Some(Progress::Watermark(watermark)) => {
                self.metrics.set_watermark(watermark);
                if let Body::Chain(task) = &mut self.body {
                    task.handle_watermark(watermark);
                    self.firing = Some(Firing::Watermark(watermark));
                } else {
                    self.outputs.watermark(watermark);
                }
            }
        }
    }

    /// One step of what is due in a chain, and what waited for the last one.
    fn go_on_firing(&mut self, shared: &Shared, rejects: &Rejects) -> Result<()> {
        let Body::Chain(task) = &mut self.body else {
            return Ok(());
        };
        let context = &mut ChainContext::new(shared.clock, rejects, &self.metrics, &mut self.outputs);
        if task.fire(context)? {
            return Ok(());
        }
        if let Some(Firing::Watermark(watermark)) = self.firing.take() {
            self.outputs.watermark(watermark);
        }
        self.end_if_over(shared, rejects)?;
        for id in std::mem::take(&mut self.announced) {
            self.handle_announced(id, shared)?;
        }
        Ok(())
    }

    /// A checkpoint has begun. Sources send its barrier now; others wait for those of their channels, unless all
    /// of these have ended.
    pub(crate) fn handle_announced(&mut self, id: CheckpointId, shared: &Shared) -> Result<()> {
        if self.firing.is_some() {
            self.announced.push(id);
            return Ok(());
        }
        let alignment = self.aligner.handle_announced(id);
        self.follow(&alignment, shared)
    }

    /// A checkpoint came to nothing.
    pub(crate) fn handle_cancelled(&mut self, id: CheckpointId) {
        self.announced.retain(|announced| *announced != id);
        self.aligner.handle_cancelled(id);
    }

    /// The last checkpoint has its barrier: a source gives nothing more.
    pub(crate) fn stop_source(&mut self) {
        if matches!(self.body, Body::Source(_)) && !self.done {
            self.outputs.end();
            self.done = true;
        }
    }

    /// A source gives nothing more, as if its input had ended.
    pub(crate) fn drain_source(&mut self) {
        if let Body::Source(source) = &self.body
            && !self.done
        {
            if source.has_watermarks() {
                self.outputs.watermark(WATERMARK_MAX);
            }
            self.outputs.end();
            self.done = true;
        }
    }

    fn follow(&mut self, alignment: &Alignment, shared: &Shared) -> Result<()> {
        let Place { task, subtask } = self.place;
        for &id in &alignment.given_up {
            shared.send(Event::Superseded { id, task, subtask });
        }
        alignment.aligned.iter().try_for_each(|&id| self.snapshot(id, shared))
    }

    /// Snapshots what this subtask holds and passes the barrier on.
    fn snapshot(&mut self, id: CheckpointId, shared: &Shared) -> Result<()> {
        // Pieces of an earlier one come first: layers are stacked in order.
        while self.exporting.is_some() {
            self.export_piece(shared)?;
        }
        let mut snapshot = SubtaskSnapshot {
            finished: self.done,
            ..SubtaskSnapshot::default()
        };
        let mut exports = false;
        match &mut self.body {
            Body::Source(task) => snapshot.splits = task.snapshot(),
            Body::Watermarks(task) => snapshot.splits = vec![task.snapshot()],
            Body::Sink(task) => snapshot.committables = task.prepare(id, self.done)?,
            Body::Chain(task) => {
                let watermark = task.watermark();
                snapshot.watermark = (watermark != WATERMARK_MIN).then_some(watermark);
                // What has ended may hold state all the same: windows that a stop left open.
                exports = task.begin_snapshot(shared.is_full(id))?;
            }
        }
        if !self.done {
            self.outputs.barrier(id);
        }
        if exports {
            self.exporting = Some((id, snapshot));
        } else {
            self.acknowledge(id, snapshot, shared);
        }
        Ok(())
    }

    /// Exports a piece of the snapshot under way, if there is one; whether there was.
    pub(crate) fn export_piece(&mut self, shared: &Shared) -> Result<bool> {
        let Some((id, mut snapshot)) = self.exporting.take() else {
            return Ok(false);
        };
        let Body::Chain(task) = &mut self.body else {
            return Ok(false);
        };
        match task.export_some(ENTRIES_PER_EXPORT)? {
            Some(table) => {
                snapshot.table = Some(table);
                self.acknowledge(id, snapshot, shared);
            }
            None => self.exporting = Some((id, snapshot)),
        }
        Ok(true)
    }

    fn acknowledge(&self, id: CheckpointId, snapshot: SubtaskSnapshot, shared: &Shared) {
        let Place { task, subtask } = self.place;
        let snapshot = Box::new(snapshot);
        shared.send(Event::Acknowledged {
            id,
            task,
            subtask,
            snapshot,
        });
    }

    /// Ends the task behind the last results of its last watermark.
    fn end_if_over(&mut self, shared: &Shared, rejects: &Rejects) -> Result<()> {
        if self.open_channels == 0 && self.firing.is_none() && !self.done {
            self.handle_end(shared, rejects)?;
        }
        Ok(())
    }

    fn handle_end(&mut self, shared: &Shared, rejects: &Rejects) -> Result<()> {
        match &mut self.body {
            Body::Source(_) => {}
            Body::Sink(task) => task.handle_end()?,
            Body::Watermarks(task) => {
                if !shared.is_stopping() {
                    task.handle_end(&mut self.outputs);
                }
            }
            // A job that is stopped at a checkpoint goes on from it: nothing may follow its barrier.
            Body::Chain(_) if shared.stops_at_checkpoint() => {}
            Body::Chain(task) => {
                let context = &mut ChainContext::new(shared.clock, rejects, &self.metrics, &mut self.outputs);
                task.handle_end(context)?;
            }
        }
        self.outputs.end();
        self.done = true;
        Ok(())
    }
}
