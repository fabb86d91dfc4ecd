//! Query 5: the auctions with the most bids of the last ten seconds, every two seconds.

use millrace::prelude::*;

use crate::house::House;

#[derive(Record)]
struct Bid {
    auction: i64,
    date_time: Timestamp,
}

/// Bids for an auction in a window.
#[derive(Record, Clone)]
struct Count {
    auction: i64,
    num: i64,
    window_end: Timestamp,
}

#[derive(Record)]
struct Hot {
    auction: i64,
    num: i64,
}

/// All auctions that have as many bids as no other in a window.
#[derive(Record, Clone)]
struct Hottest {
    num: i64,
    auctions: Vec<i64>,
}

const LENGTH: Duration = Duration::from_secs(10);
const SLIDE: Duration = Duration::from_secs(2);

/// Counts by auction, then the most of each window.
pub fn q5(house: &House<'_>) {
    let counts = house
        .bids::<Bid>()
        .watermarks(Watermarks::monotonic(Bid::FIELDS.date_time))
        .key_by(Bid::FIELDS.auction)
        .window(Sliding::of(LENGTH, SLIDE))
        .count()
        .uid("counts")
        .map(|counted| Count {
            auction: counted.key,
            num: counted.value,
            window_end: counted.end,
        });
    // The counts of a window have its last moment as their time: those of one window meet in the slide that ends with it.
    let hottest = counts
        .key_by(Count::FIELDS.window_end)
        .window(Tumbling::of(SLIDE))
        .aggregate(Most)
        .uid("most");
    let hot = hottest.flat_map(|hottest, out: &mut Out<'_, Hot>| {
        for auction in hottest.auctions {
            out.push(Hot {
                auction,
                num: hottest.num,
            });
        }
    });
    house.results(hot, "num");
}

struct Most;

impl Aggregate for Most {
    type In = Count;
    type Key = Timestamp;
    type Acc = Hottest;
    type Out = Hottest;

    fn create(&self) -> Hottest {
        Hottest {
            num: 0,
            auctions: Vec::new(),
        }
    }

    fn add(&self, hottest: &mut Hottest, count: Count) {
        if count.num > hottest.num {
            hottest.num = count.num;
            hottest.auctions.clear();
        }
        if count.num == hottest.num {
            hottest.auctions.push(count.auction);
        }
    }

    fn merge(&self, hottest: &mut Hottest, other: &Hottest) {
        if other.num > hottest.num {
            hottest.clone_from(other);
        } else if other.num == hottest.num {
            hottest.auctions.extend_from_slice(&other.auctions);
        }
    }

    fn finish(&self, _window_end: Timestamp, _window: Window, hottest: &Hottest) -> Hottest {
        hottest.clone()
    }
}
