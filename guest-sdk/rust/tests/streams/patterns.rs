//! Patterns of events in `millrace::testing`: what is found, what is late, what runs out of time, and what survives.

use millrace::harness::Harness;
use millrace::pattern::PatternStream;
use millrace::prelude::*;
use millrace::testing::{self, Disorder, Job, Options, Snapshot, assert_order_does_not_matter};

/// A login; rows of it borrow.
#[derive(Record, Debug, Clone, PartialEq)]
struct Login {
    user: String,
    ok: bool,
    n: i64,
}

/// What is made of a match: when it was complete, and its rows with the first letters of their stages.
#[derive(Record, Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    user: String,
    at: i64,
    rows: String,
}

static OVER: OutputTag<Found> = OutputTag::new("over");
static LATE: OutputTag<Login> = OutputTag::new("late");

fn login(user: &str, ok: bool, n: i64) -> Login {
    Login {
        user: user.to_owned(),
        ok,
        n,
    }
}

fn found(found: &millrace::pattern::Match<'_, '_, Login, String>) -> Found {
    let rows = found.iter().map(|(stage, login)| format!("{}{}", &stage[..1], login.n));
    Found {
        user: found.key(),
        at: found.time().millis(),
        rows: rows.collect::<Vec<_>>().join(" "),
    }
}

/// Two failures, and then a success.
fn guessed() -> Pattern<Login> {
    Pattern::<Login>::begin("failures")
        .where_(|login| !login.ok)
        .times(2)
        .consecutive()
        .followed_by("success")
        .where_(|login| login.ok)
        .within(Duration::from_millis(100))
}

fn guesses(flow: &Flow) {
    let guessed = testing::source::<Login>(flow, "logins")
        .key_by(Login::FIELDS.user)
        .pattern(guessed())
        .late_output(&LATE)
        .timed_out(&OVER, found)
        .select(found)
        .uid("guessed");
    guessed.side_output(&LATE).sink("late", Discard::new());
    guessed.side_output(&OVER).sink("over", Discard::new());
    guessed.sink("found", Discard::new());
}

fn shown(job: &mut Job, sink: &str) -> Vec<String> {
    let rows = job.take::<Found>(sink).into_iter();
    rows.map(|row| format!("{} {}: {}", row.user, row.at, row.rows))
        .collect()
}

#[test]
fn rows_are_matched_in_the_order_of_event_time() {
    let mut job = Job::new(guesses);
    // The success comes first, and is last.
    job.push_at("logins", 30, login("ann", true, 3));
    job.push_at("logins", 20, login("ann", false, 2));
    job.push_at("logins", 15, login("bob", false, 9));
    job.push_at("logins", 10, login("ann", false, 1));
    job.watermark("logins", 29);
    assert_eq!(shown(&mut job, "found"), [""; 0]);
    let begun = job.partial_matches::<Login>("guessed", "ann");
    let path = |path: &[(&str, i64)]| {
        let row = |&(stage, n): &(&str, i64)| (stage.to_owned(), login("ann", false, n));
        path.iter().map(row).collect::<Vec<_>>()
    };
    let expected = [path(&[("failures", 1), ("failures", 2)]), path(&[("failures", 2)])];
    assert_eq!(begun, expected);
    assert_eq!(job.keys::<String>("guessed"), ["ann", "bob"]);
    job.watermark("logins", 30);
    assert_eq!(shown(&mut job, "found"), ["ann 30: f1 f2 s3"]);
    // It is complete at its last row, whose time it has.
    job.push_at("logins", 30, login("ann", false, 4));
    assert_eq!(job.take::<Login>("late"), [login("ann", false, 4)]);
    assert_eq!(job.dropped("guessed"), 0);
    job.watermark("logins", 114);
    assert_eq!(shown(&mut job, "over"), [""; 0]);
    job.watermark("logins", 115);
    assert_eq!(shown(&mut job, "over"), ["bob 115: f9"]);
    assert!(job.keys::<String>("guessed").is_empty());
}

