//! Watermark alignment: sources of a group do not run far ahead of each other.
//!
//! A split whose watermark is ahead of the least in its group by more than it may be is not read until the others have
//! caught up; meanwhile its rows wait where they are, and not as state of whoever joins them with those of the others.
//!
//! ```text
//!   group "orders"        least                 least + max drift
//!   split 0   ............|                     :
//!   split 1   .....................|            :          may read
//!   split 2   ...............................................|  waits
//! ```
//!
//! The one with the least watermark may always read, so somebody can. Who is idle or has ended holds nobody up. A source
//! that is planned and has not said yet which splits it has does, and so does a split that has given no row: what it will
//! give first is not known.

use std::collections::BTreeMap;

use crate::block::{Millis, WATERMARK_MIN};
use crate::graph::WatermarkAlignment;

/// A split in a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    group: String,
    index: usize,
    max_drift: Millis,
}

/// Who is how far, in all groups of a job.
///
/// All source subtasks are [expected](Self::expect) first. Each [joins](Self::join) once with all its splits, asks before it
/// reads one whether it [may](Self::may_read), and tells what becomes of it.
///
/// ```
/// # use millrace_core::time::Alignment;
/// # use millrace_core::graph::WatermarkAlignment;
/// let orders = WatermarkAlignment { group: "orders".into(), max_drift_ms: 10 };
/// let mut alignment = Alignment::default();
/// alignment.expect(&orders, 2);
/// let (first, second) = (alignment.join(&orders, 1), alignment.join(&orders, 1));
/// alignment.advance(&first[0], 100);
/// alignment.advance(&second[0], 111);
/// assert!(alignment.may_read(&first[0]) && !alignment.may_read(&second[0]));
/// ```
#[derive(Debug, Default)]
pub struct Alignment {
    groups: BTreeMap<String, Group>,
}

#[derive(Debug, Default)]
struct Group {
    /// Subtasks that have not joined.
    expected: u32,
    splits: Vec<Progress>,
}

