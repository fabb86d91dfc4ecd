//! Query 3: who sells in certain states, and what, in category 10.

use millrace::prelude::*;

use crate::house::House;

#[derive(Record)]
struct Auction {
    id: i64,
    seller: i64,
    category: i64,
}

#[derive(Record)]
struct Person<'a> {
    id: i64,
    name: &'a str,
    city: &'a str,
    state: &'a str,
}

#[derive(Record)]
struct Item<'a> {
    name: &'a str,
    city: &'a str,
    state: &'a str,
    id: i64,
}

/// A person who is kept.
#[derive(Record, Clone)]
struct Seller {
    name: String,
    city: String,
    state: String,
}

/// What is kept of a person.
#[derive(Record, Clone)]
enum Known {
    /// Not yet who it is, but what they sell.
    Auctions(Vec<i64>),
    Here(Seller),
    Elsewhere,
}

const CATEGORY: i64 = 10;
const STATES: [&str; 3] = ["OR", "ID", "CA"];

/// Joins sellers and auctions.
pub fn q3(house: &House<'_>) {
    let auctions = house
        .auctions::<Auction>()
        .filter(|auction| auction.category == CATEGORY);
    let items = house
        .persons::<Person>()
        .key_by(Person::FIELDS.id)
        .connect(auctions.key_by(Auction::FIELDS.seller))
        .process(|setup| Join {
            known: setup.value_state("known"),
        })
        .uid("join");
    house.results(items, "id");
}

struct Join {
    known: ValueState<Known>,
}

impl CoProcess for Join {
    type First = Person<'static>;
    type Second = Auction;
    type Key = i64;
    type Out = Item<'static>;

    fn process_first(&mut self, person: Person<'_>, cx: &mut CoContext<'_, Self>) {
        if !STATES.contains(&person.state) {
            return self.known.set(Known::Elsewhere);
        }
        let seller = Seller {
            name: person.name.to_owned(),
            city: person.city.to_owned(),
            state: person.state.to_owned(),
        };
        if let Some(Known::Auctions(auctions)) = self.known.take() {
            auctions.iter().for_each(|auction| seller.sells(*auction, cx));
        }
        self.known.set(Known::Here(seller));
    }

    fn process_second(&mut self, auction: Auction, cx: &mut CoContext<'_, Self>) {
        let is_known = self.known.with(|known| match known {
            Some(Known::Here(seller)) => {
                seller.sells(auction.id, cx);
                true
            }
            Some(Known::Elsewhere) => true,
            Some(Known::Auctions(_)) | None => false,
        });
        if !is_known {
            self.known.update(|known| {
                if let Known::Auctions(auctions) = known {
                    auctions.push(auction.id);
                }
            });
        }
    }
}

impl Default for Known {
    fn default() -> Self {
        Known::Auctions(Vec::new())
    }
}

impl Seller {
    fn sells(&self, id: i64, cx: &mut CoContext<'_, Join>) {
        cx.push(Item {
            name: &self.name,
            city: &self.city,
            state: &self.state,
            id,
        });
    }
}
