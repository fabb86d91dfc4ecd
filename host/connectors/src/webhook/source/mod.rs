//! The source: rows from `POST` requests, answered when they are in a complete checkpoint.
//!
//! Who sends is who remembers: what was not answered is sent again, so an answer must not come before the rows are safe. [`listener`]
//! accepts connections ([`tls`]), [`server`] takes what comes to a path, [`reader`] gives the rows and holds answers back,
//! [`ledger`] knows what comes again. [`body`] and [`reply`] are what stands in requests and answers.
//!
//! It is one split, whatever the parallelism, so that keys are known in one place.

mod body;
mod ledger;
mod listener;
mod reader;
mod reply;
mod server;
mod settings;
#[cfg(test)]
mod tests;
mod tls;

use std::sync::{Arc, Mutex, PoisonError};

use arrow_schema::SchemaRef;
use millrace_core::Result;
use millrace_core::connector::{Boundedness, Options, Position, Replay, Source, Split, SplitReader, SubtaskContext};

use self::ledger::Ledger;
use self::reader::Reader;
use self::server::Server;
use self::settings::{Acknowledge, Settings};
use crate::format::Format;

/// See the module's documentation.
pub(super) struct WebhookSource {
    settings: Arc<Settings>,
    schema: SchemaRef,
    /// From when the job starts until it ends.
    server: Mutex<Option<Arc<Server>>>,
}

impl WebhookSource {
    /// From the options in the pipeline.
    pub(super) fn new(options: Options, schema: SchemaRef) -> Result<Self> {
        let settings = Arc::new(Settings::take(options)?);
        Format::Ndjson.check_schema(&schema)?;
        Ok(WebhookSource {
            settings,
            schema,
            server: Mutex::new(None),
        })
    }

    /// The server, which begins with the first call.
    fn server(&self) -> Result<Arc<Server>> {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = &*server {
            return Ok(server.clone());
        }
        let started = Arc::new(Server::start(&self.settings)?);
        Ok(server.insert(started).clone())
    }
}

impl Source for WebhookSource {
    fn boundedness(&self) -> Boundedness {
        Boundedness::Unbounded
    }

    /// Listens from here on: what is in the way is said before the job starts.
    fn splits(&self, _parallelism: u32) -> Result<Vec<Split>> {
        self.server()?;
        Ok(vec![Split {
            id: "webhook".to_owned(),
            position: Position::START,
        }])
    }

    fn replay(&self) -> Replay {
        match self.settings.acknowledge {
            Acknowledge::Checkpoint => Replay::Resent,
            Acknowledge::Receipt => Replay::Lost,
        }
    }

    fn lost_on_restart(&self) -> Option<String> {
        match self.settings.acknowledge {
            Acknowledge::Checkpoint => None,
            Acknowledge::Receipt => Some(format!(
                "rows that `{}` has taken since the last checkpoint are lost when the job goes on from it: their senders were \
                 answered on receipt",
                self.settings.address
            )),
        }
    }

    fn open(&self, split: &Split, context: &SubtaskContext) -> Result<Box<dyn SplitReader>> {
        let settings = self.settings.clone();
        let ledger = Ledger::restore(&split.position, settings.keys_max)?;
        let on_receipt = settings.acknowledge == Acknowledge::Receipt || !context.checkpoints;
        let server = self.server()?;
        let (number, posted) = server.attach(&context.waker);
        let from = (server, number, posted);
        Ok(Box::new(Reader::new(settings, &self.schema, ledger, on_receipt, from)?))
    }
}
