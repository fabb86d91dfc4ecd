//! What subtasks do: sources poll, all others take an element; barriers, and messages from the coordinator.

use millrace_core::block::WATERMARK_MAX;
use millrace_core::checkpoint::{Alignment, CheckpointId, CheckpointMode, DeclineReason};
use millrace_core::key::hash_integer;
use millrace_core::time::Progress;

use crate::attempt::{Attempt, Element};
use crate::job::{Partition, Row, chance};
use crate::outside::Part;
use crate::world::{Event, Message, Point, Sabotage, World, note};

impl World<'_> {
    fn attempt(&mut self) -> &mut Attempt {
        &mut self.process.attempt.as_mut().expect("an attempt runs").state
    }

    /// A subtask does a piece of work, if it can.
    pub(crate) fn step(&mut self, at: usize) {
        self.look_ahead(at);
        let bound = self.job.queue_elements;
        let (now, poll_every) = (self.now, self.job.poll_every);
        let attempt = &mut self.process.attempt.as_mut().expect("an attempt runs").state;
        let subtask = &attempt.subtasks[at];
        if subtask.finished || subtask.stopped || !subtask.has_room(&attempt.channels, bound) {
            return;
        }
        if self.random.below(subtask.slowness) > 0 {
            return;
        }
        if subtask.inputs.is_empty() {
            if self.random.below(poll_every) == 0 {
                self.poll(at);
            }
            return;
        }
        let ready = |input: &usize| {
            let channel = &attempt.channels[subtask.inputs[*input]];
            channel.queue.front().is_some_and(|(arrival, _)| *arrival <= now) && !subtask.aligner.is_blocked(*input)
        };
        let count = subtask.inputs.len();
        let from = self.random.below(count as i64) as usize;
        let Some(input) = (0..count).map(|offset| (from + offset) % count).find(ready) else {
            return;
        };
        let channel = subtask.inputs[input];
        let (_, element) = attempt.channels[channel].queue.pop_front().expect("it is ready");
        self.take(at, input, element);
    }

    /// Copies what is ahead of barriers that have arrived, for checkpoints that overtook it.
    fn look_ahead(&mut self, at: usize) {
        let recording = self.attempt().subtasks[at].aligner.recording().collect::<Vec<_>>();
        for id in recording {
            for input in 0..self.attempt().subtasks[at].inputs.len() {
                let now = self.now;
                let attempt = self.attempt();
                let subtask = &mut attempt.subtasks[at];
                let queue = &attempt.channels[subtask.inputs[input]].queue;
                let is_cut = |element: &Element| match element {
                    Element::Barrier(other) => *other >= id,
                    Element::End => true,
                    Element::Rows(_) | Element::Watermark(_) => false,
                };
                let cut = queue
                    .iter()
                    .position(|(arrival, element)| *arrival <= now && is_cut(element));
                let Some(cut) = cut.filter(|_| subtask.aligner.is_recorded(input, id)) else {
                    continue;
                };
                let ahead: Vec<Element> = queue.iter().take(cut).map(|(_, element)| element.clone()).collect();
                ahead.iter().for_each(|element| subtask.copy(id, input, element));
                let answer = match queue[cut].1 {
                    Element::Barrier(found) => {
                        if found == id {
                            let queue = &mut attempt.channels[subtask.inputs[input]].queue;
                            let stays = |element: &Element| !matches!(element, Element::Barrier(other) if *other <= id);
                            queue.retain(|(_, element)| stays(element));
                        }
                        subtask.aligner.handle_sighted(input, id, found)
                    }
                    Element::End | Element::Rows(_) | Element::Watermark(_) => {
                        subtask.aligner.handle_end_sighted(input, id)
                    }
                };
                self.align(at, answer);
            }
        }
    }

    fn poll(&mut self, at: usize) {
        if self.process.settles {
            return;
        }
        let rows_max = 1 + self.random.below(5) as usize;
        let task = self.attempt().subtasks[at].task;
        let attempt = &mut self.process.attempt.as_mut().expect("an attempt runs").state;
        let subtask = &mut attempt.subtasks[at];
        let declared = &self.job.tasks[task].splits;
        let open = (0..subtask.splits.len())
            .filter(|split| subtask.splits[*split].1 < declared[subtask.splits[*split].0].len());
        let open: Vec<usize> = open.collect();
        if open.is_empty() {
            return self.finish(at);
        }
        let split = open[self.random.below(open.len() as i64) as usize];
        let (of, read) = &mut subtask.splits[split];
        let rows: Vec<Row> = declared[*of][*read..].iter().take(rows_max).copied().collect();
        *read += rows.len();
        let last = rows.last().expect("the split has not ended").time;
        let mut progress = subtask.split_merge.handle_watermark(split, last - 1);
        if *read == declared[*of].len() {
            progress = subtask.split_merge.handle_end(split).or(progress);
        }
        self.send_rows(at, rows);
        if let Some(Progress::Watermark(watermark)) = progress.filter(|_| open.len() > 1) {
            self.send_all(at, &Element::Watermark(watermark));
        }
    }

    fn take(&mut self, at: usize, input: usize, element: Element) {
        let exactly = self.job.config.mode == CheckpointMode::ExactlyOnce;
        let sabotaged = self.sabotage != Sabotage::Nothing;
        let subtask = &mut self.attempt().subtasks[at];
        for id in subtask.aligner.recording().collect::<Vec<_>>() {
            if subtask.aligner.is_recorded(input, id) {
                subtask.copy(id, input, &element);
            }
        }
        match element {
            Element::Rows(rows) => {
                subtask.merge.handle_block(input);
                if exactly && !sabotaged {
                    let watermark = subtask.watermark;
                    assert!(rows.iter().all(|row| row.time > watermark), "a row is late");
                }
                let through = subtask.take(rows);
                self.send_rows(at, through);
            }
            Element::Watermark(watermark) => {
                let progress = subtask.merge.handle_watermark(input, watermark);
                self.advance(at, progress);
            }
            Element::Barrier(id) => {
                let answer = subtask.aligner.handle_barrier(input, id);
                self.align(at, answer);
            }
            Element::End => {
                subtask.open -= 1;
                let answer = subtask.aligner.handle_end(input);
                let all = subtask.open == 0;
                // Before anything follows from the end: the barrier that it stands for comes first.
                self.align(at, answer);
                let progress = self.attempt().subtasks[at].merge.handle_end(input);
                self.advance(at, progress);
                if all {
                    self.finish(at);
                }
            }
        }
    }

    fn advance(&mut self, at: usize, progress: Option<Progress>) {
        match progress {
            Some(Progress::Watermark(watermark)) => {
                let fired = self.attempt().subtasks[at].fire(watermark);
                self.send_rows(at, fired);
                if watermark != WATERMARK_MAX {
                    self.send_all(at, &Element::Watermark(watermark));
                }
            }
            Some(Progress::Idle) | None => {}
        }
    }

    fn finish(&mut self, at: usize) {
        note!(self, "subtask {at} is finished");
        self.attempt().subtasks[at].finished = true;
        self.send_all(at, &Element::End);
        let attempt = self.attempts;
        self.after(20, Event::Finished(attempt));
    }

    /// Rows leave a subtask: to the outside, and over each edge.
    fn send_rows(&mut self, at: usize, rows: Vec<Row>) {
        if rows.is_empty() {
            return;
        }
        let delay = self.job.channel_delay;
        let arrival = self.now + self.random.below(delay) as u64;
        let attempt = self.attempt();
        let subtask = &mut attempt.subtasks[at];
        if subtask.is_sink {
            subtask.written.extend(&rows);
        }
        for output in &mut subtask.outputs {
            let mut pieces = vec![Vec::new(); output.channels.len()];
            match output.partition {
                Partition::Keyed => rows.iter().for_each(|row| {
                    let receiver = output.groups.subtask_of(hash_integer(row.key as i64));
                    pieces[receiver as usize].push(*row);
                }),
                Partition::Broadcast => pieces.iter_mut().for_each(|piece| piece.extend(&rows)),
                Partition::Forward => pieces[0].extend(&rows),
                Partition::Rebalance => {
                    output.next = (output.next + 1) % pieces.len();
                    pieces[output.next].extend(&rows);
                }
            }
            for (channel, piece) in output.channels.iter().zip(pieces) {
                if !piece.is_empty() {
                    attempt.channels[*channel].send(arrival, Element::Rows(piece));
                }
            }
        }
    }

    fn send_all(&mut self, at: usize, element: &Element) {
        let (now, delay) = (self.now, self.job.channel_delay);
        let mut random = self.random.clone();
        let attempt = self.attempt();
        for channel in attempt.subtasks[at].outputs.iter().flat_map(|output| &output.channels) {
            attempt.channels[*channel].send(now + random.below(delay) as u64, element.clone());
        }
        self.random = random;
    }

    fn align(&mut self, at: usize, answer: Alignment) {
        for id in answer.given_up {
            self.attempt().subtasks[at].recording.retain(|(of, _)| *of != id);
            self.met.count("given up");
            self.after(20, Event::Decline(id, at as u32, DeclineReason::Superseded));
        }
        for id in answer.aligned {
            self.snapshot(at, id, false);
        }
        for id in answer.overtaken {
            self.met.count("overtaken");
            self.snapshot(at, id, true);
        }
        for id in answer.recorded {
            let recording = &mut self.attempt().subtasks[at].recording;
            let part = recording.extract_if(.., |(of, _)| *of == id).next();
            if let Some((_, part)) = part {
                self.hand_over(at, id, part);
            }
        }
    }

    /// A subtask's part in a checkpoint: prepare, hand over, send the barrier onwards.
    fn snapshot(&mut self, at: usize, id: CheckpointId, overtaking: bool) {
        note!(self, "subtask {at} begins {id}, overtaking: {overtaking}");
        let sabotage = self.sabotage;
        let subtask = &mut self.process.attempt.as_mut().expect("an attempt runs").state.subtasks[at];
        if !subtask.written.is_empty() {
            let rows = std::mem::take(&mut subtask.written);
            let transaction = self.outside.prepare(subtask.task, rows);
            subtask.prepared.push((id, transaction));
            if sabotage == Sabotage::CommitBeforeComplete {
                self.outside.commit(transaction);
            }
            self.maybe_fail(Point::Prepared);
        }
        let subtask = &mut self.attempt().subtasks[at];
        subtask.stopped |= subtask.stop == Some(id) && subtask.inputs.is_empty();
        let keeps_channels = self.job.config.aligned_timeout.is_some();
        let subtask = &mut self.attempt().subtasks[at];
        let (part, finished) = (subtask.part(keeps_channels), subtask.finished);
        if overtaking {
            subtask.recording.push((id, part));
        } else {
            self.hand_over(at, id, part);
        }
        if !finished {
            self.send_all(at, &Element::Barrier(id));
        }
    }

    /// All of a subtask's part is there.
    fn hand_over(&mut self, at: usize, id: CheckpointId, part: Part) {
        let under_way = part.channels.iter().map(|(_, elements)| elements.len()).sum::<usize>();
        note!(self, "subtask {at} hands over {id} with {under_way} under way");
        if under_way > 0 {
            self.met.count("rows in flight");
        }
        let slow = if chance(&mut self.random, 10) { 150 } else { 20 };
        if self.maybe_trouble(1) {
            self.after(
                slow,
                Event::Decline(id, at as u32, DeclineReason::Failed("disk".to_owned())),
            );
        } else if self.maybe_trouble(1) {
            self.met.count("lost acknowledgement");
        } else {
            self.after(slow, Event::Ack(id, at as u32, Box::new(part)));
        }
    }

    /// The coordinator's word reaches a subtask.
    pub(crate) fn receive(&mut self, at: usize, message: Message) {
        match message {
            Message::Announced(id, kind) => {
                let subtask = &mut self.attempt().subtasks[at];
                if kind == millrace_core::checkpoint::CheckpointKind::Stop {
                    subtask.stop = Some(id);
                }
                if self.maybe_trouble(1) {
                    // No barrier will come from here: those behind it wait until the coordinator calls it off.
                    self.attempt().subtasks[at].aligner.handle_cancelled(id);
                    self.after(20, Event::Decline(id, at as u32, DeclineReason::NotReady));
                    return;
                }
                let answer = self.attempt().subtasks[at].aligner.handle_announced(id);
                self.align(at, answer);
            }
            Message::Unaligned(id) => {
                let answer = self.attempt().subtasks[at].aligner.handle_unaligned(id);
                self.align(at, answer);
            }
            Message::Drain => {
                let subtask = &self.attempt().subtasks[at];
                if subtask.inputs.is_empty() && !subtask.finished && !subtask.stopped {
                    self.finish(at);
                }
            }
            Message::Cancelled(id) => {
                let subtask = &mut self.attempt().subtasks[at];
                subtask.recording.retain(|(of, _)| *of != id);
                subtask.aligner.handle_cancelled(id);
            }
            Message::Complete(id, is_last) => {
                self.commit(at, id);
                if is_last && self.fault.is_none() {
                    let attempt = self.attempts;
                    self.after(10, Event::Committed(attempt));
                }
            }
        }
    }

    /// Commits what was prepared up to a checkpoint, one after the other.
    fn commit(&mut self, at: usize, id: CheckpointId) {
        let too_much = self.sabotage == Sabotage::CommitTooMuch;
        self.committed = self.committed.max(Some(id));
        loop {
            let prepared = &mut self.attempt().subtasks[at].prepared;
            let first = prepared.first().filter(|(of, _)| *of <= id || too_much).copied();
            let Some((_, transaction)) = first else { return };
            prepared.remove(0);
            note!(self, "subtask {at} commits {transaction:?}");
            self.outside.commit(transaction);
            self.maybe_fail(Point::Committing);
            if self.fault.is_some() {
                return;
            }
        }
    }
}
