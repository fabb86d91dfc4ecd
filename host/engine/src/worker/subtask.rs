//! One subtask: its channels, its merged watermark, what it does with each element.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use millrace_core::Result;
use millrace_core::block::{Element, Millis, WATERMARK_MAX};
use millrace_core::time::{Progress, WatermarkMerge};

use super::chain::{ChainContext, ChainTask};
use super::outputs::Outputs;
use super::rejects::Rejects;
use super::shared::Shared;
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

/// One parallel copy of a task.
pub(crate) struct Subtask {
    pub(crate) name: String,
    pub(crate) body: Body,
    channels: Vec<Channel>,
    inbox: VecDeque<(usize, Element)>,
    merge: WatermarkMerge,
    open_channels: usize,
    next_channel: usize,
    firing: Option<Firing>,
    pub(crate) outputs: Outputs,
    metrics: Arc<SubtaskMetrics>,
    meter: Meter,
    pub(crate) done: bool,
}

impl Subtask {
    pub(crate) fn new(
        name: String,
        body: Body,
        channels: Vec<Channel>,
        outputs: Outputs,
        metrics: Arc<SubtaskMetrics>,
    ) -> Self {
        Subtask {
            name,
            body,
            merge: WatermarkMerge::new(channels.len()),
            open_channels: channels.len(),
            next_channel: 0,
            firing: None,
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
    }

    /// Whether there is something to do here.
    pub(crate) fn has_input(&self) -> bool {
        self.firing.is_some()
            || !self.inbox.is_empty()
            || self.channels.iter().any(|channel| match &channel.origin {
                Origin::Remote(receiver) => receiver.has_element(),
                Origin::Local => false,
            })
    }

    /// Elements from the same slot that wait here.
    pub(crate) fn inbox_length(&self) -> usize {
        self.inbox.len()
    }

    /// Whether the last turn found no room in its outputs.
    pub(crate) fn was_blocked(&self) -> bool {
        !self.done && self.meter.activity() == Activity::Backpressured
    }

    pub(crate) fn set_activity(&mut self, activity: Activity, shared: &Shared) {
        self.meter.enter(activity, shared.clock.elapsed(), &self.metrics);
    }

    fn next_element(&mut self) -> Option<(usize, Element)> {
        if let Some(waiting) = self.inbox.pop_front() {
            return Some(waiting);
        }
        for turn in 0..self.channels.len() {
            let index = (self.next_channel + turn) % self.channels.len();
            if let Origin::Remote(receiver) = &self.channels[index].origin
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
        let stopping = shared.is_stopping();
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
            Element::Watermark(watermark) => self.merge.handle_watermark(channel, watermark),
            Element::Idle => self.merge.handle_idle(channel),
            Element::End => {
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
        self.end_if_over(shared, rejects)
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
