//! State that expires, and a function that knows when it should: beside each state that has a time to live it keeps one
//! that has none, and says when it last renewed the other.

use millrace::prelude::*;

use super::{Event, Params};

/// What the function finds that must not be, and what it may find.
#[derive(Record, Clone, Debug)]
struct Finding {
    what: String,
    key: i64,
    at: i64,
}

struct Watch {
    ttl: i64,
    /// The row that panics.
    trap: i64,
    /// Renewed by writes, one row in four.
    written: ValueState<i64>,
    written_at: ValueState<i64>,
    /// Renewed by every row.
    used: MapState<String, i64>,
    used_at: ValueState<i64>,
    /// An entry for each remainder of the row, renewed by writes.
    entries: LargeMap<i64, i64>,
    entries_at: MapState<i64, i64>,
    /// One entry that is read by every row and renewed by that.
    kept: LargeMap<String, i64>,
    kept_at: ValueState<i64>,
    /// When each item was added.
    items: LargeList<i64>,
    items_at: ListState<i64>,
}

impl Watch {
    fn new(setup: &mut Setup, params: &Params) -> Self {
        let (written, used) = (setup.value_state("written"), setup.map_state("used"));
        let written_at = setup.value_state("written-at");
        let used_at = setup.value_state("used-at");
        let (entries, kept, items) = (
            setup.large_map("entries"),
            setup.large_map("kept"),
            setup.large_list("items"),
        );
        // Version 2 has no time to live.
        if params.version == "1" {
            setup.ttl(&written, Ttl::after(params.size));
            setup.ttl(&used, Ttl::after(params.size).on_read_and_write());
            setup.ttl(&entries, Ttl::after(params.size));
            setup.ttl(&kept, Ttl::after(params.size).on_read_and_write());
            setup.ttl(&items, Ttl::after(params.size));
        }
        Watch {
            ttl: params.size.as_millis() as i64,
            trap: params.trap,
            written,
            written_at,
            used,
            used_at,
            entries,
            entries_at: setup.map_state("entries-at"),
            kept,
            kept_at: setup.value_state("kept-at"),
            items,
            items_at: setup.list_state("items-at"),
        }
    }

    /// Looks at the large states of the key.
    fn look_at_large(&self, cx: &mut Context<'_, Self>, place: &str) {
        let (key, now) = (cx.key(), cx.now().millis());
        let lives = |at: i64| at + self.ttl > now;
        let mut find = |what: &str| {
            let what = format!("{place} {what}");
            cx.push(Finding { what, key, at: now });
        };
        for (entry, at) in self.entries_at.entries() {
            match self.entries.get(&entry) {
                Some(found) if found != at => find("wrong: entry"),
                Some(_) if !lives(at) => find("wrong: entry is there still"),
                None if lives(at) => find("wrong: entry has gone too early"),
                Some(_) => find("entry"),
                None => find("entry expired"),
            }
        }
        if self.entries.iter().any(|(_, at)| !lives(at)) {
            find("wrong: a scan has an entry still");
        }
        let early = self.ttl - self.ttl / 20 - 1;
        match (self.kept.get("key"), self.kept_at.get()) {
            (Some(_), Some(at)) if !lives(at) => find("wrong: kept is there still"),
            (None, Some(at)) if at + early > now => find("wrong: kept has gone too early"),
            (Some(_), _) => find("kept"),
            (None, _) => find("not kept"),
        }
        let found: Vec<i64> = self.items.iter().collect();
        let mut expected = self.items_at.to_vec();
        expected.retain(|at| lives(*at));
        if found.iter().any(|at| !lives(*at)) {
            find("wrong: an item is there still");
        } else if found.len() < expected.len() {
            find("wrong: items have gone too early");
        } else if found != expected {
            find("wrong: items");
        }
        let (length, middle) = (found.len() as u64, found.len() as u64 / 2);
        if self.items.len() != length || self.items.get(middle) != found.get(middle as usize).copied() {
            find("wrong: an index is another still");
        }
        find(if found.is_empty() { "no items" } else { "items" });
    }

