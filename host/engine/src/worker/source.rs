//! The source task: polls its splits in turn and makes watermarks per split.
//!
//! With watermark alignment a split that is too far ahead of its group is left alone for a while. It takes part in
//! checkpoints all the same: barriers are put behind what it has given, whoever waits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millrace_core::Result;
use millrace_core::block::{Block, Millis, WATERMARK_MIN};
use millrace_core::checkpoint::{CheckpointId, SplitSnapshot};
use millrace_core::connector::{Poll, Position, Rejected, Rows, Source, Split, SplitReader, SubtaskContext};
use millrace_core::graph::{OperatorIndex, Partition, WatermarkAlignment, WatermarkSource, WatermarkStrategy};
use millrace_core::plan::Plan;
use millrace_core::time::{Alignment, Member, Progress, Tick, WatermarkGenerator, WatermarkMerge};

use super::at_barriers::AtBarriers;
use super::discovery::{Discovery, SourceSplits};
use super::outputs::Outputs;
use super::pace::Pace;
use super::rejects::Rejects;
use super::shared::Outcome;
use super::watermarks::assign_times;
use crate::metrics::SubtaskMetrics;

struct Reading {
    id: String,
    /// `None`: it has ended, and another split may take its place.
    reader: Option<Box<dyn SplitReader>>,
    ended: bool,
    generator: Option<WatermarkGenerator>,
    /// In its group, if there is one.
    member: Option<Member>,
    /// Elapsed time before which polling again is of no use.
    not_before: Option<Duration>,
}

impl Reading {
    /// How far it has been read; `None`: to its end, which is kept elsewhere.
    fn snapshot(&self) -> Option<SplitSnapshot> {
        Some(SplitSnapshot {
            id: self.id.clone(),
            position: self.reader.as_ref()?.position(),
            max_time: self.generator.as_ref().and_then(WatermarkGenerator::max_time),
        })
    }
}

/// Blocks at most that a source reads at a time, however many receivers share them: four of a few columns stay
/// in the second-level cache.
const BLOCKS_PER_POLL_MAX: usize = 4;

/// Rows that sources read at a time, so that what a receiver gets of them after the split by key is a block of
/// `block_rows`. Joining small parts later would copy every row once more, and could not go past watermarks.
pub(crate) fn rows_per_poll(plan: &Plan, block_rows: usize) -> usize {
    let split = plan.exchanges.iter().filter(|exchange| match exchange.partition {
        Partition::HashFields(_) | Partition::HashComputed | Partition::Shuffle | Partition::Numbered => true,
        Partition::Forward
        | Partition::SameSubtask
        | Partition::Rebalance
        | Partition::Rescale
        | Partition::Broadcast
        | Partition::Global => false,
    });
    let receivers = split
        .map(|exchange| plan.tasks[exchange.to.0].parallelism as usize)
        .max();
    block_rows * receivers.unwrap_or(1).min(BLOCKS_PER_POLL_MAX)
}

/// How often a subtask without a split looks how far the others have come.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(20);

/// How long a split that is ahead of its group is left alone.
const ALIGNMENT_PAUSE: Duration = Duration::from_millis(5);

/// What a poll of the source came to.
pub(crate) enum SourceStep {
    /// Rows went out.
    Worked,
    /// Nothing now; again after this long at most.
    Waiting(Option<Duration>),
    /// All splits have ended.
    Ended,
}

/// One subtask of a source.
pub(crate) struct SourceTask {
    operator: OperatorIndex,
    source: Arc<dyn Source>,
    context: SubtaskContext,
    /// If splits can turn up later.
    discovery: Option<Discovery>,
    strategy: Option<WatermarkStrategy>,
    readings: Vec<Reading>,
    merge: WatermarkMerge,
    next: usize,
    rate: ReadingRate,
    alignment: Arc<Mutex<Alignment>>,
    at_barriers: AtBarriers,
    /// What was announced without a split of its own.
    followed: Millis,
    /// Since when no subtask has a split that is not idle.
    alone_since: Option<Millis>,
    /// That was announced.
    idle_said: bool,
}

/// How much a source reads at a time, and how often.
#[derive(Debug)]
pub(crate) struct ReadingRate {
    pub(crate) rows_per_poll: usize,
    /// If it is limited.
    pub(crate) pace: Option<Pace>,
    /// Nothing is to be read.
    pub(crate) still: bool,
}

