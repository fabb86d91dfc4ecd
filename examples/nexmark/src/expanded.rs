//! Query 20: bids with their auctions, in category 10.

use millrace::prelude::*;

use crate::house::{Auction, Bid, House};

#[derive(Record)]
struct Expanded<'a> {
    auction: i64,
    bidder: i64,
    price: i64,
    channel: &'a str,
    url: &'a str,
    bid_date_time: Timestamp,
    bid_extra: &'a str,
    item_name: &'a str,
    description: &'a str,
    initial_bid: i64,
    reserve: i64,
    auction_date_time: Timestamp,
    expires: Timestamp,
    seller: i64,
    category: i64,
    auction_extra: &'a str,
}

/// An offer that waits for its auction.
#[derive(Record, Clone)]
struct KeptOffer {
    bidder: i64,
    price: i64,
    channel: String,
    url: String,
    date_time: Timestamp,
    extra: String,
}

/// An auction for all offers that are to come.
#[derive(Record, Clone)]
struct KeptItem {
    item_name: String,
    description: String,
    initial_bid: i64,
    reserve: i64,
    date_time: Timestamp,
    expires: Timestamp,
    seller: i64,
    category: i64,
    extra: String,
}

/// What is known of an auction.
#[derive(Record, Clone)]
enum Known {
    Offers(Vec<KeptOffer>),
    Item(KeptItem),
    /// In another category.
    Other,
}

const CATEGORY: i64 = 10;

/// Joins auctions and bids. The source that is declared first is read first: few bids have to wait for their auction.
pub fn q20(house: &House<'_>) {
    let expanded = house
        .auctions::<Auction>()
        .key_by(Auction::FIELDS.id)
        .connect(house.bids::<Bid>().key_by(Bid::FIELDS.auction))
        .process(|setup| Expand {
            known: setup.value_state("known"),
        })
        .uid("expand");
    house.results(expanded, "price");
}

struct Expand {
    known: ValueState<Known>,
}

impl CoProcess for Expand {
    type First = Auction<'static>;
    type Second = Bid<'static>;
    type Key = i64;
    type Out = Expanded<'static>;

    fn process_first(&mut self, auction: Auction<'_>, cx: &mut CoContext<'_, Self>) {
        if auction.category != CATEGORY {
            return self.known.set(Known::Other);
        }
        if let Some(Known::Offers(offers)) = self.known.take() {
            for offer in &offers {
                cx.push(expanded(&offer.of(auction.id), &auction));
            }
        }
        self.known.set(Known::Item(KeptItem::new(&auction)));
    }

    fn process_second(&mut self, bid: Bid<'_>, cx: &mut CoContext<'_, Self>) {
        let is_known = self.known.with(|known| match known {
            Some(Known::Item(item)) => {
                cx.push(expanded(&bid, &item.of(bid.auction)));
                true
            }
            Some(Known::Other) => true,
            Some(Known::Offers(_)) | None => false,
        });
        if !is_known {
            self.known.update(|known| {
                if let Known::Offers(offers) = known {
                    offers.push(KeptOffer::new(&bid));
                }
            });
        }
    }
}

fn expanded<'a>(bid: &Bid<'a>, auction: &Auction<'a>) -> Expanded<'a> {
    Expanded {
        auction: bid.auction,
        bidder: bid.bidder,
        price: bid.price,
        channel: bid.channel,
        url: bid.url,
        bid_date_time: bid.date_time,
        bid_extra: bid.extra,
        item_name: auction.item_name,
        description: auction.description,
        initial_bid: auction.initial_bid,
        reserve: auction.reserve,
        auction_date_time: auction.date_time,
        expires: auction.expires,
        seller: auction.seller,
        category: auction.category,
        auction_extra: auction.extra,
    }
}

impl Default for Known {
    fn default() -> Self {
        Known::Offers(Vec::new())
    }
}

impl KeptItem {
    fn new(auction: &Auction<'_>) -> Self {
        KeptItem {
            item_name: auction.item_name.to_owned(),
            description: auction.description.to_owned(),
            initial_bid: auction.initial_bid,
            reserve: auction.reserve,
            date_time: auction.date_time,
            expires: auction.expires,
            seller: auction.seller,
            category: auction.category,
            extra: auction.extra.to_owned(),
        }
    }

    fn of(&self, id: i64) -> Auction<'_> {
        Auction {
            id,
            item_name: &self.item_name,
            description: &self.description,
            initial_bid: self.initial_bid,
            reserve: self.reserve,
            date_time: self.date_time,
            expires: self.expires,
            seller: self.seller,
            category: self.category,
            extra: &self.extra,
        }
    }
}

impl KeptOffer {
    fn new(bid: &Bid<'_>) -> Self {
        KeptOffer {
            bidder: bid.bidder,
            price: bid.price,
            channel: bid.channel.to_owned(),
            url: bid.url.to_owned(),
            date_time: bid.date_time,
            extra: bid.extra.to_owned(),
        }
    }

    fn of(&self, auction: i64) -> Bid<'_> {
        Bid {
            auction,
            bidder: self.bidder,
            price: self.price,
            channel: &self.channel,
            url: &self.url,
            date_time: self.date_time,
            extra: &self.extra,
        }
    }
}
