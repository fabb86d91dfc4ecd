//! The host's half of a chain that begins with a pattern.
//!
//! What a row does to what has begun of its key is done by the host's own matcher, `millrace_pattern`. Around it is a plain
//! model of the rest: rows wait for the watermark in one sorted map, and are asked about one by one.

use std::collections::BTreeMap;

use millrace_pattern::{self as pattern, Incoming, Matcher, NO_NODE, Place, Program, Stored};

use super::convert::convert_row;
use super::datum::{Column, Key};
use super::guest::{Guest, Row};
use super::time::LAST;
use crate::bindings::dataflow as wit;
use crate::bindings::operators::{Candidates, MatchPaths, Matches};
use crate::chain::Work;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Patterns {
    matcher: Matcher,
    late_port: Option<u32>,
    /// Rows are matched in the order of event time, and not as they come.
    has_time: bool,
    /// Rows of equal time are in an order of their own. Without event time they wait for the end of their millisecond.
    orders_equal_times: bool,
    /// Rows that the watermark, or else the clock, has not passed: by time, what they are ordered by, and arrival.
    waiting: BTreeMap<(i64, Vec<u8>, u64), Waiting>,
    arrivals: u64,
    /// What has begun, of keys of which anything has.
    begun: BTreeMap<Key, pattern::Key>,
    /// Rows that some match has taken.
    rows: BTreeMap<u32, Row>,
    /// Late rows that nobody asked for.
    pub(crate) dropped: u64,
}

/// A row that waits.
#[derive(Debug)]
struct Waiting {
    key: Key,
    row: Row,
    may: u64,
}

/// A row with its key, and what was said of it.
struct Asked {
    key: Key,
    row: Row,
    /// Conditions that hold of it, or may, if they look at other rows.
    may: u64,
    /// What it is ordered by among those of equal time.
    order: Vec<u8>,
}

/// What a snapshot has of the patterns of a task.
#[derive(Debug, Clone)]
pub(crate) struct StoredPatterns {
    program: i64,
    columns: Vec<Column>,
    begun: BTreeMap<Key, (Stored, Vec<Row>)>,
    /// In their order, with their times.
    waiting: Vec<(i64, Key, Row)>,
}

impl StoredPatterns {
    pub(crate) fn is_empty(&self) -> bool {
        self.begun.is_empty() && self.waiting.is_empty()
    }
}

/// The automaton of a declared pattern; an error is for its author.
pub(crate) fn compile(declared: &wit::Pattern) -> Result<Program, String> {
    Program::compile(&declaration(declared)).map_err(|refused| refused.to_string())
}

fn declaration(declared: &wit::Pattern) -> pattern::PatternDecl {
    let millis = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    pattern::PatternDecl {
        elements: declared.elements.iter().map(element).collect(),
        conditions: declared.conditions.clone(),
        within_ms: declared.within_ms.map(millis),
        within_gap_ms: declared.within_gap_ms.map(millis),
        after_match: match &declared.after_match {
            wit::AfterMatch::NoSkip => pattern::AfterMatch::NoSkip,
            wit::AfterMatch::SkipToNext => pattern::AfterMatch::SkipToNext,
            wit::AfterMatch::SkipPastLast => pattern::AfterMatch::SkipPastLast,
            wit::AfterMatch::SkipToFirst(stage) => pattern::AfterMatch::SkipToFirst(stage.clone()),
            wit::AfterMatch::SkipToLast(stage) => pattern::AfterMatch::SkipToLast(stage.clone()),
        },
        timeouts: declared.timeouts,
        late_port: declared.late_port,
        partial_matches_max: declared.partial_matches_max,
        orders_equal_times: declared.orders_equal_times,
    }
}

fn element(element: &wit::PatternElement) -> pattern::PatternElement {
    pattern::PatternElement {
        name: element.name.clone(),
        connection: match element.connection {
            wit::Connection::Next => pattern::Connection::Next,
            wit::Connection::FollowedBy => pattern::Connection::FollowedBy,
            wit::Connection::FollowedByAny => pattern::Connection::FollowedByAny,
            wit::Connection::NotNext => pattern::Connection::NotNext,
            wit::Connection::NotFollowedBy => pattern::Connection::NotFollowedBy,
        },
        condition: element.condition,
        least: element.least,
        most: element.most,
        optional: element.optional,
        repeated: match element.repeated {
            wit::Contiguity::Strict => pattern::Contiguity::Strict,
            wit::Contiguity::Relaxed => pattern::Contiguity::Relaxed,
            wit::Contiguity::Any => pattern::Contiguity::Any,
        },
        greedy: element.greedy,
        until: element.until,
        children: element.children,
    }
}

