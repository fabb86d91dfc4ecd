//! Whether a job that failed runs again, and when.
//!
//! The strategies, their options and defaults are Flink's; what a job does without being told is
//! [`RestartStrategy::default`]: always again, after delays that grow while it keeps failing.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::random::SplitMix64;

/// What to do when a job fails.
#[derive(Debug, Clone, PartialEq)]
pub enum RestartStrategy {
    /// Never restart.
    None,
    /// A number of restarts, each after the same delay.
    FixedDelay {
        /// Restarts in the whole life of the job. Default 1.
        attempts: u32,
        /// From failure to restart. Default 1 s.
        delay: Duration,
    },
    /// Restarts after delays that grow with each failure, until all has been well for a while.
    ExponentialDelay {
        /// The first delay. Default 1 s.
        initial: Duration,
        /// The longest delay. Default 1 min.
        max: Duration,
        /// From one delay to the next. Default 1.5.
        multiplier: f64,
        /// Running for so long after a restart makes the next failure the first again. Default 1 h.
        reset: Duration,
        /// Each delay is changed at random by up to this part of it, so that jobs that failed together do not
        /// come back together. Default 0.1.
        jitter: f64,
        /// Restarts before it gives up; counted anew after `reset`. Default: no limit.
        attempts: Option<u32>,
    },
    /// Restarts, each after the same delay, as long as failures are not too frequent.
    FailureRate {
        /// So many failures in one interval are tolerated. Default 1.
        max_failures: u32,
        /// Time over which they are counted. Default 1 min.
        interval: Duration,
        /// From failure to restart. Default 1 s.
        delay: Duration,
    },
}

impl Default for RestartStrategy {
    fn default() -> Self {
        RestartStrategy::ExponentialDelay {
            initial: Duration::from_secs(1),
            max: Duration::from_secs(60),
            multiplier: 1.5,
            reset: Duration::from_secs(60 * 60),
            jitter: 0.1,
            attempts: None,
        }
    }
}

/// What follows from a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Run again, after this time.
    Restart {
        /// From the failure on.
        after: Duration,
    },
    /// The job has failed for good.
    Fail {
        /// Which limit was reached, for people.
        why: String,
    },
}

/// Counts the failures of a job and decides on each.
///
/// ```
/// # use std::time::Duration;
/// # use millrace_core::checkpoint::{Decision, Restarts};
/// let mut restarts = Restarts::new("fixed-delay:attempts=1,delay=10s".parse().unwrap(), 0);
/// let after = Duration::from_secs(10);
/// assert_eq!(restarts.handle_failure(Duration::ZERO), Decision::Restart { after });
/// assert!(matches!(restarts.handle_failure(Duration::from_secs(11)), Decision::Fail { .. }));
/// ```
#[derive(Debug, Clone)]
pub struct Restarts {
    strategy: RestartStrategy,
    jitter: SplitMix64,
    /// Restarts decided on; with exponential delay since the last quiet time.
    attempts: u32,
    /// The last delay, without jitter.
    delay: Duration,
    /// When the last restart is or was to happen.
    restart_at: Option<Duration>,
    /// The latest failures, one more than are tolerated at most.
    failures: VecDeque<Duration>,
}

impl Restarts {
    /// No failures yet. The seed makes the jitter of this job differ from that of others.
    pub fn new(strategy: RestartStrategy, seed: u64) -> Self {
        Restarts {
            strategy,
            jitter: SplitMix64::new(seed),
            attempts: 0,
            delay: Duration::ZERO,
            restart_at: None,
            failures: VecDeque::new(),
        }
    }

