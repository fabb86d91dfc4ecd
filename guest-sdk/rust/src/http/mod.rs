//! HTTP requests for rows: what [`async_map`](crate::Stream::async_map) and its relatives are given.
//!
//! A pipeline has no network. It says which request is to be made for a row, and what becomes of the row and the answer;
//! the host makes the requests, many at a time, and the rows of other requests go on meanwhile:
//!
//! ```
//! use millrace::prelude::*;
//!
//! #[derive(Record, Clone)]
//! struct Order { id: i64, customer: String }
//!
//! #[derive(Record)]
//! struct Rated { id: i64, score: Option<i64> }
//!
//! fn rated(orders: Stream<Rows<Order>>) -> Stream<impl Chain<Out = Rated>> {
//!     let scores = Http::unordered()
//!         .origin("https://scores.example.org")
//!         .timeout(Duration::from_secs(5))
//!         .retry(Retry::attempts(3, Duration::from_millis(100)));
//!     orders.async_map(
//!         scores,
//!         |order| Request::get(format!("https://scores.example.org/{}", order.customer)),
//!         |order, answer| Rated { id: order.id, score: answer.ok().and_then(|response| response.text().parse().ok()) },
//!     )
//! }
//! ```
//!
//! # Who allows it
//!
//! The pipeline asks for the [origins](Http::origin) that it sends requests to, and the owner of the job grants them with
//! `jobctl run --allow-http https://scores.example.org`; without that the job does not start. `jobctl inspect` shows what a
//! pipeline asks for. A request to another origin is not made and fails alone; a redirect to another origin is not followed
//! and is itself the response.
//!
//! # What happens to rows
//!
//! - **Order.** [`Http::ordered`] gives rows on as they came; one slow answer holds up all behind it.
//!   [`Http::unordered`] gives them on as they are answered, but a watermark never overtakes a row nor is overtaken by one:
//!   what is late behind it would not have been late before it.
//! - **Bounds.** At most [`capacity`](Http::capacity) rows are under way in a subtask. Then it takes no more, and backpressure
//!   reaches the source.
//! - **Failures.** No row is lost: one whose request came to nothing goes to the second function with the [`HttpError`].
//!   `404` and `500` are responses; [`Response::is_success`] tells. To refuse rows use
//!   [`try_async_map`](crate::Stream::try_async_map).
//! - **Restarts.** Rows under way are part of checkpoints, and a checkpoint does not wait for their answers. Behind rows that
//!   wait for room it does, if [`capacity`](Http::capacity) is taken up, as behind any backpressure:
//!   `--unaligned-checkpoints` has it overtake them. After a restart requests are made again: a server may see a request more than once, as it may with retries. A request that changes
//!   something should say what it belongs to, as with a header `Idempotency-Key`.

mod answer;
mod settings;

pub use answer::{Answer, Header, HttpError, Request, Response};
pub use settings::{Http, Retry};
