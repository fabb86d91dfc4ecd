//! The sink: checks, recovery, and a writer per subtask.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_schema::Schema;
use millrace_core::connector::{Committable, Delivery, Options, Sink, SinkContext, SinkWriter, SubtaskContext};
use millrace_core::{Error, Result};
use redis::cmd;

use super::immediate::Immediate;
use super::logged::Logged;
use super::server::Server;
use super::settings::{Mode, Settings};
use crate::identity;
use crate::immediate::ImmediateWriter;
use crate::write_ahead::{self, LogWriter};

/// See the module's documentation.
pub(crate) struct RedisSink(Arc<Shared>);

/// What the writers of a sink have in common.
pub(super) struct Shared {
    pub(super) settings: Settings,
    /// What the names of all keys of marks begin with.
    prefix: String,
    /// Rows that were written here.
    pub(super) rows: Arc<AtomicU64>,
}

impl Shared {
    /// The key of a subtask's marks.
    pub(super) fn marks(&self, subtask: u32) -> String {
        format!("{}:{subtask}", self.prefix)
    }
}

impl RedisSink {
    /// From the options in the pipeline.
    pub(crate) fn new(options: Options, schema: &Schema, context: &SinkContext) -> Result<Self> {
        let settings = Settings::take(options, schema)?;
        let (job, hash) = (identity::job(context), identity::hash(context, &settings.id));
        Ok(RedisSink(Arc::new(Shared {
            settings,
            prefix: format!("millrace:sink:{job}:{hash}"),
            rows: Arc::default(),
        })))
    }
}

impl Sink for RedisSink {
    fn delivery(&self) -> Delivery {
        match self.0.settings.mode {
            Mode::ExactlyOnce => Delivery::ExactlyOnce,
            Mode::Immediate if self.0.settings.structure.is_idempotent() => Delivery::Idempotent,
            Mode::Immediate => Delivery::AtLeastOnce,
        }
    }

    fn check(&self) -> Result<()> {
        let server = Server::parse(&self.0.settings)?;
        let mut connection = server.connect()?;
        let info: String = match cmd("INFO").query(&mut connection) {
            Ok(info) => info,
            // A user may be kept from asking; what does not work shows later then.
            Err(error) if error.code() == Some("NOPERM") => return Ok(()),
            Err(error) => return Err(server.failure("the server's state cannot be read", &error).into()),
        };
        let says = |line: &str| info.lines().any(|other| other == line);
        let refuse = |what: &str| Err(Error::user("CN0143", format!("Redis at {}: {what}", server.shown())));
        if says("redis_mode:cluster") {
            return refuse("it is a cluster, and the sink writes to single servers");
        }
        if says("role:slave") {
            return refuse("it is a replica, and only its master can be written to");
        }
        Ok(())
    }

    fn recover(&self, prepared: &[Committable]) -> Result<()> {
        if prepared.is_empty() {
            return Ok(());
        }
        let server = Server::parse(&self.0.settings)?;
        let connection = server.connect()?;
        write_ahead::recover(&mut Logged::new(self.0.clone(), server, connection), prepared)
    }

    fn open(&self, context: &SubtaskContext) -> Result<Box<dyn SinkWriter>> {
        let server = Server::parse(&self.0.settings)?;
        let connection = server.connect()?;
        Ok(match self.0.settings.mode {
            Mode::ExactlyOnce => {
                let target = Logged::new(self.0.clone(), server, connection);
                let Settings { limits, .. } = self.0.settings;
                Box::new(LogWriter::new(target, context.subtask, limits, self.0.rows.clone()))
            }
            Mode::Immediate => {
                let outside = Immediate::new(self.0.clone(), server, connection);
                let rows_at_a_time = self.0.settings.limits.rows_per_entry;
                Box::new(ImmediateWriter::new(outside, rows_at_a_time, self.0.rows.clone()))
            }
        })
    }

    fn summary(&self) -> Vec<(String, String)> {
        vec![("rows".into(), self.0.rows.load(Ordering::Relaxed).to_string())]
    }
}