    /// An attempt has failed. With exponential delay a failure before the restart that is being waited for is
    /// part of the last one.
    pub fn handle_failure(&mut self, now: Duration) -> Decision {
        match self.strategy.clone() {
            RestartStrategy::None => fail("jobs are not restarted with the strategy `none`"),
            RestartStrategy::FixedDelay { attempts, delay } => {
                self.attempts = self.attempts.saturating_add(1);
                if self.attempts > attempts {
                    return fail(format!("it was restarted {attempts} times, as often as is allowed"));
                }
                Decision::Restart { after: delay }
            }
            RestartStrategy::ExponentialDelay {
                initial,
                max,
                multiplier,
                reset,
                jitter,
                attempts,
            } => {
                if let Some(waiting) = self.restart_at.filter(|at| now < *at) {
                    return Decision::Restart { after: waiting - now };
                }
                let quiet = self.restart_at.is_none_or(|at| now - at >= reset);
                if quiet {
                    (self.attempts, self.delay) = (0, initial);
                } else {
                    self.delay = scale(self.delay, multiplier).clamp(initial, max);
                }
                self.attempts = self.attempts.saturating_add(1);
                if attempts.is_some_and(|attempts| self.attempts > attempts) {
                    return fail(format!(
                        "it was restarted {} times without running for {reset:?}, as often as is allowed",
                        self.attempts - 1
                    ));
                }
                let after = scale(self.delay, 1.0 + jitter * self.unit()).min(max);
                self.restart_at = Some(now + after);
                Decision::Restart { after }
            }
            RestartStrategy::FailureRate {
                max_failures,
                interval,
                delay,
            } => {
                self.failures.push_back(now);
                if self.failures.len() > max_failures as usize {
                    let earliest = self.failures.pop_front().expect("one was just added");
                    if now - earliest <= interval {
                        let failures = u64::from(max_failures) + 1;
                        return fail(format!(
                            "it failed {failures} times within {interval:?}; {max_failures} are allowed"
                        ));
                    }
                }
                Decision::Restart { after: delay }
            }
        }
    }

    /// A number from -1 to 1.
    fn unit(&mut self) -> f64 {
        (self.jitter.draw() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

fn fail(why: impl Into<String>) -> Decision {
    Decision::Fail { why: why.into() }
}

/// Stays within what a `Duration` holds.
fn scale(delay: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(delay.as_secs_f64() * factor).unwrap_or(Duration::MAX)
}

fn refuse<T>(message: impl Into<String>) -> Result<T> {
    Err(Error::user("CK0002", message))
}

/// The options of a strategy as text, taken one by one.
struct Pieces<'a> {
    strategy: &'a str,
    pieces: Vec<(&'a str, &'a str)>,
    known: Vec<&'static str>,
}

impl<'a> Pieces<'a> {
    fn new(strategy: &'a str, options: Option<&'a str>) -> Result<Self> {
        let mut pieces: Vec<(&str, &str)> = Vec::new();
        for piece in options.into_iter().flat_map(|options| options.split(',')) {
            let Some((name, value)) = piece.split_once('=') else {
                return refuse(format!(
                    "restart strategy `{strategy}`: `{piece}` is not of the form `option=value`"
                ));
            };
            if pieces.iter().any(|(other, _)| *other == name) {
                return refuse(format!("restart strategy `{strategy}`: option `{name}` is given twice"));
            }
            pieces.push((name, value));
        }
        Ok(Pieces {
            strategy,
            pieces,
            known: Vec::new(),
        })
    }

    fn take<T>(
        &mut self,
        name: &'static str,
        default: T,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<T> {
        self.known.push(name);
        let Some(at) = self.pieces.iter().position(|(given, _)| *given == name) else {
            return Ok(default);
        };
        let (_, value) = self.pieces.remove(at);
        match parse(value) {
            Some(value) => Ok(value),
            None => refuse(format!(
                "restart strategy `{}`: option `{name}` is `{value}`, not {expected}",
                self.strategy
            )),
        }
    }

    fn duration(&mut self, name: &'static str, default: Duration) -> Result<Duration> {
        self.take(name, default, "a duration such as `250ms`, `10s`, `5m`, `1h`", duration)
    }

    /// A duration that cannot be 0.
    fn positive(&mut self, name: &'static str, default: Duration) -> Result<Duration> {
        let positive = |text: &str| duration(text).filter(|duration| !duration.is_zero());
        self.take(
            name,
            default,
            "a duration over 0 such as `250ms`, `10s`, `5m`, `1h`",
            positive,
        )
    }

    fn count(&mut self, name: &'static str, default: u32) -> Result<u32> {
        let parse = |text: &str| text.parse().ok().filter(|count| *count > 0);
        self.take(name, default, "a number from 1", parse)
    }

    fn finish(self) -> Result<()> {
        match self.pieces.first() {
            None => Ok(()),
            Some((name, _)) if self.known.is_empty() => refuse(format!(
                "restart strategy `{}` has no options, but `{name}` is given",
                self.strategy
            )),
            Some((name, _)) => refuse(format!(
                "restart strategy `{}` has no option `{name}`; it has: {}",
                self.strategy,
                self.known.join(", ")
            )),
        }
    }
}

/// `250ms`, `10s`, `5m`, `1h`, `2d`.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|character: char| !character.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    let ms = match &text[digits..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(ms).map(Duration::from_millis)
}

fn number(text: &str, at_least: f64, at_most: f64) -> Option<f64> {
    text.parse().ok().filter(|number| (at_least..=at_most).contains(number))
}

/// Strategy and options as on the command line, without spaces: `none`, `fixed-delay:attempts=3,delay=10s`,
/// `exponential-delay:initial=1s,max=1m,multiplier=1.5,reset=1h,jitter=0.1,attempts=10`,
/// `failure-rate:max-failures=3,interval=5m,delay=10s`. Options that are left out have their defaults.
impl FromStr for RestartStrategy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, options) = match text.split_once(':') {
            Some((name, options)) => (name, Some(options)),
            None => (text, None),
        };
        let second = Duration::from_secs(1);
        let mut pieces = Pieces::new(name, options)?;
        let strategy = match name {
            "none" => RestartStrategy::None,
            "fixed-delay" => RestartStrategy::FixedDelay {
                attempts: pieces.count("attempts", 1)?,
                delay: pieces.duration("delay", second)?,
            },
            "exponential-delay" => exponential(&mut pieces)?,
            "failure-rate" => RestartStrategy::FailureRate {
                max_failures: pieces.count("max-failures", 1)?,
                interval: pieces.positive("interval", 60 * second)?,
                delay: pieces.duration("delay", second)?,
            },
            other => {
                return refuse(format!(
                    "there is no restart strategy `{other}`; there are: none, fixed-delay, exponential-delay, \
                     failure-rate"
                ));
            }
        };
        pieces.finish()?;
        Ok(strategy)
    }
}

