//! Queries over the winning bids of auctions: the average by category (q4), and by seller (q6).

use millrace::prelude::*;

use crate::house::House;

#[derive(Record)]
struct Auction {
    id: i64,
    date_time: Timestamp,
    expires: Timestamp,
    seller: i64,
    category: i64,
}

#[derive(Record)]
struct Bid {
    auction: i64,
    price: i64,
    date_time: Timestamp,
}

/// The highest bid of an auction that is closed.
#[derive(Record)]
struct Winner {
    group: i64,
    auction: i64,
    price: i64,
}

/// A bid that came before its auction.
#[derive(Record, Clone)]
struct Early {
    price: i64,
    date_time: Timestamp,
}

/// What is known of an auction.
#[derive(Record, Clone)]
enum Lot {
    Unknown(Vec<Early>),
    Open(Open),
    /// Until when that is kept.
    Closed(Timestamp),
}

#[derive(Record, Clone)]
struct Open {
    date_time: Timestamp,
    expires: Timestamp,
    group: i64,
    highest: Option<i64>,
}

/// How long it is known that an auction is closed, so that bids which come too late are not kept.
const CLOSED: Duration = Duration::from_secs(10);

/// How many of a seller's auctions are averaged.
const RECENT: usize = 10;

/// Joins bids with auctions that are open, and puts the highest out when an auction closes.
fn winning(house: &House<'_>, group: fn(&Auction) -> i64) -> Stream<impl Chain<Out = Winner>> {
    let auctions = house
        .auctions::<Auction>()
        .watermarks(Watermarks::monotonic(Auction::FIELDS.date_time));
    let bids = house
        .bids::<Bid>()
        .watermarks(Watermarks::monotonic(Bid::FIELDS.date_time));
    auctions
        .key_by(Auction::FIELDS.id)
        .connect(bids.key_by(Bid::FIELDS.auction))
        .process(move |setup| Winning {
            lot: setup.value_state("lot"),
            group,
        })
        .uid("winning")
}

struct Winning {
    lot: ValueState<Lot>,
    /// What the query groups auctions by.
    group: fn(&Auction) -> i64,
}

impl CoProcess for Winning {
    type First = Auction;
    type Second = Bid;
    type Key = i64;
    type Out = Winner;

    fn process_first(&mut self, auction: Auction, cx: &mut CoContext<'_, Self>) {
        let mut open = Open {
            date_time: auction.date_time,
            expires: auction.expires,
            group: (self.group)(&auction),
            highest: None,
        };
        if let Some(Lot::Unknown(early)) = self.lot.take() {
            early.iter().for_each(|bid| open.bid(bid.price, bid.date_time));
        }
        cx.set_event_timer(open.expires);
        self.lot.set(Lot::Open(open));
    }

    fn process_second(&mut self, bid: Bid, cx: &mut CoContext<'_, Self>) {
        self.lot.update(|lot| match lot {
            Lot::Open(open) => open.bid(bid.price, bid.date_time),
            Lot::Closed(_) => {}
            Lot::Unknown(early) => {
                if early.is_empty() {
                    cx.set_event_timer(bid.date_time);
                }
                early.push(Early {
                    price: bid.price,
                    date_time: bid.date_time,
                });
            }
        });
    }

    fn on_timer(&mut self, timer: Timer<i64>, cx: &mut CoContext<'_, Self>) {
        match self.lot.take() {
            Some(Lot::Open(open)) if open.expires <= timer.time => {
                if let Some(price) = open.highest {
                    cx.push(Winner {
                        group: open.group,
                        auction: timer.key,
                        price,
                    });
                }
                let until = open.expires + CLOSED;
                cx.set_event_timer(until);
                self.lot.set(Lot::Closed(until));
            }
            Some(Lot::Unknown(mut early)) => {
                // Their auction would have come by now.
                early.retain(|bid| bid.date_time > timer.time);
                if let Some(next) = early.first() {
                    cx.set_event_timer(next.date_time);
                    self.lot.set(Lot::Unknown(early));
                }
            }
            Some(Lot::Closed(until)) if until <= timer.time => {}
            // A timer for bids whose auction has come.
            Some(other) => self.lot.set(other),
            None => {}
        }
    }
}

