//! A job whose code changes: version 1, version 2 with state of every kind in another shape, and versions that cannot
//! take over what version 1 has left. Versions 1 and 2 put out the same, row by row.

use millrace::prelude::*;

use super::{Event, Params};

/// What the versions tell of a row, a timer or a window.
#[derive(Record, Clone, Debug)]
struct Told {
    operator: String,
    key: i64,
    at: i64,
    count: i64,
    text: String,
}

const BUCKET_MS: i64 = 500;

fn label(key: i64) -> String {
    format!("key {key}")
}

/// What a function of either version does for a row.
trait Profile: Owned + Clone {
    fn begin(key: i64) -> Self;
    fn add(&mut self, value: i64);
    /// The same for both versions.
    fn told(&self) -> String;
}

#[derive(Record, Clone, Debug)]
enum KindV1 {
    Unknown,
    Small,
    Big(i32),
}

#[derive(Record, Clone, Debug)]
struct ProfileV1 {
    name: String,
    count: i32,
    sum: f32,
    unused: bool,
    kind: KindV1,
    tags: Vec<TagV1>,
    latest: i64,
    limit: Option<i32>,
    price: Decimal<10, 2>,
}

#[derive(Record, Clone, Debug)]
struct TagV1 {
    number: i16,
}

impl Profile for ProfileV1 {
    fn begin(key: i64) -> Self {
        ProfileV1 {
            name: label(key),
            count: 0,
            sum: 0.0,
            unused: true,
            kind: KindV1::Unknown,
            tags: Vec::new(),
            latest: 0,
            limit: (key % 2 == 0).then_some(3),
            price: Decimal::from_units(key.into()),
        }
    }

    fn add(&mut self, value: i64) {
        self.count += 1;
        self.sum += value as f32;
        self.kind = if value % 3 == 0 {
            KindV1::Small
        } else {
            KindV1::Big(value as i32)
        };
        self.tags = vec![TagV1 { number: value as i16 }; (value % 3) as usize];
        self.latest = value;
    }

    fn told(&self) -> String {
        let kind = match self.kind {
            KindV1::Unknown => "unknown".to_owned(),
            KindV1::Small => "small".to_owned(),
            KindV1::Big(value) => format!("large {value}"),
        };
        let tags: Vec<String> = self.tags.iter().map(|tag| format!("{} 7", tag.number)).collect();
        let limit = self.limit.unwrap_or(12);
        let (name, count, sum, latest, price) = (&self.name, self.count, self.sum, self.latest, self.price.units());
        format!("{name} {count} {sum} {kind} {tags:?} {latest} {limit} none 'EUR' {price}")
    }
}

#[derive(Record, Clone, Debug)]
enum KindV2 {
    #[record(alias = "big")]
    Large(i64),
    Small,
    New(String),
    Unknown,
}

#[derive(Record, Clone, Debug)]
struct ProfileV2 {
    sum: f64,
    #[record(alias = "name")]
    label: String,
    kind: KindV2,
    latest: Option<i64>,
    count: i64,
    tags: Vec<TagV2>,
    #[record(default = 12)]
    limit: i64,
    note: Option<String>,
    #[record(default = "EUR")]
    currency: String,
    price: Decimal<20, 4>,
}

#[derive(Record, Clone, Debug)]
struct TagV2 {
    #[record(default = 7)]
    weight: i64,
    number: i32,
}

impl Profile for ProfileV2 {
    fn begin(key: i64) -> Self {
        ProfileV2 {
            sum: 0.0,
            label: label(key),
            kind: KindV2::Unknown,
            latest: Some(0),
            count: 0,
            tags: Vec::new(),
            limit: if key % 2 == 0 { 3 } else { 12 },
            note: None,
            currency: "EUR".to_owned(),
            price: Decimal::from_units(i128::from(key) * 100),
        }
    }

    fn add(&mut self, value: i64) {
        self.count += 1;
        self.sum += value as f64;
        self.kind = if value % 3 == 0 {
            KindV2::Small
        } else {
            KindV2::Large(value)
        };
        let tag = TagV2 {
            number: value as i32,
            weight: 7,
        };
        self.tags = vec![tag; (value % 3) as usize];
        self.latest = Some(value);
    }

    fn told(&self) -> String {
        let kind = match &self.kind {
            KindV2::Unknown => "unknown".to_owned(),
            KindV2::New(text) => text.clone(),
            KindV2::Small => "small".to_owned(),
            KindV2::Large(value) => format!("large {value}"),
        };
        let tags: Vec<String> = self
            .tags
            .iter()
            .map(|tag| format!("{} {}", tag.number, tag.weight))
            .collect();
        let latest = self.latest.unwrap_or(-1);
        let (limit, note) = (self.limit, self.note.as_deref().unwrap_or("none"));
        let (label, count, sum, currency) = (&self.label, self.count, self.sum, &self.currency);
        let price = self.price.units() / 100;
        format!("{label} {count} {sum} {kind} {tags:?} {latest} {limit} {note} '{currency}' {price}")
    }
}

