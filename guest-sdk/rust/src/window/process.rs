//! Functions of windows that have state, or that follow an aggregate.

use std::cell::RefCell;
use std::marker::PhantomData;

use super::head::{Fired, OwnStates, WindowFunction};
use super::{Window, WindowSetup};
use crate::chain::{Emit, RowContext};
use crate::value::{Owned, Record, Value};
use crate::values::Timestamp;
use crate::{OpenContext, Out, OutputTag};

/// A function of a window's rows, with state: given to [`WindowedStream::process_with`](crate::WindowedStream::process_with),
/// or behind an aggregate to
/// [`WindowedStream::aggregate_process_with`](crate::WindowedStream::aggregate_process_with).
///
/// Its states are fields, declared in the [`WindowSetup`]: those of [`Setup`](crate::Setup) belong to the key, over all of its
/// windows; those [of windows](super::OfWindow) to a window of the key, over all of its firings.
///
/// ```
/// use millrace::prelude::*;
///
/// #[derive(Record, Clone)]
/// struct Sale { shop: String, cents: i64, at: Timestamp }
///
/// #[derive(Record, Clone)]
/// struct Day { shop: String, cents: i64, more_than_before: bool, correction: bool }
///
/// /// Compares a day with the one before, and says which results replace earlier ones.
/// struct Days { before: ValueState<i64>, fired: WindowState<bool> }
///
/// impl WindowProcess for Days {
///     type In = Sale;
///     type Key = String;
///     type Out = Day;
///
///     fn process(&mut self, sales: &[Sale], cx: &mut WindowContext<'_, Self>) {
///         let cents = sales.iter().map(|sale| sale.cents).sum();
///         let more_than_before = self.before.get().is_some_and(|before| cents > before);
///         let correction = self.fired.get().is_some();
///         self.before.set(cents);
///         self.fired.set(true);
///         cx.push(Day { shop: cx.key(), cents, more_than_before, correction });
///     }
/// }
///
/// fn days(sales: KeyedStream<Sale, String>) {
///     sales
///         .window(Tumbling::of(Duration::from_secs(24 * 3600)))
///         .allowed_lateness(Duration::from_secs(3600))
///         .process_with(|setup| Days { before: setup.value_state("before"), fired: setup.window_state("fired") })
///         .uid("days")
///         .sink("out", Stdout::ndjson());
/// }
/// ```
pub trait WindowProcess: Sized + 'static {
    /// Rows of a window; behind an aggregate its result.
    type In: Record + Owned;
    /// What they are keyed by.
    type Key: Owned + Clone;
    /// Rows that it puts out.
    type Out: Record;

    /// Prepares, before the first window. Heavy work belongs here.
    fn open(&mut self, cx: &OpenContext) {
        let _ = cx;
    }

    /// Ends, behind the last window of a job whose input ends. Not where it is stopped, or fails.
    fn close(&mut self) {}

    /// Takes the rows of a window that fires; behind an aggregate the one row that is its result.
    fn process(&mut self, rows: &[Self::In], cx: &mut WindowContext<'_, Self>);
}

/// What a function of windows sees beside the rows, and what it can do.
///
/// See [`WindowProcess`] for an example.
pub struct WindowContext<'c, P: WindowProcess> {
    operator: u32,
    key: &'c P::Key,
    window: Window,
    next: &'c mut (dyn Emit<P::Out> + 'c),
    cx: &'c mut RowContext,
    given: u64,
}

impl<P: WindowProcess> std::fmt::Debug for WindowContext<'_, P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WindowContext")
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}

impl<P: WindowProcess> WindowContext<'_, P> {
    /// The key, copied.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn show<P: WindowProcess<Key = i64>>(cx: &WindowContext<'_, P>) { info!("key {}", cx.key()); }
    /// ```
    pub fn key(&self) -> P::Key {
        self.key.clone()
    }

    /// The window.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn start<P: WindowProcess>(cx: &WindowContext<'_, P>) -> Timestamp { cx.window().start }
    /// ```
    pub fn window(&self) -> Window {
        self.window
    }

    /// How far event time has come; none before the first watermark.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn is_early<P: WindowProcess>(cx: &WindowContext<'_, P>) -> bool { cx.watermark() < Some(cx.window().last()) }
    /// ```
    pub fn watermark(&self) -> Option<Timestamp> {
        self.cx.watermark()
    }

    /// Processing time.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn delay<P: WindowProcess>(cx: &WindowContext<'_, P>) -> i64 { cx.now().millis() - cx.window().end.millis() }
    /// ```
    pub fn now(&self) -> Timestamp {
        self.cx.now()
    }

    /// Puts a row out. It may borrow from anything that lives until this returns.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn count<P: WindowProcess<Out = (i64,)>>(rows: &[P::In], cx: &mut WindowContext<'_, P>) { cx.push((rows.len() as i64,)); }
    /// ```
    pub fn push(&mut self, row: <P::Out as Value>::Of<'_>) {
        self.given += 1;
        self.next.emit(row, self.cx);
        crate::position::enter(self.operator);
    }

    /// Puts a row out beside the main output. If nobody takes that output, the row is dropped.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// static EMPTY: OutputTag<(String,)> = OutputTag::new("empty");
    /// fn complain<P: WindowProcess>(cx: &mut WindowContext<'_, P>) { cx.side(&EMPTY, ("nothing sold".into(),)); }
    /// ```
    pub fn side<T: Record>(&mut self, tag: &OutputTag<T>, row: T::Of<'_>) {
        let time = self.cx.time;
        self.cx.sides.push::<T>(self.operator, tag.name(), row, time);
    }
}

