//! Delays of flights: per airport and hour, and the worst routes of each day.
//!
//! Event time is when a flight left, the planned time plus the delay; the file is sorted by planned time, so that
//! nearly every row is out of order.

mod hourly;
mod worst_routes;

use hourly::Delays;
use millrace::prelude::*;
use worst_routes::{RankedRoute, RouteDay, RouteDays};

/// A flight, as it is in the file: texts are read in place.
#[derive(Record)]
pub struct Flight<'a> {
    /// Planned departure, local time.
    pub date: LocalTimestampMicros,
    /// In minutes; negative: it left early.
    pub delay: i64,
    pub origin: &'a str,
    pub destination: &'a str,
}

impl Flight<'_> {
    /// When it left.
    fn departure(&self) -> Timestamp {
        Timestamp::from_millis(self.date.micros() / 1000 + self.delay * 60_000)
    }
}

#[derive(Parameters)]
struct Params {
    /// Flights to read, a Parquet file
    input: String,
    /// Folder to write to
    output: String,
    /// How far flights may be out of order; later ones go to outputs of their own
    #[parameter(default = "24h")]
    bound: Duration,
    /// How many routes of a day are listed
    #[parameter(default = "10")]
    top: i64,
    /// Flights a day that a route must have to be listed
    #[parameter(default = "5")]
    min_flights: i64,
}

static LATE_HOURS: OutputTag<Flight> = OutputTag::new("late-hours");
static LATE_DAYS: OutputTag<Flight> = OutputTag::new("late-days");

#[millrace::pipeline]
fn flights(flow: &Flow, params: Params) -> Result<()> {
    let folder = |name: &str| format!("{}/{name}", params.output);
    let flights: Stream<Rows<Flight>> = flow.source("flights", Files::parquet(&params.input));
    let flights = flights.watermarks(Watermarks::bounded_by(
        |flight: &Flight| flight.departure(),
        params.bound,
    ));

    let hours = flights
        .clone()
        .key_by(Flight::FIELDS.origin)
        .window(Tumbling::of(Duration::from_secs(60 * 60)))
        .late_output(&LATE_HOURS)
        .aggregate(Delays)
        .name("hourly")
        .uid("hourly");
    hours
        .side_output(&LATE_HOURS)
        .sink("late hours", Files::to_csv(folder("late_hours")));
    hours.sink("hours", Files::to_csv(folder("hourly")));

    let min_flights = params.min_flights;
    let days = flights
        .key_by((Flight::FIELDS.origin, Flight::FIELDS.destination))
        .process(move |setup| RouteDays::new(setup, min_flights))
        .name("route days")
        .uid("route-days");
    days.side_output(&LATE_DAYS)
        .sink("late days", Files::to_csv(folder("late_days")));
    let top = params.top as usize;
    days.key_by(RouteDay::FIELDS.day)
        .window(Tumbling::of(worst_routes::DAY))
        .process(move |day, _window, routes, out: &mut Out<'_, RankedRoute>| worst_routes::rank(day, routes, top, out))
        .name("worst")
        .uid("worst")
        .sink("worst routes", Files::to_csv(folder("worst_routes")));
    Ok(())
}