/// The function of both versions: `A` is the profile, `N` the number in the map, `M` what is migrated.
struct Function<A: Profile, K, N: Owned + Clone + Ord, M: Owned + Clone>
where
    std::collections::BTreeMap<N, N>: Owned,
{
    profile: ValueState<A>,
    seen: MapState<N, N>,
    last: ValueState<i64>,
    amount: ValueState<M>,
    number: fn(i64) -> N,
    amount_of: fn(i64) -> M,
    key: fn(&K) -> i64,
}

impl<A: Profile, K: Owned + Clone, N: Owned + Clone + Ord + Into<i64>, M: Owned + Clone> KeyedProcess
    for Function<A, K, N, M>
where
    std::collections::BTreeMap<N, N>: Owned,
    M: Amount,
{
    type In = Event;
    type Key = K;
    type Out = Told;

    fn process(&mut self, event: Event, cx: &mut Context<'_, Self>) {
        let key = (self.key)(&cx.key());
        let mut profile = self.profile.get().unwrap_or_else(|| A::begin(key));
        profile.add(event.value % 1000);
        let seen = (self.number)(event.value % 7);
        self.seen.insert(seen.clone(), seen);
        let seen: i64 = self.seen.entries().into_iter().map(|(_, seen)| seen.into()).sum();
        let cents = self.amount.get().map_or(0, |amount| amount.cents()) + event.value;
        self.amount.set((self.amount_of)(cents));
        let last = self.last.get().unwrap_or(-1);
        self.last.set(event.value);
        cx.set_event_timer(Timestamp::from_millis((event.time / BUCKET_MS + 1) * BUCKET_MS));
        cx.push(Told {
            operator: "profile".to_owned(),
            key,
            at: last,
            count: seen,
            text: format!("{} {cents}", profile.told()),
        });
        self.profile.set(profile);
    }

    fn on_timer(&mut self, timer: Timer<K>, cx: &mut Context<'_, Self>) {
        cx.push(Told {
            operator: "timer".to_owned(),
            key: (self.key)(&timer.key),
            at: timer.time.millis(),
            count: 0,
            text: String::new(),
        });
    }
}

/// An amount of money; how it is kept changes so that no rule converts it.
trait Amount {
    fn cents(&self) -> i64;
}

#[derive(Record, Clone, Debug)]
struct AmountV1 {
    cents: String,
}

impl Amount for AmountV1 {
    fn cents(&self) -> i64 {
        self.cents.parse().expect("a number")
    }
}

#[derive(Record, Clone, Debug)]
struct AmountV2 {
    whole: i64,
    cents: i64,
}

impl Amount for AmountV2 {
    fn cents(&self) -> i64 {
        self.whole * 100 + self.cents
    }
}

fn amount(cents: i64) -> AmountV2 {
    let (whole, cents) = (cents / 100, cents % 100);
    AmountV2 { whole, cents }
}

/// A row whose number is as wide as the version makes it.
#[derive(Record, Clone)]
struct Narrow {
    user: i32,
    number: i32,
    time: i64,
}

#[derive(Record, Clone)]
struct Wide {
    #[record(alias = "user")]
    person: i64,
    number: i64,
    time: i64,
}

/// Keeps one state under the name of another version's, and nothing else.
struct Holds<K, T: Owned + Clone> {
    _state: ValueState<T>,
    _key: std::marker::PhantomData<K>,
}

impl<K: Owned + Clone, T: Owned + Clone> KeyedProcess for Holds<K, T> {
    type In = Event;
    type Key = K;
    type Out = Event;

    fn process(&mut self, row: Event, cx: &mut Context<'_, Self>) {
        cx.push(row);
    }
}

#[derive(Record, Clone)]
struct TooNarrow {
    count: i16,
    limit: i32,
    tags: Vec<TooStrict>,
}

#[derive(Record, Clone)]
struct TooStrict {
    number: i16,
    weight: i64,
}

#[derive(Record, Clone)]
enum WithoutSmall {
    Unknown,
    Big(i32),
}

#[derive(Record, Clone)]
struct LostVariant {
    kind: WithoutSmall,
}

