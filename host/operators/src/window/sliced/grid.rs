//! The arithmetic of tumbling and sliding windows.
//!
//! Time is cut into slices of gcd(size, slide). Window w is [w * slide + offset, + size) and consists of
//! size / gcd slices; a slice is in every window that covers it, or in none where slide > size. Numbers are
//! computed in 128 bits and bounds are clamped, so that no event time can overflow.

use std::ops::{Range, RangeInclusive};

use millrace_core::block::Millis;

/// Slices and windows by number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grid {
    slice_ms: i64,
    size_ms: i64,
    slide_ms: i64,
    offset_ms: i64,
}

impl Grid {
    /// `size_ms` and `slide_ms` are positive.
    pub(crate) fn new(size_ms: i64, slide_ms: i64, offset_ms: i64) -> Self {
        let (mut slice_ms, mut rest) = (size_ms, slide_ms);
        while rest != 0 {
            (slice_ms, rest) = (rest, slice_ms % rest);
        }
        Grid {
            slice_ms,
            size_ms,
            slide_ms,
            offset_ms,
        }
    }

    /// Whether each window is one slice.
    pub(crate) fn tumbling(&self) -> bool {
        self.slice_ms == self.size_ms
    }

    /// Whether there are times that belong to no window.
    pub(crate) fn has_gaps(&self) -> bool {
        self.slide_ms > self.size_ms
    }

    /// Whether this time belongs to no window.
    pub(crate) fn in_gap(&self, time: Millis) -> bool {
        (i128::from(time) - i128::from(self.offset_ms)).rem_euclid(self.slide_ms.into()) >= self.size_ms.into()
    }

    /// The slice of a time.
    pub(crate) fn slice_of(&self, time: Millis) -> i64 {
        clamp((i128::from(time) - i128::from(self.offset_ms)).div_euclid(self.slice_ms.into()))
    }

    /// First and last ms of a slice.
    pub(crate) fn slice_bounds(&self, slice: i64) -> (Millis, Millis) {
        let start = i128::from(slice) * i128::from(self.slice_ms) + i128::from(self.offset_ms);
        (clamp(start), clamp(start + i128::from(self.slice_ms) - 1))
    }

    /// The windows that a slice is in.
    pub(crate) fn windows_of(&self, slice: i64) -> RangeInclusive<i64> {
        let per_slide = i128::from(self.slide_ms / self.slice_ms);
        let per_size = i128::from(self.size_ms / self.slice_ms);
        let last = i128::from(slice).div_euclid(per_slide);
        let first = (i128::from(slice) - per_size).div_euclid(per_slide) + 1;
        clamp(first)..=clamp(last)
    }

    /// The slices of a window.
    pub(crate) fn slices_of(&self, window: i64) -> Range<i64> {
        let first = i128::from(window) * i128::from(self.slide_ms / self.slice_ms);
        clamp(first)..clamp(first + i128::from(self.size_ms / self.slice_ms))
    }

    /// Start and end of a window.
    pub(crate) fn window(&self, window: i64) -> Range<Millis> {
        let start = i128::from(window) * i128::from(self.slide_ms) + i128::from(self.offset_ms);
        clamp(start)..clamp(start + i128::from(self.size_ms))
    }

    /// Last ms of a window.
    pub(crate) fn window_last(&self, window: i64) -> Millis {
        self.window(window).end.saturating_sub(1)
    }

    /// The first window whose last ms is after `time`; `None`: there is none.
    pub(crate) fn first_window_after(&self, time: Millis) -> Option<i64> {
        // last(w) = w * slide + offset + size - 1 > time
        let passed = i128::from(time) - i128::from(self.offset_ms) - i128::from(self.size_ms) + 1;
        let window = passed.div_euclid(self.slide_ms.into()) + 1;
        (time < Millis::MAX).then(|| clamp(window))
    }
}

fn clamp(value: i128) -> i64 {
    value.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_and_windows_agree_with_their_definition() {
        for (size, slide, offset) in [
            (10, 10, 0),
            (10, 10, 3),
            (60, 5, 0),
            (10, 4, -7),
            (7, 3, 1),
            (3, 10, 2),
            (5, 1, 0),
        ] {
            let grid = Grid::new(size, slide, offset);
            for time in -100..100 {
                let expect = (-200..200).filter(|w| (w * slide + offset..w * slide + offset + size).contains(&time));
                let slice = grid.slice_of(time);
                let case = format!("{size}/{slide}+{offset} at {time}");
                assert_eq!(
                    grid.windows_of(slice).collect::<Vec<_>>(),
                    expect.clone().collect::<Vec<_>>(),
                    "{case}"
                );
                assert_eq!(grid.in_gap(time), expect.clone().next().is_none(), "{case}");
                let (first, last) = grid.slice_bounds(slice);
                assert!((first..=last).contains(&time), "{case}");
                for window in expect {
                    assert!(grid.slices_of(window).contains(&slice), "{case}");
                    assert!(grid.window(window).contains(&time), "{case}");
                }
                let after = grid.first_window_after(time).unwrap();
                assert!(
                    grid.window_last(after) > time && grid.window_last(after - 1) <= time,
                    "{case}"
                );
            }
        }
    }

    #[test]
    fn the_ends_of_time_do_not_overflow() {
        for (size, slide, offset) in [(1, 1, 0), (i64::MAX, 1, -5), (i64::MAX, i64::MAX, 7), (10, 3, i64::MIN)] {
            let grid = Grid::new(size, slide, offset);
            for time in [i64::MIN, i64::MIN + 1, 0, i64::MAX - 1, i64::MAX] {
                let (first, last) = grid.slice_bounds(grid.slice_of(time));
                assert!(first <= last);
                assert!(grid.window(*grid.windows_of(grid.slice_of(time)).end()).start <= time);
                grid.first_window_after(time);
            }
        }
    }
}
