//! Query 7: the highest bids of each ten seconds.

use millrace::prelude::*;

use crate::house::House;

#[derive(Record)]
struct Bid<'a> {
    auction: i64,
    price: i64,
    bidder: i64,
    date_time: Timestamp,
    extra: &'a str,
}

/// A bid that is kept.
#[derive(Record, Clone)]
struct Kept {
    auction: i64,
    price: i64,
    bidder: i64,
    date_time: Timestamp,
    extra: String,
}

/// All bids of the highest price in a window.
#[derive(Record, Clone)]
struct Highest {
    window_end: Timestamp,
    price: i64,
    bids: Vec<Kept>,
}

const LENGTH: Duration = Duration::from_secs(10);

/// The highest of each auction first, so that the work is spread; then of all.
pub fn q7(house: &House<'_>) {
    let of_auctions = house
        .bids::<Bid>()
        .watermarks(Watermarks::monotonic(Bid::FIELDS.date_time))
        .key_by(Bid::FIELDS.auction)
        .window(Tumbling::of(LENGTH))
        .aggregate(OfAuction)
        .uid("of-auctions");
    let of_all = of_auctions
        .key_by(Highest::FIELDS.window_end)
        .window(Tumbling::of(LENGTH))
        .aggregate(OfAll)
        .uid("of-all");
    let bids =
        of_all.flat_map(|highest, out: &mut Out<'_, Kept>| highest.bids.into_iter().for_each(|bid| out.push(bid)));
    house.results(bids, "price");
}

impl Highest {
    fn none() -> Self {
        Highest {
            window_end: Timestamp::from_millis(0),
            price: i64::MIN,
            bids: Vec::new(),
        }
    }

    /// Takes a price; whether its bids belong to the highest.
    fn is_reached(&mut self, price: i64) -> bool {
        if price > self.price {
            self.price = price;
            self.bids.clear();
        }
        price == self.price
    }

    fn merge(&mut self, other: &Highest) {
        if self.is_reached(other.price) {
            self.bids.extend_from_slice(&other.bids);
        }
    }

    fn until(&self, window: Window) -> Self {
        Highest {
            window_end: window.end,
            ..self.clone()
        }
    }
}

struct OfAuction;

impl Aggregate for OfAuction {
    type In = Bid<'static>;
    type Key = i64;
    type Acc = Highest;
    type Out = Highest;

    fn create(&self) -> Highest {
        Highest::none()
    }

    fn add(&self, highest: &mut Highest, bid: Bid<'_>) {
        if highest.is_reached(bid.price) {
            highest.bids.push(Kept {
                auction: bid.auction,
                price: bid.price,
                bidder: bid.bidder,
                date_time: bid.date_time,
                extra: bid.extra.to_owned(),
            });
        }
    }

    fn merge(&self, highest: &mut Highest, other: &Highest) {
        highest.merge(other);
    }

    fn finish(&self, _auction: i64, window: Window, highest: &Highest) -> Highest {
        highest.until(window)
    }
}

struct OfAll;

impl Aggregate for OfAll {
    type In = Highest;
    type Key = Timestamp;
    type Acc = Highest;
    type Out = Highest;

    fn create(&self) -> Highest {
        Highest::none()
    }

    fn add(&self, highest: &mut Highest, other: Highest) {
        highest.merge(&other);
    }

    fn merge(&self, highest: &mut Highest, other: &Highest) {
        highest.merge(other);
    }

    fn finish(&self, _window_end: Timestamp, window: Window, highest: &Highest) -> Highest {
        highest.until(window)
    }
}