impl SourceTask {
    /// Opens this subtask's share of the splits: every `parallelism`-th. All subtasks are given the same
    /// list, made once, so that each split has exactly one reader whatever happens outside meanwhile.
    pub(crate) fn open(
        operator: OperatorIndex,
        source: &Arc<dyn Source>,
        (splits, more): (&[SplitSnapshot], Option<Arc<SourceSplits>>),
        strategy: Option<WatermarkStrategy>,
        context: &SubtaskContext,
        mut rate: ReadingRate,
        alignment: Arc<Mutex<Alignment>>,
    ) -> Result<Self> {
        if let Some(pace) = &rate.pace {
            rate.rows_per_poll = pace.rows_per_poll(rate.rows_per_poll);
        }
        let mut task = SourceTask {
            operator,
            source: source.clone(),
            context: context.clone(),
            discovery: more.map(|all| Discovery::new(all, context.subtask)),
            strategy,
            readings: Vec::new(),
            merge: WatermarkMerge::new(0),
            next: 0,
            rate,
            alignment,
            at_barriers: AtBarriers::default(),
            followed: WATERMARK_MIN,
            alone_since: None,
            idle_said: false,
        };
        for split in splits
            .iter()
            .skip(context.subtask as usize)
            .step_by(context.parallelism as usize)
        {
            let reading = task.open_split(split.clone())?;
            task.readings.push(reading);
        }
        task.merge = WatermarkMerge::new(task.readings.len());
        for (index, reading) in task.readings.iter().enumerate() {
            if let Some(generator) = &reading.generator {
                // What follows from it is announced with the next one.
                let _ = task.merge.handle_watermark(index, generator.watermark());
                if let Some(discovery) = &task.discovery {
                    discovery.advance(&reading.id, generator.watermark());
                }
            }
        }
        task.join_group();
        Ok(task)
    }

    fn open_split(&self, split: SplitSnapshot) -> Result<Reading> {
        let SplitSnapshot { id, position, max_time } = split;
        let split = Split { id, position };
        let reader = self.source.open(&split, &self.context);
        let reader = reader.map_err(|error| error.context(format!("split `{}`", split.id)))?;
        let mut generator = self.strategy.as_ref().map(WatermarkGenerator::from_strategy);
        if let (Some(generator), Some(time)) = (&mut generator, max_time) {
            generator.restore(time);
        }
        Ok(Reading {
            id: split.id,
            reader: Some(reader),
            ended: false,
            generator,
            member: None,
            not_before: None,
        })
    }

    /// Tells the group, if there is one, which splits are read here and how far they are.
    fn join_group(&mut self) {
        let Some(declared) = self.group().cloned() else {
            return;
        };
        let mut alignment = lock(&self.alignment);
        let members = alignment.join(&declared, self.readings.len());
        for (reading, member) in self.readings.iter_mut().zip(members) {
            if let Some(generator) = &reading.generator {
                alignment.advance(&member, generator.watermark());
            }
            reading.member = Some(member);
        }
    }

    fn group(&self) -> Option<&WatermarkAlignment> {
        self.strategy.as_ref().and_then(|strategy| strategy.alignment.as_ref())
    }

    /// Whether a split is ahead of its group. It is not idle then: it has rows, or may have.
    fn is_ahead(&mut self, index: usize, now: Millis) -> bool {
        let reading = &mut self.readings[index];
        let Some(member) = &reading.member else {
            return false;
        };
        let is_ahead = !lock(&self.alignment).may_read(member);
        if is_ahead && let Some(generator) = &mut reading.generator {
            generator.stay_active(now);
        }
        is_ahead
    }

    /// Tells the group of a split, if there is one, what has become of it.
    fn tell_group(&self, index: usize, tell: impl FnOnce(&mut Alignment, &Member)) {
        if let Some(member) = &self.readings[index].member {
            tell(&mut lock(&self.alignment), member);
        }
    }

