//! The columns of the three tables, each made by itself.

use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::types::{
    ArrowPrimitiveType, Int64Type, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
};
use arrow_array::{ArrayRef, PrimitiveArray};
use arrow_schema::{DataType, Field, TimeUnit};
use millrace_core::block::Millis;
use millrace_core::{Error, Result};

use super::events::{Clock, EVENTS_PER_AUCTION_LENGTH, OPEN_AUCTIONS, Table, last_auction, last_person};
use super::random::Random;
use super::text::{self, Texts};

/// Ids begin with these, so that tables are not joined by mistake.
const FIRST_PERSON_ID: u64 = 1_000;
const FIRST_AUCTION_ID: u64 = 1_000;
const FIRST_CATEGORY_ID: u64 = 10;

const CATEGORIES: u64 = 5;

/// Persons that bid and sell.
const ACTIVE_PERSONS: u64 = 1_000;

/// Bids and auctions may name as many persons and auctions that are still to come.
const LEAD: u64 = 10;

/// The hot one is the first, or second, of each hundred.
const HOT_EVERY: u64 = 100;

/// All but one of so many bids go to the hot auction, come from the hot bidder; auctions from the hot seller.
const HOT_AUCTION_RATIO: u64 = 2;
const HOT_BIDDER_RATIO: u64 = 4;
const HOT_SELLER_RATIO: u64 = 4;

/// Bytes of a row, about.
const PERSON_BYTES: u64 = 200;
const AUCTION_BYTES: u64 = 500;
const BID_BYTES: u64 = 100;

/// Bytes of an auction's columns but its filler and texts, and of its texts, on average.
const AUCTION_OTHER_BYTES: u64 = 8 * 6 + 11 + 51;
/// Of a person: the id, and texts of about these lengths.
const PERSON_OTHER_BYTES: u64 = 8 + 12 + 14 + 19 + 8 + 2;
const BID_OTHER_BYTES: u64 = 8 * 4;

/// What rows are made of.
pub(super) struct Making {
    /// Number of each row's event.
    pub(super) events: Vec<u64>,
    pub(super) clock: Clock,
    pub(super) seed: u64,
    pub(super) texts: &'static Texts,
}

type Number = fn(&Making, u64, &mut Random) -> u64;
type Text = fn(&Making, &mut Random, &mut String);

/// One column.
#[derive(Clone, Copy)]
pub(super) struct Column {
    /// Which numbers it gets: columns that must agree have the same.
    stream: u64,
    values: Values,
}

#[derive(Clone, Copy)]
enum Values {
    Number(Number),
    Text(Text),
    /// Of a type: as a column of integers or as a timestamp.
    Time(fn(&Making, u64, &mut Random) -> Millis, TimeAs),
}

#[derive(Clone, Copy)]
enum TimeAs {
    Integer,
    Millisecond,
    Microsecond,
    Nanosecond,
}

impl Column {
    /// The column that a field names.
    pub(super) fn find(table: Table, field: &Field) -> Result<Self> {
        let (name, data_type) = (field.name(), field.data_type());
        let columns = columns(table);
        let found = (0..).zip(&columns).find(|(_, (known, _))| known == name);
        let Some((number, (_, values))) = found else {
            let names = columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
            let table = table.name();
            let message = format!("column `{name}`: the table `{table}` has no such column; it has: {names}");
            return Err(Error::user("CN0150", message));
        };
        let values = match (*values, data_type) {
            (Values::Time(time, _), DataType::Int64) => Values::Time(time, TimeAs::Integer),
            (Values::Time(time, _), DataType::Timestamp(TimeUnit::Millisecond, None)) => {
                Values::Time(time, TimeAs::Millisecond)
            }
            (Values::Time(time, _), DataType::Timestamp(TimeUnit::Microsecond, None)) => {
                Values::Time(time, TimeAs::Microsecond)
            }
            (Values::Time(time, _), DataType::Timestamp(TimeUnit::Nanosecond, None)) => {
                Values::Time(time, TimeAs::Nanosecond)
            }
            (Values::Number(number), DataType::Int64) => Values::Number(number),
            (Values::Text(text), DataType::Utf8) => Values::Text(text),
            (values, other) => {
                let expected = match values {
                    Values::Number(_) => "int64",
                    Values::Text(_) => "utf8",
                    Values::Time(..) => "a timestamp in ms, us or ns, or int64",
                };
                let message = format!("column `{name}` is of type {other}, and not {expected}");
                return Err(Error::user("CN0150", message));
            }
        };
        // A channel has an address.
        let stream = if name == "url" { number - 1 } else { number };
        Ok(Column { stream, values })
    }

    /// Its values.
    pub(super) fn make(&self, making: &Making) -> ArrayRef {
        let random = |event| Random::new(making.seed, event, self.stream);
        let events = making.events.iter().copied();
        match self.values {
            Values::Number(number) => {
                let values = events.map(|event| number(making, event, &mut random(event)) as i64);
                Arc::new(PrimitiveArray::<Int64Type>::from_iter_values(values))
            }
            Values::Text(text) => {
                let mut builder = StringBuilder::with_capacity(making.events.len(), making.events.len() * 32);
                let mut value = String::new();
                for event in events {
                    value.clear();
                    text(making, &mut random(event), &mut value);
                    builder.append_value(&value);
                }
                Arc::new(builder.finish())
            }
            Values::Time(time, as_type) => {
                let times = events.map(|event| time(making, event, &mut random(event)));
                match as_type {
                    TimeAs::Integer => timestamps::<Int64Type>(times, 1),
                    TimeAs::Millisecond => timestamps::<TimestampMillisecondType>(times, 1),
                    TimeAs::Microsecond => timestamps::<TimestampMicrosecondType>(times, 1_000),
                    TimeAs::Nanosecond => timestamps::<TimestampNanosecondType>(times, 1_000_000),
                }
            }
        }
    }
}

