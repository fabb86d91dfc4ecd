//! Expressions of the row's index: parsing, and what each step is turned into.
//!
//! `index % 1000 + 5` is a start followed by operations, evaluated left to right in wrapping u64. Parsing
//! folds what it can (constants, and `+ - *` directly after `index` into one linear function) and prepares
//! every division, so that [`super::kernel`] is left with straight loops over columns.

use millrace_core::{Error, Result};
use strength_reduce::StrengthReducedU64;

use super::zipf::Zipf;

/// Rows are numbered below this, so that `index` and `mix` have their top bit clear.
pub(crate) const INDEX_END: u64 = 1 << 63;

/// A divisor with its prepared multipliers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Divisor {
    /// The divisor itself, at least 2.
    pub(crate) value: u64,
    multiplier: u64,
    shift: u32,
    full: StrengthReducedU64,
}

impl Divisor {
    fn new(value: u64) -> Self {
        assert!(value >= 2, "division by 0 is refused and by 1 folded away");
        // For dividends below 2^63 and l = ceil(log2 value), multiplying by ceil(2^(63+l) / value) and
        // shifting right by 63+l is exact, and the multiplier fits in 64 bits.
        let log = u64::BITS - (value - 1).leading_zeros();
        let multiplier = if value <= INDEX_END {
            (1u128 << (63 + log)).div_ceil(u128::from(value)) as u64
        } else {
            0
        };
        Divisor {
            value,
            multiplier,
            shift: log - 1,
            full: StrengthReducedU64::new(value),
        }
    }

    /// `dividend / self`, right only for dividends below 2^63.
    #[inline(always)]
    pub(crate) fn quotient_63(&self, dividend: u64) -> u64 {
        ((u128::from(self.multiplier) * u128::from(dividend)) >> 64) as u64 >> self.shift
    }

    /// `dividend % self`, right only for dividends below 2^63.
    #[inline(always)]
    pub(crate) fn remainder_63(&self, dividend: u64) -> u64 {
        dividend.wrapping_sub(self.quotient_63(dividend).wrapping_mul(self.value))
    }

    /// `dividend / self` for any dividend.
    #[inline(always)]
    pub(crate) fn quotient(&self, dividend: u64) -> u64 {
        dividend / self.full
    }

    /// `dividend % self` for any dividend.
    #[inline(always)]
    pub(crate) fn remainder(&self, dividend: u64) -> u64 {
        dividend % self.full
    }
}

/// What an expression starts from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Start {
    /// `factor * index + offset`, wrapping.
    Linear { factor: u64, offset: u64 },
    /// Pseudo-random 63 bits of index and seed.
    Mix,
    /// Pseudo-random numbers of which few are frequent.
    Zipf(Zipf),
    /// The same for all rows.
    Constant(u64),
}

/// One operation; `small` says that every operand is below 2^63.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Operation {
    /// Wrapping addition; subtraction is addition of the complement.
    Add(u64),
    /// Wrapping multiplication.
    Multiply(u64),
    /// Division rounding down.
    Divide { by: Divisor, small: bool },
    /// Remainder.
    Remainder { by: Divisor, small: bool },
}

/// A parsed expression.
#[derive(Debug, Clone)]
pub(crate) struct Expression {
    pub(crate) start: Start,
    pub(crate) operations: Vec<Operation>,
    /// No value is above this.
    bound: u64,
}