    /// Opens splits that have turned up, in the places of some that have ended.
    fn discover(&mut self, now: Duration) -> Result<()> {
        let Some(discovery) = &mut self.discovery else {
            return Ok(());
        };
        for Split { id, position } in discovery.poll(now)? {
            let reading = self.open_split(SplitSnapshot {
                id,
                position,
                max_time: None,
            })?;
            match self.readings.iter().position(|reading| reading.reader.is_none()) {
                Some(index) => {
                    let member = self.readings[index].member.take();
                    self.readings[index] = Reading { member, ..reading };
                    self.merge.replace(index);
                    self.tell_group(index, Alignment::begin);
                }
                None => {
                    let member = self.group().map(|group| lock(&self.alignment).add(group));
                    self.readings.push(Reading { member, ..reading });
                    self.merge.add();
                }
            }
        }
        Ok(())
    }

    /// A barrier: how far each split has been read.
    pub(crate) fn snapshot(&mut self, id: CheckpointId) -> Vec<SplitSnapshot> {
        let ended = self.discovery.iter().flat_map(Discovery::ended).cloned();
        let splits = self.readings.iter().filter_map(Reading::snapshot).chain(ended);
        let splits: Vec<SplitSnapshot> = splits.collect();
        self.at_barriers.note(id, splits.clone());
        splits
    }

    /// A checkpoint is complete.
    pub(crate) fn handle_complete(&mut self, id: CheckpointId) -> Result<()> {
        let splits = self.at_barriers.complete(id);
        self.tell_complete(splits.unwrap_or_default())
    }

    /// A checkpoint came to nothing.
    pub(crate) fn handle_cancelled(&mut self, id: CheckpointId) {
        self.at_barriers.cancel(id);
    }

    /// Tells readers what was decided at the end of the attempt: the slot may not have heard of the last checkpoint.
    pub(crate) fn finish(&mut self, outcome: Outcome) -> Result<()> {
        match outcome {
            Outcome::Commit => {
                let splits = self.at_barriers.finish();
                self.tell_complete(splits.unwrap_or_default())
            }
            Outcome::Abort | Outcome::Leave => Ok(()),
        }
    }

    /// A complete checkpoint holds these splits.
    fn tell_complete(&mut self, splits: Vec<SplitSnapshot>) -> Result<()> {
        if splits.is_empty() {
            return Ok(());
        }
        let positions = splits.iter().map(|split| (split.id.as_str(), &split.position));
        let positions: BTreeMap<&str, &Position> = positions.collect();
        for reading in &mut self.readings {
            if let (Some(reader), Some(position)) = (&mut reading.reader, positions.get(reading.id.as_str())) {
                reader.handle_complete(position)?;
            }
        }
        let Some(discovery) = &self.discovery else {
            return Ok(());
        };
        let splits = splits
            .into_iter()
            .map(|SplitSnapshot { id, position, .. }| Split { id, position });
        discovery.handle_complete(&splits.collect::<Vec<_>>())
    }

    /// Polls the next split that may have rows.
    pub(crate) fn step(
        &mut self,
        now: Duration,
        now_millis: Millis,
        rejects: &Rejects,
        metrics: &SubtaskMetrics,
        outputs: &mut Outputs,
    ) -> Result<SourceStep> {
        if self.rate.still {
            return Ok(SourceStep::Waiting(None));
        }
        if let Some(wait) = self.rate.pace.as_ref().and_then(|pace| pace.wait(now)) {
            return Ok(SourceStep::Waiting(Some(wait)));
        }
        self.discover(now)?;
        let count = self.readings.len();
        for turn in 0..count {
            let index = (self.next + turn) % count;
            let reading = &self.readings[index];
            let is_open = reading.reader.is_some() && !reading.ended;
            if !is_open || reading.not_before.is_some_and(|time| now < time) {
                continue;
            }
            if self.is_ahead(index, now_millis) {
                self.readings[index].not_before = Some(now + ALIGNMENT_PAUSE);
                continue;
            }
            let reading = &mut self.readings[index];
            let Some(reader) = reading.reader.as_mut() else {
                continue;
            };
            match reader.poll(self.rate.rows_per_poll, now)? {
                Poll::Rows(rows) => {
                    self.next = (index + 1) % count;
                    if !self.reject(index, &rows.rejected, rejects, metrics)? {
                        self.take(index, rows, (now, now_millis), metrics, outputs)?;
                    }
                    return Ok(SourceStep::Worked);
                }
                Poll::Pending { wake_after } => {
                    // Only a wake-up or the idle check looks again before that.
                    reading.not_before = wake_after.map(|after| now + after);
                    // Others may have rows all the time.
                    self.handle_time(index, now_millis, outputs);
                }
                Poll::End => self.end(index, outputs),
            }
        }
        if self.all_ended() {
            return Ok(SourceStep::Ended);
        }
        Ok(SourceStep::Waiting(self.wait(now, now_millis, outputs)))
    }

