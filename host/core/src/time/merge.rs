//! One watermark out of those of several inputs.
//!
//! The merged watermark is the least of the active inputs: an idle input holds nothing back, an ended one
//! stands at [`WATERMARK_MAX`]. It never goes back: an input that wakes up behind it holds it where it is
//! until that input has caught up.

use crate::block::{Millis, WATERMARK_MAX, WATERMARK_MIN};

/// A change of the merged stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The watermark advanced.
    Watermark(Millis),
    /// All inputs are idle. A block or a watermark ends it.
    Idle,
}

/// Merges the watermarks of n inputs, in the order in which their elements arrive.
///
/// ```
/// # use millrace_core::time::{Progress, WatermarkMerge};
/// let mut merge = WatermarkMerge::new(2);
/// assert_eq!(merge.handle_watermark(0, 10), None);
/// assert_eq!(merge.handle_watermark(1, 7), Some(Progress::Watermark(7)));
/// assert_eq!(merge.handle_idle(1), Some(Progress::Watermark(10)));
/// ```
#[derive(Debug, Clone)]
pub struct WatermarkMerge {
    inputs: Vec<Input>,
    watermark: Millis,
    idle: bool,
}

#[derive(Debug, Clone, Copy)]
struct Input {
    watermark: Millis,
    idle: bool,
}

impl WatermarkMerge {
    /// A merge of `count` active inputs.
    pub fn new(count: usize) -> Self {
        let input = Input {
            watermark: WATERMARK_MIN,
            idle: false,
        };
        WatermarkMerge {
            inputs: vec![input; count],
            watermark: WATERMARK_MIN,
            idle: false,
        }
    }

    /// One more input, which is active and at the beginning; its number.
    pub fn add(&mut self) -> usize {
        self.inputs.push(Input {
            watermark: WATERMARK_MIN,
            idle: false,
        });
        self.inputs.len() - 1
    }

    /// An input that is idle for ever becomes another one, which is active and at the beginning.
    pub fn replace(&mut self, input: usize) {
        self.inputs[input] = Input {
            watermark: WATERMARK_MIN,
            idle: false,
        };
    }

    /// A watermark arrived. It makes its input active.
    pub fn handle_watermark(&mut self, input: usize, watermark: Millis) -> Option<Progress> {
        let entry = &mut self.inputs[input];
        entry.idle = false;
        entry.watermark = entry.watermark.max(watermark);
        self.progress()
    }

    /// A block arrived: its input is active, even if it was idle. Cheap: to be called with each block.
    pub fn handle_block(&mut self, input: usize) {
        self.inputs[input].idle = false;
        self.idle = false;
    }

    /// An input became idle. An input that has ended stays ended.
    pub fn handle_idle(&mut self, input: usize) -> Option<Progress> {
        let entry = &mut self.inputs[input];
        entry.idle = entry.watermark != WATERMARK_MAX;
        self.progress()
    }

    /// An input ended.
    pub fn handle_end(&mut self, input: usize) -> Option<Progress> {
        self.handle_watermark(input, WATERMARK_MAX)
    }

    /// The merged watermark.
    pub fn watermark(&self) -> Millis {
        self.watermark
    }

    /// What an input last said: its watermark, and whether it is idle.
    pub fn input(&self, input: usize) -> (Millis, bool) {
        let Input { watermark, idle } = self.inputs[input];
        (watermark, idle)
    }

    /// Takes up where a merge left off whose inputs had said this ([`input`](Self::input)). What follows from it was
    /// announced then.
    pub fn restore(&mut self, inputs: impl IntoIterator<Item = (usize, Millis, bool)>) {
        for (input, watermark, idle) in inputs {
            let _ = self.handle_watermark(input, watermark);
            if idle {
                let _ = self.handle_idle(input);
            }
        }
    }

    fn progress(&mut self) -> Option<Progress> {
        let active = self.inputs.iter().filter(|input| !input.idle);
        // Ended inputs beside idle ones are no reason to fire everything: what is idle may wake up.
        let waiting = self.inputs.iter().any(|input| input.idle);
        match active.map(|input| input.watermark).min() {
            None => self.fall_idle(),
            Some(WATERMARK_MAX) if waiting => self.fall_idle(),
            Some(least) => {
                self.idle = false;
                (least > self.watermark).then(|| {
                    self.watermark = least;
                    Progress::Watermark(least)
                })
            }
        }
    }