impl Expression {
    /// Parses `index * 7 % 1000`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let tokens = tokens(text)?;
        let wrong = |what: String| Error::user("CN0104", format!("expression `{text}`: {what}"));
        let mut rest = tokens.iter().map(String::as_str).peekable();
        let mut expression = match rest.next() {
            None => return Err(wrong("it is empty".into())),
            Some("index") => Expression::from_start(Start::Linear { factor: 1, offset: 0 }, INDEX_END - 1),
            Some("mix") => Expression::from_start(Start::Mix, INDEX_END - 1),
            Some("zipf") => {
                let (count, exponent) = (rest.next(), rest.next());
                let count = count.and_then(|count| count.parse().ok()).unwrap_or(0);
                let exponent = exponent.and_then(|exponent| exponent.parse().ok()).unwrap_or(f64::NAN);
                let zipf = Zipf::new(count, exponent).map_err(|why| wrong(format!("after `zipf`, {why}")))?;
                Expression::from_start(Start::Zipf(zipf), count - 1)
            }
            Some(first) => {
                let value = integer(first, &mut rest).ok_or_else(|| {
                    wrong(format!(
                        "it starts with `{first}`, not `index`, `mix`, `zipf` or an integer"
                    ))
                })?;
                Expression::from_start(Start::Constant(value), value)
            }
        };
        while let Some(operator) = rest.next() {
            if !matches!(operator, "+" | "-" | "*" | "/" | "%") {
                return Err(wrong(format!("`{operator}` is not one of + - * / %")));
            }
            let operand = rest
                .next()
                .ok_or_else(|| wrong(format!("an integer is missing after `{operator}`")))?;
            let value = integer(operand, &mut rest)
                .ok_or_else(|| wrong(format!("`{operand}` after `{operator}` is not an integer")))?;
            if matches!(operator, "/" | "%") && (value == 0 || operand == "-") {
                return Err(wrong(format!("the integer after `{operator}` must be above 0")));
            }
            expression.push(operator, value);
        }
        Ok(expression)
    }

    fn from_start(start: Start, bound: u64) -> Self {
        Expression {
            start,
            operations: Vec::new(),
            bound,
        }
    }

    fn push(&mut self, operator: &str, value: u64) {
        let small = self.bound < INDEX_END;
        match operator {
            "+" => {
                self.bound = self.bound.saturating_add(value);
                self.push_operation(Operation::Add(value));
            }
            "-" => {
                self.bound = if value == 0 { self.bound } else { u64::MAX };
                self.push_operation(Operation::Add(value.wrapping_neg()));
            }
            "*" => {
                self.bound = self.bound.saturating_mul(value);
                self.push_operation(Operation::Multiply(value));
            }
            "/" if value > 1 => {
                self.bound /= value;
                let by = Divisor::new(value);
                self.push_operation(Operation::Divide { by, small });
            }
            "%" if value > 1 => {
                self.bound = self.bound.min(value - 1);
                let by = Divisor::new(value);
                self.push_operation(Operation::Remainder { by, small });
            }
            "%" => {
                *self = Expression::from_start(Start::Constant(0), 0);
            }
            _ => {}
        }
    }

    /// Appends an operation, folding it into the start where that is possible.
    fn push_operation(&mut self, operation: Operation) {
        if self.operations.is_empty() {
            match (&mut self.start, operation) {
                (Start::Constant(value), operation) => return *value = operation.apply(*value),
                (Start::Linear { offset, .. }, Operation::Add(value)) => return *offset = offset.wrapping_add(value),
                (Start::Linear { factor, offset }, Operation::Multiply(value)) => {
                    *factor = factor.wrapping_mul(value);
                    *offset = offset.wrapping_mul(value);
                    return;
                }
                (Start::Linear { .. } | Start::Mix | Start::Zipf(_), _) => {}
            }
        }
        self.operations.push(operation);
    }

    /// The value at one index; the definition that the column loops are tested against.
    #[cfg(test)]
    pub(crate) fn value(&self, index: u64, seed: u64) -> u64 {
        let start = match self.start {
            Start::Linear { factor, offset } => index.wrapping_mul(factor).wrapping_add(offset),
            Start::Mix => mix(index.wrapping_add(seed)),
            Start::Zipf(zipf) => zipf.value(index, seed),
            Start::Constant(value) => value,
        };
        self.operations
            .iter()
            .fold(start, |value, operation| operation.apply(value))
    }
}

impl Operation {
    /// The operation on one value.
    #[inline(always)]
    pub(crate) fn apply(&self, value: u64) -> u64 {
        match self {
            Operation::Add(other) => value.wrapping_add(*other),
            Operation::Multiply(other) => value.wrapping_mul(*other),
            Operation::Divide { by, small: true } => by.quotient_63(value),
            Operation::Divide { by, small: false } => by.quotient(value),
            Operation::Remainder { by, small: true } => by.remainder_63(value),
            Operation::Remainder { by, small: false } => by.remainder(value),
        }
    }
}

