//! The worst routes of each day, in two steps: a sum per route and day, and of these the worst of the day.

use std::cmp::Ordering;

use millrace::prelude::*;

use crate::{Flight, LATE_DAYS};

/// The length of a day.
pub const DAY: Duration = Duration::from_secs(24 * 60 * 60);

const DAY_MILLIS: i64 = DAY.as_millis() as i64;

/// The flights of a route on a day.
#[derive(Record, Clone)]
pub struct RouteDay {
    pub day: Date,
    pub origin: String,
    pub destination: String,
    pub flights: i64,
    pub delay_minutes: i64,
}

/// A route in the list of a day.
#[derive(Record, Clone)]
pub struct RankedRoute {
    pub day: Date,
    pub rank: i64,
    pub origin: String,
    pub destination: String,
    pub flights: i64,
    pub delay_minutes: i64,
}

/// Sums up the delays of a route, day by day.
///
/// Flights of several days are under way at once, since they are out of order by up to a day: a sum is kept for each
/// of these days. A timer at the end of the day puts it out and forgets it.
pub struct RouteDays {
    days: MapState<Date, Totals>,
    min_flights: i64,
}

/// What is kept of a day.
#[derive(Record, Clone, Default)]
struct Totals {
    flights: i64,
    minutes: i64,
}

impl RouteDays {
    /// Puts out the days on which a route has this many flights.
    pub fn new(setup: &mut Setup, min_flights: i64) -> Self {
        RouteDays {
            days: setup.map_state("days"),
            min_flights,
        }
    }
}

impl KeyedProcess for RouteDays {
    type In = Flight<'static>;
    type Key = (String, String);
    type Out = RouteDay;

    fn process(&mut self, flight: Flight<'_>, cx: &mut Context<'_, Self>) {
        let day = day_of(flight.departure());
        let last_moment = Timestamp::from_millis((i64::from(day.days()) + 1) * DAY_MILLIS - 1);
        if cx.watermark().is_some_and(|watermark| watermark >= last_moment) {
            cx.side(&LATE_DAYS, flight);
            return;
        }
        let is_first = self.days.update(&day, |totals| {
            totals.flights += 1;
            totals.minutes += flight.delay;
            totals.flights == 1
        });
        if is_first {
            cx.set_event_timer(last_moment);
        }
    }

    fn on_timer(&mut self, timer: Timer<(String, String)>, cx: &mut Context<'_, Self>) {
        let day = day_of(timer.time);
        let Some(totals) = self.days.remove(&day) else { return };
        if totals.flights >= self.min_flights {
            let (origin, destination) = timer.key;
            cx.push(RouteDay {
                day,
                origin,
                destination,
                flights: totals.flights,
                delay_minutes: totals.minutes,
            });
        }
    }
}

fn day_of(time: Timestamp) -> Date {
    Date::from_days(time.millis().div_euclid(DAY_MILLIS) as i32)
}

/// Lists the routes of a day with the highest average delay.
pub fn rank(day: Date, routes: &[RouteDay], top: usize, out: &mut Out<'_, RankedRoute>) {
    let mut routes: Vec<&RouteDay> = routes.iter().collect();
    routes.sort_by(|a, b| worse_first(a, b));
    for (rank, route) in (1..).zip(routes.into_iter().take(top)) {
        out.push(RankedRoute {
            day,
            rank,
            origin: route.origin.clone(),
            destination: route.destination.clone(),
            flights: route.flights,
            delay_minutes: route.delay_minutes,
        });
    }
}

/// By average delay, then by number of flights, then by name. Averages are compared as fractions, without rounding.
fn worse_first(a: &RouteDay, b: &RouteDay) -> Ordering {
    let average = |route: &RouteDay, other: &RouteDay| route.delay_minutes * other.flights;
    average(b, a)
        .cmp(&average(a, b))
        .then(b.flights.cmp(&a.flights))
        .then_with(|| (&a.origin, &a.destination).cmp(&(&b.origin, &b.destination)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(origin: &str, flights: i64, delay_minutes: i64) -> RouteDay {
        RouteDay {
            day: Date::from_days(0),
            origin: origin.to_owned(),
            destination: "X".to_owned(),
            flights,
            delay_minutes,
        }
    }

    #[test]
    fn the_worst_average_comes_first() {
        let mut routes = [
            route("A", 2, 10),
            route("B", 3, 16),
            route("C", 4, 20),
            route("D", 1, 5),
            route("E", 1, -9),
        ];
        routes.sort_by(worse_first);
        let order: String = routes.iter().map(|route| route.origin.as_str()).collect();
        assert_eq!(order, "BCADE");
    }

    #[test]
    fn a_day_begins_at_midnight() {
        let check = |millis, days| assert_eq!(day_of(Timestamp::from_millis(millis)), Date::from_days(days));
        check(0, 0);
        check(-1, -1);
        check(DAY_MILLIS - 1, 0);
        check(DAY_MILLIS, 1);
    }
}
