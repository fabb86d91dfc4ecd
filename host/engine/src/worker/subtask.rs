//! One subtask: its channels, its merged watermark, what it does with each element.

mod barriers;

use std::sync::Arc;
use std::time::Duration;

use millrace_core::Result;
use millrace_core::block::{Block, Element, Millis, WATERMARK_MAX, WATERMARK_MIN};
use millrace_core::checkpoint::{Aligner, CheckpointId, CheckpointMode};
use millrace_core::time::{Progress, WatermarkMerge};

use self::barriers::Announced;
use super::chain::{ChainContext, ChainTask};
use super::inputs::Inputs;
use super::lookup::LookupTask;
use super::outputs::Outputs;
use super::piece::PieceSize;
use super::portion::Portion;
use super::rejects::{Letters, Rejects};
use super::requests::RequestsTask;
use super::shared::{Event, Shared};
use super::sink::SinkTask;
use super::source::{SourceStep, SourceTask};
use super::taking::Taking;
use super::watermarks::WatermarksTask;
use super::wiring::SubtaskWiring;
use crate::metrics::{Activity, Meter, SubtaskMetrics};

/// What a task does.
pub(crate) enum Body {
    Source(Box<SourceTask>),
    Watermarks(WatermarksTask),
    Requests(Box<RequestsTask>),
    Lookup(Box<LookupTask>),
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
    /// What a broadcast row has asked of every key.
    Applied,
}

/// How much a visit may do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn {
    /// Elements taken before the slot looks at the others again.
    pub(crate) elements: usize,
    /// Commands that the slot has carried out: it ends when there are more.
    pub(crate) commands: usize,
}

/// Which subtask of which task of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) task: usize,
    pub(crate) subtask: u32,
}

