//! The columns of the three tables, each made by itself.

use std::sync::Arc;

use arrow_array::types::{
    ArrowPrimitiveType, Int64Type, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
};
use arrow_array::{ArrayRef, PrimitiveArray, StringArray};
use arrow_buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, Field, TimeUnit};
use millrace_core::block::Millis;
use millrace_core::{Error, Result};

use super::events::{Clock, EVENTS_PER_AUCTION_LENGTH, OPEN_AUCTIONS, Table, last_auction, last_person};
use super::random::{Random, Stream, choose};
use super::text::{self, Filler, Stock, Texts};

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
    pub(super) stock: &'static Stock,
}

/// Makes the values of a column, of the numbers that are its own.
type Make = fn(&Making, Stream) -> Values;

/// One column.
#[derive(Clone, Copy)]
pub(super) struct Column {
    /// Which numbers it gets: columns that must agree have the same.
    number: u64,
    make: Make,
    kind: Kind,
}

/// The values of a column.
pub(super) enum Values {
    Numbers(Vec<i64>),
    Texts(Texts),
}

/// What the values are, and of which type they shall be.
#[derive(Clone, Copy)]
enum Kind {
    Number,
    Text,
    Time(TimeAs),
}

#[derive(Clone, Copy)]
enum TimeAs {
    Integer,
    Millisecond,
    Microsecond,
    Nanosecond,
}

impl Kind {
    /// As a column of this type.
    fn of_type(self, data_type: &DataType) -> Option<Self> {
        let time = |as_type| Some(Kind::Time(as_type));
        match (self, data_type) {
            (Kind::Number, DataType::Int64) | (Kind::Text, DataType::Utf8) => Some(self),
            (Kind::Time(_), DataType::Int64) => time(TimeAs::Integer),
            (Kind::Time(_), DataType::Timestamp(TimeUnit::Millisecond, _)) => time(TimeAs::Millisecond),
            (Kind::Time(_), DataType::Timestamp(TimeUnit::Microsecond, _)) => time(TimeAs::Microsecond),
            (Kind::Time(_), DataType::Timestamp(TimeUnit::Nanosecond, _)) => time(TimeAs::Nanosecond),
            _ => None,
        }
    }

    /// For people: types that it may have.
    fn types(self) -> &'static str {
        match self {
            Kind::Number => "int64",
            Kind::Text => "utf8",
            Kind::Time(_) => "a timestamp in ms, us or ns, or int64",
        }
    }
}

impl Column {
    /// The column that a field names. Times are in UTC, whatever zone they are shown in.
    pub(super) fn find(table: Table, field: &Field) -> Result<Self> {
        let (name, data_type) = (field.name(), field.data_type());
        let Some((_, column)) = columns(table).into_iter().find(|(known, _)| known == name) else {
            let names = columns(table)
                .iter()
                .map(|(name, _)| *name)
                .collect::<Vec<_>>()
                .join(", ");
            let table = table.name();
            let message = format!("column `{name}`: the table `{table}` has no such column; it has: {names}");
            return Err(Error::user("CN0150", message));
        };
        let Some(kind) = column.kind.of_type(data_type) else {
            let expected = column.kind.types();
            let message = format!("column `{name}` is of type {data_type}, and not {expected}");
            return Err(Error::user("CN0150", message));
        };
        Ok(Column { kind, ..column })
    }

    /// All that a schema does not have.
    pub(super) fn others(table: Table, fields: &[Arc<Field>]) -> Vec<Self> {
        let is_other = |name: &str| fields.iter().all(|field| field.name() != name);
        let others = columns(table).into_iter().filter(|(name, _)| is_other(name));
        others.map(|(_, column)| column).collect()
    }

    /// Its values, as they are made.
    pub(super) fn values(&self, making: &Making) -> Values {
        (self.make)(making, Stream::new(making.seed, self.number))
    }