/// A job goes on from a snapshot at any moment as if there had been none, at any parallelism.
#[test]
fn matches_go_on_from_a_snapshot() {
    let rows: Vec<(i64, Login)> = (0..60)
        .map(|n| {
            (
                n * 7 - n * 31 % 40,
                login(["ann", "bob", "eve"][n as usize % 3], n % 5 > 2, n),
            )
        })
        .collect();
    let run = |restart: Option<usize>| {
        let mut job = Job::new(guesses);
        let (mut out, mut over) = (Vec::new(), Vec::new());
        for (index, (time, row)) in rows.iter().enumerate() {
            job.push_at("logins", *time, row.clone());
            job.watermark("logins", index as i64 * 7 - 25);
            if restart == Some(index) {
                out.extend(shown(&mut job, "found"));
                over.extend(shown(&mut job, "over"));
                job = Options::new().parallelism(3).restore(&job.snapshot(), guesses);
            }
        }
        job.finish();
        out.extend(shown(&mut job, "found"));
        over.extend(shown(&mut job, "over"));
        out.sort();
        over.sort();
        (out, over)
    };
    let expected = run(None);
    assert!(expected.0.len() > 5 && expected.1.len() > 5, "{expected:?}");
    for restart in 0..rows.len() {
        assert_eq!(run(Some(restart)), expected, "restarted behind row {restart}");
    }
}

/// A later version of the rows.
#[derive(Record, Debug, Clone, PartialEq)]
struct NewLogin {
    #[record(alias = "user")]
    name: String,
    ok: bool,
    n: i64,
    #[record(default = "web")]
    device: String,
}

fn begun() -> Snapshot {
    let mut job = Job::new(guesses);
    job.push_at("logins", 1, login("ann", false, 1));
    job.push_at("logins", 2, login("ann", false, 2));
    job.push_at("logins", 7, login("ann", true, 3));
    job.watermark("logins", 5);
    job.snapshot()
}

#[test]
fn rows_of_an_earlier_version_are_converted() {
    let mut job = Job::restore(&begun(), |flow: &Flow| {
        let guessed = Pattern::<NewLogin>::begin("failures")
            .where_(|login| !login.ok)
            .times(2)
            .consecutive()
            .followed_by("success")
            .where_(|login| login.ok)
            .within(Duration::from_millis(100));
        testing::source::<NewLogin>(flow, "logins")
            .key_by(NewLogin::FIELDS.name)
            .pattern(guessed)
            .select(|found| {
                (
                    found.key(),
                    found.rows("success").map(|login| login.device).collect::<String>(),
                )
            })
            .uid("guessed")
            .sink("found", Discard::new());
    });
    job.watermark("logins", 7);
    assert_eq!(
        job.rows::<(String, String)>("found"),
        [("ann".to_owned(), "web".to_owned())]
    );
}

/// What has begun means something to the same pattern alone; rows that wait are matched by the new one.
#[test]
fn another_pattern_gives_up_what_has_begun() {
    let mut job = Job::restore(&begun(), |flow: &Flow| {
        testing::source::<Login>(flow, "logins")
            .key_by(Login::FIELDS.user)
            .pattern(Pattern::<Login>::begin("success").where_(|login| login.ok))
            .select(found)
            .uid("guessed")
            .sink("found", Discard::new());
    });
    assert_eq!(job.dropped_partial_matches("guessed"), 2);
    job.watermark("logins", 7);
    assert_eq!(shown(&mut job, "found"), ["ann 7: s3"]);
}

#[test]
#[should_panic(expected = "the state of `guessed` is lost")]
fn what_has_begun_is_not_lost_unseen() {
    Job::restore(&begun(), |flow: &Flow| {
        testing::source::<Login>(flow, "logins").sink("found", Discard::new());
    });
}

/// The same rows in any order, at any parallelism.
#[test]
fn the_order_of_rows_does_not_matter() {
    #[derive(Record, Debug, Clone, PartialEq)]
    struct Timed {
        user: i64,
        ok: bool,
        at: i64,
    }
    fn pipeline(flow: &Flow) {
        let climbing = Pattern::<Timed>::begin("low")
            .where_(|row| !row.ok)
            .followed_by_any("high")
            .where_iterative(|row, before| before.first("low").is_some_and(|low| low.at % 7 < row.at % 7))
            .times_or_more(2)
            .greedy()
            .within_gap(Duration::from_millis(9))
            .after_match(AfterMatch::SkipToNext);
        flow.source("rows", Files::csv::<Timed>("rows.csv"))
            .watermarks(Watermarks::bounded(Timed::FIELDS.at, Duration::from_millis(20)))
            .key_by(Timed::FIELDS.user)
            .pattern(climbing)
            .flat_select(|found, out: &mut Out<'_, (i64, i64)>| {
                for row in found.rows("high") {
                    out.push((found.key(), row.at));
                }
            })
            .sink("found", Discard::new());
    }
    let rows: Vec<Timed> = (0..80)
        .map(|at| Timed {
            user: at % 3,
            ok: at % 4 > 0,
            at,
        })
        .collect();
    let disorder = Disorder::within(Duration::from_millis(20), |row: &Timed| row.at);
    assert_order_does_not_matter(&rows, &disorder, |rows, options| {
        let mut job = options.start(pipeline);
        for (index, row) in rows.iter().enumerate() {
            job.push("rows", row.clone());
            if index == 30 {
                job.restart();
            }
        }
        job.finish();
        let found = job.rows::<(i64, i64)>("found");
        assert!(rows.len() < 80 || found.len() > 10, "{found:?}");
        found
    });
}

