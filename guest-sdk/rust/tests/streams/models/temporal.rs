//! Temporal joins, whose late rows go to a side output: each row with the version that is valid at its time.

use millrace::prelude::*;

use super::drive::{Came, Drive, Line, Model, Timed, drive_seeds, timed};

static LATE: OutputTag<Timed> = OutputTag::new("late");

/// All versions that came, and the rows that wait for the watermark.
struct Temporal {
    waiting: Vec<Timed>,
    versions: Vec<Timed>,
    watermark: i64,
    /// Rows without a version are put out too.
    left: bool,
}

impl Temporal {
    fn new(left: bool) -> Self {
        Temporal {
            waiting: Vec::new(),
            versions: Vec::new(),
            watermark: i64::MIN,
            left,
        }
    }

    /// The latest version that is not later than the row; of those of one time that which came last.
    fn version(&self, row: &Timed) -> Option<&Timed> {
        let versions = self.versions.iter();
        let valid = versions.filter(|version| version.key == row.key && version.time <= row.time);
        valid.max_by_key(|version| (version.time, version.id))
    }
}

fn line(row: &Timed, version: Option<&Timed>) -> Line {
    let version = version.map_or((-1, -1), |version| (version.id, version.value));
    (row.key, row.id, row.value, version.0, version.1)
}

impl Model for Temporal {
    fn row(&mut self, source: usize, row: &Timed, came: &mut Came) {
        match source {
            0 if row.time <= self.watermark => came.late.push((row.time, row.clone())),
            0 => self.waiting.push(row.clone()),
            _ => self.versions.push(row.clone()),
        }
    }

    fn watermark(&mut self, watermark: i64, came: &mut Came) {
        self.watermark = watermark;
        let waiting = std::mem::take(&mut self.waiting);
        let (due, waiting) = waiting.into_iter().partition(|row| row.time <= watermark);
        self.waiting = waiting;
        let due: Vec<Timed> = due;
        for row in due {
            let version = self.version(&row);
            if version.is_some() || self.left {
                came.out.push((row.time, line(&row, version)));
            }
        }
    }
}

const TWO: Drive = Drive {
    sources: 2,
    has_late: true,
    ..Drive::ONE
};

fn keyed(flow: &Flow) -> (KeyedStream<Timed, i64>, KeyedStream<Timed, i64>) {
    let key = || Timed::FIELDS.key;
    (timed(flow, 0).key_by(key()), timed(flow, 1).key_by(key()))
}

#[test]
fn rows_have_the_version_that_is_valid_and_late_ones_go_aside() {
    let inner = |flow: &Flow| {
        let (rows, versions) = keyed(flow);
        let joined = rows.temporal_join(versions).late_output(&LATE);
        let joined = joined.apply(|row, version| line(row, Some(version)));
        joined.side_output(&LATE).sink("late", Discard::new());
        joined.sink("out", Discard::new());
    };
    let left = |flow: &Flow| {
        let (rows, versions) = keyed(flow);
        let joined = rows.left_temporal_join(versions).late_output(&LATE);
        let joined = joined.apply(line);
        joined.side_output(&LATE).sink("late", Discard::new());
        joined.sink("out", Discard::new());
    };
    let (paired, late) = drive_seeds(TWO, 0..30, inner, || Temporal::new(false));
    assert!(paired > 500 && late > 50, "{paired} rows, {late} late ones");
    let (all, late_of_left) = drive_seeds(TWO, 0..30, left, || Temporal::new(true));
    assert!(
        all > paired && late_of_left == late,
        "{all} rows, {late_of_left} late ones"
    );
}

/// Without a side output late rows are in no result.
#[test]
fn late_rows_that_nobody_takes_are_dropped() {
    struct Dropping(Temporal);
    impl Model for Dropping {
        fn row(&mut self, source: usize, row: &Timed, came: &mut Came) {
            self.0.row(source, row, came);
            came.late.clear();
        }

        fn watermark(&mut self, watermark: i64, came: &mut Came) {
            self.0.watermark(watermark, came);
        }
    }
    let build = |flow: &Flow| {
        let (rows, versions) = keyed(flow);
        rows.left_temporal_join(versions)
            .apply(line)
            .sink("out", Discard::new());
    };
    let drive = Drive { has_late: false, ..TWO };
    let (out, _) = drive_seeds(drive, 0..10, build, || Dropping(Temporal::new(true)));
    assert!(out > 200, "{out} rows");
}
