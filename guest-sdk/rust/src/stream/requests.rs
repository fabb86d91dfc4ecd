//! Functions that ask servers: `async_map` and its relatives.
#![allow(
    clippy::type_complexity,
    reason = "the type of a stream says which functions are fused"
)]

use std::fmt::Display;
use std::marker::PhantomData;
use std::rc::Rc;

use super::{FlatMap, Map, Out, Stream, TryMap};
use crate::bindings::dataflow as wit;
use crate::chain::exit::NoExtra;
use crate::chain::{Chain, Emit, RowContext, Rows, Stage, Then};
use crate::graph::Origin;
use crate::http::{Answer, Http, HttpError, Request, Response};
use crate::position;
use crate::value::{Owned, Record, Value};

/// A row with its request.
type Asked<T> = (T, Option<Request>);
/// A row with what came of its request.
type Answered<T> = (T, Option<Answer>);

/// Says what is asked for a row.
pub struct Ask<T, Q, F> {
    operator: u32,
    function: F,
    types: PhantomData<fn(T) -> Q>,
}

impl<T, Q, F> std::fmt::Debug for Ask<T, Q, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ask")
            .field("operator", &self.operator)
            .finish_non_exhaustive()
    }
}

impl<T, Q, F> Stage for Ask<T, Q, F>
where
    T: Record,
    Q: Into<Option<Request>> + 'static,
    F: for<'r, 'a> Fn(&'r T::Of<'a>) -> Q + 'static,
{
    type In = T;
    type Out = Asked<T>;

    #[inline(always)]
    fn push<E: Emit<Asked<T>>>(&mut self, row: T::Of<'_>, cx: &mut RowContext, next: &mut E) {
        position::enter(self.operator);
        let request = (self.function)(&row).into();
        next.emit((row, request), cx);
    }
}

/// A closure over rows of any lifetime.
fn over<T: Value, R, F: for<'a> Fn(T::Of<'a>) -> R + 'static>(function: F) -> F {
    function
}

/// The same for one that puts rows out.
fn putting<T, U, F>(function: F) -> F
where
    T: Value,
    U: Record,
    F: for<'a, 'x, 'o> Fn(T::Of<'a>, &'x mut Out<'o, U>) + 'static,
{
    function
}

