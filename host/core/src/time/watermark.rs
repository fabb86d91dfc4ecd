//! Watermarks of one stream, with bounded out-of-orderness or as rows say, and its idleness.
//!
//! The watermark follows the greatest event time at a fixed distance: with 5 s of out-of-orderness and a
//! row at 12:00:10 seen, a row at 12:00:05 may still come, so the watermark is 12:00:04.999 (as in Flink).

use crate::block::{Millis, WATERMARK_MAX, WATERMARK_MIN};
use crate::graph::WatermarkStrategy;

/// Turns event times into watermarks.
///
/// Call [`handle_times`](Self::handle_times), or [`handle_watermark`](Self::handle_watermark), with each block and [`poll_idle`](Self::poll_idle) when
/// nothing comes. Both take the processing time, which must not go back.
///
/// ```
/// # use millrace_core::time::WatermarkGenerator;
/// let mut generator = WatermarkGenerator::new(10, None);
/// assert_eq!(generator.handle_times(&[100, 95, 120], 0), Some(109));
/// assert_eq!(generator.handle_times(&[111], 0), None);
/// ```
#[derive(Debug, Clone)]
pub struct WatermarkGenerator {
    out_of_orderness: Millis,
    idle_after: Option<Millis>,
    watermark: Millis,
    /// Processing time of the last row; of the first poll while no row has come.
    active_at: Option<Millis>,
    idle: bool,
}

impl WatermarkGenerator {
    /// `out_of_orderness_ms`: how far rows may come after a row with a later time. `idle_after_ms`: after
    /// how long without rows the stream is idle.
    pub fn new(out_of_orderness_ms: u64, idle_after_ms: Option<u64>) -> Self {
        let clamp = |ms: u64| Millis::try_from(ms).unwrap_or(Millis::MAX);
        WatermarkGenerator {
            out_of_orderness: clamp(out_of_orderness_ms),
            idle_after: idle_after_ms.map(clamp),
            watermark: WATERMARK_MIN,
            active_at: None,
            idle: false,
        }
    }

    /// As the graph declares it.
    pub fn from_strategy(strategy: &WatermarkStrategy) -> Self {
        Self::new(strategy.out_of_orderness_ms(), strategy.idle_after_ms)
    }

    /// Event times of a block. Returns the watermark that follows it, if it advanced.
    pub fn handle_times(&mut self, times: &[Millis], now: Millis) -> Option<Millis> {
        let latest = *times.iter().max()?;
        self.stay_active(now);
        self.advance(latest.saturating_sub(self.out_of_orderness).saturating_sub(1))
    }

    /// What rows of a block say of the watermark: the latest of it, if any does. Returns the watermark that follows the
    /// block, if it advanced.
    pub fn handle_watermark(&mut self, latest: Option<Millis>, now: Millis) -> Option<Millis> {
        self.stay_active(now);
        self.advance(latest?)
    }

    fn advance(&mut self, watermark: Millis) -> Option<Millis> {
        (watermark > self.watermark).then(|| {
            self.watermark = watermark;
            watermark
        })
    }

    /// The stream is not idle now, though maybe no row comes: it may be that nobody reads.
    pub fn stay_active(&mut self, now: Millis) {
        self.active_at = Some(now);
        self.idle = false;
    }

    /// The time of rows that are taken in now: that of the clock, as far as it does not go back behind what the watermark
    /// says.
    pub fn ingestion_time(&self, now: Millis) -> Millis {
        now.max(self.max_time().unwrap_or(now))
    }

    /// Whether the stream becomes idle now: true once, when no row came for the given time.
    pub fn poll_idle(&mut self, now: Millis) -> bool {
        let since = *self.active_at.get_or_insert(now);
        let Some(idle_after) = self.idle_after else {
            return false;
        };
        if self.idle || now.saturating_sub(since) < idle_after {
            return false;
        }
        self.idle = true;
        true
    }

    /// When [`poll_idle`](Self::poll_idle) can next return true; `None`: not before a row comes.
    pub fn next_idle(&self) -> Option<Millis> {
        match (self.idle, self.active_at, self.idle_after) {
            (false, Some(since), Some(idle_after)) => Some(since.saturating_add(idle_after)),
            _ => None,
        }
    }

