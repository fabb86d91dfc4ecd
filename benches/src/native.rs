//! The workloads as plain loops on one thread: no blocks, no wasm, no exchange. What the hardware allows.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

use crate::{Totals, Workload};

/// The 64-bit finalizer of splitmix64 with the sign bit cleared.
pub(crate) fn mix(mut x: u64) -> u64 {
    x ^= x >> 30;
    x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^= x >> 27;
    x = x.wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^= x >> 31;
    x & 0x7fff_ffff_ffff_ffff
}

/// Open addressing, linear probing, load up to one half: key to index in order of first appearance.
struct Table {
    entries: Vec<(u64, u32)>,
    keys: Vec<u64>,
    shift: u32,
}

const FREE: u32 = u32::MAX;

impl Table {
    fn new() -> Self {
        Table {
            entries: vec![(0, FREE); 1024],
            keys: Vec::new(),
            shift: 64 - 10,
        }
    }

    fn position(&self, key: u64) -> usize {
        (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize
    }

    fn index(&mut self, key: u64) -> usize {
        let mut position = self.position(key);
        loop {
            let (found, index) = self.entries[position];
            if index == FREE {
                break;
            }
            if found == key {
                return index as usize;
            }
            position = (position + 1) & (self.entries.len() - 1);
        }
        let index = self.keys.len();
        self.entries[position] = (key, index as u32);
        self.keys.push(key);
        if self.keys.len() * 2 > self.entries.len() {
            self.grow();
        }
        index
    }

    fn grow(&mut self) {
        let capacity = self.entries.len() * 2;
        self.shift -= 1;
        self.entries = vec![(0, FREE); capacity];
        for (index, &key) in self.keys.iter().enumerate() {
            let mut position = self.position(key);
            while self.entries[position].1 != FREE {
                position = (position + 1) & (capacity - 1);
            }
            self.entries[position] = (key, index as u32);
        }
    }
}

#[derive(Clone, Copy)]
struct Stats {
    count: i64,
    sum: i64,
    max: i64,
}

const EMPTY: Stats = Stats {
    count: 0,
    sum: 0,
    max: i64::MIN,
};

impl Stats {
    fn add(&mut self, value: i64) {
        self.count += 1;
        self.sum += value;
        self.max = self.max.max(value);
    }

