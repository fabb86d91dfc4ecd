//! Gives a job and a model of it the same random rows, watermarks and time, and compares what comes of each step.
//!
//! Rows come in blocks of several sizes, out of order, most of them within the bound that the watermark allows for. Now and
//! then the job goes on from a snapshot, at another parallelism. Every other seed has blocks of one row, which subtasks are
//! given in an order drawn from the seed.

use std::fmt::Debug;
use std::rc::Rc;

use millrace::prelude::*;
use millrace::testing::{Job, Options};

use crate::random::Random;

/// A row of a source.
#[derive(Record, Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timed {
    pub(crate) key: i64,
    pub(crate) value: i64,
    /// Event time in ms.
    pub(crate) time: i64,
    /// Its number, among all rows.
    pub(crate) id: i64,
    /// A watermark that it says.
    pub(crate) mark: Option<i64>,
}

/// A result: five numbers that mean what the test says.
pub(crate) type Line = (i64, i64, i64, i64, i64);

/// What came of a step: results and, where there is a sink for them, late rows, with their event times.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Came {
    pub(crate) out: Vec<(i64, Line)>,
    pub(crate) late: Vec<(i64, Timed)>,
}

impl Came {
    fn sort(&mut self) {
        self.out.sort_unstable();
        self.late.sort_unstable();
    }
}

/// What a construct is to do, said naively.
pub(crate) trait Model {
    /// A row came from a source.
    fn row(&mut self, source: usize, row: &Timed, came: &mut Came);

    /// That was the last row of a block.
    fn end_block(&mut self, came: &mut Came) {
        let _ = came;
    }

    /// Event time has come so far, in all sources; a restarted job says again where it is. At the end of the input this is
    /// `i64::MAX`.
    fn watermark(&mut self, watermark: i64, came: &mut Came) {
        let _ = (watermark, came);
    }

    /// The clock has come so far.
    fn clock(&mut self, now: i64, came: &mut Came) {
        let _ = (now, came);
    }

    /// The watermark that follows a block of a source.
    fn said(&mut self, rows: &[Timed]) -> Option<i64> {
        rows.iter().map(|row| row.time - BOUND_MS - 1).max()
    }

    /// The job has failed and goes on.
    fn restarted(&mut self) {}

    /// Compares what a test can see of the job beside its rows.
    fn inspect(&self, job: &mut Job, told: &str) {
        let _ = (job, told);
    }
}

/// How far rows may be out of order.
pub(crate) const BOUND_MS: i64 = 5;

/// Names of sources.
pub(crate) const SOURCES: [&str; 2] = ["first", "second"];

const ROUNDS: usize = 70;

pub(crate) fn ms(ms: i64) -> Duration {
    Duration::from_millis(ms as u64)
}

/// Rows of a source, without event time.
pub(crate) fn untimed(flow: &Flow, source: usize) -> Stream<Rows<Timed>> {
    flow.source(SOURCES[source], Files::csv::<Timed>("rows.csv"))
}

/// Rows of a source, with a watermark that stays [`BOUND_MS`] behind.
pub(crate) fn timed(flow: &Flow, source: usize) -> Stream<Rows<Timed>> {
    untimed(flow, source).watermarks(Watermarks::bounded(Timed::FIELDS.time, ms(BOUND_MS)))
}

/// What there is to be driven: sinks are named `out` and `late`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Drive {
    pub(crate) sources: usize,
    /// Splits of each source.
    pub(crate) splits: usize,
    /// Watermarks can be given: they are made behind the source itself.
    pub(crate) raises: bool,
    pub(crate) has_late: bool,
}

impl Drive {
    /// One source with event time, and no sink of late rows.
    pub(crate) const ONE: Drive = Drive {
        sources: 1,
        splits: 1,
        raises: true,
        has_late: false,
    };
}