fn timestamps<T: ArrowPrimitiveType<Native = i64>>(times: impl Iterator<Item = Millis>, per_ms: i64) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::from_iter_values(times.map(|time| time * per_ms)))
}

/// All columns of a table, in order. The position of a column says which numbers it gets.
fn columns(table: Table) -> Vec<(&'static str, Values)> {
    let date_time = Values::Time(|making, event, _| making.clock.time(event), TimeAs::Integer);
    match table {
        Table::Person => vec![
            ("id", Values::Number(|_, event, _| FIRST_PERSON_ID + last_person(event))),
            ("name", Values::Text(|_, random, text| text::push_name(text, random))),
            (
                "email_address",
                Values::Text(|_, random, text| text::push_email(text, random)),
            ),
            (
                "credit_card",
                Values::Text(|_, random, text| text::push_credit_card(text, random)),
            ),
            (
                "city",
                Values::Text(|_, random, text| text.push_str(text::city(random))),
            ),
            (
                "state",
                Values::Text(|_, random, text| text.push_str(text::state(random))),
            ),
            ("date_time", date_time),
            (
                "extra",
                Values::Text(|making, random, text| {
                    text.push_str(making.texts.filler(random, PERSON_BYTES, PERSON_OTHER_BYTES))
                }),
            ),
        ],
        Table::Auction => vec![
            (
                "id",
                Values::Number(|_, event, _| FIRST_AUCTION_ID + last_auction(event)),
            ),
            (
                "item_name",
                Values::Text(|_, random, text| text::push_word(text, random, 20, ' ')),
            ),
            (
                "description",
                Values::Text(|_, random, text| text::push_word(text, random, 100, ' ')),
            ),
            ("initial_bid", Values::Number(|_, _, random| price(random))),
            ("reserve", Values::Number(reserve)),
            ("date_time", date_time),
            ("expires", Values::Time(expires, TimeAs::Integer)),
            ("seller", Values::Number(|_, event, random| seller(event, random))),
            (
                "category",
                Values::Number(|_, _, random| FIRST_CATEGORY_ID + random.below(CATEGORIES)),
            ),
            (
                "extra",
                Values::Text(|making, random, text| {
                    text.push_str(making.texts.filler(random, AUCTION_BYTES, AUCTION_OTHER_BYTES))
                }),
            ),
        ],
        Table::Bid => vec![
            ("auction", Values::Number(|_, event, random| auction(event, random))),
            ("bidder", Values::Number(|_, event, random| bidder(event, random))),
            ("price", Values::Number(|_, _, random| price(random))),
            (
                "channel",
                Values::Text(|making, random, text| text.push_str(&making.texts.channel(random).0)),
            ),
            (
                "url",
                Values::Text(|making, random, text| text.push_str(&making.texts.channel(random).1)),
            ),
            ("date_time", date_time),
            (
                "extra",
                Values::Text(|making, random, text| {
                    text.push_str(making.texts.filler(random, BID_BYTES, BID_OTHER_BYTES))
                }),
            ),
        ],
    }
}

/// Mostly small, up to a million dollars, in cents.
fn price(random: &mut Random) -> u64 {
    (10f64.powf(random.unit() * 6.0) * 100.0).round() as u64
}

/// Above the initial bid.
fn reserve(making: &Making, event: u64, random: &mut Random) -> u64 {
    const INITIAL_BID: u64 = 3;
    price(&mut Random::new(making.seed, event, INITIAL_BID)) + price(random)
}

/// Auctions are open for as long as it takes until a hundred others have begun, on average.
fn expires(making: &Making, event: u64, random: &mut Random) -> Millis {
    let begin = making.clock.time(event);
    let length = making.clock.time(event + EVENTS_PER_AUCTION_LENGTH) - begin;
    begin + 1 + random.below((length as u64 * 2).max(1)) as Millis
}

fn seller(event: u64, random: &mut Random) -> u64 {
    FIRST_PERSON_ID
        + match random.below(HOT_SELLER_RATIO) {
            0 => person(event, random),
            _ => last_person(event) / HOT_EVERY * HOT_EVERY,
        }
}

/// The hot one is not the hot seller.
fn bidder(event: u64, random: &mut Random) -> u64 {
    FIRST_PERSON_ID
        + match random.below(HOT_BIDDER_RATIO) {
            0 => person(event, random),
            _ => last_person(event) / HOT_EVERY * HOT_EVERY + 1,
        }
}

fn auction(event: u64, random: &mut Random) -> u64 {
    let last = last_auction(event);
    FIRST_AUCTION_ID
        + match random.below(HOT_AUCTION_RATIO) {
            0 => {
                let first = last.saturating_sub(OPEN_AUCTIONS);
                first + random.below(last - first + 1 + LEAD)
            }
            _ => last / HOT_EVERY * HOT_EVERY,
        }
}

/// One of those who are active, or will be soon.
fn person(event: u64, random: &mut Random) -> u64 {
    let persons = last_person(event) + 1;
    let active = persons.min(ACTIVE_PERSONS);
    persons - active + random.below(active + LEAD)
}
