//! A source of its own for tests, whose rows come with times and watermarks that the test gives.

use std::marker::PhantomData;
use std::rc::Rc;

use crate::bindings::dataflow as wit;
use crate::chain::Rows;
use crate::connect::{Description, Reject, Source};
use crate::graph::Origin;
use crate::value::Record;
use crate::{Flow, Stream};

/// The kind of connector that it is.
pub(crate) const GIVEN: &str = "testing";

struct Given<T>(PhantomData<fn() -> T>);

impl<T: Record> Source for Given<T> {
    type Record = T;

    fn into_description(self) -> Description {
        Description {
            kind: GIVEN.to_owned(),
            options: Vec::new(),
            on_reject: Reject::Fail,
        }
    }
}

/// A stream to which a test gives rows with any times ([`Job::push_at`](super::Job::push_at)), and watermarks
/// ([`Job::watermark`](super::Job::watermark)): what a single function is driven with.
///
/// ```
/// use millrace::prelude::*;
/// use millrace::testing::{self, Job};
///
/// #[derive(Record, Clone)]
/// struct Click { user: i64 }
///
/// let mut job = Job::new(|flow| {
///     testing::source::<Click>(flow, "clicks")
///         .key_by(Click::FIELDS.user)
///         .window(Tumbling::of(Duration::from_secs(10)))
///         .count()
///         .sink("counts", Discard::new());
/// });
/// job.push_at("clicks", 1_000, Click { user: 7 });
/// job.push_at("clicks", 9_999, Click { user: 7 });
/// job.watermark("clicks", 9_998);
/// assert_eq!(job.rows::<Windowed<i64, i64>>("counts").len(), 0);
/// job.watermark("clicks", 9_999);
/// assert_eq!(job.rows::<Windowed<i64, i64>>("counts")[0].value, 2);
/// ```
pub fn source<T: Record>(flow: &Flow, name: &str) -> Stream<Rows<T>> {
    let rows = flow.source(name, Given::<T>(PhantomData));
    let graph = Rc::clone(&rows.flow);
    let watermarks = wit::OperatorKind::Watermarks(wit::Watermarks {
        time: wit::EventTime::Computed,
        source: wit::WatermarkSource::Bounded(0),
        idle_after_ms: None,
        alignment: None,
    });
    let operator = graph.borrow_mut().add_operator(name, watermarks);
    let given = [Origin::forward(rows.operator(), 0)];
    graph.borrow_mut().connect(&given, operator, 0);
    Stream::from_origins(graph, vec![Origin::forward(operator, 0)])
}
