//! Goal: a request with a key counts once in what complete checkpoints hold, and is never answered before it is there.
//! Method: senders that repeat until they are answered, a network that loses requests and answers, checkpoints that are complete,
//! come to nothing or are never heard of, and crashes, all drawn from a seed.

use super::*;

fn keyed(key: Key) -> Keyed {
    let body = key as u64 * 7;
    Keyed { key, body }
}

fn fresh(keys_max: usize) -> Ledger {
    Ledger::restore(&Position::START, keys_max).expect("the start")
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// A job that reads requests, with what it has put out.
struct Job {
    ledger: Ledger,
    /// Keys of the requests taken, in order.
    output: Vec<Key>,
    /// Numbers and keys of the requests that wait.
    waiting: Vec<(u64, Key)>,
    /// Barriers that were sent: position, and how much had been put out.
    barriers: Vec<(Position, usize)>,
    /// What a restart goes on from.
    complete: (Position, usize),
    answered: Vec<Key>,
}

impl Job {
    fn new() -> Self {
        Job {
            ledger: fresh(1_000),
            output: Vec::new(),
            waiting: Vec::new(),
            barriers: Vec::new(),
            complete: (Position::START, 0),
            answered: Vec::new(),
        }
    }

    fn post(&mut self, key: Key) {
        match self.ledger.look_up(keyed(key)) {
            Known::New => {
                self.output.push(key);
                let number = self.ledger.take(Some(keyed(key)));
                self.waiting.push((number, key));
            }
            Known::Taken(number) => self.waiting.push((number, key)),
            Known::Durable => self.answered.push(key),
            Known::OfAnother => panic!("a key has one body"),
        }
    }

    /// The oldest barrier's checkpoint is stored; `heard`: the reader is told.
    fn complete(&mut self, heard: bool) {
        if self.barriers.is_empty() {
            return;
        }
        self.complete = self.barriers.remove(0);
        if !heard {
            return;
        }
        let durable = self.ledger.complete(&self.complete.0).expect("its own position");
        let answered = self.waiting.extract_if(.., |(number, _)| *number <= durable);
        self.answered.extend(answered.map(|(_, key)| key));
    }

    fn crash(&mut self) {
        let (position, put_out) = self.complete.clone();
        self.ledger = Ledger::restore(&position, 1_000).expect("its own position");
        self.output.truncate(put_out);
        self.waiting.clear();
        self.barriers.clear();
    }
}

fn simulate(seed: u64) -> (usize, usize) {
    const SENDERS: usize = 5;
    const REQUESTS: Key = 20;
    let mut random = Random(seed);
    let mut job = Job::new();
    // What each sender has had answers for.
    let mut sent: Vec<Key> = vec![0; SENDERS];
    let (mut repeats, mut crashes) = (0, 0);
    let mut posted = std::collections::BTreeSet::new();
    while sent.iter().any(|sent| *sent < REQUESTS) {
        match random.below(10) {
            0..=5 => {
                let sender = random.below(SENDERS as u64) as usize;
                if sent[sender] < REQUESTS && !random.once_in(5) {
                    let key = sender as Key * REQUESTS + sent[sender];
                    repeats += usize::from(!posted.insert(key));
                    job.post(key);
                }
            }
            6 | 7 => job.barriers.push((job.ledger.position(), job.output.len())),
            8 if random.once_in(4) => drop(job.barriers.pop()),
            8 => {
                let heard = !random.once_in(5);
                job.complete(heard);
            }
            _ if random.once_in(6) => {
                job.crash();
                crashes += 1;
            }
            _ => {}
        }
        for key in std::mem::take(&mut job.answered) {
            let committed = &job.output[..job.complete.1];
            assert!(committed.contains(&key), "seed {seed}: it is answered too early");
            let (sender, next) = ((key / REQUESTS) as usize, key % REQUESTS);
            // It may be lost, or be the answer to an earlier try.
            if next == sent[sender] && !random.once_in(5) {
                sent[sender] += 1;
            }
        }
        let mut committed = job.output[..job.complete.1].to_vec();
        let count = committed.len();
        committed.sort_unstable();
        committed.dedup();
        assert_eq!(committed.len(), count, "seed {seed}: a request is there twice");
    }
    let mut committed = job.output[..job.complete.1].to_vec();
    committed.sort_unstable();
    assert!(committed.into_iter().eq(0..SENDERS as Key * REQUESTS), "seed {seed}");
    (repeats, crashes)
}

#[test]
fn requests_with_keys_count_once() {
    let (mut repeats, mut crashes) = (0, 0);
    for seed in 0..300 {
        let (repeated, crashed) = simulate(seed);
        repeats += repeated;
        crashes += crashed;
    }
    assert!(
        repeats > 10_000 && crashes > 1_000,
        "{repeats} repeats, {crashes} crashes"
    );
}

#[test]
fn an_answer_waits_for_its_checkpoint() {
    let mut ledger = fresh(10);
    assert_eq!(ledger.take(Some(keyed(1))), 1);
    let first = ledger.position();
    assert_eq!(ledger.take(None), 2);
    assert_eq!(ledger.take(Some(keyed(3))), 3);
    let second = ledger.position();
    assert_eq!(ledger.look_up(keyed(1)), Known::Taken(1));
    assert_eq!(ledger.complete(&first).expect("a position"), 1);
    assert_eq!(ledger.look_up(keyed(1)), Known::Durable);
    assert_eq!(ledger.look_up(keyed(3)), Known::Taken(3));
    assert_eq!(ledger.complete(&second).expect("a position"), 3);
    // It may be said late.
    assert_eq!(ledger.complete(&first).expect("a position"), 3);
    assert_eq!(ledger.look_up(keyed(4)), Known::New);
}

#[test]
fn a_key_is_of_one_body_as_long_as_bodies_are_known() {
    let mut ledger = fresh(10);
    ledger.take(Some(keyed(1)));
    let other = Keyed { key: 1, body: 1 };
    assert_eq!(ledger.look_up(other), Known::OfAnother);
    let restored = Ledger::restore(&ledger.position(), 10).expect("a position");
    assert_eq!(restored.look_up(other), Known::Durable);
}

#[test]
fn what_is_given_back_was_never_taken() {
    let mut ledger = fresh(2);
    for key in [1, 2] {
        ledger.take(Some(keyed(key)));
    }
    let before = ledger.position();
    ledger.take(Some(keyed(3)));
    ledger.give_back();
    assert_eq!(ledger.position(), before);
    assert_eq!(ledger.look_up(keyed(3)), Known::New);
    assert_eq!(ledger.look_up(keyed(1)), Known::Taken(1));
    ledger.take(None);
    ledger.give_back();
    assert_eq!(ledger.position(), before);
}

#[test]
fn the_oldest_keys_are_forgotten() {
    let mut ledger = fresh(3);
    for key in 1..=6 {
        ledger.take(Some(keyed(key)));
    }
    let restored = Ledger::restore(&ledger.position(), 3).expect("a position");
    let known = |ledger: &Ledger| {
        (1..=6)
            .filter(|key| ledger.look_up(keyed(*key)) != Known::New)
            .collect::<Vec<_>>()
    };
    assert_eq!(known(&restored), [4, 5, 6]);
    // The last may be given back, so that one more is kept for a while.
    assert_eq!(known(&ledger), [3, 4, 5, 6]);
    let fewer = Ledger::restore(&ledger.position(), 1).expect("a position");
    assert_eq!((known(&fewer), fewer.taken()), (vec![6], 6));
}

#[test]
fn strangers_are_refused() {
    for bytes in [vec![2; 9], vec![1; 8], vec![1; 10]] {
        let error = Ledger::restore(&Position(bytes), 1).expect_err("it is not ours");
        assert_eq!(error.code(), "CN0103");
    }
}