/// Rows for a call, each once.
struct Gathered<'p> {
    patterns: &'p Patterns,
    rows: Vec<Row>,
    /// By event.
    numbers: BTreeMap<u32, u32>,
}

impl Gathered<'_> {
    /// Adds a match, first row first.
    fn add_path(&mut self, node: u32, paths: &mut MatchPaths) {
        let buffer = &self.patterns.matcher.buffer;
        let mut path: Vec<(u32, u32)> = Vec::new();
        for (_, node) in buffer.path(node) {
            let next = self.rows.len() as u32;
            let number = *self.numbers.entry(node.event).or_insert(next);
            if number == next {
                self.rows.push(self.patterns.row_of(node.event).clone());
            }
            path.push((number, u32::from(node.stage)));
        }
        for (number, stage) in path.into_iter().rev() {
            paths.members.push(number);
            paths.stages.push(stage);
        }
        paths.ends.push(paths.members.len() as u32);
    }
}

impl Patterns {
    pub(crate) fn new(program: Program, declared: &wit::Pattern, has_time: bool) -> Self {
        Patterns {
            matcher: Matcher::new(program),
            late_port: declared.late_port,
            has_time,
            orders_equal_times: declared.orders_equal_times,
            waiting: BTreeMap::new(),
            arrivals: 0,
            begun: BTreeMap::new(),
            rows: BTreeMap::new(),
            dropped: 0,
        }
    }

    /// Rows with their keys: they wait for the watermark, or are matched as they come.
    pub(crate) fn rows(&mut self, guest: &mut Guest<'_>, keys: &[Key], rows: &[Row]) {
        let (has_time, at) = (self.has_time, guest.at);
        let all = keys.iter().cloned().zip(rows.iter().cloned());
        let (late, in_time): (Vec<_>, Vec<_>) = all.partition(|(_, row)| has_time && row.time <= at.watermark);
        match self.late_port {
            Some(port) if !late.is_empty() => {
                let late = late.into_iter().map(|(_, row)| row).collect();
                guest.outputs.push((port, late));
            }
            Some(_) => {}
            None => self.dropped += late.len() as u64,
        }
        for asked in ask_about(guest, in_time) {
            if asked.may == 0 && self.matcher.program.ignores_others {
                continue;
            }
            let time = if has_time { asked.row.time } else { at.now };
            match has_time || self.orders_equal_times {
                true => self.wait(time, asked),
                false => self.match_row(guest, &asked.key, asked.row, time, asked.may),
            }
        }
        self.put_out(guest);
    }

    fn wait(&mut self, time: i64, asked: Asked) {
        self.arrivals += 1;
        let place = (time, asked.order, self.arrivals);
        let Asked { key, row, may, .. } = asked;
        self.waiting.insert(place, Waiting { key, row, may });
    }

    /// Matches rows that wait, up to a time.
    fn match_waiting(&mut self, guest: &mut Guest<'_>, upto: i64) {
        while let Some(entry) = self.waiting.first_entry().filter(|entry| entry.key().0 <= upto) {
            let ((time, ..), Waiting { key, row, may }) = entry.remove_entry();
            self.match_row(guest, &key, row, time, may);
        }
    }

    /// Matches what the watermark has reached, and ends what has run out of time.
    pub(crate) fn watermark(&mut self, guest: &mut Guest<'_>, watermark: i64) {
        if self.has_time || watermark == LAST {
            self.match_waiting(guest, watermark);
        }
        if self.has_time {
            self.end_partials(watermark);
        }
        self.put_out(guest);
    }

    /// The same of the clock, without event time.
    pub(crate) fn time(&mut self, guest: &mut Guest<'_>, now: i64) {
        if !self.has_time {
            self.match_waiting(guest, now - 1);
            self.end_partials(now);
        }
        self.put_out(guest);
    }