/// Runs a pipeline beside its model to the end; results and late rows.
fn drive(drive: Drive, seed: u64, build: impl Fn(&Flow) + 'static, model: &mut dyn Model) -> (usize, usize) {
    let mut run = Run::new(drive, seed, Rc::new(build));
    let (mut out, mut late) = (0, 0);
    for round in 0..=ROUNDS {
        let mut expected = Came::default();
        let done = match round {
            ROUNDS => run.finish(model, &mut expected),
            _ => run.step(model, &mut expected),
        };
        let got = run.came();
        expected.sort();
        let told = format!("seed {seed}, round {round}, {} subtasks: {done}", run.parallelism);
        assert_eq!(got, expected, "{told}");
        model.inspect(&mut run.job, &told);
        out += got.out.len();
        late += got.late.len();
    }
    (out, late)
}

/// Runs pipelines beside their models, one for each of the seeds; results and late rows of all.
pub(crate) fn drive_seeds<M: Model>(
    with: Drive,
    seeds: std::ops::Range<u64>,
    build: impl Fn(&Flow) + Clone + 'static,
    model: impl Fn() -> M,
) -> (usize, usize) {
    let driven = seeds.map(|seed| drive(with, seed, build.clone(), &mut model()));
    driven.fold((0, 0), |(out, late), driven| (out + driven.0, late + driven.1))
}

/// A job on its way.
struct Run {
    drive: Drive,
    random: Random,
    build: Rc<dyn Fn(&Flow)>,
    /// Blocks are of one row, and this is the job's seed.
    seed: Option<u64>,
    job: Job,
    /// Rows so far.
    rows: i64,
    /// Where event time is, about.
    time: i64,
    now: i64,
    parallelism: usize,
    /// Of each split of each source: its watermark, and what the job was told of it since it began.
    watermarks: Vec<(i64, i64)>,
    /// The least of all.
    announced: i64,
}

impl Run {
    fn new(drive: Drive, seed: u64, build: Rc<dyn Fn(&Flow)>) -> Self {
        let single = (seed % 2 == 1).then_some(seed);
        let parallelism = 1 + seed as usize % 3;
        let job = options(drive, parallelism, single).start(of(&build));
        Run {
            drive,
            random: Random::new(seed),
            build,
            seed: single,
            job,
            rows: 0,
            time: 0,
            now: 0,
            parallelism,
            watermarks: vec![(i64::MIN, i64::MIN); drive.sources * drive.splits],
            announced: i64::MIN,
        }
    }

    /// Something happens; says what.
    fn step(&mut self, model: &mut dyn Model, came: &mut Came) -> String {
        match self.random.below(10) {
            0 => self.restart(model),
            1 => self.advance(model, came),
            2 if self.drive.raises => self.raise(model, came),
            _ => self.block(model, came),
        }
    }

    fn row(&mut self) -> Timed {
        let random = &mut self.random;
        self.time += random.below(4);
        let behind = match random.below(8) {
            0 => random.below(60),
            _ => random.below(BOUND_MS + 1),
        };
        let time = self.time - behind;
        self.rows += 1;
        Timed {
            key: random.below(4),
            value: random.below(100),
            time,
            id: self.rows,
            mark: (random.below(4) == 0).then(|| time - random.below(20)),
        }
    }

    fn block(&mut self, model: &mut dyn Model, came: &mut Came) -> String {
        let source = self.random.below(self.drive.sources as i64) as usize;
        let split = self.random.below(self.drive.splits as i64) as usize;
        let count = self.seed.map_or_else(|| self.random.below(6) + 1, |_| 1);
        let rows: Vec<Timed> = (0..count).map(|_| self.row()).collect();
        self.job.push_split(SOURCES[source], split, rows.clone());
        rows.iter().for_each(|row| model.row(source, row, came));
        model.end_block(came);
        if let Some(said) = model.said(&rows) {
            let watermark = &mut self.watermarks[source * self.drive.splits + split].0;
            *watermark = said.max(*watermark);
        }
        self.announce(source, split, model, came);
        format!("{rows:?} of source {source}, split {split}")
    }

