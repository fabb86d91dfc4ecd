//! Query 18: the last bid of each bidder for each auction.

use millrace::prelude::*;

use crate::house::{Bid, House};

/// What tells the last bid from others: its time and, of several at one time, the price.
#[derive(Record, Clone, Copy, PartialEq, PartialOrd)]
struct Rank {
    date_time: Timestamp,
    price: i64,
}

/// Puts out each bid that is the last so far: the latest row of a bidder and auction replaces those before.
pub fn q18(house: &House<'_>) {
    let last = house
        .bids::<Bid>()
        .key_by((Bid::FIELDS.bidder, Bid::FIELDS.auction))
        .process(|setup| Last {
            rank: setup.value_state("rank"),
        })
        .uid("last");
    house.results(last, "price");
}

struct Last {
    rank: ValueState<Rank>,
}

impl KeyedProcess for Last {
    type In = Bid<'static>;
    type Key = (i64, i64);
    type Out = Bid<'static>;

    fn process(&mut self, bid: Bid<'_>, cx: &mut Context<'_, Self>) {
        let rank = Rank {
            date_time: bid.date_time,
            price: bid.price,
        };
        if self.rank.get().is_none_or(|last| rank > last) {
            self.rank.set(rank);
            cx.push(bid);
        }
    }
}
