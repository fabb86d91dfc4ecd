//! Texts, and what they are cut from: letters, words, channels with their addresses. Prices, too, are looked up.
//!
//! Most of the work of making a row is copying text. So a text is copied in one piece of a length that the compiler
//! knows, and cut off behind its end.

use std::sync::OnceLock;

use super::random::{self, Random, Stream};

const FIRST_NAMES: [&str; 11] = [
    "Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter",
];
const LAST_NAMES: [&str; 9] = [
    "Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris",
];
const CITIES: [&str; 10] = [
    "Phoenix",
    "Los Angeles",
    "San Francisco",
    "Boise",
    "Portland",
    "Bend",
    "Redmond",
    "Seattle",
    "Kent",
    "Cheyenne",
];
const STATES: [&str; 6] = ["AZ", "CA", "ID", "OR", "WA", "WY"];

/// Channels that half of all bids come through.
const HOT_CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];

/// All others.
const CHANNELS: u64 = 10_000;

/// Letters in stock: as many as stay in a near cache.
const STOCK_BYTES: u64 = 1 << 16;

/// More that are there, for what is copied beyond the end of a text.
const STOCK_SPARE_BYTES: usize = 512;

/// Fewest letters of a random word.
const WORD_MIN: u64 = 3;

/// Bytes that are copied at once of a channel's name, and of its address behind what all begin with: more than any has.
pub(super) const CHANNEL_BYTES: usize = 16;
pub(super) const ADDRESS_BYTES: usize = ADDRESS_START.len() + ADDRESS_REST_BYTES;
const ADDRESS_REST_BYTES: usize = 56;
const ADDRESS_START: &[u8; 24] = b"https://www.nexmark.com/";

/// Digits of the numbers by which prices are looked up, and values that each has.
const PRICE_DIGITS: usize = 4;
const PRICE_BASE: usize = 256;

/// A column of texts.
pub(super) struct Texts {
    pub(super) bytes: Vec<u8>,
    pub(super) offsets: Vec<i32>,
}

impl Texts {
    pub(super) fn with_capacity(rows: usize, bytes_max: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Texts {
            bytes: Vec::with_capacity(rows * bytes_max + STOCK_SPARE_BYTES),
            offsets,
        }
    }

    /// A text ends here.
    #[inline(always)]
    pub(super) fn end(&mut self) {
        self.offsets.push(self.bytes.len() as i32);
    }
}

/// Appends the first `length` bytes of N.
#[inline(always)]
fn push_part<const N: usize>(text: &mut Vec<u8>, part: &[u8; N], length: usize) {
    let end = text.len() + length;
    text.extend_from_slice(part);
    text.truncate(end);
}

/// The N bytes from a place on.
#[inline(always)]
fn part<const N: usize>(bytes: &[u8], start: usize) -> &[u8; N] {
    bytes[start..].first_chunk().expect("the stock has spare letters")
}

/// How long the filler of rows is, so that they have the bytes that are said, on average.
#[derive(Clone, Copy)]
pub(super) struct Filler {
    least: u64,
    spread: u64,
}

impl Filler {
    /// Of rows that are to have `average` bytes, and have `others`.
    pub(super) const fn new(average: u64, others: u64) -> Self {
        let average = average - others;
        let delta = (average + 2) / 5;
        Filler {
            least: average - delta,
            spread: 2 * delta,
        }
    }

    pub(super) const fn bytes_max(self) -> usize {
        (self.least + self.spread) as usize
    }

    /// Appends letters, which are fewer than N.
    #[inline(always)]
    pub(super) fn push<const N: usize>(self, stock: &Stock, random: &mut Random, text: &mut Vec<u8>) {
        let length = self.least + random.below(self.spread);
        let start = random.below(STOCK_BYTES) as usize;
        push_part::<N>(text, part(&stock.letters, start), length as usize);
    }
}

/// Up to N - 1 bytes, and in the last how many there are: what lies close together stays in a near cache.
struct Cut<const N: usize>([u8; N]);

impl<const N: usize> Cut<N> {
    fn new(bytes: &[u8]) -> Self {
        let mut cut = [0; N];
        assert!(bytes.len() < N, "{} bytes do not fit into {N}", bytes.len());
        cut[..bytes.len()].copy_from_slice(bytes);
        cut[N - 1] = bytes.len() as u8;
        Cut(cut)
    }

    #[inline(always)]
    fn push(&self, text: &mut Vec<u8>) {
        push_part(text, &self.0, usize::from(self.0[N - 1]));
    }
}

/// Channels that bids come through, the hot ones first.
struct Channels {
    names: Vec<Cut<CHANNEL_BYTES>>,
    /// Behind their start.
    addresses: Vec<Cut<ADDRESS_REST_BYTES>>,
}

impl Channels {
    fn new(random: &mut Random) -> Self {
        let mut channels = Channels {
            names: Vec::new(),
            addresses: Vec::new(),
        };
        for name in HOT_CHANNELS {
            channels.push(name, &path(random));
        }
        for number in 0..CHANNELS as u32 {
            let mut path = path(random);
            if random.below(10) > 0 {
                // As the benchmark has it: bits in reverse order, without the sign.
                let id = (number.reverse_bits() as i32).unsigned_abs();
                path.extend_from_slice(format!("&channel_id={id}").as_bytes());
            }
            channels.push(&format!("channel-{number}"), &path);
        }
        channels
    }

    fn push(&mut self, name: &str, path: &[u8]) {
        self.names.push(Cut::new(name.as_bytes()));
        self.addresses.push(Cut::new(path));
    }
}

