//! One request: attempts until there is a response worth giving, or time is over.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use millrace_core::graph::{Origin, RequestsDecl, Retry};
use millrace_core::requests::{Answer, Failure, FailureKind, Request, Response};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Url};

/// What an operator declares.
#[derive(Debug)]
pub(super) struct Policy {
    origins: Vec<Origin>,
    timeout: Duration,
    retry: Option<Retry>,
    body_bytes_max: u64,
}

impl Policy {
    pub(super) fn new(declared: &RequestsDecl) -> Self {
        Policy {
            origins: declared.origins.clone(),
            timeout: Duration::from_millis(declared.timeout_ms),
            retry: declared.retry.clone(),
            body_bytes_max: declared.response_bytes_max,
        }
    }

    /// Whether a request may go there.
    pub(super) fn is_allowed(&self, url: &Url) -> bool {
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return false;
        };
        let allows = |origin: &Origin| origin.allows(url.scheme(), host, port);
        self.origins.iter().any(allows)
    }

    /// How long to wait before the next attempt, after so many; `None`: there is none.
    pub(super) fn delay(&self, attempts: u32, answer: &Answer) -> Option<Duration> {
        let retry = self.retry.as_ref().filter(|retry| attempts < retry.attempts)?;
        let is_worth = match answer {
            Ok(response) => retry.statuses.contains(&response.status),
            Err(failure) => failure.kind == FailureKind::Connection,
        };
        let doubled = retry.delay_ms.saturating_mul(1 << (attempts - 1).min(16));
        is_worth.then(|| spread(Duration::from_millis(doubled)).max(asked_delay(answer)))
    }
}

/// Between a half and the whole of a delay, by chance: who failed at the same time does not come back at the same time.
fn spread(delay: Duration) -> Duration {
    let half = delay / 2;
    let by_chance = RandomState::new().hash_one(0_u8) >> 32;
    half + half.mul_f64(by_chance as f64 / f64::from(u32::MAX))
}

/// What a server says in `Retry-After`, in seconds.
fn asked_delay(answer: &Answer) -> Duration {
    let headers = answer.iter().flat_map(|response| &response.headers);
    let mut said = headers.filter(|(name, _)| name == RETRY_AFTER.as_str());
    let seconds = said.next().and_then(|(_, value)| value.parse().ok());
    seconds.map_or(Duration::ZERO, Duration::from_secs)
}

fn failure(kind: FailureKind, message: impl Into<String>) -> Failure {
    let message = message.into();
    Failure { kind, message }
}

/// Makes a request, as often as it takes. `again` is called before each attempt but the first.
pub(super) async fn answer(client: &reqwest::Client, policy: &Policy, request: &Request, again: impl Fn()) -> Answer {
    let request = build(client, policy, request)?;
    let attempts = async {
        let mut count = 1;
        loop {
            // A body is bytes, so that a request can be cloned.
            let next = request.try_clone();
            let next = next.ok_or_else(|| failure(FailureKind::Invalid, "the request cannot be made twice"))?;
            let answer = attempt(client, next, policy.body_bytes_max).await;
            let Some(delay) = policy.delay(count, &answer) else {
                return answer;
            };
            tokio::time::sleep(delay).await;
            count += 1;
            again();
        }
    };
    match tokio::time::timeout(policy.timeout, attempts).await {
        Ok(answer) => answer,
        Err(_) => {
            let message = format!("no response within {} ms", policy.timeout.as_millis());
            Err(failure(FailureKind::Timeout, message))
        }
    }
}

fn build(client: &reqwest::Client, policy: &Policy, request: &Request) -> Result<reqwest::Request, Failure> {
    let invalid = |what: String| failure(FailureKind::Invalid, what);
    let url = Url::parse(&request.url).map_err(|error| invalid(format!("`{}` is no URL: {error}", request.url)))?;
    if !policy.is_allowed(&url) {
        let origin = url.origin().ascii_serialization();
        let message = format!("`{origin}` is none of the origins that the pipeline asks for");
        return Err(failure(FailureKind::NotAllowed, message));
    }
    let method = Method::from_bytes(request.method.as_bytes());
    let method = method.map_err(|_| invalid(format!("`{}` is no method", request.method)))?;
    let mut headers = HeaderMap::new();
    for (name, value) in &request.headers {
        let parsed = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value));
        let (Ok(parsed), Ok(value)) = parsed else {
            return Err(invalid(format!(
                "header `{name}` has a name or value that no header has"
            )));
        };
        headers.append(parsed, value);
    }
    let built = client
        .request(method, url)
        .headers(headers)
        .body(request.body.clone())
        .build();
    built.map_err(|error| invalid(in_words(&error)))
}

async fn attempt(client: &reqwest::Client, request: reqwest::Request, body_bytes_max: u64) -> Answer {
    let broken = |error: reqwest::Error| failure(FailureKind::Connection, in_words(&error));
    let mut response = client.execute(request).await.map_err(broken)?;
    let too_large = || {
        let message = format!("the body of the response is longer than {body_bytes_max} bytes");
        failure(FailureKind::TooLarge, message)
    };
    if response.content_length().is_some_and(|length| length > body_bytes_max) {
        return Err(too_large());
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        if (body.len() + chunk.len()) as u64 > body_bytes_max {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    let header = |(name, value): (&HeaderName, &HeaderValue)| {
        let value = String::from_utf8_lossy(value.as_bytes());
        (name.as_str().to_owned(), value.into_owned())
    };
    Ok(Response {
        status: response.status().as_u16(),
        headers: response.headers().iter().map(header).collect(),
        body,
    })
}

/// An error with what is behind it; without the URL, which may hold a secret.
fn in_words(error: &reqwest::Error) -> String {
    let mut words = match (error.is_connect(), error.is_redirect()) {
        (true, _) => "the server cannot be reached".to_owned(),
        (false, true) => "a redirect could not be followed".to_owned(),
        (false, false) => "the connection broke".to_owned(),
    };
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_words = cause.to_string();
        if !words.ends_with(&cause_words) {
            words = format!("{words}: {cause_words}");
        }
        source = cause.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_spread_over_their_second_half() {
        let whole = Duration::from_millis(1_000);
        let delays: Vec<Duration> = (0..200).map(|_| spread(whole)).collect();
        assert!(
            delays.iter().all(|delay| (whole / 2..=whole).contains(delay)),
            "{delays:?}"
        );
        let below = |limit: u64| {
            delays
                .iter()
                .filter(|delay| delay.as_millis() < u128::from(limit))
                .count()
        };
        assert!((10..190).contains(&below(750)), "{delays:?}");
    }
}
