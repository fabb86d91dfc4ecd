//! Delays of an airport in an hour.

use millrace::prelude::*;

use crate::Flight;

/// A flight that left this late, in minutes, counts as delayed.
const DELAYED: i64 = 15;

/// The flights that left an airport in an hour.
#[derive(Record, Clone)]
pub struct Hour {
    pub origin: String,
    pub start: Timestamp,
    pub flights: i64,
    pub delayed: i64,
    pub delay_minutes: i64,
}

/// What is kept until the hour is over.
#[derive(Record, Clone)]
pub struct Totals {
    flights: i64,
    delayed: i64,
    minutes: i64,
}

/// Sums up delays.
pub struct Delays;

impl Aggregate for Delays {
    type In = Flight<'static>;
    type Key = String;
    type Acc = Totals;
    type Out = Hour;

    fn create(&self) -> Totals {
        Totals {
            flights: 0,
            delayed: 0,
            minutes: 0,
        }
    }

    fn add(&self, totals: &mut Totals, flight: Flight<'_>) {
        totals.flights += 1;
        totals.delayed += i64::from(flight.delay >= DELAYED);
        totals.minutes += flight.delay;
    }

    fn merge(&self, totals: &mut Totals, other: &Totals) {
        totals.flights += other.flights;
        totals.delayed += other.delayed;
        totals.minutes += other.minutes;
    }

    fn finish(&self, origin: String, window: Window, totals: &Totals) -> Hour {
        Hour {
            origin,
            start: window.start,
            flights: totals.flights,
            delayed: totals.delayed,
            delay_minutes: totals.minutes,
        }
    }
}
