//! Millrace's SDK for Rust: write a pipeline, compile it to one wasm component, run it.
//!
//! A pipeline is a function that describes a dataflow: sources, functions, keys, windows, sinks. The host runs
//! it, in as many copies as you like, keeps its state, and gives it rows in blocks. This page is the manual:
//! from an empty crate to a pipeline, then a section for each construct.
//!
//! # A first pipeline
//!
//! Begin with `jobctl new word-count`, or with a library crate of your own whose `Cargo.toml` says
//!
//! ```toml
//! [lib]
//! crate-type = ["cdylib"]
//!
//! [dependencies]
//! millrace-sdk = { path = "..." }
//! ```
//!
//! (the SDK is not published yet: `jobctl new` unpacks it and writes the path, which another crate can copy) and whose `src/lib.rs` is
//!
//! ```
//! use millrace::prelude::*;
//!
//! /// What comes in.
//! #[derive(Record)]
//! struct Line<'a> {
//!     text: &'a str,
//! }
//!
//! /// What flows between the functions, and out.
//! #[derive(Record)]
//! struct Word {
//!     word: String,
//!     n: i64,
//! }
//!
//! /// What the user of the pipeline sets.
//! #[derive(Parameters)]
//! struct Params {
//!     /// File, folder or glob to read
//!     input: String,
//! }
//!
//! #[millrace::pipeline]
//! fn word_count(flow: &Flow, params: Params) -> Result<()> {
//!     let lines: Stream<Rows<Line>> = flow.source("lines", Files::text(params.input));
//!     lines
//!         .flat_map(|line: Line<'_>, out: &mut Out<'_, Word>| {
//!             for word in line.text.split_whitespace() {
//!                 out.push(Word { word: word.to_lowercase(), n: 1 });
//!             }
//!         })
//!         .name("split")
//!         .key_by(Word::FIELDS.word)
//!         .sum(Word::FIELDS.n)
//!         .uid("count")
//!         .sink("out", Stdout::ndjson());
//!     Ok(())
//! }
//! # fn main() {}
//! ```
//!
//! `jobctl build` compiles it; `jobctl run word-count.wasm --param input=book.txt` runs it here and now:
//!
//! ```text
//! {"word":"the","n":1}
//! {"word":"wind","n":1}
//! {"word":"the","n":2}
//! ```
//!
//! What happened: the host built the dataflow once to learn its graph, and builds it again wherever functions
//! run, so `word_count` must do the same each time and leave heavy work to
//! [`KeyedProcess::open`]. `flat_map` runs in one loop over a block's columns.
//! `key_by` sends each word to the subtask that keeps its sum; the host hashes the column, no code of yours
//! runs for that. Two names matter: `name` is for people, `uid` finds the operator's state again after an
//! upgrade.
//!
//! # Records
//!
//! A stream has rows of one type, a struct with [`#[derive(Record)]`](macro@Record): each field is a column.
//! Fields are numbers, `bool`, text, bytes, times, decimals, and options, lists, maps, tuples, enums and other
//! records of those; [`values`] has the types of times, decimals and bytes. A record may borrow: `&str` fields are read in place, and
//! nothing is copied until you do. The stream of a borrowing record is `Stream<Rows<Line<'static>>>`, and its
//! functions see `Line<'a>`; in a function, `Rows<Line>` is short for it.
//!
//! In files and databases an enum has the names of its variants in lower case: `InFull` is `in_full`, and
//! `Click { page: 7 }` in JSON `{"tag": "click", "click": {"page": 7}}`.
//!
//! `Word::FIELDS.n` names a field, for keys, aggregates and event time, and the compiler checks its type.
//!
//! # Sources and sinks
//!
//! [`Flow::source`] reads from a connector and [`Stream::sink`] writes to one: [`Files`](connect::Files) (text,
//! CSV, JSON lines, Avro, Parquet), [`Stdin`](connect::Stdin) and [`Stdout`](connect::Stdout), [`Tcp`](connect::Tcp),
//! [`Webhook`](connect::Webhook), [`Postgres`](connect::Postgres), [`Sqlite`](connect::Sqlite), [`Redis`](connect::Redis),
//! [`Hybrid`](connect::Hybrid) for a history and then what is live, [`Generator`](connect::Generator) and [`Nexmark`](connect::Nexmark) for rows made up,
//! [`Discard`](connect::Discard) for rows only counted, and
//! [`Connector`](connect::Connector) for any other that the host has. They are described here and run in the
//! host.
//!
//! # Functions without state
//!
//! [`map`](Stream::map), [`filter`](Stream::filter), [`flat_map`](Stream::flat_map),
//! [`inspect`](Stream::inspect). Written one after the other they are fused into one loop, in which rows are
//! plain Rust values: nothing is encoded, boxed or called through a pointer between them. A function captures
//! what it needs by `move`; it must not keep anything between rows, for that would be lost when the job
//! restarts. State belongs to keys. A [`Process`](stream::Process), given to [`process`](Stream::process), is
//! opened and closed beside that, and has metrics.
//!
//! # Rows that cannot be processed
//!
//! [`try_map`](Stream::try_map) and [`try_flat_map`](Stream::try_flat_map) may refuse a row by returning an
//! error. [`on_reject`](Stream::on_reject) says what then happens: the job fails (the default), the row is
//! skipped and counted, or it is written to a file with its cause. A refused row leaves nothing behind.
//!
//! A panic is another matter: it stops the sandbox, and the job goes on from its last checkpoint, where the row comes again.
//! Who runs the job can have it go on without such rows, timers and windows (`jobctl run --on-trap quarantine`). That
//! is a net for mistakes, and slow: refuse what you know to be possible.
//!
//! ```
//! # use millrace::prelude::*;
//! # #[derive(Record)]
//! # struct Line<'a> { text: &'a str }
//! # #[derive(Record)]
//! # struct Price { cents: i64 }
//! fn prices(lines: Stream<Rows<Line<'static>>>) {
//!     lines
//!         .try_map(|line| match line.text.split_once('.') {
//!             Some((units, cents)) => Ok(Price { cents: units.parse::<i64>()? * 100 + cents.parse::<i64>()? }),
//!             None => Err("a price has a point".into()),
//!         } as Result<Price>)
//!         .on_reject(Reject::dead_letter("no-prices.ndjson"))
//!         .sink("prices", Stdout::ndjson());
//! }
//! ```
//!
//! A panic fails the job. The host says in which operator and at which row.
//!
//! # Keys
//!
//! [`key_by`](Stream::key_by) takes a field, a tuple of fields, or a function of the row, and gives a
//! [`KeyedStream`]. It has rolling aggregates, which put out one row for each row:
//! [`sum`](KeyedStream::sum), [`min`](KeyedStream::min), [`max`](KeyedStream::max),
//! [`min_by`](KeyedStream::min_by), [`max_by`](KeyedStream::max_by), [`reduce`](KeyedStream::reduce),
//! [`count`](KeyedStream::count). For everything else there are process functions and windows.
//!
//! # Process functions: state and timers
//!
//! A [`KeyedProcess`] has states as fields: [`ValueState`](state::ValueState),
//! [`ListState`](state::ListState), [`MapState`](state::MapState), and [large ones](#large-maps-and-lists). In `process` and
//! `on_timer` they are those of the row's key. The host saves them, moves them when the job is rescaled, and frees keys whose states are all
//! cleared.
//!
//! ```
//! # use millrace::prelude::*;
//! # #[derive(Record, Clone)]
//! # struct Login { user: i64, ok: bool, at: Timestamp }
//! # #[derive(Record)]
//! # struct Alarm { user: i64, failures: i64 }
//! /// Raises an alarm at three failures within a minute.
//! struct Guard { failures: ValueState<i64> }
//!
//! impl KeyedProcess for Guard {
//!     type In = Login;
//!     type Key = i64;
//!     type Out = Alarm;
//!
//!     fn process(&mut self, login: Login, cx: &mut Context<'_, Self>) {
//!         if login.ok {
//!             return self.failures.clear();
//!         }
//!         let failures = self.failures.update(|failures| { *failures += 1; *failures });
//!         match failures {
//!             1 => cx.set_event_timer(login.at + Duration::from_secs(60)),
//!             3 => cx.push(Alarm { user: login.user, failures }),
//!             _ => {}
//!         }
//!     }
//!
//!     fn on_timer(&mut self, _timer: Timer<i64>, _cx: &mut Context<'_, Self>) {
//!         self.failures.clear();
//!     }
//! }
//!
//! fn guard(logins: Stream<Rows<Login>>) {
//!     logins
//!         .watermarks(Watermarks::bounded(Login::FIELDS.at, Duration::from_secs(5)))
//!         .key_by(Login::FIELDS.user)
//!         .process(|setup| Guard { failures: setup.value_state("failures") })
//!         .uid("guard")
//!         .sink("alarms", Stdout::ndjson());
//! }
//! ```
//!
//! State that is kept for as many keys as ever come grows for ever. Either the function clears it, or it has a [time to
//! live](state::Ttl): `setup.ttl(&seen, Ttl::after(Duration::from_secs(3600)))`, and `.sum(..).ttl(..)` of a rolling
//! aggregate.
//!
//! # Large maps and lists
//!
//! Where rows have no key a [`StatefulProcess`] has lists that belong to its subtask.
//!
//! The states above are in the pipeline's memory, and each is saved as a whole when it changed: fit for a value, or a few dozen
//! entries. A [`LargeMap`](state::LargeMap) or [`LargeList`](state::LargeList) may have millions of entries for one key. They
//! live in the host, in memory or on disk (`--state-backend rocksdb`), an entry is read when it is asked for, and a checkpoint
//! holds the entries that changed.
//!
//! ```
//! # use millrace::prelude::*;
//! # #[derive(Record, Clone)]
//! # struct Click { campaign: i64, visitor: String, at: Timestamp }
//! # #[derive(Record)]
//! # struct Reach { campaign: i64, visitors: i64 }
//! /// Counts the visitors of a campaign, each once, and tells after every thousand.
//! struct Visitors { seen: LargeMap<String, Timestamp>, count: ValueState<i64> }
//!
//! impl KeyedProcess for Visitors {
//!     type In = Click;
//!     type Key = i64;
//!     type Out = Reach;
//!
//!     fn process(&mut self, click: Click, cx: &mut Context<'_, Self>) {
//!         if self.seen.contains(&click.visitor) {
//!             return;
//!         }
//!         self.seen.insert(click.visitor, click.at);
//!         let visitors = self.count.update(|count| { *count += 1; *count });
//!         if visitors % 1_000 == 0 {
//!             cx.push(Reach { campaign: click.campaign, visitors });
//!         }
//!     }
//! }
//!
//! fn reach(clicks: Stream<Rows<Click>>) {
//!     clicks
//!         .key_by(Click::FIELDS.campaign)
//!         .process(|setup| Visitors { seen: setup.large_map("seen"), count: setup.value_state("count") })
//!         .uid("reach")
//!         .sink("out", Stdout::ndjson());
//! }
//! ```
//!
//! A read that the host has to answer takes some two microseconds, many times what a `MapState` takes; what was read is
//! remembered until the block is done, and [`get_all`](state::LargeMap::get_all) asks for many keys at once. Writing waits for
//! nothing. [`iter`](state::LargeMap::iter) and [`iter_from`](state::LargeMap::iter_from) go through entries in the order of
//! their keys, in pieces, so that a map by time can be read from a time on. Maps and lists that are empty cost nothing, and
//! unlike other states they do not keep their key alive. With a [time to live](state::Ttl) each entry has its own. A state cannot become a large one, or the other way round, under
//! its name: declare another, and move what a key has when the key is next seen.
//!
//! # State that changes
//!
//! A job goes on from a checkpoint or savepoint that an earlier version of its code has left (`jobctl run --from`). What is
//! stored is converted by names, at any depth, for states, accumulators of windows, and keys:
//!
//! | change | what happens |
//! | --- | --- |
//! | a new field that is an `Option` | it is `None` |
//! | a new field with `#[record(default)]`, `#[record(default = 5)]` | zero, false, empty, the first variant; the value |
//! | a field that is gone | it is dropped |
//! | a field or variant with another name and `#[record(alias = "old")]` | it goes on |
//! | fields or variants in another order | nothing: both go by name |
//! | `i32` to `i64`, `u8` to `i16`, `f32` to `f64`, `i32` to `f64`, any integer to a `Decimal` with enough digits, more digits, `Date` to a local timestamp, finer timestamps, `String` to `Bytes` | widened |
//! | `T` to `Option<T>` | nothing is lost |
//! | `Option<T>` to `T` with a default | `None` becomes the default |
//! | a variant that is gone | fine as long as no value is of it |
//! | a state with another name and [`Setup::alias`](process::Setup::alias) | it goes on |
//! | a state that gets a time to live | it begins at the start of the job |
//! | one that loses it | what has not expired stays |
//! | one whose time to live changes | once it is renewed |
//!
//! Everything else is refused before anything runs, by operator, state and field, unless
//! [`Setup::migrate`](process::Setup::migrate) converts exactly what is stored; entries of large states are converted by the
//! rules alone. The fields of a key keep their number and
//! order, and become wider only where that leaves a key in its key group: integers, digits of decimals, `String` to `Bytes`.
//! Windows cannot change, neither their kind nor their length, slide, gap, offset or clock: what is open would be wrong. Those
//! that get a trigger or an evictor, or lose it, are kept by the pipeline and not by the host, or the other way round, which is
//! a change as well. Let such an operator begin anew under another uid.
//! Count windows and interval joins may get other sizes and bounds, and triggers other parameters: they hold what they held, so the
//! first results are of what the smaller size had kept.
//! `jobctl check --from SAVEPOINT pipeline.wasm` tells what will happen.
//!
//! ```
//! use millrace::prelude::*;
//!
//! /// Once `{ sum: i32, name: String }`.
//! #[derive(Record, Clone)]
//! struct Account {
//!     #[record(alias = "sum")]
//!     cents: i64,
//!     name: Option<String>,
//!     #[record(default = "EUR")]
//!     currency: String,
//! }
//! ```
//!
//! # Event time
//!
//! [`watermarks`](Stream::watermarks) gives each row its time, from a field or a function, and says how far
//! event time has come: "no row before this will come". Timers and windows go by that, so the result is the
//! same whether rows come live or from a file. Rows that come after all are late.
//!
//! Rows may say themselves how far event time has come ([`punctuated`](stream::Watermarks::punctuated)), or have the time at
//! which they were read ([`ingestion`](stream::Watermarks::ingestion)); event time may also stay behind the clock, whether
//! rows come or not ([`behind_clock`](stream::Watermarks::behind_clock)). Sources that give rows of very different times, such
//! as a long history and a live stream, need not run away from each other: [`aligned`](stream::Watermarks::aligned).
//!
//! # Windows
//!
//! [`window`](KeyedStream::window) gathers the rows of a key: in [`Tumbling`](window::Tumbling) or
//! [`Sliding`](window::Sliding) windows or in a [`Session`](window::Session), of event time or (`.processing_time()`) of
//! the clock, in [`GlobalWindows`](window::GlobalWindows), or in windows of your own
//! ([`WindowAssigner`](window::WindowAssigner)). [`count_window`](KeyedStream::count_window) gathers so many rows, and
//! [`window_all`](Stream::window_all) the rows of all keys. When the watermark passes a window's end, its result is put out:
//!
//! | function | is |
//! | --- | --- |
//! | [`count`](WindowedStream::count), [`sum`](WindowedStream::sum), [`min`](WindowedStream::min), [`max`](WindowedStream::max), [`min_by`](WindowedStream::min_by), [`max_by`](WindowedStream::max_by) | ready-made |
//! | [`reduce`](WindowedStream::reduce), [`aggregate_with`](WindowedStream::aggregate_with), [`aggregate`](WindowedStream::aggregate) | by closures, or an [`Aggregate`](window::Aggregate); an accumulator is kept, not the rows |
//! | [`process`](WindowedStream::process), [`apply`](WindowedStream::apply) | of all rows, which are kept |
//! | [`reduce_process`](WindowedStream::reduce_process), [`aggregate_process`](WindowedStream::aggregate_process) | an accumulator is kept, and its result goes to a function that may put out anything |
//! | [`process_with`](WindowedStream::process_with), [`aggregate_process_with`](WindowedStream::aggregate_process_with), [`reduce_process_with`](WindowedStream::reduce_process_with) | a [`WindowProcess`](window::WindowProcess) with states of the key and of the window |
//!
//! [`allowed_lateness`](WindowedStream::allowed_lateness) lets late rows in: they make the window fire again, with all that
//! it has, as an update of what it put out, at each row or once for those of a block. [`late_output`](WindowedStream::late_output) gets rows that are later still.
//!
//! A [`trigger`](WindowedStream::trigger) says when a window fires instead, and an [`evictor`](WindowedStream::evictor)
//! which of its rows are left out:
//!
//! ```
//! # use millrace::prelude::*;
//! # #[derive(Record, Clone)]
//! # struct Sale { shop: String, cents: i64, at: Timestamp }
//! /// The turnover of the day so far every minute, and at its end.
//! fn turnover(sales: KeyedStream<Sale, String>) {
//!     sales
//!         .window(Tumbling::of(Duration::from_secs(24 * 3600)))
//!         .trigger(ContinuousEventTimeTrigger::of(Duration::from_secs(60)))
//!         .sum(Sale::FIELDS.cents)
//!         .sink("so-far", Stdout::ndjson());
//! }
//!
//! /// The dearest of the last ten sales, at every sale.
//! fn dearest(sales: KeyedStream<Sale, String>) {
//!     sales
//!         .window(GlobalWindows)
//!         .trigger(CountTrigger::of(1))
//!         .evictor(CountEvictor::of(10))
//!         .max(Sale::FIELDS.cents)
//!         .sink("dearest", Stdout::ndjson());
//! }
//! ```
//!
//! [What surprises](window#what-surprises) about them is said with the types.
//!
//! What windows hold need not fit into memory: accumulators leave the instance when there are too many and come
//! back when they are needed, one by one. An accumulator itself has to fit, so over many rows prefer an aggregate to
//! [`process`](WindowedStream::process). Results of one window come in no particular order of keys.
//!
//! # Two streams
//!
//! [`connect`](KeyedStream::connect) brings two streams of different rows to one function: `map` and `flat_map` have a
//! closure for each, and [`process`](connected::ConnectedKeyedStreams::process) a [`CoProcess`], whose state and timers
//! both streams share; [without keys](connected::ConnectedStreams::process) it is a [`StatefulCoProcess`], with lists of the
//! subtask. In which order rows of the two come is not said.
//!
//! [`connect_broadcast`](KeyedStream::connect_broadcast) brings a stream of rules to every subtask, where a
//! [`KeyedBroadcastProcess`] keeps them in a [`BroadcastState`](state::BroadcastState), and may be
//! [applied](KeyedBroadcastProcess::apply) to every key; beside a stream without keys
//! ([`Stream::connect_broadcast`]) a [`BroadcastProcess`] does.
//!
//! [`join`](KeyedStream::join), [`left_join`](KeyedStream::left_join), [`right_join`](KeyedStream::right_join) and
//! [`full_join`](KeyedStream::full_join) put pairs of rows with equal keys out that are in the same
//! [`window`](join::JoinedStreams::window); [`co_group`](KeyedStream::co_group) hands all rows of a window to one function. Both take
//! windows of any kind, also with a [`trigger`](join::WindowedJoin::trigger) or an [`evictor`](join::WindowedJoin::evictor), and
//! keep rows until their window has fired. The same joins with [`between`](join::JoinedStreams::between) are interval joins: rows are
//! partners that are not too far apart, and wait for each other as long as the watermark allows.
//! [`temporal_join`](KeyedStream::temporal_join) puts each row out with the row of the other stream that was valid at its time.
//!
//! # Asking servers
//!
//! [`async_map`](Stream::async_map) has the host make an HTTP request for each row, many at a time, and gives row and answer
//! to a function; [`http`] says in which order, how often, and who allows it.
//!
//! # Shape of the graph
//!
//! [`share`](Stream::share) ends the fused loop, so that several streams can follow;
//! [`union`](Stream::union) joins streams of one type; [`forward`](Stream::forward), [`rebalance`](Stream::rebalance),
//! [`rescale`](Stream::rescale), [`shuffle`](Stream::shuffle), [`partition_custom`](Stream::partition_custom),
//! [`broadcast`](Stream::broadcast) and [`global`](Stream::global) say which subtask gets a row. Side outputs
//! ([`OutputTag`]) put out rows of another type beside the main output.
//!
//! A pipeline is taken apart by functions over streams:
//!
//! ```
//! # use millrace::prelude::*;
//! # #[derive(Record, Clone)]
//! # struct Sale { shop: String, cents: i64 }
//! fn without_refunds(sales: Stream<impl Chain<Out = Sale>>) -> Stream<impl Chain<Out = Sale>> {
//!     sales.filter(|sale| sale.cents > 0)
//! }
//!
//! fn totals(sales: Stream<Rows<Sale>>) {
//!     without_refunds(sales).key_by(Sale::FIELDS.shop).sum(Sale::FIELDS.cents).sink("totals", Stdout::ndjson());
//! }
//! ```
//!
//! # Parameters
//!
//! [`#[derive(Parameters)]`](macro@Parameters) declares what `--param name=value` sets. The function's second
//! argument has the values; it may be left out. Text in doc comments is the help that `jobctl` shows.
//!
//! # Logs, metrics, the clock
//!
//! [`info!`] and its relatives write to the job's log. A process function declares counters, gauges and
//! histograms in its [`Setup`]. [`environment`] has the clock and random numbers; a pipeline has no files, no
//! network, no other clock and no standard output: what `println!` and `eprintln!` write is lost.
//!
//! # Tests
//!
//! Pipelines compile natively as well, and `cargo test` runs them: module `testing` has a job in
//! which a test gives rows in place of sources, moves event time and the clock, and looks at what came out, at states and at
//! timers. It restarts jobs in the middle, at another parallelism or in a changed version, and puts rows out of order.
//!
//! ```
//! use millrace::prelude::*;
//! use millrace::testing::Job;
//!
//! #[derive(Record, Clone)]
//! struct Click { user: i64, at: Timestamp }
//!
//! fn clicks_a_minute(flow: &Flow) {
//!     flow.source("clicks", Stdin::ndjson::<Click>())
//!         .watermarks(Watermarks::monotonic(Click::FIELDS.at))
//!         .key_by(Click::FIELDS.user)
//!         .window(Tumbling::of(Duration::from_secs(60)))
//!         .count()
//!         .sink("counts", Stdout::ndjson());
//! }
//!
//! let mut job = Job::new(clicks_a_minute);
//! for second in [1, 2, 61] {
//!     job.push("clicks", Click { user: 7, at: Timestamp::from_millis(second * 1_000) });
//! }
//! assert_eq!(job.rows::<Windowed<i64, i64>>("counts")[0].value, 2);
//! ```
//!
//! # What it compiles to
//!
//! The exports of the world `millrace:pipeline`, described line by line in the project's `wit/` folder, which is
//! also where to look for exactly what the host promises.
#![deny(unsafe_code)]
#![warn(missing_docs)]