/// Rows of equal time, in the order of a key of theirs, against all pairs of neighbours in sorted rows.
#[test]
fn rows_of_equal_time_have_an_order_of_their_own() {
    fn pairs(flow: &Flow) {
        testing::source::<Login>(flow, "logins")
            .key_by(Login::FIELDS.user)
            .pattern(Pattern::<Login>::begin("first").next("second"))
            .order_equal_times_by(|login| (login.ok, std::cmp::Reverse(login.n)))
            .select(found)
            .uid("pairs")
            .sink("found", Discard::new());
    }
    let rows: Vec<(i64, Login)> = (0..90)
        .map(|n| {
            (
                n / 20,
                login(["ann", "bob"][n as usize * 7 % 5 % 2], n * 13 % 7 < 3, n * 37 % 90),
            )
        })
        .collect();
    let mut expected = Vec::new();
    for user in ["ann", "bob"] {
        let mut own: Vec<_> = rows.iter().filter(|(_, login)| login.user == user).collect();
        own.sort_by_key(|(time, login)| (*time, login.ok, -login.n));
        let pair = |pair: &[&(i64, Login)]| format!("{user} {}: f{} s{}", pair[1].0, pair[0].1.n, pair[1].1.n);
        expected.extend(own.windows(2).map(pair));
    }
    expected.sort();
    for restart in [None, Some(0), Some(13), Some(50), Some(89)] {
        let mut job = Options::new().parallelism(2).start(pairs);
        let mut out = Vec::new();
        for (index, (time, row)) in rows.iter().enumerate() {
            job.push_at("logins", *time, row.clone());
            job.watermark("logins", time - 1);
            if restart == Some(index) {
                out.extend(shown(&mut job, "found"));
                job = Job::restore(&job.snapshot(), pairs);
            }
        }
        job.finish();
        out.extend(shown(&mut job, "found"));
        out.sort();
        assert_eq!(out, expected, "restarted behind {restart:?}");
    }
}

/// Without event time rows of equal time are those of a millisecond, which has to pass.
#[test]
fn rows_of_a_millisecond_have_an_order_of_their_own() {
    let mut job = Options::new().now(1_000).start(|flow: &Flow| {
        flow.source("logins", Stdin::ndjson::<Login>())
            .key_by(Login::FIELDS.user)
            .pattern(Pattern::<Login>::begin("first").next("second"))
            .order_equal_times_by(|login| login.n)
            .select(found)
            .sink("found", Discard::new());
    });
    job.push_all("logins", [login("ann", true, 3), login("ann", true, 1)]);
    job.push("logins", login("ann", true, 2));
    job.restart();
    assert_eq!(shown(&mut job, "found"), [""; 0]);
    job.advance_processing_time(Duration::from_millis(1));
    assert_eq!(shown(&mut job, "found"), ["ann 1000: f1 s2", "ann 1000: f2 s3"]);
    job.push("logins", login("ann", true, 0));
    // The input ends within its millisecond.
    job.finish();
    assert_eq!(shown(&mut job, "found"), ["ann 1001: f3 s0"]);
}

/// Without event time rows are matched as they come, and the clock ends what takes too long.
#[test]
fn the_clock_ends_matches_without_event_time() {
    let mut job = Options::new().now(1_000).start(|flow: &Flow| {
        let guessed = flow
            .source("logins", Stdin::ndjson::<Login>())
            .key_by(Login::FIELDS.user)
            .pattern(guessed())
            .timed_out(&OVER, found)
            .select(found);
        guessed.side_output(&OVER).sink("over", Discard::new());
        guessed.sink("found", Discard::new());
    });
    job.push_all("logins", [login("ann", false, 1), login("ann", false, 2)]);
    job.advance_processing_time(Duration::from_millis(40));
    job.push_all("logins", [login("ann", true, 3), login("ann", false, 4)]);
    assert_eq!(shown(&mut job, "found"), ["ann 1040: f1 f2 s3"]);
    job.restart();
    job.advance_processing_time(Duration::from_millis(99));
    assert_eq!(shown(&mut job, "over"), [""; 0]);
    job.advance_processing_time(Duration::from_millis(1));
    assert_eq!(shown(&mut job, "over"), ["ann 1140: f4"]);
    job.push("logins", login("bob", false, 5));
    job.finish();
    // The input has ended, and time has not come.
    assert_eq!(shown(&mut job, "over"), [""; 0]);
}