impl<C: Chain> Stream<C> {
    /// Has the host make an HTTP request for each row, and makes a row of each row and what came of its request.
    ///
    /// Many requests are under way at a time; `http` says how many, and in which order rows go on. The first function says
    /// what is asked: a [`Request`], or an `Option` of one. The second gets the [`Response`], or else the [`HttpError`].
    /// Rows keep their event time.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Order { id: i64, customer: String }
    /// # #[derive(Record)]
    /// # struct Rated { id: i64, is_known: bool }
    /// fn rated(orders: Stream<Rows<Order>>) {
    ///     orders
    ///         .async_map(
    ///             Http::unordered().origin("https://scores.example.org"),
    ///             |order| Request::get(format!("https://scores.example.org/{}", order.customer)),
    ///             |order, answer| Rated { id: order.id, is_known: answer.is_ok_and(|response| response.is_success()) },
    ///         )
    ///         .uid("rated")
    ///         .sink("rated", Stdout::ndjson());
    /// }
    /// ```
    ///
    /// [`http`](crate::http) says what happens to rows when requests fail and jobs restart, and who allows requests. A
    /// uid names the rows under way in checkpoints.
    pub fn async_map<Q, U, F, G>(self, http: Http, request: F, function: G) -> Stream<impl Chain<Out = U>>
    where
        Q: Into<Option<Request>> + 'static,
        U: Record + Owned,
        F: for<'r, 'a> Fn(&'r <C::Out as Value>::Of<'a>) -> Q + 'static,
        G: for<'a> Fn(<C::Out as Value>::Of<'a>, Result<Response, HttpError>) -> U + 'static,
    {
        let function = over::<Answered<C::Out>, U, _>(move |(row, answer)| function(row, Answer::outcome(answer)));
        self.ask("async_map", http, request)
            .complete("async_map", |operator| Map::new(operator, function))
    }

    /// [`async_map`](Self::async_map) that may refuse rows: an error is the reason, and
    /// [`on_reject`](Self::on_reject) says what happens to the row, which is the one that came in with its answer.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Order { id: i64, customer: String }
    /// # #[derive(Record)]
    /// # struct Rated { id: i64, score: String }
    /// fn rated(orders: Stream<Rows<Order>>) {
    ///     orders
    ///         .try_async_map(
    ///             Http::ordered().origin("https://scores.example.org"),
    ///             |order| Request::get(format!("https://scores.example.org/{}", order.customer)),
    ///             |order, answer| match answer {
    ///                 Ok(response) if response.is_success() => Ok(Rated { id: order.id, score: response.text().into() }),
    ///                 Ok(response) => Err(format!("status {}", response.status)),
    ///                 Err(error) => Err(error.to_string()),
    ///             },
    ///         )
    ///         .on_reject(Reject::Skip)
    ///         .sink("rated", Stdout::ndjson());
    /// }
    /// ```
    pub fn try_async_map<Q, U, X, F, G>(self, http: Http, request: F, function: G) -> Stream<impl Chain<Out = U>>
    where
        Q: Into<Option<Request>> + 'static,
        U: Record + Owned,
        X: Display + 'static,
        F: for<'r, 'a> Fn(&'r <C::Out as Value>::Of<'a>) -> Q + 'static,
        G: for<'a> Fn(<C::Out as Value>::Of<'a>, Result<Response, HttpError>) -> Result<U, X> + 'static,
    {
        let function =
            over::<Answered<C::Out>, Result<U, X>, _>(move |(row, answer)| function(row, Answer::outcome(answer)));
        self.ask("try_async_map", http, request)
            .complete("try_async_map", |operator| TryMap::new(operator, function))
    }

    /// [`async_map`](Self::async_map) that makes any number of rows of each row and its answer.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Page { url: String }
    /// # #[derive(Record)]
    /// # struct Line<'a> { text: &'a str }
    /// fn lines(pages: Stream<Rows<Page>>) {
    ///     pages
    ///         .async_flat_map(
    ///             Http::unordered().origin("https://*.example.org"),
    ///             |page| Request::get(page.url.clone()),
    ///             |_, answer, out: &mut Out<'_, Line<'static>>| {
    ///                 for response in answer.iter() {
    ///                     response.text().lines().for_each(|text| out.push(Line { text }));
    ///                 }
    ///             },
    ///         )
    ///         .sink("lines", Stdout::ndjson());
    /// }
    /// ```
    pub fn async_flat_map<Q, U, F, G>(self, http: Http, request: F, function: G) -> Stream<impl Chain<Out = U>>
    where
        Q: Into<Option<Request>> + 'static,
        U: Record,
        F: for<'r, 'a> Fn(&'r <C::Out as Value>::Of<'a>) -> Q + 'static,
        G: for<'a, 'x, 'o> Fn(<C::Out as Value>::Of<'a>, Result<Response, HttpError>, &'x mut Out<'o, U>) + 'static,
    {
        let function = putting::<Answered<C::Out>, U, _>(move |(row, answer), out| {
            function(row, Answer::outcome(answer), out);
        });
        self.ask("async_flat_map", http, request)
            .complete("async_flat_map", |operator| FlatMap::new(operator, function))
    }

    /// The stream of rows with their answers, from an operator of the host.
    fn ask<Q, F>(self, construct: &str, http: Http, request: F) -> Stream<Rows<Answered<C::Out>>>
    where
        Q: Into<Option<Request>> + 'static,
        F: for<'r, 'a> Fn(&'r <C::Out as Value>::Of<'a>) -> Q + 'static,
    {
        let flow = Rc::clone(&self.flow);
        let mut asked: Stream<Then<C, Ask<C::Out, Q, F>>> =
            self.then(&format!("{construct}.request"), |operator| Ask {
                operator,
                function: request,
                types: PhantomData,
            });
        let origins = asked.close(NoExtra);
        let mut graph = flow.borrow_mut();
        let schema = graph.schema(<Answered<C::Out>>::fields());
        let kind = wit::OperatorKind::Requests(http.to_contract(schema));
        let operator = graph.add_operator("requests", kind);
        graph.connect(&origins, operator, 0);
        drop(graph);
        Stream::from_origins(flow, vec![Origin::forward(operator, 0)])
    }
}

impl<T: Record> Stream<Rows<Answered<T>>> {
    /// The function behind requests; they are called after it.
    fn complete<S: Stage<In = Answered<T>>>(
        self,
        construct: &str,
        stage: impl FnOnce(u32) -> S,
    ) -> Stream<Then<Rows<Answered<T>>, S>> {
        let (flow, requests) = (Rc::clone(&self.flow), self.operator);
        let completed = self.then(construct, stage);
        flow.borrow_mut().helper_of(requests, completed.operator, "requests");
        completed
    }
}
