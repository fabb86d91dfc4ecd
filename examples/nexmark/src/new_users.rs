//! Query 8: who registered and put something up for auction within the same ten seconds.

use millrace::prelude::*;

use crate::house::House;

#[derive(Record)]
struct Person<'a> {
    id: i64,
    name: &'a str,
    date_time: Timestamp,
}

#[derive(Record)]
struct Auction {
    seller: i64,
    date_time: Timestamp,
}

/// A person with a name, or somebody who sells.
#[derive(Record)]
struct Either<'a> {
    id: i64,
    name: Option<&'a str>,
}

/// What is known of somebody in a window.
#[derive(Record, Clone)]
struct Seen {
    name: Option<String>,
    sells: bool,
}

/// Somebody in a window, who may be a new user.
#[derive(Record)]
struct Candidate {
    id: i64,
    name: Option<String>,
    stime: Timestamp,
}

#[derive(Record)]
struct NewUser {
    id: i64,
    name: String,
    stime: Timestamp,
}

const LENGTH: Duration = Duration::from_secs(10);

/// Gathers both sides of the join in one window.
pub fn q8(house: &House<'_>) {
    let persons = house
        .persons::<Person>()
        .watermarks(Watermarks::monotonic(Person::FIELDS.date_time))
        .flat_map(|person: Person<'_>, out: &mut Out<'_, Either<'static>>| {
            out.push(Either {
                id: person.id,
                name: Some(person.name),
            });
        });
    let sellers = house
        .auctions::<Auction>()
        .watermarks(Watermarks::monotonic(Auction::FIELDS.date_time))
        .flat_map(|auction: Auction, out: &mut Out<'_, Either<'static>>| {
            out.push(Either {
                id: auction.seller,
                name: None,
            });
        });
    let seen = persons
        .union(sellers)
        .key_by(Either::FIELDS.id)
        .window(Tumbling::of(LENGTH))
        .aggregate(Gather)
        .uid("seen");
    let users = seen.flat_map(|candidate, out: &mut Out<'_, NewUser>| {
        if let Some(name) = candidate.name {
            out.push(NewUser {
                id: candidate.id,
                name,
                stime: candidate.stime,
            });
        }
    });
    house.results(users, "id");
}

struct Gather;

impl Aggregate for Gather {
    type In = Either<'static>;
    type Key = i64;
    type Acc = Seen;
    type Out = Candidate;

    fn create(&self) -> Seen {
        Seen {
            name: None,
            sells: false,
        }
    }

    fn add(&self, seen: &mut Seen, row: Either<'_>) {
        match row.name {
            Some(name) => seen.name = Some(name.to_owned()),
            None => seen.sells = true,
        }
    }

    fn merge(&self, seen: &mut Seen, other: &Seen) {
        seen.sells |= other.sells;
        if other.name.is_some() {
            seen.name.clone_from(&other.name);
        }
    }

    fn finish(&self, id: i64, window: Window, seen: &Seen) -> Candidate {
        Candidate {
            id,
            name: seen.name.clone().filter(|_| seen.sells),
            stime: window.start,
        }
    }
}
