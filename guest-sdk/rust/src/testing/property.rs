//! Rows in any order within what is allowed: the result must be the same.

use std::fmt::Debug;
use std::time::Duration;

use super::options::Options;
use super::random::Random;
use crate::stream::Millis;
use crate::time::millis;

/// How far out of order rows are put, and how often this is tried.
///
/// ```
/// use std::time::Duration;
/// use millrace::testing::Disorder;
///
/// // Rows are their own times.
/// let disorder = Disorder::within(Duration::from_secs(5), |time: &i64| *time).rounds(200).seed(7);
/// ```
pub struct Disorder<T> {
    bound: i64,
    time: Box<dyn Fn(&T) -> i64>,
    rounds: u64,
    seed: u64,
}

impl<T> Debug for Disorder<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disorder")
            .field("bound", &self.bound)
            .field("rounds", &self.rounds)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

impl<T> Disorder<T> {
    /// Rows come at most that much later than rows with a later time.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use millrace::testing::Disorder;
    /// let disorder = Disorder::within(Duration::from_secs(5), |time: &i64| *time);
    /// ```
    pub fn within<M: Millis>(out_of_orderness: Duration, time: impl Fn(&T) -> M + 'static) -> Self {
        Disorder {
            bound: millis(out_of_orderness) as i64,
            time: Box::new(move |row| time(row).millis()),
            rounds: 50,
            seed: 1,
        }
    }

    /// How many orders are tried, 50 without this.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use millrace::testing::Disorder;
    /// let disorder = Disorder::within(Duration::ZERO, |time: &i64| *time).rounds(500);
    /// ```
    #[must_use]
    pub fn rounds(mut self, rounds: u64) -> Self {
        self.rounds = rounds;
        self
    }

    /// The seed of the first order; each other has the next. A failure tells its own, which is to be given here to see
    /// it again.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use millrace::testing::Disorder;
    /// let disorder = Disorder::within(Duration::ZERO, |time: &i64| *time).seed(7).rounds(1);
    /// ```
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }
}

/// Runs a job over rows in the order of their times, and then in other orders, at other parallelisms and with other
/// timing ([`Options::seed`]), and demands that the same rows come out, in any order.
///
/// `run` is given the rows in the order in which to push them, and options to start the job with.
///
/// # Panics
/// If they do not; with the seed, the fewest rows for which they do not, and what came out.
///
/// ```
/// use millrace::prelude::*;
/// use millrace::testing::{Disorder, assert_order_does_not_matter};
///
/// #[derive(Record, Clone, Debug)]
/// struct Click { user: i64, at: Timestamp }
///
/// fn counts(flow: &Flow) {
///     flow.source("clicks", Files::csv::<Click>("clicks.csv"))
///         .watermarks(Watermarks::bounded(Click::FIELDS.at, Duration::from_millis(20)))
///         .key_by(Click::FIELDS.user)
///         .window(Tumbling::of(Duration::from_millis(10)))
///         .count()
///         .sink("counts", Discard::new());
/// }
///
/// let clicks: Vec<Click> = (0..60).map(|n| Click { user: n % 3, at: Timestamp::from_millis(n) }).collect();
/// let disorder = Disorder::within(Duration::from_millis(20), |click: &Click| click.at);
/// assert_order_does_not_matter(&clicks, &disorder, |clicks, options| {
///     let mut job = options.start(counts);
///     for click in clicks {
///         job.push("clicks", click.clone());
///     }
///     job.finish();
///     job.rows::<Windowed<i64, i64>>("counts")
/// });
/// ```
pub fn assert_order_does_not_matter<T: Clone + Debug, R: Debug>(
    rows: &[T],
    disorder: &Disorder<T>,
    run: impl Fn(&[T], Options) -> Vec<R>,
) {
    let mut in_order = rows.to_vec();
    in_order.sort_by_key(|row| (disorder.time)(row));
    for round in 0..disorder.rounds {
        let seed = disorder.seed.wrapping_add(round);
        let mut random = Random::new(seed);
        let parallelism = 1 + random.below(4) as u32;
        let mut late = |row: &T| {
            let delay = random.below(disorder.bound as usize + 1) as i64;
            ((disorder.time)(row).saturating_add(delay), random.below(1 << 30))
        };
        let mut places: Vec<((i64, usize), usize)> = in_order
            .iter()
            .enumerate()
            .map(|(index, row)| (late(row), index))
            .collect();
        places.sort_unstable();
        let order: Vec<usize> = places.into_iter().map(|(_, index)| index).collect();
        let options = || Options::new().parallelism(parallelism).seed(seed);
        let differ = |order: &[usize]| {
            let mut sorted = order.to_vec();
            sorted.sort_unstable();
            let pick = |order: &[usize]| order.iter().map(|index| in_order[*index].clone()).collect::<Vec<T>>();
            let expected = shown(run(&pick(&sorted), Options::new()));
            let got = shown(run(&pick(order), options()));
            (expected != got).then_some((pick(order), expected, got))
        };
        if differ(&order).is_some() {
            let smallest = smallest(order, |order| differ(order).is_some());
            let (rows, expected, got) = differ(&smallest).expect("it was seen to differ");
            panic!(
                "the order of rows matters, at seed {seed} and parallelism {parallelism}, with the rows\n  {}\nin the \
                 order of their times there is also\n  {}\nand in this order\n  {}",
                lines(rows.iter().map(|row| format!("{row:?}"))),
                lines(without(&expected, &got)),
                lines(without(&got, &expected)),
            );
        }
    }
}

/// Results in an order of their own.
fn shown<R: Debug>(results: Vec<R>) -> Vec<String> {
    let mut shown: Vec<String> = results.iter().map(|result| format!("{result:?}")).collect();
    shown.sort_unstable();
    shown
}

fn lines(lines: impl IntoIterator<Item = String>) -> String {
    let lines: Vec<String> = lines.into_iter().collect();
    match lines.is_empty() {
        true => "nothing".to_owned(),
        false => lines.join("\n  "),
    }
}

/// Those of the first that are not among the second, as often as they are.
fn without(first: &[String], second: &[String]) -> Vec<String> {
    let mut second = second.to_vec();
    let is_new = |result: &&String| match second.iter().position(|other| other == *result) {
        Some(index) => {
            second.swap_remove(index);
            false
        }
        None => true,
    };
    first.iter().filter(is_new).cloned().collect()
}

/// As few of these as still fail: leaves out halves, quarters, and so on to single ones, as long as that helps.
fn smallest(mut rows: Vec<usize>, fails: impl Fn(&[usize]) -> bool) -> Vec<usize> {
    let mut count = rows.len().div_ceil(2);
    while count > 0 {
        let mut start = 0;
        while start < rows.len() {
            let end = (start + count).min(rows.len());
            let rest: Vec<usize> = [&rows[..start], &rows[end..]].concat();
            if !rest.is_empty() && fails(&rest) {
                rows = rest;
            } else {
                start = end;
            }
        }
        count /= 2;
    }
    rows
}