impl Group {
    fn member(&self, alignment: &WatermarkAlignment, index: usize) -> Member {
        Member {
            group: alignment.group.clone(),
            index,
            max_drift: Millis::try_from(alignment.max_drift_ms).unwrap_or(Millis::MAX),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    At(Millis),
    Idle(Millis),
    Ended,
}

impl Alignment {
    /// So many source subtasks with this alignment will join.
    pub fn expect(&mut self, alignment: &WatermarkAlignment, subtasks: u32) {
        self.groups.entry(alignment.group.clone()).or_default().expected += subtasks;
    }

    /// A source subtask has so many splits, of which nothing was read yet.
    pub fn join(&mut self, alignment: &WatermarkAlignment, splits: usize) -> Vec<Member> {
        let group = self.groups.entry(alignment.group.clone()).or_default();
        assert!(group.expected > 0, "subtasks that join were expected");
        group.expected -= 1;
        let first = group.splits.len();
        group.splits.resize(first + splits, Progress::At(WATERMARK_MIN));
        (first..first + splits)
            .map(|index| group.member(alignment, index))
            .collect()
    }

    /// A split has turned up at a subtask that has joined.
    pub fn add(&mut self, alignment: &WatermarkAlignment) -> Member {
        let group = self.groups.entry(alignment.group.clone()).or_default();
        group.splits.push(Progress::At(WATERMARK_MIN));
        group.member(alignment, group.splits.len() - 1)
    }

    /// Another split has taken the place of one that has ended.
    pub fn begin(&mut self, member: &Member) {
        *self.progress(member) = Progress::At(WATERMARK_MIN);
    }

    /// A split has come to this watermark; it is not idle.
    pub fn advance(&mut self, member: &Member, watermark: Millis) {
        *self.progress(member) = Progress::At(watermark);
    }

    /// A split gives nothing for now.
    pub fn handle_idle(&mut self, member: &Member) {
        let progress = self.progress(member);
        if let Progress::At(watermark) = *progress {
            *progress = Progress::Idle(watermark);
        }
    }

    /// A split gives nothing any more.
    pub fn handle_end(&mut self, member: &Member) {
        *self.progress(member) = Progress::Ended;
    }

    /// Whether a split is not too far ahead.
    pub fn may_read(&self, member: &Member) -> bool {
        let Some(group) = self.groups.get(&member.group) else {
            return true;
        };
        // One that was idle is asked after when it wakes up.
        let (Progress::At(own) | Progress::Idle(own)) = group.splits[member.index] else {
            return true;
        };
        let active = group.splits.iter().filter_map(|split| match split {
            Progress::At(watermark) => Some(*watermark),
            Progress::Idle(_) | Progress::Ended => None,
        });
        let least = match group.expected {
            0 => active.min(),
            _ => Some(WATERMARK_MIN),
        };
        least.is_none_or(|least| own <= least.saturating_add(member.max_drift))
    }

    fn progress(&mut self, member: &Member) -> &mut Progress {
        let group = self.groups.get_mut(&member.group);
        &mut group.expect("members have joined their group").splits[member.index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(name: &str, max_drift_ms: u64) -> WatermarkAlignment {
        WatermarkAlignment {
            group: name.to_owned(),
            max_drift_ms,
        }
    }

    /// Three splits of two subtasks in one group.
    fn three(max_drift_ms: u64) -> (Alignment, Vec<Member>) {
        let (mut alignment, of) = (Alignment::default(), group("g", max_drift_ms));
        alignment.expect(&of, 2);
        let mut members = alignment.join(&of, 1);
        members.extend(alignment.join(&of, 2));
        (alignment, members)
    }

    fn who_may(alignment: &Alignment, members: &[Member]) -> Vec<bool> {
        members.iter().map(|member| alignment.may_read(member)).collect()
    }

    #[test]
    fn who_is_ahead_waits_for_the_others() {
        let (mut alignment, members) = three(10);
        assert_eq!(who_may(&alignment, &members), [true; 3], "each may give its first rows");
        alignment.advance(&members[0], 5);
        assert_eq!(who_may(&alignment, &members), [false, true, true]);
        alignment.advance(&members[1], -5);
        alignment.advance(&members[2], -6);
        assert_eq!(who_may(&alignment, &members), [false, true, true], "11 ahead");
        alignment.advance(&members[2], -5);
        assert_eq!(who_may(&alignment, &members), [true; 3], "10 ahead");
    }

    #[test]
    fn idle_and_ended_splits_hold_nobody_up() {
        let (mut alignment, members) = three(10);
        alignment.advance(&members[0], 100);
        alignment.handle_idle(&members[1]);
        assert_eq!(who_may(&alignment, &members), [false, true, true]);
        alignment.handle_end(&members[2]);
        assert_eq!(who_may(&alignment, &members), [true; 3]);
        alignment.advance(&members[1], 0);
        assert_eq!(who_may(&alignment, &members), [false, true, true], "it wakes up");
        alignment.handle_idle(&members[0]);
        alignment.handle_idle(&members[1]);
        assert_eq!(who_may(&alignment, &members), [true; 3], "all are idle");
    }

    #[test]
    fn sources_that_have_not_joined_hold_up_what_has_begun() {
        let (mut alignment, of) = (Alignment::default(), group("g", 10));
        alignment.expect(&of, 2);
        let first = alignment.join(&of, 1);
        assert!(alignment.may_read(&first[0]));
        alignment.advance(&first[0], 100);
        assert!(!alignment.may_read(&first[0]));
        assert_eq!(alignment.join(&of, 0), []);
        assert!(alignment.may_read(&first[0]), "the other has no splits");
    }

    #[test]
    fn groups_do_not_know_each_other_and_drifts_are_of_members() {
        let mut alignment = Alignment::default();
        let (narrow, wide, other) = (group("g", 10), group("g", 1_000), group("h", 0));
        for of in [&narrow, &wide, &other] {
            alignment.expect(of, 1);
        }
        let members = [&narrow, &wide, &other].map(|of| alignment.join(of, 1).remove(0));
        alignment.advance(&members[0], 0);
        alignment.advance(&members[1], 900);
        alignment.advance(&members[2], 1_000_000);
        assert_eq!(who_may(&alignment, &members), [true; 3]);
        alignment.advance(&members[1], 1_001);
        assert_eq!(who_may(&alignment, &members), [true, false, true]);
        alignment.advance(&members[0], Millis::MAX);
        assert_eq!(
            who_may(&alignment, &members),
            [false, true, true],
            "drifts past all times"
        );
    }

    /// Whatever happens in whatever order, somebody who can give rows may read.
    #[test]
    fn somebody_may_always_read() {
        let mut state = 7u64;
        let mut below = |bound: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % bound
        };
        for _ in 0..200 {
            let (mut alignment, members) = three(below(30));
            let mut at = [Some(WATERMARK_MIN); 3];
            for _ in 0..60 {
                let number = below(3) as usize;
                let Some(watermark) = at[number] else { continue };
                match below(12) {
                    0 => alignment.handle_idle(&members[number]),
                    1 => {
                        alignment.handle_end(&members[number]);
                        at[number] = None;
                    }
                    step => {
                        let next = watermark.max(0) + step as Millis;
                        alignment.advance(&members[number], next);
                        at[number] = Some(next);
                    }
                }
                let live = (0..3).filter(|split| at[*split].is_some());
                let mut may = live.clone().map(|split| alignment.may_read(&members[split]));
                assert!(live.count() == 0 || may.any(|may| may), "{alignment:?}");
            }
        }
    }
}
