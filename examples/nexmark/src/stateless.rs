//! Queries that look at each bid by itself: q0, q1, q2.

use millrace::prelude::*;

use crate::house::House;

#[derive(Record)]
struct Bid<'a> {
    auction: i64,
    bidder: i64,
    price: i64,
    date_time: Timestamp,
    extra: &'a str,
}

/// A bid in euros.
#[derive(Record)]
struct Converted<'a> {
    auction: i64,
    bidder: i64,
    price: Decimal<23, 3>,
    date_time: Timestamp,
    extra: &'a str,
}

#[derive(Record)]
struct Price {
    auction: i64,
    price: i64,
}

/// Euros for a thousand dollars.
const EUROS: i64 = 908;

/// Every how manieth auction is selected.
const SELECTED_EVERY: i64 = 123;

/// Passes bids through a function that changes nothing.
pub fn q0(house: &House<'_>) {
    let bids = house.bids::<Bid>();
    let passed = bids.flat_map(|bid: Bid<'_>, out: &mut Out<'_, Bid<'static>>| out.push(bid));
    house.results(passed.name("pass"), "price");
}

/// Converts prices.
pub fn q1(house: &House<'_>) {
    let bids = house.bids::<Bid>();
    let converted = bids.flat_map(|bid: Bid<'_>, out: &mut Out<'_, Converted<'static>>| {
        out.push(Converted {
            auction: bid.auction,
            bidder: bid.bidder,
            price: Decimal::from_units(i128::from(bid.price * EUROS)),
            date_time: bid.date_time,
            extra: bid.extra,
        });
    });
    house.results(converted.name("convert"), "price");
}

/// Selects bids for certain auctions.
pub fn q2(house: &House<'_>) {
    let selected = house.bids::<Price>().filter(|bid| bid.auction % SELECTED_EVERY == 0);
    house.results(selected.name("select"), "price");
}