    /// Its values, as a column of its type.
    pub(super) fn array(&self, making: &Making, data_type: &DataType) -> Result<ArrayRef> {
        match self.values(making) {
            Values::Texts(texts) => texts.finish(),
            Values::Numbers(numbers) => Ok(match self.kind {
                Kind::Text | Kind::Number | Kind::Time(TimeAs::Integer) => scaled::<Int64Type>(numbers, 1, data_type),
                Kind::Time(TimeAs::Millisecond) => scaled::<TimestampMillisecondType>(numbers, 1, data_type),
                Kind::Time(TimeAs::Microsecond) => scaled::<TimestampMicrosecondType>(numbers, 1_000, data_type),
                Kind::Time(TimeAs::Nanosecond) => scaled::<TimestampNanosecondType>(numbers, 1_000_000, data_type),
            }),
        }
    }
}

/// A column of numbers, each times `factor`.
fn scaled<T>(mut numbers: Vec<i64>, factor: i64, data_type: &DataType) -> ArrayRef
where
    T: ArrowPrimitiveType<Native = i64>,
{
    if factor != 1 {
        numbers.iter_mut().for_each(|number| *number *= factor);
    }
    Arc::new(PrimitiveArray::<T>::new(numbers.into(), None).with_data_type(data_type.clone()))
}

impl Texts {
    fn finish(self) -> Result<ArrayRef> {
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.offsets));
        let texts = StringArray::try_new(offsets, Buffer::from_vec(self.bytes), None)
            .map_err(|error| Error::internal(format!("generated texts are none: {error}")))?;
        Ok(Arc::new(texts))
    }
}

/// One number a row, of its event.
#[inline(always)]
fn numbers(making: &Making, stream: Stream, number: impl Fn(u64, &mut Random) -> u64) -> Values {
    let numbers = making
        .events
        .iter()
        .map(|&event| number(event, &mut stream.at(event)) as i64);
    Values::Numbers(numbers.collect())
}

/// One text a row.
#[inline(always)]
fn texts(making: &Making, stream: Stream, bytes_max: usize, push: impl Fn(&mut Random, &mut Vec<u8>)) -> Values {
    let mut texts = Texts::with_capacity(making.events.len(), bytes_max);
    for &event in &making.events {
        push(&mut stream.at(event), &mut texts.bytes);
        texts.end();
    }
    Values::Texts(texts)
}

fn date_time(making: &Making, _stream: Stream) -> Values {
    Values::Numbers(making.events.iter().map(|&event| making.clock.time(event)).collect())
}

