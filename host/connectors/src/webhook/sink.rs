//! The sink: requests with rows, at once or by a write-ahead log.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::RecordBatch;
use millrace_core::connector::{Committable, Delivery, Options, Sink, SinkContext, SinkWriter, SubtaskContext};
use millrace_core::requests::{Answer, Request};
use millrace_core::{Error, Result};

use super::settings::{Body, Mode, Settings};
use crate::format::{Encoder, Format};
use crate::http::{Asking, Client};
use crate::identity;
use crate::immediate::{ImmediateWriter, Outside};
use crate::write_ahead::{self, Applied, Entry, LogWriter, Mark, Target};

/// Letters of what a server answers that are shown.
const SHOWN_CHARS: usize = 200;

/// See the module's documentation.
pub(crate) struct WebhookSink(Arc<Shared>);

/// What the writers of a sink have in common.
struct Shared {
    settings: Settings,
    /// What all keys begin with.
    prefix: String,
    rows: Arc<AtomicU64>,
}

impl WebhookSink {
    /// From the options in the pipeline.
    pub(crate) fn new(options: Options, context: &SinkContext) -> Result<Self> {
        let settings = Settings::take(options)?;
        let prefix = identity::hash(context, &settings.id);
        Ok(WebhookSink(Arc::new(Shared {
            settings,
            prefix,
            rows: Arc::default(),
        })))
    }

    fn poster(&self) -> Result<Poster> {
        Ok(Poster {
            client: Client::new(&self.0.settings.requests)?,
            shared: self.0.clone(),
        })
    }
}

impl Sink for WebhookSink {
    fn delivery(&self) -> Delivery {
        match self.0.settings.mode {
            // Of servers that go by `Idempotency-Key`.
            Mode::Checkpointed => Delivery::Idempotent,
            Mode::Immediate => Delivery::AtLeastOnce,
        }
    }

    /// Nothing is sent: what a server makes of a request without rows is not known.
    fn check(&self) -> Result<()> {
        self.0.settings.token.read().map(drop)
    }

    fn recover(&self, prepared: &[Committable]) -> Result<()> {
        match prepared {
            [] => Ok(()),
            prepared => write_ahead::recover(&mut self.poster()?, prepared),
        }
    }

    fn open(&self, context: &SubtaskContext) -> Result<Box<dyn SinkWriter>> {
        let (poster, settings) = (self.poster()?, &self.0.settings);
        Ok(match settings.mode {
            Mode::Checkpointed => {
                let rows = self.0.rows.clone();
                Box::new(LogWriter::new(poster, context.subtask, settings.limits, rows))
            }
            Mode::Immediate => {
                let rows_at_a_time = settings.limits.rows_per_entry;
                Box::new(ImmediateWriter::new(poster, rows_at_a_time, self.0.rows.clone()))
            }
        })
    }

    fn summary(&self) -> Vec<(String, String)> {
        vec![("rows".into(), self.0.rows.load(Ordering::Relaxed).to_string())]
    }
}

/// Sends rows.
struct Poster {
    client: Client,
    shared: Arc<Shared>,
}

impl Poster {
    /// Sends rows in one request, as often as it takes; how many bytes they were.
    fn post(&self, rows: &RecordBatch, key: Option<String>) -> Result<u64> {
        let request = self.request(rows, key)?;
        self.check(&self.client.ask(&request))?;
        Ok(request.body.len() as u64)
    }

    /// The request with rows.
    fn request(&self, rows: &RecordBatch, key: Option<String>) -> Result<Request> {
        let settings = &self.shared.settings;
        let body = body(rows, settings.body)?;
        let mut headers = settings.headers.clone();
        if headers
            .iter()
            .all(|(name, _)| !name.eq_ignore_ascii_case("content-type"))
        {
            let content_type = match settings.body {
                Body::Lines => "application/x-ndjson",
                Body::Array => "application/json",
            };
            headers.push(("content-type".to_owned(), content_type.to_owned()));
        }
        if let Some(token) = settings.token.read()? {
            headers.push(("authorization".to_owned(), format!("Bearer {token}")));
        }
        headers.extend(key.map(|key| ("idempotency-key".to_owned(), key)));
        Ok(Request {
            method: "POST".to_owned(),
            url: settings.url.to_string(),
            headers,
            body,
        })
    }

    /// Whether the server has taken the rows.
    fn check(&self, answer: &Answer) -> Result<()> {
        let failed = |what: &str| {
            let shown = self.shared.settings.shown();
            let message = format!("the webhook {shown} does not take rows: {what}");
            Err(Error::external("IO0170", message))
        };
        match answer {
            Ok(response) if (200..300).contains(&response.status) => Ok(()),
            Ok(response) => {
                let said = String::from_utf8_lossy(&response.body);
                let said: String = said.chars().take(SHOWN_CHARS).collect();
                failed(format!("status {} {said}", response.status).trim_end())
            }
            Err(failure) => failed(&failure.message),
        }
    }

    /// The key of an entry, which the server remembers.
    fn key(&self, mark: Mark) -> String {
        let prefix = &self.shared.prefix;
        format!("{prefix}-{}-{:016x}-{}", mark.subtask, mark.log, mark.number)
    }
}

/// Rows as JSON.
fn body(rows: &RecordBatch, form: Body) -> Result<Vec<u8>> {
    let mut lines = Vec::new();
    Encoder::new(Format::Ndjson).encode(rows, &mut lines)?;
    if form == Body::Array {
        // No line end is within a row: those in texts are escaped.
        if lines.last() == Some(&b'\n') {
            lines.pop();
        }
        lines
            .iter_mut()
            .filter(|byte| **byte == b'\n')
            .for_each(|byte| *byte = b',');
        lines.insert(0, b'[');
        lines.push(b']');
    }
    Ok(lines)
}

impl Target for Poster {
    /// The server is what remembers marks.
    fn apply(&mut self, mark: Mark, rows: &RecordBatch) -> Result<Applied> {
        self.post(rows, Some(self.key(mark))).map(|_| Applied::Now)
    }

    /// Several at a time, in any order, if that was asked for. What is under way when one fails is given up; it comes again with the
    /// same key, as the one that failed.
    fn apply_all(
        &mut self,
        entries: &mut dyn Iterator<Item = Result<Entry>>,
        applied: &mut dyn FnMut(&Entry),
    ) -> Result<()> {
        let mut asking = Asking::new(&self.client);
        loop {
            while asking.count() < self.shared.settings.requests_max
                && let Some(entry) = entries.next()
            {
                let entry = entry?;
                let request = self.request(&entry.rows, Some(self.key(entry.mark)))?;
                asking.send(entry, request);
            }
            let Some((entry, answer)) = asking.wait() else {
                return Ok(());
            };
            self.check(&answer)?;
            applied(&entry);
        }
    }

    fn forget_others(&mut self, _: &[Mark]) -> Result<()> {
        Ok(())
    }
}

impl Outside for Poster {
    fn write(&mut self, rows: &RecordBatch) -> Result<u64> {
        self.post(rows, None)
    }
}