/// The 64-bit finalizer of splitmix64 with the sign bit cleared.
#[inline(always)]
pub(crate) fn mix(mut x: u64) -> u64 {
    x ^= x >> 30;
    x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^= x >> 27;
    x = x.wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^= x >> 31;
    x & 0x7fff_ffff_ffff_ffff
}

/// Words, numbers and operators, without the white space between them.
fn tokens(text: &str) -> Result<Vec<String>> {
    let mut tokens: Vec<String> = Vec::new();
    let mut in_word = false;
    for character in text.chars() {
        let word = character.is_ascii_alphanumeric() || "_.".contains(character);
        if word && in_word {
            tokens.last_mut().expect("a word has begun").push(character);
        } else if word || "+-*/%".contains(character) {
            tokens.push(character.to_string());
        } else if !character.is_whitespace() {
            return Err(Error::user(
                "CN0104",
                format!("expression `{text}`: `{character}` has no meaning here"),
            ));
        }
        in_word = word;
    }
    Ok(tokens)
}

/// A decimal integer of up to 64 bits, with `-` as a token of its own; negative ones as two's complement.
fn integer<'a>(first: &str, rest: &mut impl Iterator<Item = &'a str>) -> Option<u64> {
    if first == "-" {
        let magnitude: u64 = rest.next()?.parse().ok()?;
        (magnitude <= 1 << 63).then(|| magnitude.wrapping_neg())
    } else {
        first.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str, index: u64) -> u64 {
        Expression::parse(text).unwrap().value(index, 0)
    }

    #[test]
    fn expressions_are_evaluated_left_to_right() {
        assert_eq!(value("index", 7), 7);
        assert_eq!(value("index%10", 27), 7);
        assert_eq!(value("index + 3 * 2 % 7", 5), 2);
        assert_eq!(value("index / 10 * 1000 + 4", 57), 5004);
        assert_eq!(value("index - 5", 3), 2u64.wrapping_neg());
        assert_eq!(value("index * -1", 3), 3u64.wrapping_neg());
        assert_eq!(value("-4 + 6", 3), 2);
        assert_eq!(value("index - 5 % 1000", 3), 2u64.wrapping_neg() % 1000);
        assert_eq!(value("index / 1 % 1 + 9", 3), 9);
        assert!((0..1000).all(|index| (5..15).contains(&value("zipf 10 1.1 + 5", index))));
        assert_eq!(value("mix", 0), 0);
        assert_eq!(value("mix", 1), 0x5692_161d_100b_05e5);
    }

    #[test]
    fn wrong_expressions_are_named() {
        for (text, what) in [
            ("", "is empty"),
            ("offset + 1", "starts with `offset`"),
            ("index 5", "`5` is not one of"),
            ("index %", "missing after `%`"),
            ("index % x", "`x` after `%`"),
            ("index / 0", "must be above 0"),
            ("index % -3", "must be above 0"),
            ("zipf", "a number of values"),
            ("zipf 0 1", "a number of values"),
            ("zipf 100", "an exponent"),
            ("zipf 100 x", "an exponent"),
            ("zipf 100 * 3", "an exponent"),
            ("index + 1.5", "is not an integer"),
            ("(index)", "`(` has no meaning"),
            ("index + 99999999999999999999", "is not an integer"),
        ] {
            let error = Expression::parse(text).unwrap_err();
            assert!(error.to_string().contains(what), "{text}: {error}");
            assert_eq!(error.code(), "CN0104");
        }
    }

    #[test]
    fn prepared_division_is_exact() {
        let divisors = [
            2,
            3,
            5,
            7,
            10,
            641,
            1000,
            1 << 20,
            (1 << 31) - 1,
            1 << 62,
            INDEX_END - 1,
            INDEX_END,
        ];
        for n in divisors {
            let by = Divisor::new(n);
            let near = (0..200).flat_map(|k: u64| [k * n, (k * n).wrapping_sub(1), (k * n).wrapping_add(1)]);
            let random = (0..1000).map(mix);
            for x in near
                .chain(random)
                .chain([INDEX_END - 1, INDEX_END - 2])
                .map(|x| x % INDEX_END)
            {
                assert_eq!((by.quotient_63(x), by.remainder_63(x)), (x / n, x % n), "{x} by {n}");
            }
        }
    }
}