    /// When the clock has rows matched that wait, or something run out of time.
    pub(crate) fn next_time(&self) -> Option<i64> {
        if self.has_time {
            return None;
        }
        let waits = self.waiting.keys().next().map(|(time, ..)| time + 1);
        let deadlines = self.begun.values().filter_map(|key| self.matcher.deadline(key));
        deadlines.chain(waits).min()
    }

    fn end_partials(&mut self, upto: i64) {
        for key in self.begun.values_mut() {
            self.matcher.advance(key, upto);
        }
        self.begun.retain(|_, key| !key.is_empty());
    }

    fn match_row(&mut self, guest: &mut Guest<'_>, key: &Key, row: Row, time: i64, may: u64) {
        let number = self.keep(row);
        let mut begun = self.begun.remove(key).unwrap_or_default();
        self.matcher.advance(&mut begun, time);
        let mut asked = Vec::new();
        let mut ask = |node, condition| asked.push((node, condition));
        self.matcher.asks(&begun, may, &mut ask);
        let answers = self.ask(guest, number, &asked);
        let mut incoming = Incoming::new(place_of(number), time, may);
        self.matcher.step(&mut begun, &mut incoming, answers.into_iter());
        self.matcher.buffer.end(incoming);
        if !begun.is_empty() {
            self.begun.insert(key.clone(), begun);
        }
    }

    /// Keeps a row until the matcher frees it.
    fn keep(&mut self, row: Row) -> u32 {
        let number = self.rows.last_key_value().map_or(0, |(last, _)| last + 1);
        self.rows.insert(number, row);
        number
    }

    fn row_of(&self, event: u32) -> &Row {
        &self.rows[&self.matcher.buffer.event(event).place.row]
    }

