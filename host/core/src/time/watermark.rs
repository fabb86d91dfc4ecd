//! Watermarks of one stream, with bounded out-of-orderness, as rows say, or as far behind the clock, and its idleness.
//!
//! The watermark follows the greatest event time at a fixed distance: with 5 s of out-of-orderness and a
//! row at 12:00:10 seen, a row at 12:00:05 may still come, so the watermark is 12:00:04.999 (as in Flink).

use crate::block::{Millis, WATERMARK_MAX, WATERMARK_MIN};
use crate::graph::{WatermarkSource, WatermarkStrategy};

/// How often a watermark that follows the clock is announced, as in Flink.
const CLOCK_INTERVAL_MS: Millis = 200;

/// What becomes of a stream as time goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tick {
    /// Its watermark advanced.
    Watermark(Millis),
    /// It is idle.
    Idle,
}

/// Turns event times into watermarks.
///
/// Call [`handle_times`](Self::handle_times), [`handle_watermark`](Self::handle_watermark), or
/// [`handle_clock`](Self::handle_clock), with each block and [`poll`](Self::poll) when nothing comes. All take the processing
/// time, which must not go back.
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
    /// How far it stays behind the clock, if it follows that.
    behind_clock: Option<Millis>,
    /// When it was last compared with the clock.
    looked_at: Option<Millis>,
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
            behind_clock: None,
            looked_at: None,
            idle_after: idle_after_ms.map(clamp),
            watermark: WATERMARK_MIN,
            active_at: None,
            idle: false,
        }
    }

    /// As the graph declares it.
    pub fn from_strategy(strategy: &WatermarkStrategy) -> Self {
        let generator = Self::new(strategy.out_of_orderness_ms(), strategy.idle_after_ms);
        match strategy.source {
            WatermarkSource::Clock(behind_ms) => WatermarkGenerator {
                behind_clock: Some(Millis::try_from(behind_ms).unwrap_or(Millis::MAX)),
                ..generator
            },
            WatermarkSource::Bounded(_) | WatermarkSource::Field(_) | WatermarkSource::Computed => generator,
        }
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

    /// The watermark follows the clock. Returns it, if it advanced.
    pub fn handle_clock(&mut self, now: Millis) -> Option<Millis> {
        self.stay_active(now);
        self.look(now)
    }

    fn look(&mut self, now: Millis) -> Option<Millis> {
        self.looked_at = Some(now);
        self.advance(now.saturating_sub(self.behind_clock?))
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

    /// What becomes of the stream now, if no row comes: it becomes idle, once, when none came for the given time; a watermark
    /// that follows the clock advances, and makes nobody wait.
    pub fn poll(&mut self, now: Millis) -> Option<Tick> {
        if self.behind_clock.is_some() {
            let is_due = self.next_poll().is_none_or(|due| due <= now);
            return is_due.then(|| self.look(now)).flatten().map(Tick::Watermark);
        }
        let since = *self.active_at.get_or_insert(now);
        let idle_after = self.idle_after?;
        if self.idle || now.saturating_sub(since) < idle_after {
            return None;
        }
        self.idle = true;
        Some(Tick::Idle)
    }

    /// When [`poll`](Self::poll) can next return something; `None`: not before a row comes, or else at once.
    pub fn next_poll(&self) -> Option<Millis> {
        if self.behind_clock.is_some() {
            return Some(self.looked_at?.saturating_add(CLOCK_INTERVAL_MS));
        }
        match (self.idle, self.active_at, self.idle_after) {
            (false, Some(since), Some(idle_after)) => Some(since.saturating_add(idle_after)),
            _ => None,
        }
    }

    /// Whether the watermark follows the clock.
    pub fn follows_clock(&self) -> bool {
        self.behind_clock.is_some()
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
    use crate::graph::EventTime;

    #[test]
    fn watermarks_that_rows_say_never_go_back() {
        let mut generator = WatermarkGenerator::new(0, Some(10));
        assert_eq!(generator.handle_watermark(None, 0), None);
        assert_eq!(generator.handle_watermark(Some(7), 5), Some(7));
        assert_eq!(generator.handle_watermark(Some(6), 6), None);
        let mut restored = WatermarkGenerator::new(0, None);
        restored.restore(generator.max_time().expect("a row has come"));
        assert_eq!(restored.watermark(), 7);
        assert_eq!((generator.poll(15), generator.poll(16)), (None, Some(Tick::Idle)));
        generator.stay_active(16);
        assert_eq!((generator.poll(25), generator.poll(26)), (None, Some(Tick::Idle)));
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
        assert_eq!(generator.next_poll(), None);
        assert_eq!(generator.poll(1000), None);
        assert_eq!(generator.next_poll(), Some(1100));
        generator.handle_times(&[1], 1050);
        assert_eq!(generator.poll(1149), None);
        assert_eq!(generator.poll(1150), Some(Tick::Idle));
        assert_eq!(generator.poll(2000), None, "reported once");
        assert_eq!(generator.next_poll(), None);
        generator.handle_times(&[1], 2000);
        assert_eq!(generator.poll(2099), None);
        assert_eq!(generator.poll(2100), Some(Tick::Idle));
        assert_eq!(WatermarkGenerator::new(0, None).poll(i64::MAX), None);
    }

    #[test]
    fn a_watermark_follows_the_clock_with_rows_and_without() {
        let strategy = WatermarkStrategy {
            time: EventTime::Field("at".to_owned()),
            source: WatermarkSource::Clock(50),
            // It holds nobody up, and is never idle.
            idle_after_ms: Some(1),
            alignment: None,
        };
        let mut generator = WatermarkGenerator::from_strategy(&strategy);
        assert_eq!(generator.next_poll(), None);
        assert_eq!(generator.poll(1000), Some(Tick::Watermark(950)));
        assert_eq!(generator.next_poll(), Some(1200));
        assert_eq!(generator.poll(1199), None);
        assert_eq!(generator.handle_clock(1100), Some(1050));
        assert_eq!((generator.poll(1299), generator.next_poll()), (None, Some(1300)));
        assert_eq!(generator.poll(1300), Some(Tick::Watermark(1250)));
        assert_eq!(generator.handle_clock(1250), None, "a clock that goes back");
        assert_eq!(generator.poll(1450), Some(Tick::Watermark(1400)));
        let mut restored = WatermarkGenerator::from_strategy(&strategy);
        restored.restore(generator.max_time().expect("a watermark"));
        assert_eq!(
            (restored.poll(1300), restored.poll(1500)),
            (None, Some(Tick::Watermark(1450)))
        );
        assert_eq!(generator.handle_end(), WATERMARK_MAX);
        assert_eq!(generator.poll(9000), None);
    }

    #[test]
    fn the_end_is_the_greatest_watermark() {
        let mut generator = WatermarkGenerator::new(5, Some(1));
        generator.handle_times(&[1], 0);
        assert_eq!(generator.handle_end(), WATERMARK_MAX);
        assert_eq!(generator.handle_times(&[100], 1), None);
    }
}