    fn raise(&mut self, model: &mut dyn Model, came: &mut Came) -> String {
        let source = self.random.below(self.drive.sources as i64) as usize;
        let watermark = self.time - self.random.below(8);
        self.job.watermark(SOURCES[source], watermark);
        self.raise_all(source, watermark, model, came);
        format!("watermark {watermark} of source {source}")
    }

    fn raise_all(&mut self, source: usize, watermark: i64, model: &mut dyn Model, came: &mut Came) {
        for split in 0..self.drive.splits {
            let of_split = &mut self.watermarks[source * self.drive.splits + split].0;
            *of_split = watermark.max(*of_split);
        }
        for split in 0..self.drive.splits {
            self.announce(source, split, model, came);
        }
    }

    /// The job hears of the watermarks of a split, and of others that the same subtask reads.
    fn announce(&mut self, source: usize, split: usize, model: &mut dyn Model, came: &mut Came) {
        for other in (0..self.drive.splits).filter(|other| other % self.parallelism == split % self.parallelism) {
            let watermark = &mut self.watermarks[source * self.drive.splits + other];
            watermark.1 = watermark.0;
        }
        let least = self.watermarks.iter().map(|watermark| watermark.1).min();
        let least = least.expect("there is a source");
        if least > self.announced {
            self.announced = least;
            model.watermark(least, came);
        }
    }

    fn advance(&mut self, model: &mut dyn Model, came: &mut Came) -> String {
        let by = self.random.below(15) + 1;
        self.now += by;
        self.job.advance_processing_time(ms(by));
        model.clock(self.now, came);
        format!("{by} ms passed, it is {}", self.now)
    }

    fn restart(&mut self, model: &mut dyn Model) -> String {
        self.parallelism = self.random.below(4) as usize + 1;
        let snapshot = self.job.snapshot();
        self.job = options(self.drive, self.parallelism, self.seed).restore(&snapshot, of(&self.build));
        self.watermarks.iter_mut().for_each(|watermark| watermark.1 = i64::MIN);
        self.announced = i64::MIN;
        model.restarted();
        format!("a restart with {} subtasks", self.parallelism)
    }

    fn finish(&mut self, model: &mut dyn Model, came: &mut Came) -> String {
        for (source, name) in SOURCES.iter().enumerate().take(self.drive.sources) {
            self.job.end(name);
            // It arrives before the next source ends.
            self.job.rows::<Line>("out");
            self.raise_all(source, i64::MAX, model, came);
        }
        "the end".to_owned()
    }

    fn came(&mut self) -> Came {
        let mut came = Came {
            out: taken(&mut self.job, "out"),
            late: match self.drive.has_late {
                true => taken(&mut self.job, "late"),
                false => Vec::new(),
            },
        };
        came.sort();
        came
    }
}

fn options(drive: Drive, parallelism: usize, seed: Option<u64>) -> Options {
    let options = SOURCES[..drive.sources]
        .iter()
        .fold(Options::new(), |options, source| options.splits(source, drive.splits));
    let options = options.parallelism(parallelism as u32);
    match seed {
        Some(seed) => options.seed(seed),
        None => options,
    }
}

fn of(build: &Rc<dyn Fn(&Flow)>) -> impl Fn(&Flow) + 'static {
    let build = Rc::clone(build);
    move |flow: &Flow| build(flow)
}

/// Rows of a sink since the last time, with their event times.
fn taken<T: Record + Owned + Debug>(job: &mut Job, sink: &str) -> Vec<(i64, T)> {
    let rows = job.timed_rows::<T>(sink).into_iter();
    let rows = rows.map(|(time, row)| (time.map_or(i64::MIN, Timestamp::millis), row));
    let rows = rows.collect();
    job.take::<T>(sink);
    rows
}
