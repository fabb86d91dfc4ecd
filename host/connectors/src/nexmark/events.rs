//! Which event is what: numbers, times, and the ids that are known at an event.

use millrace_core::block::Millis;
use millrace_core::{Error, Result};

/// Of as many events each table has its part, in this order.
const EVENTS_PER_EPOCH: u64 = PERSONS_PER_EPOCH + AUCTIONS_PER_EPOCH + BIDS_PER_EPOCH;
const PERSONS_PER_EPOCH: u64 = 1;
const AUCTIONS_PER_EPOCH: u64 = 3;
const BIDS_PER_EPOCH: u64 = 46;

/// Events until as many auctions have begun as are open at a time.
pub(super) const EVENTS_PER_AUCTION_LENGTH: u64 = OPEN_AUCTIONS * EVENTS_PER_EPOCH / AUCTIONS_PER_EPOCH;

/// Auctions that bids go to.
pub(super) const OPEN_AUCTIONS: u64 = 100;

/// A kind of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    Person,
    Auction,
    Bid,
}

impl Table {
    pub(super) fn parse(name: &str) -> Result<Self> {
        match name {
            "person" => Ok(Table::Person),
            "auction" => Ok(Table::Auction),
            "bid" => Ok(Table::Bid),
            other => Err(Error::user(
                "CN0003",
                format!("option `table` is `{other}`, not `person`, `auction` or `bid`"),
            )),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Table::Person => "person",
            Table::Auction => "auction",
            Table::Bid => "bid",
        }
    }

    /// Where its events begin in an epoch, and how many there are.
    fn place(self) -> (u64, u64) {
        match self {
            Table::Person => (0, PERSONS_PER_EPOCH),
            Table::Auction => (PERSONS_PER_EPOCH, AUCTIONS_PER_EPOCH),
            Table::Bid => (PERSONS_PER_EPOCH + AUCTIONS_PER_EPOCH, BIDS_PER_EPOCH),
        }
    }

    /// Rows to make at a time so that no table makes more than `rows_max`, and each has its part of the same events.
    pub(super) fn share(self, rows_max: usize) -> usize {
        let (_, count) = self.place();
        let epochs = (rows_max / BIDS_PER_EPOCH as usize).max(1);
        (epochs * count as usize).min(rows_max)
    }

    /// Number of the event that its row of this index is.
    pub(super) fn event(self, index: u64) -> u64 {
        let (first, count) = self.place();
        index / count * EVENTS_PER_EPOCH + first + index % count
    }

    /// Rows that it has of the first so many events.
    pub(super) fn rows_of(self, events: u64) -> u64 {
        let (first, count) = self.place();
        events / EVENTS_PER_EPOCH * count + (events % EVENTS_PER_EPOCH).saturating_sub(first).min(count)
    }
}

/// Number of the last person up to an event, counted from 0.
pub(super) fn last_person(event: u64) -> u64 {
    Table::Person.rows_of(event + 1) - 1
}

/// Number of the last auction up to an event, counted from 0; before the first it is that one.
pub(super) fn last_auction(event: u64) -> u64 {
    Table::Auction.rows_of(event + 1).saturating_sub(1)
}

/// When events take place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    /// Events per second.
    pub(super) rate: u64,
    /// Time of event 0.
    pub(super) first_ms: Millis,
}

impl Clock {
    #[inline]
    pub(super) fn time(self, event: u64) -> Millis {
        let after = match event.checked_mul(1000) {
            Some(thousands) => u128::from(thousands / self.rate),
            None => u128::from(event) * 1000 / u128::from(self.rate),
        };
        self.first_ms
            .saturating_add(Millis::try_from(after).unwrap_or(Millis::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_share_the_events() {
        let mut seen = vec![None; 500];
        for table in [Table::Person, Table::Auction, Table::Bid] {
            for index in 0..table.rows_of(500) {
                let event = table.event(index) as usize;
                assert_eq!(seen[event].replace(table), None);
            }
            for events in 0..500 {
                let expect = seen[..events].iter().filter(|known| **known == Some(table)).count();
                assert_eq!(table.rows_of(events as u64), expect as u64, "{table:?} {events}");
            }
        }
        assert!(seen.iter().all(Option::is_some));
        assert_eq!(
            &seen[..5],
            [
                Table::Person,
                Table::Auction,
                Table::Auction,
                Table::Auction,
                Table::Bid
            ]
            .map(Some)
        );
    }

    #[test]
    fn ids_are_those_of_events_that_have_been() {
        let (mut persons, mut auctions) = (0, 0u64);
        for event in 0..500 {
            persons += u64::from(event % 50 == 0);
            auctions += u64::from((1..4).contains(&(event % 50)));
            assert_eq!(last_person(event), persons - 1);
            assert_eq!(last_auction(event), auctions.saturating_sub(1));
        }
    }

    #[test]
    fn time_does_not_drift() {
        let clock = Clock {
            rate: 30_000,
            first_ms: 5,
        };
        assert_eq!(
            [0, 29, 30, 31, 30_000_000].map(|event| clock.time(event)),
            [5, 5, 6, 6, 1_000_005]
        );
    }
}