    fn merge(&mut self, other: &Stats) {
        self.count += other.count;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }
}

/// Runs a workload and times it.
pub(crate) fn run(workload: Workload, rows: u64, keys: u64, per_ms: u64) -> Totals {
    let start = Instant::now();
    let (out_rows, out_sum) = match workload {
        Workload::Stateless => stateless(rows, keys),
        Workload::Keyed | Workload::LargeMap => keyed(rows, keys),
        Workload::Tumbling | Workload::Triggered => sliced(rows, keys, per_ms, 10_000, 10_000),
        Workload::Sliding => sliced(rows, keys, per_ms, 60_000, 5_000),
        Workload::Session => session(rows, keys, per_ms, 1_000),
        Workload::WindowJoin => window_join(rows, keys, per_ms),
        Workload::Cep => cep(rows, keys, per_ms),
        Workload::Timer => timer(rows, keys, per_ms),
        Workload::Slow
        | Workload::ProcessingTime
        | Workload::CountWindow
        | Workload::Nexmark
        | Workload::Latency
        | Workload::Startup
        | Workload::Restart
        | Workload::RestartLargeMap
        | Workload::Tier
        | Workload::Boundary => (0, 0),
    };
    Totals {
        seconds: start.elapsed().as_secs_f64(),
        out_rows,
        out_sum,
        gap_ms_max: None,
        checkpoints: None,
    }
}

fn stateless(rows: u64, keys: u64) -> (u64, i128) {
    let (mut count, mut sum) = (0, 0i64);
    for i in 0..rows {
        let key = black_box(mix(i) % keys);
        let mapped = (i % 1000) as i64 * 31 + 7;
        if mapped % 3 != 0 {
            count += 1;
            sum += mapped;
            black_box(key);
        }
    }
    (count, i128::from(sum))
}

fn keyed(rows: u64, keys: u64) -> (u64, i128) {
    let mut table = Table::new();
    let mut sums: Vec<i64> = Vec::new();
    let mut total = 0i128;
    for i in 0..rows {
        let index = table.index(mix(i) % keys);
        if index == sums.len() {
            sums.push(0);
        }
        sums[index] += (i % 1000) as i64;
        total += i128::from(sums[index]);
    }
    (rows, total)
}

/// Windows over slices of one slide, for tumbling and sliding alike.
struct Sliced {
    slices: BTreeMap<i64, (Table, Vec<Stats>)>,
    per_window: i64,
    next_window: i64,
    out_rows: u64,
    out_sum: i128,
}

impl Sliced {
    /// Fires the windows that end before slice `upto`.
    fn fire(&mut self, upto: i64) {
        while self.next_window + self.per_window <= upto {
            let (mut table, mut merged) = (Table::new(), Vec::new());
            let window = self.next_window..self.next_window + self.per_window;
            for (slice_table, stats) in self.slices.range(window).map(|(_, slice)| slice) {
                for (key, stats) in slice_table.keys.iter().zip(stats) {
                    let index = table.index(*key);
                    if index == merged.len() {
                        merged.push(EMPTY);
                    }
                    merged[index].merge(stats);
                }
            }
            self.out_rows += merged.len() as u64;
            self.out_sum += merged
                .iter()
                .map(|stats| i128::from(black_box(stats).sum))
                .sum::<i128>();
            self.slices.remove(&self.next_window);
            self.next_window += 1;
        }
    }
}

fn sliced(rows: u64, keys: u64, per_ms: u64, size: i64, slide: i64) -> (u64, i128) {
    let per_window = size / slide;
    let mut windows = Sliced {
        slices: BTreeMap::new(),
        per_window,
        next_window: 1 - per_window,
        out_rows: 0,
        out_sum: 0,
    };
    let mut current = 0;
    for i in 0..rows {
        let time = (i / per_ms) as i64;
        current = time / slide;
        // One second of out-of-orderness.
        let complete = (time - 1_000).div_euclid(slide);
        if complete >= windows.next_window + per_window {
            windows.fire(complete);
        }
        let (table, stats) = windows
            .slices
            .entry(current)
            .or_insert_with(|| (Table::new(), Vec::new()));
        let index = table.index(mix(i) % keys);
        if index == stats.len() {
            stats.push(EMPTY);
        }
        stats[index].add((i % 1000) as i64);
    }
    windows.fire(current + per_window);
    (windows.out_rows, windows.out_sum)
}

fn session(rows: u64, keys: u64, per_ms: u64, gap: i64) -> (u64, i128) {
    let mut table = Table::new();
    let mut sessions: Vec<(i64, Stats)> = Vec::new();
    let (mut out_rows, mut out_sum) = (0u64, 0i128);
    for i in 0..rows {
        let time = (i / per_ms) as i64;
        let index = table.index(mix(i) % keys);
        if index == sessions.len() {
            sessions.push((time, EMPTY));
        }
        let (last, stats) = &mut sessions[index];
        if time - *last > gap {
            out_rows += 1;
            out_sum += i128::from(stats.sum);
            *stats = EMPTY;
        }
        *last = time;
        stats.add((i % 1000) as i64);
    }
    out_rows += sessions.len() as u64;
    out_sum += sessions
        .iter()
        .map(|(_, stats)| i128::from(black_box(stats).sum))
        .sum::<i128>();
    (out_rows, out_sum)
}

/// Pairs of rows with equal keys in the same window: counted by pair, summed by side.
fn window_join(rows: u64, keys: u64, per_ms: u64) -> (u64, i128) {
    let (mut out_rows, mut out_sum) = (0u64, 0i128);
    // Of each side, the values of a key's rows in the current window.
    let mut sides: [Vec<Vec<i64>>; 2] = [0; 2].map(|_| vec![Vec::new(); keys as usize]);
    let mut fire = |sides: &mut [Vec<Vec<i64>>; 2]| {
        let [firsts, seconds] = sides;
        for (firsts, seconds) in firsts.iter_mut().zip(seconds) {
            for first in firsts.iter() {
                for second in seconds.iter() {
                    out_rows += 1;
                    out_sum += i128::from(black_box(first + second));
                }
            }
            firsts.clear();
            seconds.clear();
        }
    };
    let mut window = 0;
    for i in 0..rows / 2 {
        let now = i * 2 / per_ms / 10_000;
        if now > window {
            fire(&mut sides);
            window = now;
        }
        let value = (i % 1000) as i64;
        sides[0][(mix(i) % keys) as usize].push(value);
        sides[1][(mix(i) / 4096 % keys) as usize].push(value);
    }
    fire(&mut sides);
    (out_rows, out_sum)
}

fn timer(rows: u64, keys: u64, per_ms: u64) -> (u64, i128) {
    let mut table = Table::new();
    let mut counts: Vec<i64> = Vec::new();
    let mut due: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
    let (mut out_rows, mut out_sum) = (0u64, 0i128);
    for i in 0..rows {
        let time = (i / per_ms) as i64;
        while let Some(entry) = due.first_entry() {
            if *entry.key() > time - 1_001 {
                break;
            }
            for index in entry.remove() {
                out_rows += 1;
                out_sum += i128::from(std::mem::take(&mut counts[index as usize]));
            }
        }
        let index = table.index(mix(i) % keys);
        if index == counts.len() {
            counts.push(0);
        }
        if counts[index] == 0 {
            due.entry(time + 10_000).or_default().push(index as u32);
        }
        counts[index] += 1;
    }
    for index in due.into_values().flatten() {
        out_rows += 1;
        out_sum += i128::from(std::mem::take(&mut counts[index as usize]));
    }
    (out_rows, out_sum)
}

/// A match that has begun: how many of its rows have come, when the first did, and their sum.
struct Begun {
    rows: u8,
    start: i64,
    sum: i64,
}

fn cep(rows: u64, keys: u64, per_ms: u64) -> (u64, i128) {
    let mut table = Table::new();
    let mut all: Vec<Vec<Begun>> = Vec::new();
    let (mut out_rows, mut out_sum) = (0u64, 0i128);
    for i in 0..rows {
        let (time, value) = ((i / per_ms) as i64, (i % 1000) as i64);
        let index = table.index(mix(i) % keys);
        if index == all.len() {
            all.push(Vec::new());
        }
        let kind = (value % 3) as u8;
        all[index].retain_mut(|begun| {
            let over = time - begun.start >= 10_000;
            if over || begun.rows != kind {
                return !over;
            }
            begun.rows += 1;
            begun.sum += value;
            if begun.rows == 3 {
                out_rows += 1;
                out_sum += i128::from(begun.sum);
            }
            begun.rows < 3
        });
        if kind == 0 {
            all[index].push(Begun {
                rows: 1,
                start: time,
                sum: value,
            });
        }
    }
    (out_rows, out_sum)
}
