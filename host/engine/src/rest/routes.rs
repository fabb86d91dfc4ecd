//! What a request means: from method, path and body to a [`Call`], without I/O.

use std::time::Duration;

use millrace_core::control::OperationId;
use millrace_core::{Error, Fault};
use serde::de::DeserializeOwned;

use super::messages::{CancelRequest, SavepointRequest, StateRequest, StopRequest};

/// Longest that an answer about an operation waits for its end.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Call {
    Jobs,
    Job {
        run: String,
    },
    Operation {
        run: String,
        id: OperationId,
        wait: Duration,
    },
    Savepoint {
        run: String,
        request: SavepointRequest,
    },
    Stop {
        run: String,
        request: StopRequest,
    },
    Cancel {
        run: String,
    },
    State {
        run: String,
        request: StateRequest,
    },
}

/// Why nothing is done.
#[derive(Debug)]
pub(super) struct Rejection {
    pub(super) status: u16,
    pub(super) error: Error,
    /// Methods that would have been right.
    pub(super) allow: Option<&'static str>,
}

impl From<Error> for Rejection {
    fn from(error: Error) -> Self {
        let status = match (error.code(), error.fault()) {
            ("AP0001" | "AP0010", _) => 404,
            ("AP0003" | "AP0011", _) => 409,
            (_, Fault::User | Fault::Pipeline) => 400,
            // Storage that cannot be reached, and such.
            (_, Fault::External) => 502,
            (_, Fault::Internal) => 500,
        };
        Rejection {
            status,
            error,
            allow: None,
        }
    }
}

pub(super) fn parse(method: &str, path: &str, query: Option<&str>, body: &[u8]) -> Result<Call, Rejection> {
    let segments: Vec<&str> = path.trim_end_matches('/').split('/').skip(1).collect();
    let run = |run: &str| run.to_owned();
    match (method, &segments[..]) {
        ("GET", ["v1", "jobs"]) => Ok(Call::Jobs),
        ("GET", ["v1", "jobs", of]) => Ok(Call::Job { run: run(of) }),
        ("GET", ["v1", "jobs", of, "operations", id]) => Ok(Call::Operation {
            run: run(of),
            id: OperationId(id.parse().map_err(|_| not_found(path))?),
            wait: wait(query)?,
        }),
        ("POST", ["v1", "jobs", of, "savepoints"]) => Ok(Call::Savepoint {
            run: run(of),
            request: read(body)?,
        }),
        ("POST", ["v1", "jobs", of, "stop"]) => Ok(Call::Stop {
            run: run(of),
            request: read(body)?,
        }),
        ("POST", ["v1", "jobs", of, "cancel"]) => {
            read::<CancelRequest>(body)?;
            Ok(Call::Cancel { run: run(of) })
        }
        ("POST", ["v1", "jobs", of, "state"]) => Ok(Call::State {
            run: run(of),
            request: read(body)?,
        }),
        (_, ["v1", "jobs"] | ["v1", "jobs", _] | ["v1", "jobs", _, "operations", _]) => {
            Err(wrong_method(method, "GET"))
        }
        (_, ["v1", "jobs", _, "savepoints" | "stop" | "cancel" | "state"]) => Err(wrong_method(method, "POST")),
        _ => Err(not_found(path)),
    }
}

fn not_found(path: &str) -> Rejection {
    Error::user("AP0001", format!("there is nothing at `{path}`")).into()
}

fn wrong_method(method: &str, allow: &'static str) -> Rejection {
    Rejection {
        status: 405,
        error: Error::user("AP0002", format!("method {method} has no meaning here, but {allow}")),
        allow: Some(allow),
    }
}

/// An empty body is that of a request without options.
fn read<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, Rejection> {
    if body.is_empty() {
        return Ok(T::default());
    }
    let read = serde_json::from_slice(body);
    read.map_err(|error| Error::user("AP0002", format!("the body cannot be read: {error}")).into())
}