    fn gather(&self) -> Gathered<'_> {
        Gathered {
            patterns: self,
            rows: Vec::new(),
            numbers: BTreeMap::new(),
        }
    }

    /// Whether conditions hold of a row beside matches, each named by its last row.
    fn ask(&self, guest: &mut Guest<'_>, row: u32, asked: &[(u32, u8)]) -> Vec<bool> {
        if asked.is_empty() {
            return Vec::new();
        }
        let mut gathered = self.gather();
        gathered.rows.push(self.rows[&row].clone());
        let mut paths = no_paths();
        for (node, _) in asked {
            match *node {
                NO_NODE => paths.ends.push(paths.members.len() as u32),
                node => gathered.add_path(node, &mut paths),
            }
        }
        let candidates = Candidates {
            rows: vec![0; asked.len()],
            conditions: asked.iter().map(|(_, condition)| u32::from(*condition)).collect(),
            paths,
        };
        let rows = gathered.rows;
        guest.iterative_conditions(&rows, &candidates)
    }

    /// Has the chain go on with what was found, and gives up rows that nobody wants any more.
    fn put_out(&mut self, guest: &mut Guest<'_>) {
        let found = std::mem::take(&mut self.matcher.found);
        if !found.is_empty() {
            let mut gathered = self.gather();
            let mut paths = no_paths();
            for found in &found {
                gathered.add_path(found.node, &mut paths);
            }
            let rows = gathered.rows;
            let matches = Matches {
                paths,
                times: found.iter().map(|found| found.time).collect(),
                timed_out: found.iter().map(|found| found.timed_out).collect(),
            };
            let block = guest.info.block(0, &rows);
            let work = Work::Matches {
                block: &block,
                matches: &matches,
            };
            guest.call(&work, |_| String::new());
            found.iter().for_each(|found| self.matcher.buffer.release(found.node));
        }
        for place in self.matcher.buffer.freed.drain(..) {
            self.rows.remove(&place.row);
        }
    }

    /// Keys of which rows wait, or something has begun.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.begun
            .keys()
            .chain(self.waiting.values().map(|waiting| &waiting.key))
    }

    /// Matches of a key that have begun: their rows with the stages that took them, first row first.
    pub(crate) fn partial_matches(&self, key: &Key) -> Vec<Vec<(&str, &Row)>> {
        let stages = &self.matcher.program.stages;
        let path = |partial: &pattern::Partial| {
            let path = self.matcher.buffer.path(partial.node);
            let row = |(_, node): (u32, &pattern::Node)| {
                let stage = stages[usize::from(node.stage)].as_str();
                (stage, self.row_of(node.event))
            };
            let mut path: Vec<(&str, &Row)> = path.map(row).collect();
            path.reverse();
            path
        };
        let begun = self.begun.get(key).into_iter();
        begun.flat_map(|key| &key.partials).map(path).collect()
    }

    /// Partial matches that were given up, since a key had too many, or they are of another pattern.
    pub(crate) fn dropped_partials(&self) -> u64 {
        self.matcher.dropped
    }

    /// What a snapshot has of it, beside what it has of other subtasks.
    pub(crate) fn store(&self, columns: &[Column], into: &mut Option<StoredPatterns>) {
        let into = into.get_or_insert_with(|| StoredPatterns {
            program: self.matcher.program.fingerprint(),
            columns: columns.to_vec(),
            begun: BTreeMap::new(),
            waiting: Vec::new(),
        });
        for (key, begun) in &self.begun {
            let mut stored = Stored::default();
            stored.set(begun, &self.matcher.buffer);
            let rows = stored.rows.iter();
            let rows = rows.map(|(place, _)| self.rows[&place.row].clone()).collect();
            into.begun.insert(key.clone(), (stored, rows));
        }
        let waiting = self.waiting.iter();
        let waiting = waiting.map(|((time, ..), waiting)| (*time, waiting.key.clone(), waiting.row.clone()));
        into.waiting.extend(waiting);
    }

    /// Takes up what a snapshot has of these keys. What has begun of another pattern is given up.
    pub(crate) fn restore(
        &mut self,
        guest: &mut Guest<'_>,
        stored: &StoredPatterns,
        owns: impl Fn(&Key) -> bool,
    ) -> Result<(), String> {
        let columns = &guest.info.inputs[0];
        let converted = |row: &Row| {
            let values = convert_row(&stored.columns, columns, &row.values)?;
            Ok::<Row, String>(Row { values, ..row.clone() })
        };
        for (key, (of_key, rows)) in stored.begun.iter().filter(|(key, _)| owns(key)) {
            if stored.program != self.matcher.program.fingerprint() {
                self.matcher.dropped += of_key.partials.len() as u64;
                continue;
            }
            let mut of_key = of_key.clone();
            for ((place, _), row) in of_key.rows.iter_mut().zip(rows) {
                *place = place_of(self.keep(converted(row)?));
            }
            let restored = self.matcher.restore(&of_key);
            let (begun, _) = restored.expect("it was stored of the same pattern");
            self.begun.insert(key.clone(), begun);
        }
        let own = stored.waiting.iter().filter(|(_, key, _)| owns(key));
        let times: Vec<i64> = own.clone().map(|(time, ..)| *time).collect();
        let own = own.map(|(_, key, row)| Ok((key.clone(), converted(row)?)));
        let own = own.collect::<Result<Vec<_>, String>>()?;
        for (time, asked) in times.into_iter().zip(ask_about(guest, own)) {
            self.wait(time, asked);
        }
        Ok(())
    }
}

fn place_of(row: u32) -> Place {
    Place { batch: 0, row }
}

fn no_paths() -> MatchPaths {
    MatchPaths {
        members: Vec::new(),
        stages: Vec::new(),
        ends: Vec::new(),
    }
}

/// Rows with what the chain says of each.
fn ask_about(guest: &mut Guest<'_>, rows: Vec<(Key, Row)>) -> Vec<Asked> {
    if rows.is_empty() {
        return Vec::new();
    }
    let (keys, rows): (Vec<Key>, Vec<Row>) = rows.into_iter().unzip();
    let conditions = guest.conditions(&rows);
    let mut start = 0;
    let mut order = |index: usize| {
        let end = conditions.order_ends.get(index).map_or(start, |end| *end as usize);
        conditions.order[std::mem::replace(&mut start, end)..end].to_vec()
    };
    let rows = keys.into_iter().zip(rows).zip(&conditions.holds).enumerate();
    let asked = rows.map(|(index, ((key, row), may))| Asked {
        order: order(index),
        may: *may,
        key,
        row,
    });
    asked.collect()
}