    /// A split has ended. Where others may follow that is not the end, and the subtask follows the others of its source if it
    /// has no other.
    fn end(&mut self, index: usize, outputs: &mut Outputs) {
        self.tell_group(index, Alignment::handle_end);
        let reading = &mut self.readings[index];
        reading.ended = true;
        let progress = match &mut self.discovery {
            None => self.merge.handle_end(index),
            Some(discovery) => {
                reading
                    .snapshot()
                    .into_iter()
                    .for_each(|split| discovery.handle_end(split));
                reading.reader = None;
                self.merge.handle_idle(index)
            }
        };
        let has_others = self.readings.iter().any(|reading| !reading.ended);
        let progress =
            progress.filter(|progress| self.discovery.is_none() || has_others || *progress != Progress::Idle);
        if self.strategy.is_some() && !self.all_ended() {
            announce(progress, outputs);
        }
    }

    fn all_ended(&self) -> bool {
        let expecting = self
            .discovery
            .as_ref()
            .is_some_and(|discovery| discovery.next().is_some());
        !expecting && self.readings.iter().all(|reading| reading.ended)
    }

    /// Takes what a split has given.
    fn take(
        &mut self,
        index: usize,
        given: Rows,
        (now, now_millis): (Duration, Millis),
        metrics: &SubtaskMetrics,
        outputs: &mut Outputs,
    ) -> Result<()> {
        let count = given.rows.num_rows();
        metrics.bytes_in.add(given.bytes);
        metrics.rows_in.add(count as u64);
        if let Some(pace) = &mut self.rate.pace {
            pace.handle_rows(count, now);
        }
        if count > 0 {
            self.emit(index, Block::new(given.rows), now_millis, outputs)?;
        }
        Ok(())
    }

    fn emit(&mut self, index: usize, mut block: Block, now_millis: Millis, outputs: &mut Outputs) -> Result<()> {
        let Some(strategy) = &self.strategy else {
            return outputs.emit(0, block);
        };
        let generator = self.readings[index].generator.as_mut();
        let generator = generator.expect("a split has a generator if there is a strategy");
        let watermark = assign_times(&mut block, strategy, generator, now_millis)?;
        let reached = generator.watermark();
        self.merge.handle_block(index);
        if let Some(discovery) = &self.discovery {
            discovery.advance(&self.readings[index].id, reached);
        }
        self.tell_group(index, |alignment, member| alignment.advance(member, reached));
        outputs.emit(0, block)?;
        if let Some(watermark) = watermark {
            announce(self.merge.handle_watermark(index, watermark), outputs);
        }
        Ok(())
    }

    /// Applies the policy to rows that a split has given and that are none. True: whoever has sent them has been told, and
    /// nothing of what came with them is taken.
    fn reject(
        &mut self,
        index: usize,
        rejected: &[Rejected],
        rejects: &Rejects,
        metrics: &SubtaskMetrics,
    ) -> Result<bool> {
        let Some(first) = rejected.first() else {
            return Ok(false);
        };
        metrics.rejected.add(rejected.len() as u64);
        if rejects.fails(self.operator.0)
            && let Some(reader) = &mut self.readings[index].reader
            && reader.refuse(first)
        {
            return Ok(true);
        }
        for row in rejected {
            rejects.handle(self.operator.0, row)?;
        }
        Ok(false)
    }

    /// How long nothing will happen; marks idle splits on the way.
    fn wait(&mut self, now: Duration, now_millis: Millis, outputs: &mut Outputs) -> Option<Duration> {
        let mut wait: Option<Duration> = None;
        let mut shorten = |until: Duration| wait = Some(wait.map_or(until, |wait| wait.min(until)));
        if let Some(next) = self.discovery.as_ref().and_then(Discovery::next) {
            shorten(next.saturating_sub(now));
        }
        if let Some(again) = self.follow(now_millis, outputs) {
            shorten(again);
        }
        for index in 0..self.readings.len() {
            let reading = &self.readings[index];
            if reading.ended {
                continue;
            }
            if let Some(not_before) = reading.not_before {
                shorten(not_before.saturating_sub(now));
            }
            self.handle_time(index, now_millis, outputs);
            let generator = self.readings[index].generator.as_ref();
            if let Some(next) = generator.and_then(WatermarkGenerator::next_poll) {
                shorten(Duration::from_millis(u64::try_from(next - now_millis).unwrap_or(0)));
            }
        }
        wait
    }