#[test]
fn partial_matches_are_bounded() {
    let mut job = Job::new(|flow| {
        testing::source::<Login>(flow, "logins")
            .key_by(Login::FIELDS.user)
            .pattern(
                Pattern::<Login>::begin("any")
                    .followed_by_any("success")
                    .where_(|login| login.ok),
            )
            .partial_matches_max(3)
            .select(found)
            .name("bounded")
            .sink("found", Discard::new());
    });
    for n in 1..=10 {
        job.push_at("logins", n, login("ann", n == 10, n));
    }
    job.finish();
    assert_eq!(
        shown(&mut job, "found"),
        ["ann 10: a7 s10", "ann 10: a8 s10", "ann 10: a9 s10"]
    );
    // At the end those of rows 8 to 10 wait for another success.
    assert_eq!(job.dropped_partial_matches("bounded"), 7);
    assert_eq!(job.partial_matches::<Login>("bounded", "ann").len(), 3);
}

#[test]
fn late_rows_are_counted_where_nobody_takes_them() {
    let mut job = Job::new(|flow| {
        testing::source::<Login>(flow, "logins")
            .key_by(Login::FIELDS.user)
            .pattern(guessed())
            .select(found)
            .name("guessed")
            .sink("found", Discard::new());
    });
    job.watermark("logins", 50);
    job.push_at("logins", 50, login("ann", false, 1));
    assert_eq!(job.dropped("guessed"), 1);
    assert_eq!(job.dropped_partial_matches("guessed"), 0);
}

#[test]
#[should_panic(
    expected = "operator `stuck`: a pattern that can end with `not_followed_by` needs `within` or `within_gap`"
)]
fn what_means_nothing_is_refused() {
    Job::new(|flow| {
        testing::source::<Login>(flow, "logins")
            .key_by(Login::FIELDS.user)
            .pattern(
                Pattern::<Login>::begin("a")
                    .not_followed_by("b")
                    .where_(|login| login.ok),
            )
            .select(found)
            .name("stuck")
            .sink("found", Discard::new());
    });
}

#[test]
fn what_would_be_passed_over_is_refused() {
    static ALONE: OutputTag<(String,)> = OutputTag::new("alone");
    static TWICE: OutputTag<(String,)> = OutputTag::new("twice");
    let check = |build: fn(KeyedStream<Login, String>) -> PatternStream<Login, String>, expect: &str| {
        let built = Harness::build(|flow| {
            let logins = testing::source::<Login>(flow, "logins").key_by(Login::FIELDS.user);
            build(logins).select(found).name("found").sink("out", Discard::new());
        });
        let told = built.err().unwrap_or_default();
        assert_eq!(told, format!("operator `found` (`pattern.select`): {expect}"));
    };
    let failures = || Pattern::<Login>::begin("failures").one_or_more();
    check(
        |logins| {
            let until = Pattern::<Login>::begin("failures")
                .one_or_more()
                .until(|login| login.ok);
            logins.pattern(until.until_iterative(|login, _| !login.ok))
        },
        "`failures` has two `until`: join their conditions by `||`",
    );
    check(
        |logins| {
            let pattern = Pattern::<Login>::begin("failures").times(2);
            logins.pattern(pattern).timed_out(&ALONE, |begun| (begun.key(),))
        },
        "no match is over before it is complete, and `timed_out` needs such: say `within` or `within_gap`",
    );
    check(
        |logins| {
            let pattern = Pattern::<Login>::begin("failures")
                .times(2)
                .within(Duration::from_secs(1));
            let once = logins.pattern(pattern).timed_out(&ALONE, |begun| (begun.key(),));
            once.timed_out(&TWICE, |begun| (begun.key(),))
        },
        "`timed_out` is said twice: one function can put rows out to several tags",
    );
    for (pattern, what) in [
        (failures().within(Duration::from_micros(2_500)), "within"),
        (failures().within_gap(Duration::from_micros(2_500)), "within_gap"),
    ] {
        let built = Harness::build(|flow| {
            let logins = testing::source::<Login>(flow, "logins").key_by(Login::FIELDS.user);
            logins.pattern(pattern).select(found).sink("out", Discard::new());
        });
        let expect = format!("operator `pattern.select`: the time of `{what}` is whole milliseconds, not 2.5ms");
        assert_eq!(built.err().unwrap_or_default(), expect);
    }
}