fn holds<K: Owned + Clone, T: Owned + Clone>(
    events: Stream<impl Chain<Out = Event>>,
    key: fn(i64) -> K,
    params: &Params,
) {
    events
        .key_by(move |event: &Event| key(event.key))
        .process(|setup| Holds::<K, T> {
            _state: setup.value_state::<T>("profile"),
            _key: std::marker::PhantomData,
        })
        .uid("profile")
        .sink("out", Files::to_ndjson(&params.output));
}

fn windows_v1(events: &Stream<Rows<Event>>, size_ms: u64, gap_ms: u64) -> Stream<Rows<Told>> {
    let narrow = events.clone().map(|event: Event| Narrow {
        user: event.key as i32,
        number: (event.value % 1000) as i32,
        time: event.time,
    });
    let narrow = narrow.share();
    let sums = narrow
        .clone()
        .watermarks(Watermarks::bounded(Narrow::FIELDS.time, Duration::from_secs(4)))
        .key_by(Narrow::FIELDS.user)
        .window(Sliding::of(Duration::from_millis(size_ms), Duration::from_millis(400)))
        .sum(Narrow::FIELDS.number)
        .uid("sums")
        .map(|sum: Windowed<i32, i32>| told("sums", sum.key.into(), sum.start.millis(), sum.value.into()));
    let most = narrow
        .watermarks(Watermarks::bounded(Narrow::FIELDS.time, Duration::from_secs(4)))
        .key_by((Narrow::FIELDS.user, Narrow::FIELDS.number))
        .window(Session::gap(Duration::from_millis(gap_ms)))
        .max(Narrow::FIELDS.number)
        .uid("most")
        .map(|most: Windowed<(i32, i32), i32>| told("most", most.key.0.into(), most.start.millis(), most.value.into()));
    sums.union(most)
}

fn windows_v2(events: &Stream<Rows<Event>>) -> Stream<Rows<Told>> {
    let wide = events.clone().map(|event: Event| Wide {
        person: event.key,
        number: event.value % 1000,
        time: event.time,
    });
    let wide = wide.share();
    let sums = wide
        .clone()
        .watermarks(Watermarks::bounded(Wide::FIELDS.time, Duration::from_secs(4)))
        .key_by(Wide::FIELDS.person)
        .window(Tumbling::of(Duration::from_millis(400)))
        .sum(Wide::FIELDS.number)
        .uid("sums")
        .map(|sum: Windowed<i64, i64>| told("sums", sum.key, sum.start.millis(), sum.value));
    let most = wide
        .watermarks(Watermarks::bounded(Wide::FIELDS.time, Duration::from_secs(4)))
        .key_by((Wide::FIELDS.person, Wide::FIELDS.number))
        .window(Session::gap(Duration::from_millis(200)))
        .max(Wide::FIELDS.number)
        .uid("most")
        .map(|most: Windowed<(i64, i64), i64>| told("most", most.key.0, most.start.millis(), most.value));
    // In another order than before.
    most.union(sums)
}

/// Sums of money in every kind of aggregate, as the version keeps them.
fn amounts<M: Amount + Owned + Clone>(
    events: &Stream<Rows<Event>>,
    amount_of: fn(i64) -> M,
    migrated: fn(AmountV1) -> M,
    triggered_ms: u64,
) -> Stream<Rows<Told>> {
    let keyed = || {
        let timed = events
            .clone()
            .watermarks(Watermarks::bounded(Event::FIELDS.time, Duration::from_secs(4)));
        timed.key_by(|event: &Event| event.key)
    };
    let add = move |amount: &mut M, event: Event| *amount = amount_of(amount.cents() + event.value);
    let merge = move |amount: &mut M, other: &M| *amount = amount_of(amount.cents() + other.cents());
    let tumbling = keyed()
        .window(Tumbling::of(Duration::from_millis(400)))
        .aggregate_with(
            move || amount_of(0),
            add,
            merge,
            |key, window: Window, amount: &M| told("tumbling-amount", key, window.start.millis(), amount.cents()),
        )
        .migrate(migrated)
        .uid("tumbling-amount");
    let session = keyed()
        .window(Session::gap(Duration::from_millis(30)))
        .aggregate_with(
            move || amount_of(0),
            add,
            merge,
            |key, window: Window, amount: &M| told("session-amount", key, window.start.millis(), amount.cents()),
        )
        .migrate(migrated)
        .uid("session-amount");
    let triggered = keyed()
        .window(Tumbling::of(Duration::from_millis(triggered_ms)))
        .trigger(EventTimeTrigger)
        .aggregate_with(
            move || amount_of(0),
            add,
            merge,
            |key, window: Window, amount: &M| told("triggered-amount", key, window.start.millis(), amount.cents()),
        )
        .migrate(migrated)
        .uid("triggered-amount");
    tumbling.union(session).union(triggered)
}

