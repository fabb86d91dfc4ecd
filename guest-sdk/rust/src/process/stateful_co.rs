//! Process functions of two inputs without a key, with state of their subtask.
//!
//! Beside a broadcast stream whose rows become state see [`BroadcastProcess`](super::BroadcastProcess); with a key
//! [`CoProcess`](super::CoProcess), which has timers, too.

use super::head::{Entries, KeyedRows, ProcessFunction};
use crate::OpenContext;
use crate::bindings::operators::CallError;
use crate::chain::Tail;
use crate::stream::Out;
use crate::value::{Record, Value};

/// A function of the rows of two streams without a key, with state of their subtask that both share: what
/// `CoProcessFunction` is in Flink, given to [`ConnectedStreams::process`](crate::connected::ConnectedStreams::process).
///
/// State, and what becomes of it where the parallelism changes, is that of a [`StatefulProcess`](crate::StatefulProcess);
/// a function may also have none. Which rows of either stream a subtask gets is as the streams say: with
/// [`broadcast`](crate::Stream::broadcast) behind one of them every subtask gets all of its rows.
///
/// The rows of one input come in their order; which input is next is not said.
///
/// ```
/// use millrace::prelude::*;
///
/// #[derive(Record, Clone)]
/// struct Request { path: String, bytes: i64 }
///
/// #[derive(Record, Clone)]
/// struct Tick { second: i64 }
///
/// #[derive(Record, Clone)]
/// struct Load { second: i64, requests: u64, bytes: i64 }
///
/// /// Tells at every tick what has come since the last.
/// struct Meter { since: ListState<i64>, ticks: Counter }
///
/// impl StatefulCoProcess for Meter {
///     type First = Request;
///     type Second = Tick;
///     type Out = Load;
///
///     fn process_first(&mut self, request: Request, _out: &mut Out<'_, Load>) {
///         self.since.push(request.bytes);
///     }
///
///     fn process_second(&mut self, tick: Tick, out: &mut Out<'_, Load>) {
///         let bytes = self.since.take();
///         self.ticks.add(1);
///         out.push(Load { second: tick.second, requests: bytes.len() as u64, bytes: bytes.iter().sum() });
///     }
/// }
///
/// fn load(requests: Stream<Rows<Request>>, ticks: Stream<Rows<Tick>>) {
///     requests
///         .connect(ticks.broadcast())
///         .process(|setup| Meter { since: setup.list_state("since"), ticks: setup.counter("ticks") })
///         .uid("load")
///         .sink("out", Stdout::ndjson());
/// }
/// ```
pub trait StatefulCoProcess: Sized + 'static {
    /// Rows of the first stream.
    type First: Record;
    /// Rows of the second stream.
    type Second: Record;
    /// Rows that it puts out.
    type Out: Record;

    /// Prepares, before the first row. State is not there yet.
    fn open(&mut self, cx: &OpenContext) {
        let _ = cx;
    }

    /// Takes a row of the first stream.
    fn process_first(&mut self, row: <Self::First as Value>::Of<'_>, out: &mut Out<'_, Self::Out>);

    /// Takes a row of the second stream.
    fn process_second(&mut self, row: <Self::Second as Value>::Of<'_>, out: &mut Out<'_, Self::Out>);

    /// Both inputs have ended: puts out what waits for more. Not where a job is stopped: it can go on.
    fn finish(&mut self, out: &mut Out<'_, Self::Out>) {
        let _ = out;
    }

    /// Ends, behind that.
    fn close(&mut self) {}
}

/// A [`StatefulCoProcess`] as the head of a chain.
#[derive(Debug)]
pub struct TwoOfSubtask<P> {
    function: P,
}

impl<P> TwoOfSubtask<P> {
    pub(crate) fn new(function: P) -> Self {
        TwoOfSubtask { function }
    }
}

impl<P: StatefulCoProcess> ProcessFunction for TwoOfSubtask<P> {
    type Key = u32;
    type Out = P::Out;

    fn open(&mut self, cx: &OpenContext) {
        self.function.open(cx);
    }

    fn close(&mut self) {
        self.function.close();
    }

    #[inline(always)]
    fn rows<E: Tail<P::Out>>(&mut self, rows: &KeyedRows<'_>, entries: &mut Entries<'_, E>) -> Result<(), CallError> {
        let function = &mut self.function;
        match rows.input {
            0 => entries.each_own_row::<P::First, _>(rows, |row, out| function.process_first(row, out)),
            1 => entries.each_own_row::<P::Second, _>(rows, |row, out| function.process_second(row, out)),
            _ => return rows.unknown_input(),
        }
        Ok(())
    }

    fn finish<E: Tail<P::Out>>(&mut self, entries: &mut Entries<'_, E>) {
        entries.end(|out| self.function.finish(out));
    }
}
