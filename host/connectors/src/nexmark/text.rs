//! Words: names, channels with their addresses, and a stock of letters from which filler is cut.

use std::sync::OnceLock;

use super::random::Random;

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

/// Letters in stock.
const STOCK_BYTES: u64 = 1 << 20;

/// Fewest letters of a random word.
const WORD_MIN: u64 = 3;

/// What is made once: channels, and letters.
pub(super) struct Texts {
    stock: String,
    /// Names and addresses of channels, the hot ones first.
    channels: Vec<(String, String)>,
}

impl Texts {
    /// Those of the process: they depend on nothing.
    pub(super) fn shared() -> &'static Self {
        static TEXTS: OnceLock<Texts> = OnceLock::new();
        TEXTS.get_or_init(Texts::new)
    }

    fn new() -> Self {
        let mut random = Random::new(0, 0, 0);
        let stock = (0..STOCK_BYTES).map(|_| letter(&mut random)).collect();
        let mut channels = Vec::new();
        for name in HOT_CHANNELS {
            channels.push((name.to_owned(), address(&mut random)));
        }
        for number in 0..CHANNELS as u32 {
            let mut url = address(&mut random);
            if random.below(10) > 0 {
                // As the benchmark has it: bits in reverse order, without the sign.
                let id = (number.reverse_bits() as i32).unsigned_abs();
                url.push_str(&format!("&channel_id={id}"));
            }
            channels.push((format!("channel-{number}"), url));
        }
        Texts { stock, channels }
    }

    /// Name and address of the channel of a bid.
    pub(super) fn channel(&self, random: &mut Random) -> &(String, String) {
        let hot = HOT_CHANNELS.len() as u64;
        let at = match random.below(2) {
            0 => hot + random.below(CHANNELS),
            _ => random.below(hot),
        };
        &self.channels[at as usize]
    }

    /// Filler of a row that is to have `average` bytes, and has `others`.
    pub(super) fn filler(&self, random: &mut Random, average: u64, others: u64) -> &str {
        let Some(average) = average.checked_sub(others) else {
            return "";
        };
        let delta = (average + 2) / 5;
        let length = average - delta + if delta == 0 { 0 } else { random.below(2 * delta) };
        let start = random.below(STOCK_BYTES - length) as usize;
        &self.stock[start..start + length as usize]
    }
}

fn letter(random: &mut Random) -> char {
    char::from(b'a' + random.below(26) as u8)
}

/// Appends letters, up to `most` of them, now and then a `special` one, which is never at an end.
pub(super) fn push_word(text: &mut String, random: &mut Random, most: u64, special: char) {
    let length = WORD_MIN + random.below(most - WORD_MIN);
    for at in 0..length {
        match random.below(13) {
            0 if at > 0 && at + 1 < length => text.push(special),
            _ => text.push(letter(random)),
        }
    }
}

fn address(random: &mut Random) -> String {
    let mut url = "https://www.nexmark.com/".to_owned();
    for _ in 0..3 {
        push_word(&mut url, random, 5, '_');
        url.push('/');
    }
    url.push_str("item.htm?query=1");
    url
}

fn pick<'t>(words: &[&'t str], random: &mut Random) -> &'t str {
    words[random.below(words.len() as u64) as usize]
}

pub(super) fn push_name(text: &mut String, random: &mut Random) {
    text.push_str(pick(&FIRST_NAMES, random));
    text.push(' ');
    text.push_str(pick(&LAST_NAMES, random));
}

pub(super) fn push_email(text: &mut String, random: &mut Random) {
    push_word(text, random, 7, '_');
    text.push('@');
    push_word(text, random, 5, '_');
    text.push_str(".com");
}

pub(super) fn push_credit_card(text: &mut String, random: &mut Random) {
    for part in 0..4 {
        if part > 0 {
            text.push(' ');
        }
        for _ in 0..4 {
            text.push(char::from(b'0' + random.below(10) as u8));
        }
    }
}

pub(super) fn city(random: &mut Random) -> &'static str {
    pick(&CITIES, random)
}

pub(super) fn state(random: &mut Random) -> &'static str {
    pick(&STATES, random)
}