    /// What becomes of a split's watermark and idleness, as nothing came.
    fn handle_time(&mut self, index: usize, now_millis: Millis, outputs: &mut Outputs) {
        let generator = self.readings[index].generator.as_mut();
        match generator.and_then(|generator| generator.poll(now_millis)) {
            Some(Tick::Watermark(watermark)) => announce(self.merge.handle_watermark(index, watermark), outputs),
            Some(Tick::Idle) => {
                announce(self.merge.handle_idle(index), outputs);
                self.tell_group(index, Alignment::handle_idle);
                if let Some(discovery) = &self.discovery {
                    discovery.handle_idle(&self.readings[index].id);
                }
            }
            None => {}
        }
    }

    /// Without a split of its own the subtask follows those of the others, so that it holds nobody up and nobody is ahead of
    /// splits that it is about to be given. Where there are none at all it is idle, if that is asked for, after a while. Says
    /// after what time to look again.
    fn follow(&mut self, now_millis: Millis, outputs: &mut Outputs) -> Option<Duration> {
        let (discovery, strategy) = (self.discovery.as_ref()?, self.strategy.as_ref()?);
        if self.readings.iter().any(|reading| !reading.ended) {
            (self.alone_since, self.idle_said) = (None, false);
            return None;
        }
        let reached = match strategy.source {
            WatermarkSource::Clock(behind_ms) => {
                Some(now_millis.saturating_sub(Millis::try_from(behind_ms).unwrap_or(Millis::MAX)))
            }
            WatermarkSource::Bounded(_) | WatermarkSource::Field(_) | WatermarkSource::Computed => discovery.least(),
        };
        if let Some(reached) = reached {
            (self.alone_since, self.idle_said) = (None, false);
            if reached > self.followed {
                self.followed = reached;
                outputs.watermark(reached);
            }
            return Some(FOLLOW_INTERVAL);
        }
        let since = *self.alone_since.get_or_insert(now_millis);
        let idle_after = Millis::try_from(strategy.idle_after_ms?).unwrap_or(Millis::MAX);
        let left = since.saturating_add(idle_after).saturating_sub(now_millis);
        if left > 0 {
            return Some(FOLLOW_INTERVAL.max(Duration::from_millis(left.unsigned_abs())));
        }
        if !std::mem::replace(&mut self.idle_said, true) {
            outputs.idle();
        }
        Some(FOLLOW_INTERVAL)
    }

    /// Whether this source makes watermarks.
    pub(crate) fn has_watermarks(&self) -> bool {
        self.strategy.is_some()
    }

    pub(crate) fn watermark(&self) -> Millis {
        self.merge.watermark()
    }
}

fn lock(alignment: &Mutex<Alignment>) -> MutexGuard<'_, Alignment> {
    alignment.lock().unwrap_or_else(PoisonError::into_inner)
}

fn announce(progress: Option<Progress>, outputs: &mut Outputs) {
    match progress {
        Some(Progress::Watermark(watermark)) => outputs.watermark(watermark),
        Some(Progress::Idle) => outputs.idle(),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::wiring::tests::two_tasks;

    #[test]
    fn a_source_reads_a_block_for_each_receiver_of_a_split_by_key() {
        let check = |partition: Partition, parallelism: u32, expect: usize| {
            let plan = two_tasks([("default", 1), ("default", parallelism)], partition);
            assert_eq!(rows_per_poll(&plan, 100), expect);
        };
        check(Partition::HashFields(vec![0]), 1, 100);
        check(Partition::HashFields(vec![0]), 2, 200);
        check(Partition::HashComputed, 3, 300);
        check(Partition::Shuffle, 2, 200);
        check(Partition::HashComputed, 64, 400);
        check(Partition::Rebalance, 2, 100);
        check(Partition::Broadcast, 2, 100);
    }
}