/// What is made once, and depends on nothing.
pub(super) struct Stock {
    letters: Vec<u8>,
    /// Letters and, now and then, a space.
    words: Vec<u8>,
    channels: Channels,
    /// What each digit of a number contributes to a price: a factor.
    prices: [[f64; PRICE_BASE]; PRICE_DIGITS],
}

impl Stock {
    /// That of the process.
    pub(super) fn shared() -> &'static Self {
        static STOCK: OnceLock<Stock> = OnceLock::new();
        STOCK.get_or_init(Stock::new)
    }

    fn new() -> Self {
        let mut random = Stream::new(0, 0).at(0);
        let bytes = STOCK_BYTES as usize + STOCK_SPARE_BYTES;
        let letters = (0..bytes).map(|_| letter(&mut random)).collect();
        let words = (0..bytes).map(|_| word_byte(&mut random, b' ')).collect();
        Stock {
            letters,
            words,
            channels: Channels::new(&mut random),
            prices: prices(),
        }
    }

    /// Appends the name of a bid's channel.
    #[inline(always)]
    pub(super) fn push_channel(&self, random: &mut Random, text: &mut Vec<u8>) {
        self.channels.names[channel(random)].push(text);
    }

    /// Appends its address; of the same numbers the same.
    #[inline(always)]
    pub(super) fn push_address(&self, random: &mut Random, text: &mut Vec<u8>) {
        text.extend_from_slice(ADDRESS_START);
        self.channels.addresses[channel(random)].push(text);
    }

    /// Mostly small, up to a million dollars, in cents: 10^(2 + 6x) for an x from 0 to 1.
    #[inline(always)]
    pub(super) fn price(&self, random: &mut Random) -> u64 {
        let digits = (random.next() >> 31) as u32;
        let factor = |digit: usize| self.prices[digit][digits.to_be_bytes()[digit] as usize];
        (factor(0) * factor(1) * (factor(2) * factor(3)) + 0.5) as u64
    }

    /// Appends words, up to `most` letters, which are fewer than N. No space is at an end.
    #[inline(always)]
    pub(super) fn push_words<const N: usize>(&self, text: &mut Vec<u8>, random: &mut Random, most: u64) {
        let length = (WORD_MIN + random.below(most - WORD_MIN)) as usize;
        let start = random.below(STOCK_BYTES) as usize;
        let begin = text.len();
        push_part::<N>(text, part(&self.words, start), length);
        for end in [begin, begin + length - 1] {
            if text[end] == b' ' {
                text[end] = b'o';
            }
        }
    }
}

/// Which channel a bid comes through.
#[inline(always)]
fn channel(random: &mut Random) -> usize {
    let hot = HOT_CHANNELS.len() as u64;
    let is_hot = random.below(2) != 0;
    let first = random::choose(is_hot, 0, hot);
    (first + random.below(random::choose(is_hot, hot, CHANNELS))) as usize
}

fn prices() -> [[f64; PRICE_BASE]; PRICE_DIGITS] {
    let mut prices = [[0.0; PRICE_BASE]; PRICE_DIGITS];
    for (digit, factors) in prices.iter_mut().enumerate() {
        let unit = (PRICE_BASE as f64).powi(-(digit as i32) - 1);
        for (value, factor) in factors.iter_mut().enumerate() {
            *factor = 10f64.powf(6.0 * unit * value as f64);
        }
    }
    prices[0].iter_mut().for_each(|factor| *factor *= 100.0);
    prices
}

fn letter(random: &mut Random) -> u8 {
    b'a' + random.below(26) as u8
}

/// A letter, or now and then a special one.
fn word_byte(random: &mut Random, special: u8) -> u8 {
    match random.below(13) {
        0 => special,
        _ => letter(random),
    }
}

/// Appends letters, up to `most` of them, now and then a `_`, which is never at an end.
fn push_word(text: &mut Vec<u8>, random: &mut Random, most: u64) {
    let length = WORD_MIN + random.below(most - WORD_MIN);
    for at in 0..length {
        let is_end = at == 0 || at + 1 == length;
        text.push(if is_end {
            letter(random)
        } else {
            word_byte(random, b'_')
        });
    }
}

fn path(random: &mut Random) -> Vec<u8> {
    let mut path = Vec::new();
    for _ in 0..3 {
        push_word(&mut path, random, 5);
        path.push(b'/');
    }
    path.extend_from_slice(b"item.htm?query=1");
    path
}

fn pick<'t>(words: &[&'t str], random: &mut Random) -> &'t [u8] {
    words[random.below(words.len() as u64) as usize].as_bytes()
}

pub(super) fn push_name(random: &mut Random, text: &mut Vec<u8>) {
    text.extend_from_slice(pick(&FIRST_NAMES, random));
    text.push(b' ');
    text.extend_from_slice(pick(&LAST_NAMES, random));
}

pub(super) fn push_email(random: &mut Random, text: &mut Vec<u8>) {
    push_word(text, random, 7);
    text.push(b'@');
    push_word(text, random, 5);
    text.extend_from_slice(b".com");
}

pub(super) fn push_credit_card(random: &mut Random, text: &mut Vec<u8>) {
    for part in 0..4 {
        if part > 0 {
            text.push(b' ');
        }
        let digits = random.below(10_000) as u32;
        let digit = |unit: u32| b'0' + (digits / unit % 10) as u8;
        text.extend_from_slice(&[digit(1000), digit(100), digit(10), digit(1)]);
    }
}

pub(super) fn push_city(random: &mut Random, text: &mut Vec<u8>) {
    text.extend_from_slice(pick(&CITIES, random));
}

pub(super) fn push_state(random: &mut Random, text: &mut Vec<u8>) {
    text.extend_from_slice(pick(&STATES, random));
}
