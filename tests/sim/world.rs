//! One run: virtual time, everything that is under way, and the failures.
//!
//! Each tick some subtasks step, chosen at random, and what is due happens. Failures strike at any tick and, more
//! often, at the steps of the protocol where they hurt ([`Point`]). After a number of failures they stop, and then the
//! job has to come to its end.

use std::collections::BTreeMap;
use std::time::Duration;

use millrace_core::checkpoint::{CheckpointId, CheckpointKind, CheckpointMode, DeclineReason};
use millrace_core::control::{OperationId, Request};
use millrace_tests::random::Random;

use crate::job::{Job, chance};
use crate::outside::{Outside, Part, Storage, Stored};
use crate::process::Process;
use crate::trace::Trace;

/// Ticks without failures and requests in which a job has to end.
const PATIENCE_TICKS: u64 = 100_000;

/// What is broken on purpose, to see that the simulator notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sabotage {
    Nothing,
    /// Exactly once is asked for, but nothing waits for barriers.
    NoBlocking,
    /// The coordinator hears that a checkpoint is stored before it is.
    CompleteBeforeStored,
    /// Sinks commit what they have only prepared.
    CommitBeforeComplete,
    /// A commit covers what was prepared after the checkpoint too.
    CommitTooMuch,
    /// Checkpoints that were stored after they were aborted are left lying about.
    ForgetDiscards,
    /// Sources begin one row too late after a restart.
    SkipARow,
    /// What a checkpoint holds of channels is not put back.
    ForgetInFlight,
}

/// Where failures strike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Point {
    Anywhere,
    /// A sink has prepared; its acknowledgement is not sent.
    Prepared,
    /// One acknowledgement has come.
    Acknowledged,
    /// All have come; nothing is stored.
    AllAcknowledged,
    /// The metadata is durable; the coordinator does not know.
    Durable,
    /// The coordinator knows; no sink does.
    Complete,
    /// A sink has committed some of what it has to.
    Committing,
    /// Some subtasks are restored.
    Restoring,
    /// All commits of a restore are done and nothing is aborted yet.
    RestoredCommits,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    Subtask,
    Process,
}

#[derive(Debug, Clone)]
pub(crate) enum Message {
    Announced(CheckpointId, CheckpointKind),
    Unaligned(CheckpointId),
    Cancelled(CheckpointId),
    Complete(CheckpointId, bool),
    /// Sources end as if their input did.
    Drain,
}

#[derive(Debug)]
pub(crate) enum Event {
    /// For the coordinator.
    Ack(CheckpointId, u32, Box<Part>),
    Decline(CheckpointId, u32, DeclineReason),
    Stored(CheckpointId),
    StoreFailed(CheckpointId),
    /// For storage. The second time is when the coordinator hears of it; it may hear of a failure.
    Lands(CheckpointId, Box<Stored>, u64, bool),
    Discarded(CheckpointId),
    /// For a subtask of an attempt.
    Message(u64, usize, Message),
    /// For the driver.
    Finished(u64),
    Committed(u64),
    Restart,
    RestoreStep(u64),
    Request(Request),
    Signal,
    /// A savepoint that was held is written, or could not be.
    Written(OperationId, bool),
}

/// What a run has met, to see that runs meet everything.
#[derive(Debug, Default, Clone)]
pub(crate) struct Met {
    pub(crate) faults: BTreeMap<(Point, Fault), u64>,
    pub(crate) events: BTreeMap<&'static str, u64>,
    /// Sum of the traces' hashes.
    pub(crate) traces: u64,
}

impl Met {
    pub(crate) fn count(&mut self, event: &'static str) {
        *self.events.entry(event).or_default() += 1;
    }

    pub(crate) fn merge(&mut self, other: Met) {
        self.traces = self.traces.wrapping_add(other.traces);
        for (what, times) in other.faults {
            *self.faults.entry(what).or_default() += times;
        }
        for (what, times) in other.events {
            *self.events.entry(what).or_default() += times;
        }
    }
}