/// A row as a rolling aggregate of version 1 keeps it.
#[derive(Record, Clone)]
struct LatestV1 {
    key: i64,
    text: String,
}

/// The same in version 2.
#[derive(Record, Clone)]
struct LatestV2 {
    key: i64,
    number: i64,
}

fn told(operator: &str, key: i64, at: i64, count: i64) -> Told {
    Told {
        operator: operator.to_owned(),
        key,
        at,
        count,
        text: String::new(),
    }
}

pub(crate) fn build(flow: &Flow, params: &Params) {
    let mut generator = Generator::<Event>::new()
        .rows(params.rows as u64)
        .column("key", &format!("mix % {}", params.keys))
        .column("value", "index")
        .column("time", "index / 4");
    if params.rate > 0 {
        generator = generator.rate(params.rate as u64);
    }
    // One subtask, so that the rows of a key have one order.
    let events = flow.source("events", generator).uid("source").parallelism(1);
    let timed = events
        .clone()
        .watermarks(Watermarks::bounded(Event::FIELDS.time, Duration::from_secs(4)))
        .parallelism(1)
        .map(|event: Event| event)
        .parallelism(1);
    let told = match params.version.as_str() {
        "1" | "other-size" => {
            let profile = timed
                .key_by(|event: &Event| event.key as i32)
                .process(|setup| Function {
                    profile: setup.value_state::<ProfileV1>("profile"),
                    seen: setup.map_state::<i32, i32>("seen"),
                    last: setup.value_state("last"),
                    amount: setup.value_state("amount"),
                    number: |value| value as i32,
                    amount_of: |cents| AmountV1 {
                        cents: cents.to_string(),
                    },
                    key: |key: &i32| i64::from(*key),
                });
            // Windows of 800 ms every 400 ms are made of the same slices.
            let (size_ms, gap_ms, triggered_ms) = match params.version.as_str() {
                "1" => (400, 200, 400),
                _ => (800, 250, 600),
            };
            let amount_of = |cents: i64| AmountV1 {
                cents: cents.to_string(),
            };
            let latest = events
                .clone()
                .map(|event: Event| LatestV1 {
                    key: event.key,
                    text: event.value.to_string(),
                })
                .parallelism(1)
                .key_by(LatestV1::FIELDS.key)
                .reduce(|sum: &mut LatestV1, row: LatestV1| {
                    sum.text =
                        (sum.text.parse::<i64>().unwrap_or(0) + row.text.parse::<i64>().unwrap_or(0)).to_string();
                })
                .uid("latest")
                .map(|row: LatestV1| told("latest", row.key, 0, row.text.parse().unwrap_or(-1)));
            let amounts = amounts(&events, amount_of, |old| old, triggered_ms);
            let aggregates = amounts.union(latest);
            profile
                .uid("profile")
                .union(windows_v1(&events, size_ms, gap_ms))
                .union(aggregates)
        }
        "2" => {
            let profile = timed.key_by(|event: &Event| event.key).process(|setup| {
                let amount_state = setup.value_state("amount");
                setup.migrate(&amount_state, |old: AmountV1| amount(old.cents()));
                let latest = setup.value_state("latest");
                setup.alias(&latest, "last");
                Function {
                    amount: amount_state,
                    last: latest,
                    profile: setup.value_state::<ProfileV2>("profile"),
                    seen: setup.map_state::<i64, i64>("seen"),
                    number: |value| value,
                    amount_of: amount,
                    key: |key: &i64| *key,
                }
            });
            let latest = events
                .clone()
                .map(|event: Event| LatestV2 {
                    key: event.key,
                    number: event.value,
                })
                .parallelism(1)
                .key_by(LatestV2::FIELDS.key)
                .reduce(|sum: &mut LatestV2, row: LatestV2| sum.number += row.number)
                .migrate(|old: LatestV1| LatestV2 {
                    key: old.key,
                    number: old.text.parse().unwrap_or(-1),
                })
                .uid("latest")
                .map(|row: LatestV2| told("latest", row.key, 0, row.number));
            let aggregates = amounts(&events, amount, |old| amount(old.cents()), 400).union(latest);
            profile.uid("profile").union(windows_v2(&events)).union(aggregates)
        }
        "too-narrow" => return holds::<_, TooNarrow>(timed, |key| key as i32, params),
        "lost-variant" => return holds::<_, LostVariant>(timed, |key| key as i32, params),
        "text-key" => return holds::<_, ProfileV1>(timed, |key| key.to_string(), params),
        other => panic!("there is no version `{other}`"),
    };
    told.sink("out", Files::to_ndjson(&params.output));
}