    /// Changes the large states of the key.
    fn change_large(&mut self, row: i64, now: i64) {
        if row % 3 == 0 {
            self.entries.insert(row % 5, now);
            self.entries_at.insert(row % 5, now);
        }
        if self.kept.get("key").is_none() {
            self.kept.insert("key".to_owned(), now);
        }
        self.kept_at.set(now);
        if row % 2 == 0 {
            self.items.push(now);
            let mut items = self.items_at.to_vec();
            items.retain(|at| at + self.ttl > now);
            items.push(now);
            self.items_at.set(items);
        }
    }

    /// Looks at both states of the key, and says what becomes of them.
    fn look(&self, cx: &mut Context<'_, Self>, place: &str) {
        let (key, now) = (cx.key(), cx.now().millis());
        let mut find = |what: &str| {
            let what = format!("{place} {what}");
            cx.push(Finding { what, key, at: now });
        };
        match (self.written.get(), self.written_at.get()) {
            (Some(written), Some(at)) if written != at => find("wrong: written"),
            (Some(at), _) if at + self.ttl <= now => find("wrong: written is there still"),
            (None, Some(at)) if at + self.ttl > now => find("wrong: written has gone too early"),
            (Some(_), _) => find("written"),
            (None, Some(_)) => find("expired"),
            (None, None) => find("new"),
        }
        let early = self.ttl - self.ttl / 20 - 1;
        match (self.used.get("key"), self.used_at.get()) {
            (Some(used), _) if used != key => find("wrong: used"),
            (Some(_), Some(at)) if at + self.ttl <= now => find("wrong: used is there still"),
            (None, Some(at)) if at + early > now => find("wrong: used has gone too early"),
            (Some(_), _) => find("used"),
            (None, _) => find("unused"),
        }
    }
}

impl KeyedProcess for Watch {
    type In = Event;
    type Key = i64;
    type Out = Finding;

    fn process(&mut self, event: Event, cx: &mut Context<'_, Self>) {
        assert!(event.value != self.trap, "row {}", event.value);
        let now = cx.now();
        self.look(cx, "row");
        self.look_at_large(cx, "row");
        self.change_large(event.value, now.millis());
        if event.value % 4 == 0 {
            self.written.set(now.millis());
            self.written_at.set(now.millis());
            cx.set_processing_timer(now + Duration::from_millis(self.ttl as u64 / 2));
        }
        if self.used.get("key").is_none() {
            self.used.insert("key".to_owned(), cx.key());
        }
        self.used_at.set(now.millis());
    }

    fn on_timer(&mut self, _timer: Timer<i64>, cx: &mut Context<'_, Self>) {
        self.look(cx, "timer");
        self.look_at_large(cx, "timer");
        if self.kept.contains("key") {
            self.kept_at.set(cx.now().millis());
        }
        // That was a use.
        if self.used.contains("key") {
            self.used_at.set(cx.now().millis());
        }
    }
}

pub(crate) fn build(flow: &Flow, params: &Params) {
    let keys = params.keys;
    let mut generator = Generator::<Event>::new()
        .rows(params.rows as u64)
        .column("key", &format!("mix % {keys}"))
        .column("value", "index")
        .column("time", "index");
    if params.rate > 0 {
        generator = generator.rate(params.rate as u64);
    }
    let events = flow.source("events", generator).uid("events");
    // Some keys come often and some after a while.
    let skewed = events.clone().map(move |event: Event| Event {
        key: event.key * event.key / keys,
        ..event
    });
    skewed
        .key_by(Event::FIELDS.key)
        .process(|setup| Watch::new(setup, params))
        .uid("watch")
        .sink("findings", Files::to_csv(&params.output));
    // Keys that never come again.
    let counts = events
        .map(|event: Event| Event {
            key: event.value / 10,
            ..event
        })
        .key_by(Event::FIELDS.key)
        .count();
    let counts = match params.version.as_str() {
        "1" => counts.ttl(Ttl::after(params.size)),
        _ => counts,
    };
    counts.uid("passing").name("passing").sink("counts", Discard::new());
}