pub(crate) struct World<'a> {
    pub(crate) trace: &'a mut Trace,
    pub(crate) random: Random,
    pub(crate) sabotage: Sabotage,
    pub(crate) job: Job,
    pub(crate) storage: Storage,
    pub(crate) outside: Outside,
    pub(crate) process: Process,
    pub(crate) met: Met,
    /// In ms.
    pub(crate) now: u64,
    /// By time, then by the order in which they were made; with the process that they are for.
    events: BTreeMap<(u64, u64), (u64, Event)>,
    made: u64,
    /// Failures that are still to come.
    pub(crate) troubles: i64,
    /// A failure that takes effect when the step at hand is over.
    pub(crate) fault: Option<Fault>,
    last_trouble: u64,
    /// Greatest checkpoint of which a commit has begun.
    pub(crate) committed: Option<CheckpointId>,
    pub(crate) processes: u64,
    pub(crate) attempts: u64,
    pub(crate) done: bool,
    /// Windows have fired before their time: their results come in parts.
    pub(crate) drained: bool,
}

macro_rules! note {
    ($world:expr, $($line:tt)*) => {
        $world.trace.note(format_args!("{} {}", $world.now, format_args!($($line)*)))
    };
}
pub(crate) use note;

/// Runs a seed to its end; panics where an invariant breaks.
pub(crate) fn run(seed: u64, sabotage: Sabotage, trace: &mut Trace) -> Met {
    let mut random = Random::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let mode = match random.below(4) {
        0 if sabotage == Sabotage::Nothing => CheckpointMode::AtLeastOnce,
        _ => CheckpointMode::ExactlyOnce,
    };
    let job = Job::random(&mut random, mode);
    let troubles = random.below(8);
    let process = Process::new(&job, 0, None, &Storage::new());
    let mut world = World {
        trace,
        random,
        sabotage,
        job,
        storage: Storage::new(),
        outside: Outside::default(),
        process,
        met: Met::default(),
        now: 0,
        events: BTreeMap::new(),
        made: 0,
        troubles,
        fault: None,
        last_trouble: 0,
        committed: None,
        processes: 0,
        attempts: 0,
        done: false,
        drained: false,
    };
    note!(world, "seed {seed} {mode:?} {:?}", world.job.config);
    world.request_some();
    world.begin_restore();
    while !world.done {
        world.tick();
    }
    world.check_end();
    world.met.traces = world.trace.hash();
    world.met
}