fn wait(query: Option<&str>) -> Result<Duration, Rejection> {
    let Some(query) = query.filter(|query| !query.is_empty()) else {
        return Ok(Duration::ZERO);
    };
    let wait = query.strip_prefix("wait_ms=").and_then(|wait| wait.parse().ok());
    let wait = wait.ok_or_else(|| Error::user("AP0002", format!("`{query}` is not `wait_ms=` and a number")))?;
    Ok(Duration::from_millis(wait).min(WAIT_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read() {
        let check = |method: &str, target: &str, body: &str, expect: Call| {
            let (path, query) = target
                .split_once('?')
                .map_or((target, None), |(path, query)| (path, Some(query)));
            assert_eq!(
                parse(method, path, query, body.as_bytes()).unwrap(),
                expect,
                "{method} {target}"
            );
        };
        let run = || "r".to_owned();
        let operation = |wait_ms| Call::Operation {
            run: run(),
            id: OperationId(7),
            wait: Duration::from_millis(wait_ms),
        };
        let at = |target: &str| SavepointRequest {
            target: Some(target.to_owned()),
        };
        check("GET", "/v1/jobs", "", Call::Jobs);
        check("GET", "/v1/jobs/", "", Call::Jobs);
        check("GET", "/v1/jobs/r", "", Call::Job { run: run() });
        check("GET", "/v1/jobs/r/operations/7", "", operation(0));
        check("GET", "/v1/jobs/r/operations/7?wait_ms=500", "", operation(500));
        check("GET", "/v1/jobs/r/operations/7?wait_ms=99999999", "", operation(30_000));
        check("POST", "/v1/jobs/r/cancel", "{}", Call::Cancel { run: run() });
        let request = SavepointRequest::default();
        check(
            "POST",
            "/v1/jobs/r/savepoints",
            "",
            Call::Savepoint { run: run(), request },
        );
        let (run, request) = (run(), at("s3://b/x"));
        let body = r#"{"target": "s3://b/x"}"#;
        check("POST", "/v1/jobs/r/savepoints", body, Call::Savepoint { run, request });
        let request = StopRequest {
            savepoint: Some(SavepointRequest::default()),
            drain: true,
        };
        let body = r#"{"savepoint": {}, "drain": true}"#;
        check(
            "POST",
            "/v1/jobs/r/stop",
            body,
            Call::Stop {
                run: "r".into(),
                request,
            },
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let check = |method: &str, target: &str, body: &str, status: u16, code: &str| {
            let (path, query) = target
                .split_once('?')
                .map_or((target, None), |(path, query)| (path, Some(query)));
            let rejection = parse(method, path, query, body.as_bytes()).unwrap_err();
            assert_eq!(
                (rejection.status, rejection.error.code()),
                (status, code),
                "{method} {target}"
            );
            assert_eq!(rejection.allow.is_some(), status == 405);
        };
        check("GET", "/", "", 404, "AP0001");
        check("GET", "/v2/jobs", "", 404, "AP0001");
        check("GET", "/v1/jobs/r/operations/x", "", 404, "AP0001");
        check("GET", "/v1/jobs/r/operations/1?wait=1", "", 400, "AP0002");
        check("DELETE", "/v1/jobs/r", "", 405, "AP0002");
        check("GET", "/v1/jobs/r/stop", "", 405, "AP0002");
        check("GET", "/v1/jobs/r/state", "", 405, "AP0002");
        check("POST", "/v1/jobs/r/state", r#"{"key": 5}"#, 400, "AP0002");
        check("POST", "/v1/jobs/r/stop", "{", 400, "AP0002");
        check("POST", "/v1/jobs/r/stop", r#"{"savepiont": null}"#, 400, "AP0002");
        check("POST", "/v1/jobs/r/cancel", r#"{"force": true}"#, 400, "AP0002");
    }

    #[test]
    fn errors_have_a_status() {
        for (error, expect) in [
            (Error::user("AP0001", ""), 404),
            (Error::user("AP0003", ""), 409),
            (Error::user("AP0010", ""), 404),
            (Error::user("AP0011", ""), 409),
            (Error::user("CS0202", ""), 400),
            (Error::external("CS0003", ""), 502),
            (Error::internal(""), 500),
        ] {
            assert_eq!(Rejection::from(error).status, expect);
        }
    }
}