    fn fall_idle(&mut self) -> Option<Progress> {
        let before = std::mem::replace(&mut self.idle, true);
        (!before).then_some(Progress::Idle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    enum Event {
        Watermark(usize, Millis),
        Block(usize),
        Idle(usize),
        End(usize),
    }
    use Event::*;

    fn check(count: usize, events: Vec<(Event, Option<Progress>)>) {
        let mut merge = WatermarkMerge::new(count);
        for (step, (event, expect)) in events.into_iter().enumerate() {
            let got = match event {
                Watermark(input, watermark) => merge.handle_watermark(input, watermark),
                Idle(input) => merge.handle_idle(input),
                End(input) => merge.handle_end(input),
                Block(input) => {
                    merge.handle_block(input);
                    None
                }
            };
            assert_eq!(got, expect, "step {step}");
        }
    }

    fn at(watermark: Millis) -> Option<Progress> {
        Some(Progress::Watermark(watermark))
    }

    #[test]
    fn the_least_of_the_active_inputs() {
        check(
            1,
            vec![
                (Watermark(0, 5), at(5)),
                (Watermark(0, 3), None),
                (Watermark(0, 6), at(6)),
            ],
        );
        check(
            3,
            vec![
                (Watermark(0, 5), None),
                (Watermark(1, 3), None),
                (Watermark(2, 9), at(3)),
                (Watermark(1, 8), at(5)),
                (Watermark(0, 10), at(8)),
            ],
        );
    }

    #[test]
    fn inputs_come_later_and_take_the_places_of_others() {
        let mut merge = WatermarkMerge::new(0);
        assert_eq!((merge.add(), merge.add()), (0, 1));
        assert_eq!(merge.handle_watermark(0, 5), None);
        assert_eq!(merge.handle_watermark(1, 7), at(5));
        assert_eq!(merge.handle_idle(0), at(7));
        merge.replace(0);
        assert_eq!(merge.handle_watermark(1, 9), None);
        assert_eq!(merge.handle_watermark(0, 3), None);
        assert_eq!(merge.handle_watermark(0, 8), at(8));
    }

    #[test]
    fn idle_inputs_hold_nothing_back() {
        check(
            2,
            vec![
                (Watermark(0, 5), None),
                (Idle(1), at(5)),
                (Watermark(0, 8), at(8)),
                (Watermark(1, 6), None),
                (Watermark(0, 9), None),
                (Watermark(1, 20), at(9)),
            ],
        );
    }

    #[test]
    fn all_idle_is_idle_once_until_something_comes() {
        let idle = Some(Progress::Idle);
        check(
            2,
            vec![
                (Idle(0), None),
                (Idle(1), idle),
                (Idle(1), None),
                (Block(0), None),
                (Idle(0), idle),
                (Watermark(1, 4), at(4)),
                (Idle(1), idle),
            ],
        );
    }

    #[test]
    fn a_restored_merge_goes_on_where_the_other_was() {
        let mut merge = WatermarkMerge::new(3);
        let _ = (
            merge.handle_watermark(0, 5),
            merge.handle_watermark(1, 8),
            merge.handle_idle(2),
        );
        let said = (0..3).map(|input| (input, merge.input(input).0, merge.input(input).1));
        let said: Vec<_> = said.collect();
        assert_eq!(said, [(0, 5, false), (1, 8, false), (2, WATERMARK_MIN, true)]);
        let mut restored = WatermarkMerge::new(3);
        restored.restore(said);
        assert_eq!(restored.watermark(), 5);
        assert_eq!(restored.handle_watermark(0, 5), None);
        assert_eq!(restored.handle_watermark(0, 9), at(8));
    }

    #[test]
    fn ended_inputs_count_as_the_greatest_watermark() {
        let idle = Some(Progress::Idle);
        check(
            2,
            vec![(End(0), None), (Watermark(1, 4), at(4)), (End(1), at(WATERMARK_MAX))],
        );
        check(
            2,
            vec![
                (End(0), None),
                (Idle(1), idle),
                (Watermark(1, 4), at(4)),
                (End(1), at(WATERMARK_MAX)),
            ],
        );
        check(1, vec![(End(0), at(WATERMARK_MAX)), (Idle(0), None)]);
    }
}