/// Rows that a function puts out, held for the next.
struct Held<T>(Vec<T>);

impl<T: Record + Owned> Emit<T> for Held<T> {
    fn emit(&mut self, row: T, _cx: &mut RowContext) {
        self.0.push(row);
    }
}

/// Hands what is kept to another function: of those that put another behind.
macro_rules! as_before {
    () => {
        type In = W::In;
        type Key = W::Key;
        type Kept = W::Kept;
        type Stored = W::Stored;

        fn create(&self) -> W::Kept {
            self.before.create()
        }

        #[inline(always)]
        fn add(&self, kept: &mut W::Kept, row: <W::In as Value>::Of<'_>) {
            self.before.add(kept, row);
        }

        fn merge(&self, kept: &mut W::Kept, other: &W::Kept) {
            self.before.merge(kept, other);
        }

        fn to_stored(kept: &W::Kept) -> Option<W::Stored> {
            W::to_stored(kept)
        }

        fn revived(stored: W::Stored) -> W::Kept {
            W::revived(stored)
        }

        fn heap_bytes(kept: &W::Kept) -> usize {
            W::heap_bytes(kept)
        }
    };
}

/// The results of a function, given to a closure: see
/// [`WindowedStream::aggregate_process`](crate::WindowedStream::aggregate_process).
pub struct Finished<W, U, F> {
    pub(crate) before: W,
    pub(crate) function: F,
    pub(crate) row: PhantomData<fn() -> U>,
}

impl<W, U, F> WindowFunction for Finished<W, U, F>
where
    W: WindowFunction,
    W::Out: Owned,
    U: Record,
    F: for<'r, 'x, 'o> Fn(W::Key, Window, &'r W::Out, &'x mut Out<'o, U>) + 'static,
{
    type Out = U;
    as_before!();

    fn finish<E: Emit<U>>(&self, fired: Fired<'_, W::Key, W::Kept>, cx: &mut RowContext, next: &mut E) -> u64 {
        let (key, window, operator) = (fired.key.clone(), fired.window, fired.operator);
        let mut held = Held(Vec::new());
        self.before.finish(fired, cx, &mut held);
        let mut out = Out::new(operator, next, cx);
        for row in &held.0 {
            (self.function)(key.clone(), window, row, &mut out);
        }
        out.given()
    }
}

/// The results of a function, or rows, given to a function with state: see
/// [`WindowedStream::process_with`](crate::WindowedStream::process_with).
pub struct Processed<W, P> {
    pub(crate) before: W,
    function: RefCell<P>,
    setup: WindowSetup,
}

impl<W: WindowFunction, P: WindowProcess> Processed<W, P> {
    pub(crate) fn new(before: W, operator: u32, make: impl FnOnce(&mut WindowSetup) -> P) -> Self {
        let mut setup = WindowSetup::new(operator);
        let function = RefCell::new(make(&mut setup));
        Processed {
            before,
            function,
            setup,
        }
    }
}

impl<W, P> WindowFunction for Processed<W, P>
where
    W: WindowFunction<Out = P::In, Key = P::Key>,
    P: WindowProcess,
{
    type Out = P::Out;
    as_before!();

    fn open(&self, cx: &OpenContext) {
        self.function.borrow_mut().open(cx);
    }

    fn close(&self) {
        self.function.borrow_mut().close();
    }

    fn take_states(&mut self) -> OwnStates {
        self.setup.take_states()
    }

    fn forget(&self, window: Window) {
        self.setup.forget(window);
    }

    fn finish<E: Emit<P::Out>>(&self, fired: Fired<'_, P::Key, W::Kept>, cx: &mut RowContext, next: &mut E) -> u64 {
        let (key, window, operator) = (fired.key.clone(), fired.window, fired.operator);
        let mut held = Held(Vec::new());
        self.before.finish(fired, cx, &mut held);
        self.setup.enter(window);
        let mut context = WindowContext {
            operator,
            key: &key,
            window,
            next,
            cx,
            given: 0,
        };
        self.function.borrow_mut().process(&held.0, &mut context);
        context.given
    }
}