    /// The stream ended: everything fires.
    pub fn handle_end(&mut self) -> Millis {
        self.watermark = WATERMARK_MAX;
        self.idle = false;
        WATERMARK_MAX
    }

    /// Latest event time met, as far as it moved the watermark; `None`: no row has come, or none is to come.
    pub fn max_time(&self) -> Option<Millis> {
        let time = self.watermark.saturating_add(1).saturating_add(self.out_of_orderness);
        let says_nothing = [WATERMARK_MIN, WATERMARK_MAX].contains(&self.watermark);
        (!says_nothing).then_some(time)
    }

    /// Takes up where a generator left off that had met this time.
    pub fn restore(&mut self, max_time: Millis) {
        self.watermark = max_time.saturating_sub(self.out_of_orderness).saturating_sub(1);
    }

    /// The last watermark given.
    pub fn watermark(&self) -> Millis {
        self.watermark
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watermarks_that_rows_say_never_go_back() {
        let mut generator = WatermarkGenerator::new(0, Some(10));
        assert_eq!(generator.handle_watermark(None, 0), None);
        assert_eq!(generator.handle_watermark(Some(7), 5), Some(7));
        assert_eq!(generator.handle_watermark(Some(6), 6), None);
        let mut restored = WatermarkGenerator::new(0, None);
        restored.restore(generator.max_time().expect("a row has come"));
        assert_eq!(restored.watermark(), 7);
        assert!(!generator.poll_idle(15) && generator.poll_idle(16));
        generator.stay_active(16);
        assert!(!generator.poll_idle(25) && generator.poll_idle(26));
    }

    #[test]
    fn a_clock_that_goes_back_does_not_make_late_rows() {
        let mut generator = WatermarkGenerator::new(0, None);
        assert_eq!(generator.ingestion_time(50), 50);
        assert_eq!(generator.handle_times(&[50], 50), Some(49));
        assert_eq!((generator.ingestion_time(40), generator.ingestion_time(51)), (50, 51));
    }

    #[test]
    fn watermarks_follow_the_latest_row_and_never_go_back() {
        for (out_of_orderness, blocks) in [
            (0, vec![(vec![5], Some(4)), (vec![5, 4], None), (vec![6], Some(5))]),
            (10, vec![(vec![5], Some(-6)), (vec![], None), (vec![4, 7, 6], Some(-4))]),
            (0, vec![(vec![i64::MIN], None), (vec![i64::MAX], Some(i64::MAX - 1))]),
            (
                u64::MAX,
                vec![(vec![0], Some(i64::MIN)), (vec![5], Some(5 - i64::MAX - 1))],
            ),
        ] {
            let mut generator = WatermarkGenerator::new(out_of_orderness, None);
            for (times, expect) in blocks {
                let expect = expect.filter(|&watermark| watermark > WATERMARK_MIN);
                assert_eq!(
                    generator.handle_times(&times, 0),
                    expect,
                    "{out_of_orderness} {times:?}"
                );
            }
        }
    }

    #[test]
    fn idleness_counts_from_the_last_row_or_the_first_poll() {
        let mut generator = WatermarkGenerator::new(0, Some(100));
        assert_eq!(generator.next_idle(), None);
        assert!(!generator.poll_idle(1000));
        assert_eq!(generator.next_idle(), Some(1100));
        generator.handle_times(&[1], 1050);
        assert!(!generator.poll_idle(1149));
        assert!(generator.poll_idle(1150));
        assert!(!generator.poll_idle(2000), "reported once");
        assert_eq!(generator.next_idle(), None);
        generator.handle_times(&[1], 2000);
        assert!(!generator.poll_idle(2099));
        assert!(generator.poll_idle(2100));
        assert!(!WatermarkGenerator::new(0, None).poll_idle(i64::MAX));
    }

    #[test]
    fn the_end_is_the_greatest_watermark() {
        let mut generator = WatermarkGenerator::new(5, Some(1));
        generator.handle_times(&[1], 0);
        assert_eq!(generator.handle_end(), WATERMARK_MAX);
        assert_eq!(generator.handle_times(&[100], 1), None);
    }
}
