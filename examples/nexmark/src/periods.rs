//! How many bids a bidder makes: q11 in sessions of event time, q12 in windows of processing time.

use millrace::prelude::*;

use crate::house::House;

#[derive(Record)]
struct Bid {
    bidder: i64,
    date_time: Timestamp,
}

/// Bids of a bidder in a period.
#[derive(Record)]
struct Count {
    bidder: i64,
    bid_count: i64,
    starttime: Timestamp,
    endtime: Timestamp,
}

const GAP: Duration = Duration::from_secs(10);
const LENGTH: Duration = Duration::from_secs(10);

/// In sessions.
pub fn q11(house: &House<'_>) {
    let counts = house
        .bids::<Bid>()
        .watermarks(Watermarks::monotonic(Bid::FIELDS.date_time))
        .key_by(Bid::FIELDS.bidder)
        .window(Session::gap(GAP))
        .count()
        .uid("sessions")
        .map(|session| Count {
            bidder: session.key,
            bid_count: session.value,
            starttime: session.start,
            endtime: session.end,
        });
    house.results(counts, "bid_count");
}

/// A bidder's open window.
#[derive(Record, Clone)]
struct Open {
    start: Timestamp,
    bids: i64,
}

/// When input ends, event time has come to its end: no window stays open then.
const END: Timestamp = Timestamp::from_millis(i64::MAX - 1);

/// In windows of ten seconds on the clock on the wall.
pub fn q12(house: &House<'_>) {
    let counts = house
        .bids::<Bid>()
        .watermarks(Watermarks::monotonic(Bid::FIELDS.date_time))
        .key_by(Bid::FIELDS.bidder)
        .process(|setup| Counting {
            open: setup.value_state("open"),
        })
        .uid("windows");
    house.results(counts, "bid_count");
}

struct Counting {
    open: ValueState<Open>,
}

impl Counting {
    /// Puts the open window out.
    fn end_period(&self, bidder: i64, cx: &mut Context<'_, Self>) {
        if let Some(open) = self.open.take() {
            cx.push(Count {
                bidder,
                bid_count: open.bids,
                starttime: open.start,
                endtime: open.start + LENGTH,
            });
        }
    }
}

impl KeyedProcess for Counting {
    type In = Bid;
    type Key = i64;
    type Out = Count;

    fn process(&mut self, bid: Bid, cx: &mut Context<'_, Self>) {
        let now = cx.now().millis();
        let start = Timestamp::from_millis(now - now.rem_euclid(LENGTH.as_millis() as i64));
        let bids = match self.open.get() {
            Some(open) if open.start == start => open.bids,
            // The timer of a window that is over has not fired yet.
            open => {
                if open.is_some() {
                    self.end_period(bid.bidder, cx);
                }
                cx.set_processing_timer(start + LENGTH);
                cx.set_event_timer(END);
                0
            }
        };
        self.open.set(Open { start, bids: bids + 1 });
    }

    fn on_timer(&mut self, timer: Timer<i64>, cx: &mut Context<'_, Self>) {
        let is_over = |open: Open| timer.kind == TimerKind::EventTime || open.start + LENGTH <= timer.time;
        if self.open.get().is_some_and(is_over) {
            self.end_period(timer.key, cx);
        }
    }
}

#[cfg(test)]
mod tests {
    //! q12 with a clock that the test sets, against a count by bidder and window.

    use std::collections::{BTreeMap, BTreeSet};

    use millrace::bindings::operators::TimerKind;
    use millrace::harness::{Called, Harness, block, keys};

    use super::*;
    use crate::Params;

    const LENGTH_MS: i64 = LENGTH.as_millis() as i64;

    /// What a host keeps: timers that are set, and what came out.
    #[derive(Default)]
    struct Host {
        processing: BTreeSet<(i64, u32)>,
        event: BTreeSet<(i64, u32)>,
        results: BTreeMap<(i64, i64), i64>,
    }

    impl Host {
        /// Takes what a call did; slot and bidder are the same here.
        fn take(&mut self, slots: &[u32], called: &Called) {
            for (entry, time, action) in called.timers() {
                let timers = if action == 0 {
                    &mut self.event
                } else {
                    &mut self.processing
                };
                timers.insert((time, slots[entry as usize]));
            }
            for count in called.rows::<Count>(0) {
                assert_eq!(count.endtime.millis() - count.starttime.millis(), LENGTH_MS);
                let window = (count.bidder, count.starttime.millis());
                assert_eq!(self.results.insert(window, count.bid_count), None, "{window:?} twice");
            }
        }
    }

    fn fire(host: &mut Host, harness: &mut Harness, kind: TimerKind) {
        let (timers, due) = match kind {
            TimerKind::ProcessingTime => (&mut host.processing, harness.at.now),
            TimerKind::EventTime => (&mut host.event, i64::MAX),
            TimerKind::Applied => panic!("q12 has no function for every key"),
        };
        let later = timers.split_off(&(due.saturating_add(1), 0));
        for (time, slot) in std::mem::replace(timers, later) {
            let called = harness.timers(0, kind, &[slot], &[time], &keys([i64::from(slot)]));
            host.take(&[slot], &called);
        }
    }

    #[test]
    fn q12_counts_by_the_clock() {
        let params = Params {
            query: "q12".to_owned(),
            events: 1,
            event_rate: 1,
            seed: 0,
            output: None,
            whole: false,
        };
        let mut harness = Harness::build(|flow| q12(&House::new(flow, &params))).expect("the flow is right");
        let (mut host, mut expected) = (Host::default(), BTreeMap::new());
        let mut random = 7u64;
        let mut next = |bound: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % bound
        };
        for _ in 0..500 {
            harness.at.now += next(4_000) as i64;
            // A call may come before timers that are due.
            if next(3) > 0 {
                fire(&mut host, &mut harness, TimerKind::ProcessingTime);
            }
            let slots: Vec<u32> = (0..next(20)).map(|_| next(30) as u32).collect();
            let bids = slots.iter().map(|bidder| Bid {
                bidder: i64::from(*bidder),
                date_time: Timestamp::from_millis(0),
            });
            let called = harness.process_keyed(0, &slots, &block(bids));
            host.take(&slots, &called);
            for bidder in slots {
                let start = harness.at.now - harness.at.now % LENGTH_MS;
                *expected.entry((i64::from(bidder), start)).or_default() += 1;
            }
        }
        fire(&mut host, &mut harness, TimerKind::EventTime);
        assert_eq!(host.results, expected);
        assert!(expected.len() > 1_000, "{}", expected.len());
    }
}
