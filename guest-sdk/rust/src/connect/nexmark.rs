//! The tables of the Nexmark benchmark.

use std::marker::PhantomData;

use super::options::{Options, any_option};
use super::{Description, Reject, Source};
use crate::value::Record;

/// Makes persons, auctions and bids of an online auction, as the benchmark Nexmark has them.
///
/// Of each fifty events one is a person, three are auctions and the rest bids; sources of the same number of events, rate
/// and seed make tables that belong together. Fields of the record are columns by name, in any order and any part:
///
/// - persons: `id`, `name`, `email_address`, `credit_card`, `city`, `state`, `date_time`, `extra`;
/// - auctions: `id`, `item_name`, `description`, `initial_bid`, `reserve`, `date_time`, `expires`, `seller`, `category`,
///   `extra`;
/// - bids: `auction`, `bidder`, `price`, `channel`, `url`, `date_time`, `extra`.
///
/// Numbers are `i64`, and times [`Timestamp`](crate::values::Timestamp). Times never go back.
///
/// ```
/// use millrace::prelude::*;
///
/// #[derive(Record)]
/// struct Bid { auction: i64, price: i64, date_time: Timestamp }
///
/// fn bids(flow: &Flow) -> Stream<Rows<Bid>> {
///     let bids = Nexmark::bids().events(1_000_000);
///     flow.source("bids", bids).watermarks(Watermarks::monotonic(Bid::FIELDS.date_time))
/// }
/// ```
#[derive(Debug)]
pub struct Nexmark<T> {
    options: Options,
    record: PhantomData<fn() -> T>,
}

impl<T: Record> Nexmark<T> {
    /// Those who sell and bid.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// #[derive(Record)]
    /// struct Person { id: i64, state: String }
    /// let persons = Nexmark::<Person>::persons();
    /// ```
    pub fn persons() -> Self {
        Nexmark::table("person")
    }

    /// What is to be sold.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// #[derive(Record)]
    /// struct Auction { id: i64, seller: i64, expires: Timestamp }
    /// let auctions = Nexmark::<Auction>::auctions();
    /// ```
    pub fn auctions() -> Self {
        Nexmark::table("auction")
    }

    /// What is offered for it.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// #[derive(Record)]
    /// struct Bid { auction: i64, bidder: i64, price: i64 }
    /// let bids = Nexmark::<Bid>::bids();
    /// ```
    pub fn bids() -> Self {
        Nexmark::table("bid")
    }

    fn table(name: &str) -> Self {
        let nexmark = Nexmark {
            options: Options::default(),
            record: PhantomData,
        };
        nexmark.option("table", name)
    }

    /// Ends after so many events, of which this table has its part. Without it events come without end.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)] struct Bid { price: i64 }
    /// let bids = Nexmark::<Bid>::bids().events(50_000); // 46,000 bids
    /// ```
    pub fn events(self, events: u64) -> Self {
        self.option("events", events)
    }

    /// So many events take place per second of event time; 10,000 if nothing is said. They are made as fast as can be.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)] struct Bid { price: i64 }
    /// let bids = Nexmark::<Bid>::bids().event_rate(1_000_000);
    /// ```
    pub fn event_rate(self, events_per_second: u64) -> Self {
        self.option("event-rate", events_per_second)
    }

    /// Other values.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)] struct Bid { price: i64 }
    /// let bids = Nexmark::<Bid>::bids().seed(7);
    /// ```
    pub fn seed(self, seed: u64) -> Self {
        self.option("seed", seed)
    }

    /// Makes all columns of the table, also those that the record does not have: what is measured is then the work of the
    /// whole benchmark, and not less the less a query reads.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)] struct Bid { price: i64 }
    /// let bids = Nexmark::<Bid>::bids().all_columns();
    /// ```
    pub fn all_columns(self) -> Self {
        self.option("all-columns", true)
    }

    any_option!("let bids = Nexmark::<Row>::bids().option(\"first-time\", \"1700000000000\");");
}

impl<T: Record> Source for Nexmark<T> {
    type Record = T;

    fn into_description(self) -> Description {
        Description {
            kind: "nexmark".to_owned(),
            options: self.options.into_list(),
            on_reject: Reject::Fail,
        }
    }
}
