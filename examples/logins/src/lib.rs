//! Finds guessed passwords: three failed logins in a row, and then one that succeeds, within a minute.

use millrace::prelude::*;

/// A login, as it is in the file.
#[derive(Record)]
struct Login<'a> {
    user: &'a str,
    time: Timestamp,
    address: &'a str,
    ok: bool,
}

/// A user whose password was guessed, or nearly so.
#[derive(Record, Clone, Debug, PartialEq)]
struct Alarm {
    user: String,
    since: Timestamp,
    failures: i64,
    addresses: String,
}

/// Attempts that nothing came of within the time.
static ATTEMPTS: OutputTag<Alarm> = OutputTag::new("attempts");

#[derive(Parameters)]
struct Params {
    /// Logins to read, CSV with the columns user, time, address and ok
    input: String,
    /// Folder to write to
    output: String,
    /// Time in which all of it happens
    #[parameter(default = "1m")]
    within: Duration,
    /// How far rows may be out of order
    #[parameter(default = "5s")]
    disorder: Duration,
}

#[millrace::pipeline]
fn logins(flow: &Flow, params: Params) -> Result<()> {
    let logins: Stream<Rows<Login>> = flow.source("logins", Files::csv(&params.input));
    let guessed = Pattern::<Login>::begin("failures")
        .where_(|login| !login.ok)
        .times(3)
        .consecutive()
        .next("success")
        .where_(|login| login.ok)
        .within(params.within);
    let alarms = logins
        .watermarks(Watermarks::bounded(Login::FIELDS.time, params.disorder))
        .key_by(Login::FIELDS.user)
        .pattern(guessed)
        .timed_out(&ATTEMPTS, alarm)
        .select(alarm)
        .name("guessed")
        .uid("guessed");
    let attempts = alarms.side_output(&ATTEMPTS);
    attempts
        .filter(|alarm| alarm.failures == 3)
        .sink("attempts", Files::to_ndjson(format!("{}/attempts", params.output)));
    alarms.sink("alarms", Files::to_ndjson(format!("{}/alarms", params.output)));
    Ok(())
}

fn alarm(found: &millrace::pattern::Match<'_, '_, Login<'static>, String>) -> Alarm {
    let failures = found.rows("failures");
    let addresses = failures.map(|login| login.address).collect::<Vec<_>>();
    Alarm {
        user: found.key(),
        since: found.first("failures").expect("a match begins with one").time,
        failures: addresses.len() as i64,
        addresses: addresses.join(" "),
    }
}

#[cfg(test)]
mod tests {
    use millrace::testing::{Job, Options};

    use super::*;

    fn pipeline(flow: &Flow) -> Result<()> {
        let (input, output) = (String::new(), String::new());
        let (within, disorder) = (Duration::from_secs(60), Duration::from_secs(5));
        logins(
            flow,
            Params {
                input,
                output,
                within,
                disorder,
            },
        )
    }

    fn login(second: i64, user: &'static str, ok: bool) -> Login<'static> {
        let time = Timestamp::from_millis(second * 1_000);
        Login {
            user,
            time,
            address: if ok { "home" } else { "elsewhere" },
            ok,
        }
    }

    fn alarms(job: &mut Job, sink: &str) -> Vec<(String, i64)> {
        let alarms = job.take::<Alarm>(sink).into_iter();
        alarms.map(|alarm| (alarm.user, alarm.failures)).collect()
    }

    #[test]
    fn a_guessed_password_raises_an_alarm_though_rows_are_out_of_order() {
        let mut job = Job::new(pipeline);
        job.push("logins", login(4, "ann", true));
        for second in [1, 3, 2] {
            job.push("logins", login(second, "ann", false));
        }
        assert_eq!(job.rows::<Alarm>("alarms"), []);
        // The watermark is 5 s behind.
        job.push("logins", login(10, "bob", true));
        let expected = Alarm {
            user: "ann".to_owned(),
            since: Timestamp::from_millis(1_000),
            failures: 3,
            addresses: "elsewhere elsewhere elsewhere".to_owned(),
        };
        assert_eq!(job.rows::<Alarm>("alarms"), [expected]);
    }

    #[test]
    fn attempts_that_nothing_came_of_are_told_when_their_minute_is_over() {
        let mut job = Job::new(pipeline);
        for second in [1, 2, 3] {
            job.push("logins", login(second, "ann", false));
            job.push("logins", login(second, "bob", second < 3));
        }
        // What has begun survives a failure, at another parallelism, too.
        let mut job = Options::new().parallelism(3).restore(&job.snapshot(), pipeline);
        assert_eq!(job.keys::<String>("guessed"), ["ann", "bob"]);
        job.push("logins", login(66, "eve", true));
        assert_eq!(alarms(&mut job, "attempts"), []);
        job.push("logins", login(67, "eve", true));
        // Bob failed once.
        assert_eq!(alarms(&mut job, "attempts"), [("ann".to_owned(), 3)]);
        job.finish();
        assert_eq!(alarms(&mut job, "alarms"), []);
    }
}