// Derived code names this crate `::millrace`, also in this crate's own tests.
extern crate self as millrace;

#[doc(hidden)]
pub mod abi;
#[doc(hidden)]
pub mod bindings;
pub mod block;
pub mod chain;
pub mod connect;
pub mod connected;
mod contract;
pub mod environment;
mod flow;
mod graph;
#[cfg(not(target_arch = "wasm32"))]
#[doc(hidden)]
pub mod harness;
pub mod http;
pub mod join;
pub mod keyed;
pub mod log;
pub mod lookup;
pub mod metrics;
mod open;
pub mod parameters;
pub mod pattern;
mod position;
pub mod prelude;
pub mod process;
mod results;
pub mod schema;
mod side;
pub mod state;
pub mod stream;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
mod time;
pub mod value;
pub mod values;
pub mod window;

pub use flow::Flow;
pub use keyed::KeyedStream;
pub use millrace_sdk_derive::{Parameters, Record, pipeline};
pub use open::OpenContext;
pub use parameters::Parameters;
pub use pattern::{AfterMatch, Pattern};
pub use process::{
    BroadcastProcess, CoProcess, KeyedBroadcastProcess, KeyedProcess, OperatorSetup, Setup, StatefulCoProcess,
    StatefulProcess,
};
pub use results::{Counted, Windowed};
pub use side::OutputTag;
pub use stream::{Out, Stream};
pub use value::{FieldRef, Owned, Record, Value};
pub use window::WindowedStream;

/// What a function that builds a dataflow returns; any error or message goes into it by `?`.
pub type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// The README's pipeline compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