impl Open {
    fn bid(&mut self, price: i64, date_time: Timestamp) {
        if self.date_time <= date_time && date_time <= self.expires {
            self.highest = self.highest.max(Some(price));
        }
    }
}

impl Default for Lot {
    fn default() -> Self {
        Lot::Unknown(Vec::new())
    }
}

/// The average of all winning bids of a category so far.
#[derive(Record)]
struct CategoryAverage {
    id: i64,
    r#final: i64,
    /// How many there are.
    auctions: i64,
}

#[derive(Record, Clone, Default)]
struct Total {
    sum: i64,
    auctions: i64,
}

pub fn q4(house: &House<'_>) {
    let averages = winning(house, |auction| auction.category)
        .key_by(Winner::FIELDS.group)
        .process(|setup| OfCategory {
            total: setup.value_state("total"),
        })
        .uid("averages");
    house.results(averages, "auctions");
}

struct OfCategory {
    total: ValueState<Total>,
}

impl KeyedProcess for OfCategory {
    type In = Winner;
    type Key = i64;
    type Out = CategoryAverage;

    fn process(&mut self, winner: Winner, cx: &mut Context<'_, Self>) {
        let total = self.total.update(|total| {
            total.sum += winner.price;
            total.auctions += 1;
            total.clone()
        });
        cx.push(CategoryAverage {
            id: winner.group,
            r#final: total.sum / total.auctions,
            auctions: total.auctions,
        });
    }
}

/// The average of a seller's last winning bids, when one of their auctions closes.
#[derive(Record)]
struct SellerAverage {
    seller: i64,
    avg_price: i64,
}

/// What an auction went for.
#[derive(Record, Clone)]
struct Sold {
    closed: Timestamp,
    auction: i64,
    price: i64,
}

pub fn q6(house: &House<'_>) {
    let averages = winning(house, |auction| auction.seller)
        .key_by(Winner::FIELDS.group)
        .process(|setup| OfSeller {
            closing: setup.list_state("closing"),
            recent: setup.list_state("recent"),
        })
        .uid("averages");
    house.results(averages, "avg_price");
}

struct OfSeller {
    /// Auctions whose time has not come.
    closing: ListState<Sold>,
    /// Prices of the last before.
    recent: ListState<i64>,
}

impl KeyedProcess for OfSeller {
    type In = Winner;
    type Key = i64;
    type Out = SellerAverage;

    /// Auctions come in any order until the watermark has passed: they are put in order once all are there. One timer for a
    /// seller will do, for it takes all that the watermark has passed.
    fn process(&mut self, winner: Winner, cx: &mut Context<'_, Self>) {
        let Some(closed) = cx.timestamp() else { return };
        if self.closing.is_empty() {
            cx.set_event_timer(closed);
        }
        self.closing.push(Sold {
            closed,
            auction: winner.auction,
            price: winner.price,
        });
    }

    fn on_timer(&mut self, timer: Timer<i64>, cx: &mut Context<'_, Self>) {
        let passed = cx.watermark().max(Some(timer.time));
        let mut closing = self.closing.take();
        closing.sort_unstable_by_key(|sold| (sold.closed, sold.auction));
        let later = closing.split_off(closing.partition_point(|sold| Some(sold.closed) <= passed));
        if let Some(next) = later.first() {
            cx.set_event_timer(next.closed);
            self.closing.set(later);
        }
        let mut recent = self.recent.take();
        for sold in closing {
            if recent.len() == RECENT {
                recent.remove(0);
            }
            recent.push(sold.price);
            cx.push(SellerAverage {
                seller: timer.key,
                avg_price: recent.iter().sum::<i64>() / recent.len() as i64,
            });
        }
        self.recent.set(recent);
    }
}
