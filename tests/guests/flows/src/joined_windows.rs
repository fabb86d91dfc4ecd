//! Joins and co-groups in windows that run in the guest, whose results depend on no more than which rows there are, whatever
//! the order in which the two inputs come.

use millrace::prelude::*;

use super::operators::Outputs;
use super::two_inputs::{Events, Other, Others, Pair, pair, sums};
use super::{Event, Params};

type Row = TaggedUnion<Event, Other>;

/// Windows of a size for even keys, of twice that for others.
struct ByKey {
    size: Duration,
}

impl WindowAssigner<Row> for ByKey {
    fn assign(&self, row: &Row, time: Timestamp, windows: &mut Vec<Window>) {
        let key = match row {
            TaggedUnion::First(event) => event.key,
            TaggedUnion::Second(other) => other.key,
        };
        let size = self.size.as_millis() as i64 * (1 + key.rem_euclid(2));
        let start = time.millis().div_euclid(size) * size;
        windows.push(Window {
            start: Timestamp::from_millis(start),
            end: Timestamp::from_millis(start + size),
        });
    }
}

/// Fires when all rows have come.
struct InTheEnd;

impl Trigger<Row> for InTheEnd {
    /// Rows of the second input.
    type State = i64;

    fn on_row(&self, row: &Row, cx: &mut TriggerContext<'_, i64>) -> TriggerResult {
        *cx.state() += i64::from(row.second().is_some());
        cx.set_event_timer(Timestamp::from_millis(1_000_000_000));
        TriggerResult::Continue
    }

    fn on_event_time(&self, _time: Timestamp, cx: &mut TriggerContext<'_, i64>) -> TriggerResult {
        match *cx.state() {
            0 => TriggerResult::Purge,
            _ => TriggerResult::FireAndPurge,
        }
    }
}

/// So many values have a key of their own.
const FINE: i64 = 8;

type FineKey = (i64, i64);

fn in_the_end(key: FineKey, _window: Window, events: &[Event], others: &[Other], out: &mut Out<'_, Pair>) {
    out.push(Pair {
        key: key.0,
        time: key.1,
        value: events.iter().map(|event| event.value).sum(),
        amount: others.iter().map(|other| other.amount).sum(),
    });
}

pub(crate) fn build(
    (events, others): (&Stream<Rows<Event>>, &Stream<Rows<Other>>),
    (first, second): (Events, Others),
    params: &Params,
    outputs: &Outputs<'_>,
) {
    let both = || (first.clone(), second.clone());
    let (first, second) = both();
    let own = first.left_join(second).window(ByKey { size: params.size });
    outputs.put("left-own", own.apply(|event, other| pair(Some(event), other)));
    let (first, second) = both();
    let recent = first.full_join(second).window(Tumbling::of(params.size));
    let recent = recent.evictor(TimeEvictor::of(params.slide));
    outputs.put("full-evicted", recent.apply(pair));
    let gap = |row: &Row| match row {
        TaggedUnion::First(event) => Duration::from_millis(1 + event.value.unsigned_abs() % 4),
        TaggedUnion::Second(_) => Duration::from_millis(2),
    };
    let (first, second) = both();
    let sessions = first.co_group(second).window(Session::dynamic(gap));
    outputs.put("co_group-dynamic", sessions.apply(sums));
    // By the clock, which does not come to an end here: windows of a century end with the input.
    let fine = || {
        (
            events.clone().key_by(|event: &Event| (event.key, event.value / FINE)),
            others.clone().key_by(|other: &Other| (other.key, other.amount / FINE)),
        )
    };
    let century = Tumbling::of(Duration::from_secs(100 * 365 * 86_400)).processing_time();
    let (first, second) = fine();
    let live = first.right_join(second).window(century);
    outputs.put("right-live", live.apply(|event, other| pair(event, Some(other))));
    let (first, second) = fine();
    let global = first.co_group(second).window(GlobalWindows).trigger(InTheEnd);
    outputs.put("co_group-global", global.apply(in_the_end));
}