fn exponential(pieces: &mut Pieces<'_>) -> Result<RestartStrategy> {
    let second = Duration::from_secs(1);
    let initial = pieces.positive("initial", second)?;
    let max = pieces.positive("max", (60 * second).max(initial))?;
    if initial > max {
        return refuse("restart strategy `exponential-delay`: option `initial` is over option `max`");
    }
    let above_one = |text: &str| number(text, 1.0, f64::MAX).filter(|number| *number > 1.0);
    Ok(RestartStrategy::ExponentialDelay {
        initial,
        max,
        multiplier: pieces.take("multiplier", 1.5, "a number over 1", above_one)?,
        reset: pieces.positive("reset", 3600 * second)?,
        jitter: pieces.take("jitter", 0.1, "a number from 0 to 1", |text| number(text, 0.0, 1.0))?,
        attempts: match pieces.count("attempts", u32::MAX)? {
            u32::MAX => None,
            attempts => Some(attempts),
        },
    })
}

/// As it is parsed.
impl fmt::Display for RestartStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = Duration::as_millis;
        match self {
            RestartStrategy::None => f.write_str("none"),
            RestartStrategy::FixedDelay { attempts, delay } => {
                write!(f, "fixed-delay:attempts={attempts},delay={}ms", ms(delay))
            }
            RestartStrategy::ExponentialDelay {
                initial,
                max,
                multiplier,
                reset,
                jitter,
                attempts,
            } => {
                write!(f, "exponential-delay:initial={}ms,max={}ms", ms(initial), ms(max))?;
                write!(f, ",multiplier={multiplier},reset={}ms,jitter={jitter}", ms(reset))?;
                attempts.map_or(Ok(()), |attempts| write!(f, ",attempts={attempts}"))
            }
            RestartStrategy::FailureRate {
                max_failures,
                interval,
                delay,
            } => {
                let (interval, delay) = (ms(interval), ms(delay));
                write!(
                    f,
                    "failure-rate:max-failures={max_failures},interval={interval}ms,delay={delay}ms"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Failures at these seconds lead to these delays in ms, the last to the end.
    fn check(strategy: &str, failures: &[(u64, Option<u64>)]) {
        let mut restarts = Restarts::new(strategy.parse().unwrap(), 7);
        for (at, expect) in failures {
            let got = match restarts.handle_failure(Duration::from_secs(*at)) {
                Decision::Restart { after } => Some(after.as_millis() as u64),
                Decision::Fail { .. } => None,
            };
            assert_eq!(got, *expect, "{strategy} at {at}");
        }
    }

    #[test]
    fn none_and_fixed_delay() {
        check("none", &[(0, None)]);
        check("fixed-delay", &[(0, Some(1000)), (5, None)]);
        check(
            "fixed-delay:attempts=2,delay=3s",
            &[(0, Some(3000)), (90_000, Some(3000)), (180_000, None)],
        );
    }

    #[test]
    fn exponential_delay_grows_and_resets() {
        check(
            "exponential-delay:initial=1s,max=5s,multiplier=2,reset=100s,jitter=0",
            &[
                (0, Some(1000)),
                (1, Some(2000)),
                (2, Some(1000)), // part of the failure before
                (3, Some(4000)),
                (10, Some(5000)),
                (114, Some(5000)), // 99 s after the restart
                (219, Some(1000)),
            ],
        );
        check(
            "exponential-delay:initial=1s,multiplier=2,reset=100s,jitter=0,attempts=2",
            &[
                (0, Some(1000)),
                (1, Some(2000)),
                (200, Some(1000)),
                (202, Some(2000)),
                (210, None),
            ],
        );
    }

    #[test]
    fn jitter_stays_within_its_part_and_is_the_seeds() {
        let delays = |seed| {
            let mut restarts = Restarts::new("exponential-delay:initial=10s,reset=1ms".parse().unwrap(), seed);
            let delays = (0..100).map(|day| match restarts.handle_failure(Duration::from_secs(day * 86_400)) {
                Decision::Restart { after } => after.as_millis(),
                Decision::Fail { why } => panic!("{why}"),
            });
            delays.collect::<Vec<_>>()
        };
        let some = delays(1);
        assert!(some.iter().all(|delay| (9_000..=11_000).contains(delay)), "{some:?}");
        assert!(some.iter().any(|delay| *delay < 9_300) && some.iter().any(|delay| *delay > 10_700));
        assert_eq!(some, delays(1));
        assert_ne!(some, delays(2));
    }

    #[test]
    fn failure_rate() {
        check(
            "failure-rate:max-failures=2,interval=10s,delay=0s",
            &[(0, Some(0)), (5, Some(0)), (11, Some(0)), (16, Some(0)), (20, None)],
        );
        check("failure-rate", &[(0, Some(1000)), (60, None)]);
    }

    #[test]
    fn text_there_and_back() {
        for text in [
            "none",
            "fixed-delay:attempts=3,delay=10000ms",
            "exponential-delay:initial=500ms,max=60000ms,multiplier=1.5,reset=3600000ms,jitter=0.1",
            "exponential-delay:initial=500ms,max=60000ms,multiplier=2,reset=1ms,jitter=0,attempts=4",
            "failure-rate:max-failures=3,interval=300000ms,delay=0ms",
        ] {
            assert_eq!(text.parse::<RestartStrategy>().unwrap().to_string(), text);
        }
        assert_eq!(
            "exponential-delay".parse::<RestartStrategy>().unwrap(),
            RestartStrategy::default()
        );
        let units = ["1ms", "1s", "1m", "1h", "1d"].map(|text| duration(text).unwrap().as_millis());
        assert_eq!(units, [1, 1_000, 60_000, 3_600_000, 86_400_000]);
    }

    #[test]
    fn errors_name_the_wrong_piece() {
        for (text, expect) in [
            ("", "there is no restart strategy ``"),
            ("fixed", "there is no restart strategy `fixed`"),
            ("none:attempts=1", "`none` has no options, but `attempts` is given"),
            ("fixed-delay:", "`` is not of the form `option=value`"),
            ("fixed-delay:attempts", "`attempts` is not of the form"),
            (
                "fixed-delay:attempts=0",
                "option `attempts` is `0`, not a number from 1",
            ),
            ("fixed-delay:attempts=1,attempts=2", "option `attempts` is given twice"),
            ("fixed-delay:delay=10", "option `delay` is `10`, not a duration"),
            ("fixed-delay:delay=1.5s", "option `delay` is `1.5s`, not a duration"),
            ("fixed-delay:delay=s", "option `delay` is `s`, not a duration"),
            ("fixed-delay:delay=99999999999999999999s", "option `delay` is"),
            (
                "fixed-delay:interval=10s",
                "has no option `interval`; it has: attempts, delay",
            ),
            (
                "exponential-delay:initial=2m,max=1m",
                "option `initial` is over option `max`",
            ),
            (
                "exponential-delay:initial=0s",
                "option `initial` is `0s`, not a duration over 0",
            ),
            (
                "exponential-delay:multiplier=1",
                "option `multiplier` is `1`, not a number over 1",
            ),
            ("exponential-delay:multiplier=inf", "option `multiplier` is `inf`"),
            (
                "exponential-delay:jitter=NaN",
                "option `jitter` is `NaN`, not a number from 0 to 1",
            ),
            (
                "failure-rate:interval=0s",
                "option `interval` is `0s`, not a duration over 0",
            ),
        ] {
            let error = text.parse::<RestartStrategy>().unwrap_err();
            assert_eq!(error.code(), "CK0002");
            assert!(error.to_string().contains(expect), "{text}: {error}");
        }
    }
}
