//! Goal: whatever fails when, the outside gets each row of a completed checkpoint once, in order, and no other.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array};

use super::super::{Applied, recover};
use super::*;

/// A system that takes rows and marks together, as long as it is there.
#[derive(Default)]
struct Outside {
    rows: Vec<i64>,
    marks: BTreeMap<(u32, u64), u64>,
    /// Calls until one fails, and whether what it was told to do is done all the same.
    fails: Option<(u32, bool)>,
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Outside>>);

impl Target for Shared {
    fn apply(&mut self, mark: Mark, rows: &RecordBatch) -> Result<Applied> {
        let mut outside = self.0.lock().unwrap();
        let lost = || Error::external("IO0142", "lost");
        let answer_lost = match &mut outside.fails {
            Some((0, done)) => {
                let done = *done;
                outside.fails = None;
                if !done {
                    return Err(lost());
                }
                true
            }
            Some((calls, _)) => {
                *calls -= 1;
                false
            }
            None => false,
        };
        let known = outside.marks.get(&(mark.subtask, mark.log)).copied().unwrap_or(0);
        if known >= mark.number {
            return Ok(Applied::Before);
        }
        assert_eq!(known + 1, mark.number, "entries come in order");
        outside.marks.insert((mark.subtask, mark.log), mark.number);
        outside.rows.extend(rows.column(0).as_primitive::<Int64Type>().values());
        if answer_lost { Err(lost()) } else { Ok(Applied::Now) }
    }

    fn forget_others(&mut self, last: &[Mark]) -> Result<()> {
        let mut outside = self.0.lock().unwrap();
        let kept = |subtask: u32, log: u64| {
            let mut of_subtask = last.iter().filter(|mark| mark.subtask == subtask).peekable();
            of_subtask.peek().is_none() || of_subtask.any(|mark| mark.log == log)
        };
        outside.marks.retain(|(subtask, log), _| kept(*subtask, *log));
        Ok(())
    }
}

fn batch(range: std::ops::Range<i64>) -> RecordBatch {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(range));
    RecordBatch::try_from_iter([("n", column)]).unwrap()
}

fn writer(outside: &Shared, subtask: u32) -> LogWriter<Shared> {
    let limits = Limits {
        rows_per_entry: 10,
        bytes_max: 64 << 10,
        otherwise: "make more room",
    };
    LogWriter::new(outside.clone(), subtask, limits, Arc::default())
}

fn write(writer: &mut LogWriter<Shared>, range: std::ops::Range<i64>) {
    writer.write(&batch(range), Duration::ZERO).unwrap();
}

fn rows(outside: &Shared) -> Vec<i64> {
    outside.0.lock().unwrap().rows.clone()
}

#[test]
fn rows_leave_with_their_checkpoint_in_bounded_entries() {
    let outside = Shared::default();
    let mut writer = writer(&outside, 0);
    assert_eq!(writer.pre_commit().unwrap(), []);
    write(&mut writer, 0..3);
    write(&mut writer, 3..25);
    let one = writer.pre_commit().unwrap();
    assert_eq!(one.len(), 3);
    write(&mut writer, 25..30);
    let two = writer.pre_commit().unwrap();
    assert!(rows(&outside).is_empty());
    // The first checkpoint came to nothing, the second holds both.
    writer.commit(&[one.clone(), two.clone()].concat()).unwrap();
    writer.commit(&[one, two].concat()).unwrap();
    assert_eq!(rows(&outside), (0..30).collect::<Vec<_>>());
    assert_eq!((writer.waiting_bytes, writer.rows.load(Ordering::Relaxed)), (0, 30));
}

#[test]
fn a_commit_that_fails_at_any_entry_is_repeated() {
    for at in 0..3 {
        for done in [false, true] {
            let outside = Shared::default();
            let mut first = writer(&outside, 0);
            write(&mut first, 0..30);
            let prepared = first.pre_commit().unwrap();
            outside.0.lock().unwrap().fails = Some((at, done));
            first.commit(&prepared).unwrap_err();
            // By the same writer, by recovery, and once more.
            if at == 1 {
                first.commit(&prepared).unwrap();
            }
            recover(&mut outside.clone(), &prepared).unwrap();
            recover(&mut outside.clone(), &prepared).unwrap();
            assert_eq!(rows(&outside), (0..30).collect::<Vec<_>>(), "{at} {done}");
        }
    }
}

#[test]
fn what_no_checkpoint_holds_is_forgotten() {
    let outside = Shared::default();
    let mut first = writer(&outside, 0);
    write(&mut first, 0..10);
    let held = first.pre_commit().unwrap();
    write(&mut first, 10..20);
    let stale = first.pre_commit().unwrap();
    first.abort(&stale).unwrap();
    drop(first);
    recover(&mut outside.clone(), &held).unwrap();
    // The same rows again, in a log of its own though the numbers are the same.
    let mut second = writer(&outside, 0);
    write(&mut second, 10..15);
    let again = second.pre_commit().unwrap();
    second.commit(&again).unwrap();
    assert_eq!(rows(&outside), (0..15).collect::<Vec<_>>());
    recover(&mut outside.clone(), &again).unwrap();
    assert_eq!(outside.0.lock().unwrap().marks.len(), 1);
}

#[test]
fn too_much_is_refused_by_name() {
    let outside = Shared::default();
    let mut writer = writer(&outside, 0);
    let written = (0..1_000_000).step_by(1_000).try_for_each(|start| {
        // Numbers that do not compress.
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(
            (start..start + 1_000).map(|n: i64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as i64)),
        ));
        writer.write(&RecordBatch::try_from_iter([("n", column)]).unwrap(), Duration::ZERO)
    });
    let error = written.unwrap_err();
    assert_eq!(error.code(), "CN0144");
    for part in ["65536", "--checkpoint-interval", "more room"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    assert!(writer.waiting_bytes <= 64 << 10);
}
