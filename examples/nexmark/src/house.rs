//! The house of auctions: its tables, and where results go.

use std::cell::Cell;

use millrace::prelude::*;

use crate::Params;

/// A person, whole.
#[derive(Record)]
pub struct Person<'a> {
    pub id: i64,
    pub name: &'a str,
    pub email_address: &'a str,
    pub credit_card: &'a str,
    pub city: &'a str,
    pub state: &'a str,
    pub date_time: Timestamp,
    pub extra: &'a str,
}

/// An auction, whole.
#[derive(Record)]
pub struct Auction<'a> {
    pub id: i64,
    pub item_name: &'a str,
    pub description: &'a str,
    pub initial_bid: i64,
    pub reserve: i64,
    pub date_time: Timestamp,
    pub expires: Timestamp,
    pub seller: i64,
    pub category: i64,
    pub extra: &'a str,
}

/// A bid, whole.
#[derive(Record)]
pub struct Bid<'a> {
    pub auction: i64,
    pub bidder: i64,
    pub price: i64,
    pub channel: &'a str,
    pub url: &'a str,
    pub date_time: Timestamp,
    pub extra: &'a str,
}

/// Of a table that the query does not read.
#[derive(Record)]
struct Unread {
    date_time: Timestamp,
}

/// Makes sources and sinks as the parameters say.
pub struct House<'f> {
    flow: &'f Flow,
    params: &'f Params,
    persons: Cell<bool>,
    auctions: Cell<bool>,
    bids: Cell<bool>,
}

impl<'f> House<'f> {
    pub fn new(flow: &'f Flow, params: &'f Params) -> Self {
        House {
            flow,
            params,
            persons: Cell::new(false),
            auctions: Cell::new(false),
            bids: Cell::new(false),
        }
    }

    /// Those who sell and bid; what the query does not read of them is not in the record.
    pub fn persons<T: Record>(&self) -> Stream<Rows<T>> {
        self.persons.set(true);
        self.table("persons", Nexmark::persons())
    }

    pub fn auctions<T: Record>(&self) -> Stream<Rows<T>> {
        self.auctions.set(true);
        self.table("auctions", Nexmark::auctions())
    }

    pub fn bids<T: Record>(&self) -> Stream<Rows<T>> {
        self.bids.set(true);
        self.table("bids", Nexmark::bids())
    }

    fn table<T: Record>(&self, name: &str, table: Nexmark<T>) -> Stream<Rows<T>> {
        let Params {
            events,
            event_rate,
            seed,
            whole,
            ..
        } = *self.params;
        let table = table.events(events).event_rate(event_rate).seed(seed);
        self.flow.source(name, if whole { table.all_columns() } else { table })
    }

    /// Results, of which a column is summed up if they are only counted.
    pub fn results<C: Chain>(&self, results: Stream<C>, sum: &str) {
        match &self.params.output {
            Some(folder) => results.sink("results", Files::to_parquet(folder)),
            None => results.sink("results", Discard::new().sum(sum)),
        };
    }

    pub fn copy_persons(&self) {
        self.results(self.persons::<Person>(), "id");
    }

    pub fn copy_auctions(&self) {
        self.results(self.auctions::<Auction>(), "reserve");
    }

    pub fn copy_bids(&self) {
        self.results(self.bids::<Bid>(), "price");
    }

    /// With whole tables: makes those that the query has not read as well.
    pub fn read_others(&self) {
        if !self.params.whole {
            return;
        }
        if !self.persons.get() {
            self.persons::<Unread>().sink("persons unread", Discard::new());
        }
        if !self.auctions.get() {
            self.auctions::<Unread>().sink("auctions unread", Discard::new());
        }
        if !self.bids.get() {
            self.bids::<Unread>().sink("bids unread", Discard::new());
        }
    }
}