/// One parallel copy of a task.
pub(crate) struct Subtask {
    pub(crate) name: String,
    pub(crate) body: Body,
    pub(crate) letters: Letters,
    inputs: Inputs,
    merge: WatermarkMerge,
    open_channels: usize,
    /// The next block is the rest of one that was taken in part.
    resumes: bool,
    firing: Option<Firing>,
    aligner: Aligner,
    taking: Taking,
    /// Of the state that it exports.
    piece: PieceSize,
    /// The last checkpoint whose barrier was passed on.
    last_barrier: Option<CheckpointId>,
    /// Said in the middle of a firing, or while state comes.
    announced: Vec<Announced>,
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
        letters: Letters,
        wiring: SubtaskWiring,
        metrics: Arc<SubtaskMetrics>,
    ) -> Self {
        let SubtaskWiring { channels, edges, .. } = wiring;
        let aligner = Aligner::new(mode, channels.len());
        Subtask {
            name,
            body,
            letters,
            merge: WatermarkMerge::new(channels.len()),
            open_channels: channels.len(),
            resumes: false,
            firing: None,
            aligner,
            taking: Taking::default(),
            piece: PieceSize::default(),
            last_barrier: None,
            announced: Vec::new(),
            place,
            inputs: Inputs::new(channels),
            outputs: Outputs::new(edges),
            meter: Meter::start(&metrics),
            metrics,
            done: false,
        }
    }

    /// An element from the same slot.
    pub(crate) fn deliver(&mut self, channel: usize, element: Element) {
        self.inputs.deliver(channel, element);
    }

    /// Whether there is something to do here.
    pub(crate) fn has_input(&self) -> bool {
        self.firing.is_some()
            || self.is_restoring()
            || self.taking.is_exporting()
            || matches!(&self.body, Body::Requests(task) if task.has_answers())
            || matches!(&self.body, Body::Lookup(task) if task.has_work())
            || !self.waits_for_answers() && self.inputs.has_element(|channel| self.aligner.is_blocked(channel))
    }

    /// Whether a block is next, for which there is room only when others have their answers; or one is on its way through a
    /// lookup.
    fn waits_for_answers(&self) -> bool {
        self.is_looking_up() || matches!(&self.body, Body::Requests(task) if task.waits_for_room())
    }

    /// Whether a block is on its way through a lookup: nothing else is taken, no barrier either.
    fn is_looking_up(&self) -> bool {
        matches!(&self.body, Body::Lookup(task) if task.is_busy())
    }

    /// Elements of a channel from the same slot that wait here.
    pub(crate) fn waiting(&self, channel: usize) -> usize {
        self.inputs.waiting(channel)
    }

    /// Whether a checkpoint that waits for no row waits for what this subtask is firing: then it does not wait for
    /// room either.
    pub(crate) fn hurries(&self) -> bool {
        let waits_not = |announced: &Announced| matches!(announced, Announced::Unaligned(_));
        (self.firing.is_some() || self.is_looking_up()) && self.announced.iter().any(waits_not)
    }

    /// Whether the last turn found no room in its outputs.
    pub(crate) fn was_blocked(&self) -> bool {
        !self.done && self.meter.activity() == Activity::Backpressured
    }

    pub(crate) fn set_activity(&mut self, activity: Activity, shared: &Shared) {
        self.meter.enter(activity, shared.clock.elapsed(), &self.metrics);
    }

    /// Works on what is there, as long as outputs have room.
    pub(crate) fn visit(&mut self, turn: Turn, shared: &Shared, rejects: &Rejects) -> Result<Visit> {
        let mut visit = Visit {
            worked: false,
            wait: None,
        };
        if matches!(self.body, Body::Source(_)) {
            self.visit_source(shared, rejects, &mut visit)?;
        } else {
            visit.worked |= self.restore_some(shared, rejects)?;
            let abreast = self.merge.watermark() > WATERMARK_MIN;
            let mut portion = Portion::new(turn.elements, abreast.then_some(self.inputs.channels().len()));
            while portion.is_left() {
                if !self.outputs.has_room() && !self.hurries() || shared.command_count() > turn.commands {
                    break;
                }
                portion.take();
                if self.firing.is_some() {
                    self.go_on_firing(shared, rejects)?;
                    visit.worked = true;
                    continue;
                }
                if self.done || self.waits_for_state() || self.waits_for_answers() {
                    break;
                }
                let Some((channel, element)) = self.inputs.next_element(|channel| self.aligner.is_blocked(channel))
                else {
                    break;
                };
                let is_block = matches!(element, Element::Block(_));
                if is_block && !self.has_room_for_rows() {
                    self.inputs.put_back(channel, element);
                    break;
                }
                self.handle(channel, element, shared, rejects)?;
                if is_block && !self.resumes {
                    portion.take_block();
                }
                visit.worked = true;
            }
            self.visit_clock(shared, &mut visit)?;
            visit.worked |= self.step_requests(shared, rejects)?;
            visit.worked |= self.step_lookup(shared)?;
        }
        self.tell_careful(shared);
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
        if self.firing.is_some() || self.is_restoring() || self.done {
            return Ok(());
        }
        let due = match &mut self.body {
            Body::Watermarks(task) => task.next_time(),
            Body::Chain(task) => task.next_time(),
            Body::Lookup(task) => task.next_time(),
            Body::Source(_) | Body::Requests(_) | Body::Sink(_) => None,
        };
        let Some(due) = due else { return Ok(()) };
        let now = shared.clock.now_millis();
        if due > now {
            visit.wait = Some(Duration::from_millis(u64::try_from(due - now).unwrap_or(1)));
            return Ok(());
        }
        match &mut self.body {
            Body::Watermarks(task) => task.handle_time(now, &mut self.outputs),
            Body::Chain(task) => {
                task.handle_time(now);
                self.firing = Some(Firing::Time);
            }
            Body::Lookup(task) => task.handle_time(now),
            Body::Source(_) | Body::Requests(_) | Body::Sink(_) => {}
        }
        visit.worked = true;
        Ok(())
    }

    fn handle(&mut self, channel: usize, element: Element, shared: &Shared, rejects: &Rejects) -> Result<()> {
        let element = match element {
            Element::Block(block) => {
                if self.asks_for_all(channel) {
                    self.restore_rest(shared, rejects)?;
                }
                Element::Block(self.take_in(channel, block))
            }
            other => {
                self.restore_rest(shared, rejects)?;
                other
            }
        };
        self.record(channel, &element);
        let progress = match element {
            Element::Block(block) => {
                self.merge.handle_block(channel);
                let entry = &self.inputs.channels()[channel];
                match &mut self.body {
                    Body::Source(_) => {}
                    Body::Requests(task) => task.handle_block(&block)?,
                    Body::Lookup(task) => {
                        task.handle_block(block, shared.clock.now_millis())?;
                        task.step(&mut self.outputs, &self.metrics, false)?;
                    }
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
                        if task.is_applying() {
                            self.firing = Some(Firing::Applied);
                        }
                    }
                }
                return Ok(());
            }
            Element::Barrier(id) => {
                self.taking.hear(id, shared.clock.elapsed());
                let alignment = self.aligner.handle_barrier(channel, id);
                return self.follow(alignment, shared);
            }
            Element::Watermark(watermark) => self.merge.handle_watermark(channel, watermark),
            Element::Idle => self.merge.handle_idle(channel),
            Element::End => {
                // What the end makes due comes behind the barriers that it stands for.
                let alignment = self.aligner.handle_end(channel);
                self.follow(alignment, shared)?;
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

    /// As many rows of a block as make a call of a chain: barriers may come between calls, however long a function
    /// takes for a row. The rest is what is taken next.
    fn take_in(&mut self, channel: usize, block: Block) -> Block {
        if !std::mem::take(&mut self.resumes) {
            self.metrics.bytes_in.add(block.byte_count() as u64);
        }
        let rows = block.row_count();
        let most = match &self.body {
            Body::Chain(task) if task.takes_one_by_one(&self.inputs.channels()[channel].keys) => 1,
            Body::Chain(task) => task.rows_per_call(),
            Body::Requests(task) => task.room(),
            Body::Source(_) | Body::Watermarks(_) | Body::Lookup(_) | Body::Sink(_) => rows,
        };
        self.metrics.rows_in.add(rows.min(most) as u64);
        if rows <= most {
            return block;
        }
        self.resumes = true;
        let rest = block.slice(most, rows - most);
        self.inputs.put_back(channel, Element::Block(rest));
        block.slice(0, most)
    }

    fn handle_progress(&mut self, progress: Option<Progress>) {
        // A watermark operator makes its own.
        if matches!(self.body, Body::Watermarks(_)) {
            return;
        }
        match progress {
            None => {}
            Some(Progress::Idle) => match &mut self.body {
                Body::Requests(task) => task.handle_idle(),
                Body::Source(_) | Body::Watermarks(_) | Body::Lookup(_) | Body::Chain(_) | Body::Sink(_) => {
                    self.outputs.idle();
                }
            },
            Some(Progress::Watermark(watermark)) => match &mut self.body {
                // It goes on behind the answers.
                Body::Requests(task) => task.handle_watermark(watermark),
                Body::Chain(task) => {
                    self.metrics.set_watermark(watermark);
                    task.handle_watermark(watermark);
                    self.firing = Some(Firing::Watermark(watermark));
                }
                Body::Source(_) | Body::Watermarks(_) | Body::Lookup(_) | Body::Sink(_) => {
                    self.metrics.set_watermark(watermark);
                    self.outputs.watermark(watermark);
                }
            },
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
        self.hear_announced(shared)
    }

    /// What was said in the middle of a firing, or while state came.
    fn hear_announced(&mut self, shared: &Shared) -> Result<()> {
        for announced in std::mem::take(&mut self.announced) {
            self.hear(announced, shared)?;
        }
        Ok(())
    }

    fn is_restoring(&self) -> bool {
        matches!(&self.body, Body::Chain(task) if task.is_restoring())
    }

    /// Whether rows of a channel may ask for what all keys hold.
    fn asks_for_all(&self, channel: usize) -> bool {
        let keys = &self.inputs.channels()[channel].keys;
        matches!(&self.body, Body::Chain(task) if task.takes_one_by_one(keys))
    }

    fn waits_for_state(&self) -> bool {
        matches!(&self.body, Body::Chain(task) if task.waits_for_state())
    }

    /// Takes a batch of the state that is still coming, if there is any.
    fn restore_some(&mut self, shared: &Shared, rejects: &Rejects) -> Result<bool> {
        let Body::Chain(task) = &mut self.body else {
            return Ok(false);
        };
        if !task.is_restoring() {
            return Ok(false);
        }
        let context = &mut ChainContext::new(shared.clock, rejects, &self.metrics, &mut self.outputs);
        task.restore_some(context)?;
        if !task.is_restoring() {
            self.hear_announced(shared)?;
        }
        Ok(true)
    }

    /// Takes all of it.
    fn restore_rest(&mut self, shared: &Shared, rejects: &Rejects) -> Result<()> {
        while self.restore_some(shared, rejects)? {}
        Ok(())
    }

    /// The last checkpoint has its barrier: a source gives nothing more.
    pub(crate) fn stop_source(&mut self) {
        if matches!(self.body, Body::Source(_)) && !self.done {
            self.outputs.end();
            self.done = true;
        }
    }

    /// Tells the supervisor what happened in careful mode, and behind which barrier.
    fn tell_careful(&mut self, shared: &Shared) {
        let Body::Chain(task) = &mut self.body else { return };
        for event in task.take_careful_events(self.last_barrier) {
            shared.send(Event::Careful(event));
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

    /// Ends the task behind the last results of its last watermark.
    fn end_if_over(&mut self, shared: &Shared, rejects: &Rejects) -> Result<()> {
        if self.open_channels == 0 && self.firing.is_none() && !self.has_rows_under_way(shared) && !self.done {
            self.handle_end(shared, rejects)?;
        }
        Ok(())
    }

    /// Whether there is room for a row; where there is none, nothing is taken before there is.
    fn has_room_for_rows(&mut self) -> bool {
        match &mut self.body {
            Body::Requests(task) if task.room() == 0 => {
                task.wait_for_room();
                false
            }
            Body::Requests(_)
            | Body::Lookup(_)
            | Body::Source(_)
            | Body::Watermarks(_)
            | Body::Chain(_)
            | Body::Sink(_) => true,
        }
    }

    /// Makes requests and sends on rows that have their answers.
    fn step_requests(&mut self, shared: &Shared, rejects: &Rejects) -> Result<bool> {
        let Body::Requests(task) = &mut self.body else {
            return Ok(false);
        };
        let worked = task.step(&mut self.outputs, &self.metrics)?;
        self.end_if_over(shared, rejects)?;
        Ok(worked)
    }

    /// Sends on rows that were looked up; what waited for them comes behind.
    fn step_lookup(&mut self, shared: &Shared) -> Result<bool> {
        let hurries = self.hurries();
        let Body::Lookup(task) = &mut self.body else {
            return Ok(false);
        };
        let worked = task.step(&mut self.outputs, &self.metrics, hurries)?;
        if !task.is_busy() && !self.announced.is_empty() {
            self.hear_announced(shared)?;
        }
        Ok(worked)
    }

    /// Whether rows wait for answers before the end. Where a job stops they are in its last checkpoint.
    fn has_rows_under_way(&self, shared: &Shared) -> bool {
        matches!(&self.body, Body::Requests(task) if !task.is_empty() && !shared.stops_at_checkpoint())
    }

    fn handle_end(&mut self, shared: &Shared, rejects: &Rejects) -> Result<()> {
        match &mut self.body {
            Body::Source(_) | Body::Requests(_) | Body::Lookup(_) => {}
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
