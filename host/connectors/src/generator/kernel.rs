//! Evaluates expressions a column at a time.
//!
//! Rows of one reader have the indices `first, first + stride, ...`. Quotients and remainders of linear
//! expressions are therefore stepped, not divided: adding `stride` adds a fixed (quotient, remainder) with
//! a carry. Where the carry is rare whole runs are filled by vector loops; where it is not, four
//! interleaved lanes hide the latency of the compare. Everything else is one pass per operation over a
//! column that is still in the cache.

use super::expression::{Divisor, Expression, INDEX_END, Operation, Start, mix};

/// Runs shorter than this are cheaper row by row.
const RUN_ROWS_MIN: u64 = 32;

/// Steps a row advances by are interleaved over this many lanes.
const LANES: usize = 4;

/// Indices of the rows of one column.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Indices {
    /// Of the first row.
    pub(crate) first: u64,
    /// From row to row.
    pub(crate) stride: u64,
    /// Number of rows.
    pub(crate) count: usize,
}

impl Indices {
    fn iter(self) -> impl Iterator<Item = u64> {
        (0..self.count as u64).map(move |row| self.first + row * self.stride)
    }
}

/// The expression's values at the indices.
pub(crate) fn evaluate(expression: &Expression, indices: Indices, seed: u64) -> Vec<u64> {
    let operations = expression.operations.as_slice();
    let (mut values, rest) = match (expression.start, operations) {
        (Start::Constant(value), rest) => (vec![value; indices.count], rest),
        (Start::Mix, [Operation::Remainder { by, small: true }, rest @ ..]) => (
            collect(
                indices.iter().map(|i| by.remainder_63(mix(i.wrapping_add(seed)))),
                indices,
            ),
            rest,
        ),
        (Start::Mix, rest) => (
            collect(indices.iter().map(|i| mix(i.wrapping_add(seed))), indices),
            rest,
        ),
        (Start::Zipf(zipf), rest) => (collect(indices.iter().map(|i| zipf.value(i, seed)), indices), rest),
        (Start::Linear { factor, offset }, rest) => {
            let line = Line::new(indices, factor, offset);
            match rest {
                [Operation::Remainder { by, .. }, rest @ ..] if line.can_step(by) => {
                    (line.stepper(by).remainders(indices.count), rest)
                }
                [Operation::Divide { by, .. }, rest @ ..] if line.can_step(by) => {
                    (line.stepper(by).quotients(indices.count), rest)
                }
                rest => (line.values(), rest),
            }
        }
    };
    for operation in rest {
        apply(operation, &mut values);
    }
    values
}

fn collect(values: impl Iterator<Item = u64>, indices: Indices) -> Vec<u64> {
    let mut column = Vec::with_capacity(indices.count);
    column.extend(values);
    column
}

/// One pass; the match is outside the loop so that each loop is straight.
fn apply(operation: &Operation, values: &mut [u64]) {
    match operation {
        Operation::Add(other) => values.iter_mut().for_each(|v| *v = v.wrapping_add(*other)),
        Operation::Multiply(other) => values.iter_mut().for_each(|v| *v = v.wrapping_mul(*other)),
        Operation::Divide { by, small: true } => values.iter_mut().for_each(|v| *v = by.quotient_63(*v)),
        Operation::Divide { by, small: false } => values.iter_mut().for_each(|v| *v = by.quotient(*v)),
        Operation::Remainder { by, small: true } => values.iter_mut().for_each(|v| *v = by.remainder_63(*v)),
        Operation::Remainder { by, small: false } => values.iter_mut().for_each(|v| *v = by.remainder(*v)),
    }
}

/// `first + row * step`, wrapping.
struct Line {
    first: u64,
    step: u64,
    count: usize,
}

impl Line {
    fn new(indices: Indices, factor: u64, offset: u64) -> Self {
        Line {
            first: indices.first.wrapping_mul(factor).wrapping_add(offset),
            step: indices.stride.wrapping_mul(factor),
            count: indices.count,
        }
    }

    fn values(&self) -> Vec<u64> {
        let mut column = Vec::with_capacity(self.count);
        column.extend((0..self.count as u64).map(|row| self.first.wrapping_add(row.wrapping_mul(self.step))));
        column
    }

    /// Whether no value wraps, so that quotients go up row by row.
    fn can_step(&self, by: &Divisor) -> bool {
        let last = u128::from(self.first) + u128::from(self.step) * self.count as u128;
        last <= u128::from(u64::MAX) && by.value < INDEX_END / 2
    }

    fn stepper(&self, by: &Divisor) -> Stepper {
        Stepper {
            quotient: self.first / by.value,
            remainder: self.first % by.value,
            quotient_step: self.step / by.value,
            remainder_step: self.step % by.value,
            divisor: by.value,
        }
    }
}