/// All columns of a table, in order. The position of a column says which numbers it gets.
fn columns(table: Table) -> Vec<(&'static str, Column)> {
    let columns = match table {
        Table::Person => person_columns(),
        Table::Auction => auction_columns(),
        Table::Bid => bid_columns(),
    };
    let number = |(number, (name, kind, make)): (u64, (&'static str, Kind, Make))| {
        // A channel has an address.
        let number = if name == "url" { number - 1 } else { number };
        (name, Column { number, make, kind })
    };
    (0..).zip(columns).map(number).collect()
}

const TIME: Kind = Kind::Time(TimeAs::Integer);

fn person_columns() -> Vec<(&'static str, Kind, Make)> {
    vec![
        ("id", Kind::Number, |making, stream| {
            numbers(making, stream, |event, _| FIRST_PERSON_ID + last_person(event))
        }),
        ("name", Kind::Text, |making, stream| {
            texts(making, stream, 16, text::push_name)
        }),
        ("email_address", Kind::Text, |making, stream| {
            texts(making, stream, 16, text::push_email)
        }),
        ("credit_card", Kind::Text, |making, stream| {
            texts(making, stream, 19, text::push_credit_card)
        }),
        ("city", Kind::Text, |making, stream| {
            texts(making, stream, 13, text::push_city)
        }),
        ("state", Kind::Text, |making, stream| {
            texts(making, stream, 2, text::push_state)
        }),
        ("date_time", TIME, date_time),
        ("extra", Kind::Text, |making, stream| {
            const FILLER: Filler = Filler::new(PERSON_BYTES, PERSON_OTHER_BYTES);
            texts(making, stream, FILLER.bytes_max(), |random, text| {
                FILLER.push::<192>(making.stock, random, text)
            })
        }),
    ]
}

fn auction_columns() -> Vec<(&'static str, Kind, Make)> {
    vec![
        ("id", Kind::Number, |making, stream| {
            numbers(making, stream, |event, _| FIRST_AUCTION_ID + last_auction(event))
        }),
        ("item_name", Kind::Text, |making, stream| {
            texts(making, stream, 32, |random, text| {
                making.stock.push_words::<32>(text, random, 20)
            })
        }),
        ("description", Kind::Text, |making, stream| {
            texts(making, stream, 112, |random, text| {
                making.stock.push_words::<112>(text, random, 100)
            })
        }),
        ("initial_bid", Kind::Number, |making, stream| {
            numbers(making, stream, |_, random| making.stock.price(random))
        }),
        ("reserve", Kind::Number, |making, stream| {
            let initial = Stream::new(making.seed, INITIAL_BID);
            numbers(making, stream, |event, random| {
                making.stock.price(&mut initial.at(event)) + making.stock.price(random)
            })
        }),
        ("date_time", TIME, date_time),
        ("expires", TIME, |making, stream| {
            numbers(making, stream, |event, random| {
                expires(making.clock, event, random) as u64
            })
        }),
        ("seller", Kind::Number, |making, stream| numbers(making, stream, seller)),
        ("category", Kind::Number, |making, stream| {
            numbers(making, stream, |_, random| FIRST_CATEGORY_ID + random.below(CATEGORIES))
        }),
        ("extra", Kind::Text, |making, stream| {
            const FILLER: Filler = Filler::new(AUCTION_BYTES, AUCTION_OTHER_BYTES);
            texts(making, stream, FILLER.bytes_max(), |random, text| {
                FILLER.push::<512>(making.stock, random, text)
            })
        }),
    ]
}

/// Which column of auctions that is; the reserve is above it.
const INITIAL_BID: u64 = 3;

fn bid_columns() -> Vec<(&'static str, Kind, Make)> {
    vec![
        ("auction", Kind::Number, |making, stream| {
            numbers(making, stream, auction)
        }),
        ("bidder", Kind::Number, |making, stream| numbers(making, stream, bidder)),
        ("price", Kind::Number, |making, stream| {
            numbers(making, stream, |_, random| making.stock.price(random))
        }),
        ("channel", Kind::Text, |making, stream| {
            texts(making, stream, text::CHANNEL_BYTES, |random, text| {
                making.stock.push_channel(random, text)
            })
        }),
        ("url", Kind::Text, |making, stream| {
            texts(making, stream, text::ADDRESS_BYTES, |random, text| {
                making.stock.push_address(random, text)
            })
        }),
        ("date_time", TIME, date_time),
        ("extra", Kind::Text, |making, stream| {
            const FILLER: Filler = Filler::new(BID_BYTES, BID_OTHER_BYTES);
            texts(making, stream, FILLER.bytes_max(), |random, text| {
                FILLER.push::<96>(making.stock, random, text)
            })
        }),
    ]
}

/// Auctions are open for as long as it takes until a hundred others have begun, on average.
fn expires(clock: Clock, event: u64, random: &mut Random) -> Millis {
    let begin = clock.time(event);
    let length = clock.time(event + EVENTS_PER_AUCTION_LENGTH) - begin;
    begin + 1 + random.below((length as u64 * 2).max(1)) as Millis
}

fn seller(event: u64, random: &mut Random) -> u64 {
    let is_hot = random.below(HOT_SELLER_RATIO) != 0;
    let hot = last_person(event) / HOT_EVERY * HOT_EVERY;
    FIRST_PERSON_ID + choose(is_hot, hot, person(event, random))
}

/// The hot one is not the hot seller.
fn bidder(event: u64, random: &mut Random) -> u64 {
    let is_hot = random.below(HOT_BIDDER_RATIO) != 0;
    let hot = last_person(event) / HOT_EVERY * HOT_EVERY + 1;
    FIRST_PERSON_ID + choose(is_hot, hot, person(event, random))
}

fn auction(event: u64, random: &mut Random) -> u64 {
    let last = last_auction(event);
    let is_hot = random.below(HOT_AUCTION_RATIO) != 0;
    let hot = last / HOT_EVERY * HOT_EVERY;
    let first = last.saturating_sub(OPEN_AUCTIONS);
    let other = first + random.below(last - first + 1 + LEAD);
    FIRST_AUCTION_ID + choose(is_hot, hot, other)
}

/// One of those who are active, or will be soon.
fn person(event: u64, random: &mut Random) -> u64 {
    let persons = last_person(event) + 1;
    let active = persons.min(ACTIVE_PERSONS);
    persons - active + random.below(active + LEAD)
}
