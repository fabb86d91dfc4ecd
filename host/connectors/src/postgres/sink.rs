//! The sink: checks, recovery, and a writer per subtask.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_schema::SchemaRef;
use millrace_core::connector::{
    Committable, Delivery, KeptFor, Options, Sink, SinkContext, SinkWriter, SubtaskContext,
};
use millrace_core::{Error, Result};
use postgres::Client;

use super::kept::Kept;
use super::server::Server;
use super::settings::{Mode, Settings};
use super::transactions::{self, Identity};
use super::two_phase::TwoPhase;
use super::upsert::Upsert;
use super::{table, upsert};

/// See the module's documentation.
pub(crate) struct PostgresSink(Arc<Shared>);

/// What the writers of a sink have in common.
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) schema: SchemaRef,
    pub(super) identity: Identity,
    /// Rows that were committed here.
    pub(super) rows: AtomicU64,
}

impl PostgresSink {
    /// From the options in the pipeline.
    pub(crate) fn new(options: Options, schema: SchemaRef, context: &SinkContext) -> Result<Self> {
        let settings = Settings::take(options, &schema)?;
        table::check_schema(&schema)?;
        let identity = Identity::new(context, &settings.id);
        Ok(PostgresSink(Arc::new(Shared {
            settings,
            schema,
            identity,
            rows: AtomicU64::new(0),
        })))
    }

    fn connect(&self, part: &str) -> Result<(Server, Client)> {
        let server = Server::parse(&self.0.settings.access)?;
        let client = server.connect(&self.0.identity.connection(part))?;
        Ok((server, client))
    }

    /// A connection that no recovery ends: savepoints are written whatever becomes of an attempt.
    fn connect_aside(&self) -> Result<(Server, Client)> {
        let server = Server::parse(&self.0.settings.access)?;
        let client = server.connect("millrace/savepoint")?;
        Ok((server, client))
    }

    fn notes(&self, server: &Server) -> Result<Kept> {
        Kept::new(&self.0.settings, self.0.identity.sink(), server)
    }
}

impl Sink for PostgresSink {
    fn delivery(&self) -> Delivery {
        match self.0.settings.mode {
            Mode::ExactlyOnce => Delivery::ExactlyOnce,
            Mode::Upsert { .. } => Delivery::Idempotent,
        }
    }

    fn check(&self) -> Result<()> {
        let Shared { settings, schema, .. } = self.0.as_ref();
        let (server, mut client) = self.connect("check")?;
        if settings.mode == Mode::ExactlyOnce {
            transactions::check_possible(&mut client, &server)?;
        }
        if settings.create {
            table::create(&mut client, &server, settings, schema)?;
        }
        table::describe(&mut client, &server, settings, schema)?;
        let table = table::name(&settings.table)?;
        let may = client
            .query_one("SELECT has_table_privilege($1::text, 'INSERT')", &[&table])
            .map_err(|error| server.error(&format!("table {table} cannot be looked up"), &error))?;
        if !may.get::<_, bool>(0) {
            let message = format!("the user may not insert into table `{}`", settings.table);
            return Err(Error::user("CN0122", message));
        }
        match &settings.mode {
            Mode::ExactlyOnce => Ok(()),
            Mode::Upsert { key } => upsert::check(&mut client, &server, settings, key, schema),
        }
    }

    fn recover(&self, prepared: &[Committable]) -> Result<()> {
        let identity = &self.0.identity;
        let (server, mut client) = self.connect("recover")?;
        transactions::end_others(&mut client, &server, identity)?;
        for committable in prepared {
            transactions::commit(&mut client, &server, committable)?;
        }
        let stale = transactions::prepared(&mut client, &server, identity)?;
        if stale.is_empty() {
            return Ok(());
        }
        let kept = self.notes(&server)?.read(&mut client)?;
        for name in stale {
            if !kept.iter().any(|(_, kept)| *kept == name) {
                transactions::roll_back(&mut client, &server, &name)?;
            }
        }
        Ok(())
    }

    fn keep(&self, savepoint: &KeptFor, prepared: &[Committable]) -> Result<()> {
        let (server, mut client) = self.connect_aside()?;
        self.notes(&server)?.keep(&mut client, savepoint, prepared)
    }

    fn kept(&self) -> Result<Vec<KeptFor>> {
        if self.0.settings.mode != Mode::ExactlyOnce {
            return Ok(Vec::new());
        }
        let (server, mut client) = self.connect_aside()?;
        let kept = self.notes(&server)?.read(&mut client)?.into_iter();
        let mut kept: Vec<KeptFor> = kept.map(|(savepoint, _)| savepoint).collect();
        kept.dedup();
        Ok(kept)
    }

    fn release(&self, id: &str) -> Result<()> {
        let (server, mut client) = self.connect_aside()?;
        self.notes(&server)?.release(&mut client, id)
    }

    fn open(&self, context: &SubtaskContext) -> Result<Box<dyn SinkWriter>> {
        let Shared { settings, schema, .. } = self.0.as_ref();
        let part = context.subtask.to_string();
        let (server, mut client) = self.connect(&part)?;
        let types = table::describe(&mut client, &server, settings, schema)?;
        Ok(match &settings.mode {
            Mode::ExactlyOnce => Box::new(TwoPhase::new(self.0.clone(), context.subtask, server, client, types)?),
            Mode::Upsert { key } => Box::new(Upsert::new(self.0.clone(), key, server, client, types)?),
        })
    }

    fn summary(&self) -> Vec<(String, String)> {
        vec![("rows".into(), self.0.rows.load(Ordering::Relaxed).to_string())]
    }
}