impl World<'_> {
    pub(crate) fn now(&self) -> Duration {
        Duration::from_millis(self.now)
    }

    /// Something happens to this process after up to so many ms.
    pub(crate) fn after(&mut self, most: i64, event: Event) {
        let at = self.now + 1 + self.random.below(most.max(1)) as u64;
        self.at(at, event);
    }

    pub(crate) fn at(&mut self, at: u64, event: Event) {
        self.made += 1;
        self.events.insert((at, self.made), (self.processes, event));
    }

    fn request_some(&mut self) {
        let target = || "savepoint".to_owned();
        for _ in 0..self.random.below(6) {
            let savepoint = chance(&mut self.random, 70).then(target);
            let event = match self.random.below(20) {
                0 => Event::Signal,
                1 | 2 => Event::Request(Request::Cancel),
                3 | 4 => Event::Request(Request::Stop { savepoint, drain: true }),
                5..9 => Event::Request(Request::Stop {
                    savepoint,
                    drain: false,
                }),
                _ => Event::Request(Request::Savepoint { target: target() }),
            };
            self.after(2_000, event);
        }
    }

    fn tick(&mut self) {
        self.now += 1;
        if self.process.attempt.is_none() {
            // Nobody steps: nothing happens before the next event or deadline.
            let event = self.events.first_key_value().map(|((at, _), _)| *at);
            let next = event.into_iter().chain(self.process.deadline()).min();
            self.now = self.now.max(next.expect("something is waited for"));
        }
        while let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let (process, event) = entry.remove();
            // What was on its way to a process that is gone, but requests, which people repeat.
            if process == self.processes || matches!(event, Event::Request(_) | Event::Signal) {
                self.handle(event);
                self.settle();
            }
        }
        if self.process.deadline().is_some_and(|deadline| deadline <= self.now) {
            self.coordinate(|coordinator, now| coordinator.handle_time(now));
            self.settle();
        }
        self.maybe_fail(Point::Anywhere);
        self.settle();
        if let Some(attempt) = &self.process.attempt
            && attempt.running
        {
            let subtasks = attempt.state.subtasks.len();
            for _ in 0..1 + subtasks / 3 {
                let subtask = self.random.below(subtasks as i64) as usize;
                self.step(subtask);
                if self.fault.is_some() {
                    break;
                }
            }
            self.settle();
        }
        assert!(
            self.now < self.last_trouble + PATIENCE_TICKS,
            "the job does not come to its end"
        );
    }

    /// Perhaps a failure strikes here.
    pub(crate) fn maybe_fail(&mut self, point: Point) {
        let (odds, one) = match point {
            Point::Anywhere => (3_000, 3),
            Point::Acknowledged | Point::Restoring => (60, 1),
            _ => (12, 1),
        };
        if self.troubles == 0 || self.fault.is_some() || self.random.below(odds) >= one {
            return;
        }
        let fault = if chance(&mut self.random, 50) {
            Fault::Subtask
        } else {
            Fault::Process
        };
        note!(self, "failure: {fault:?} at {point:?}");
        *self.met.faults.entry((point, fault)).or_default() += 1;
        self.trouble();
        self.fault = Some(fault);
    }

    /// Whether something smaller goes wrong.
    pub(crate) fn maybe_trouble(&mut self, percent: i64) -> bool {
        let strikes = self.troubles > 0 && chance(&mut self.random, percent);
        if strikes {
            self.trouble();
        }
        strikes
    }

    fn trouble(&mut self) {
        self.troubles -= 1;
        self.last_trouble = self.now;
    }

    /// Lets a failure take effect.
    pub(crate) fn settle(&mut self) {
        match self.fault.take() {
            None => {}
            Some(Fault::Subtask) => self.fail_attempt(),
            Some(Fault::Process) => self.crash(),
        }
    }

    /// The process is gone. What it was storing is durable or never will be.
    pub(crate) fn crash(&mut self) {
        let events = std::mem::take(&mut self.events);
        for (key, (process, event)) in events {
            match event {
                Event::Lands(id, stored, _, _) if process == self.processes && chance(&mut self.random, 50) => {
                    note!(self, "{id} becomes durable after the crash");
                    self.storage.insert(id, *stored);
                }
                Event::Request(_) | Event::Signal => _ = self.events.insert(key, (process, event)),
                _ => {}
            }
        }
        self.start_process();
    }

    /// A new process finds out what there is.
    pub(crate) fn start_process(&mut self) {
        self.processes += 1;
        let latest = self.storage.iter().rev().find(|(_, stored)| stored.kind.commits());
        let latest = latest.map(|(id, stored)| (*id, stored.kind));
        self.process = Process::new(&self.job, self.processes, latest, &self.storage);
        note!(self, "process {} begins after {latest:?}", self.processes);
        self.after(50, Event::Restart);
    }

    fn check_end(&mut self) {
        assert_eq!(self.outside.prepared(), 0, "something prepared is left behind");
        for (task, expect) in self.job.results().into_iter().enumerate() {
            let got = self.outside.visible(task);
            match self.job.config.mode {
                CheckpointMode::ExactlyOnce if self.drained => {
                    assert_eq!(joined(&got), joined(&expect), "results of task {task}, joined");
                }
                CheckpointMode::ExactlyOnce => assert_eq!(got, expect, "results of task {task}"),
                CheckpointMode::AtLeastOnce => at_least(&got, &expect),
            }
        }
        note!(self, "end");
    }
}

/// Results of the same key and time, put together.
fn joined(rows: &[crate::job::Row]) -> BTreeMap<(u64, i64), (u64, i64)> {
    let mut sums: BTreeMap<(u64, i64), (u64, i64)> = BTreeMap::new();
    for row in rows {
        let sum = sums.entry((row.key, row.time)).or_default();
        *sum = (sum.0 + row.count, sum.1 + row.value);
    }
    sums
}

/// Every expected result is there, perhaps in parts, and nothing else: of each window at least as many rows, of rows
/// that went through at least one.
fn at_least(got: &[crate::job::Row], expect: &[crate::job::Row]) {
    let count = |rows: &[crate::job::Row]| {
        let mut counts: BTreeMap<(u64, i64), u64> = BTreeMap::new();
        rows.iter()
            .for_each(|row| *counts.entry((row.key, row.time)).or_default() += row.count);
        counts
    };
    let (got, expect) = (count(got), count(expect));
    assert!(
        got.keys().eq(expect.keys()),
        "results that nothing accounts for, or missing ones"
    );
    for (of, rows) in expect {
        assert!(got[&of] >= rows, "of {of:?} there are {} of {rows}", got[&of]);
    }
}