/// Walks (quotient, remainder) of a rising sequence without dividing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stepper {
    pub(crate) quotient: u64,
    pub(crate) remainder: u64,
    pub(crate) quotient_step: u64,
    pub(crate) remainder_step: u64,
    pub(crate) divisor: u64,
}

impl Stepper {
    #[inline(always)]
    fn advance(&mut self) {
        let remainder = self.remainder + self.remainder_step;
        let carry = remainder >= self.divisor;
        self.remainder = if carry { remainder - self.divisor } else { remainder };
        self.quotient = self.quotient.wrapping_add(self.quotient_step + u64::from(carry));
    }

    /// This stepper and those one, two, three rows on, each advancing `LANES` rows at once.
    fn lanes(mut self) -> [Stepper; LANES] {
        let mut lanes = [self; LANES];
        for lane in &mut lanes[1..] {
            self.advance();
            *lane = self;
        }
        let remainder = u128::from(self.remainder_step) * LANES as u128;
        for lane in &mut lanes {
            lane.quotient_step =
                (self.quotient_step * LANES as u64).wrapping_add((remainder / u128::from(self.divisor)) as u64);
            lane.remainder_step = (remainder % u128::from(self.divisor)) as u64;
        }
        lanes
    }

    fn interleaved(self, count: usize, pick: impl Fn(&Stepper) -> u64) -> Vec<u64> {
        let mut column = Vec::with_capacity(count.next_multiple_of(LANES));
        let mut lanes = self.lanes();
        for _ in 0..count.div_ceil(LANES) {
            column.extend_from_slice(&[pick(&lanes[0]), pick(&lanes[1]), pick(&lanes[2]), pick(&lanes[3])]);
            lanes.iter_mut().for_each(Stepper::advance);
        }
        column.truncate(count);
        column
    }

    /// Rows until the remainder wraps.
    fn run_rows(&self) -> u64 {
        (self.divisor - self.remainder).div_ceil(self.remainder_step)
    }

    fn runs_are_long(&self) -> bool {
        self.remainder_step > 0 && self.divisor / self.remainder_step >= RUN_ROWS_MIN
    }

    /// Remainders of the next rows.
    pub(crate) fn remainders(mut self, count: usize) -> Vec<u64> {
        if !self.runs_are_long() {
            return self.interleaved(count, |lane| lane.remainder);
        }
        let mut column = Vec::with_capacity(count);
        while column.len() < count {
            let rows = self.run_rows().min((count - column.len()) as u64);
            let (first, step) = (self.remainder, self.remainder_step);
            column.extend((0..rows).map(|row| first + row * step));
            self.remainder = first + rows * step;
            self.remainder -= if self.remainder >= self.divisor {
                self.divisor
            } else {
                0
            };
        }
        column
    }

    /// Quotients of the next rows.
    pub(crate) fn quotients(mut self, count: usize) -> Vec<u64> {
        if !self.runs_are_long() {
            return self.interleaved(count, |lane| lane.quotient);
        }
        let mut column = Vec::with_capacity(count);
        while column.len() < count {
            let rows = self.run_rows().min((count - column.len()) as u64);
            let (first, step) = (self.quotient, self.quotient_step);
            column.extend((0..rows).map(|row| first.wrapping_add(row.wrapping_mul(step))));
            self.remainder += rows * self.remainder_step;
            let carry = self.remainder >= self.divisor;
            self.remainder -= if carry { self.divisor } else { 0 };
            self.quotient = first
                .wrapping_add(rows.wrapping_mul(step))
                .wrapping_add(u64::from(carry));
        }
        column
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_equal_the_definition_row_by_row() {
        let expressions = [
            "index",
            "index * 3 + 7",
            "index % 2",
            "index % 7",
            "index % 1000",
            "index % 1000 * 10 + 3",
            "index / 3",
            "index / 10",
            "index / 1000",
            "index * 5 / 7 % 11",
            "index * 999 % 1000",
            "index * 1001 / 1000",
            "index - 100 % 13",
            "index - 100 / 13",
            "index * -3 % 17",
            "index + 18446744073709551600 % 19",
            "index % 9223372036854775808",
            "index % 18446744073709551615",
            "mix",
            "mix % 100000",
            "mix % 64 / 3",
            "mix * 3 % 1000",
            "mix / 77",
            "42",
            "42 * 3",
        ];
        for text in expressions {
            let expression = Expression::parse(text).unwrap();
            for (first, stride) in [
                (0, 1),
                (1, 2),
                (5, 3),
                (12_345_678_901, 7),
                (INDEX_END - 100_000, 1),
                (3, 1000),
            ] {
                for count in [0, 1, 3, 64, 1023] {
                    let indices = Indices { first, stride, count };
                    let expected: Vec<u64> = indices.iter().map(|i| expression.value(i, 9)).collect();
                    assert_eq!(
                        evaluate(&expression, indices, 9),
                        expected,
                        "{text} from {first} by {stride}"
                    );
                }
            }
        }
    }
}
