//! A table that is read whole, for rows to be looked up in.
//!
//! One statement reads it, so that it is the table of one moment, whatever others change meanwhile; its rows come through a
//! cursor, some thousand at a time.

use std::sync::Arc;

use arrow_schema::SchemaRef;
use millrace_core::Result;
use millrace_core::connector::{
    Boundedness, Elapsed, Options, Poll, Position, Replay, Source, Split, SplitReader, SubtaskContext,
};
use postgres::Client;

use super::read::Settings;
use super::server::Server;

/// The rows are all wanted, not the first ones soon. What takes longer than this between some rows and the next is an error.
const BEGIN: &str = "SET statement_timeout = '10min'; SET cursor_tuple_fraction = 1; \
    BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// See the module's documentation.
pub(super) struct WholeTable(Arc<Settings>);

impl WholeTable {
    pub(super) fn new(options: Options, schema: SchemaRef) -> Result<Self> {
        Ok(WholeTable(Arc::new(Settings::take(options, schema)?)))
    }
}

impl Source for WholeTable {
    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    fn splits(&self, _parallelism: u32) -> Result<Vec<Split>> {
        Ok(vec![Split {
            id: "table".to_owned(),
            position: Position::START,
        }])
    }

    /// Rows of a table have no order, so there is no going on in the middle.
    fn replay(&self) -> Replay {
        Replay::Refused
    }

    fn open(&self, _split: &Split, _context: &SubtaskContext) -> Result<Box<dyn SplitReader>> {
        let settings = self.0.clone();
        let (server, mut client) = settings.connect()?;
        let columns = settings.columns(&server, &mut client)?;
        let statement = settings.statement(&columns, "TRUE")?;
        let begin = format!("{BEGIN}; DECLARE found NO SCROLL CURSOR FOR {statement}");
        let begun = client.batch_execute(&begin);
        begun.map_err(|error| settings.failed(&server, &error))?;
        Ok(Box::new(Reader {
            settings,
            server,
            client,
        }))
    }
}

struct Reader {
    settings: Arc<Settings>,
    server: Server,
    client: Client,
}

impl SplitReader for Reader {
    fn poll(&mut self, rows_max: usize, _now: Elapsed) -> Result<Poll> {
        let found = self.client.query(&format!("FETCH FORWARD {rows_max} FROM found"), &[]);
        let found = found.map_err(|error| self.settings.failed(&self.server, &error))?;
        Ok(match found.is_empty() {
            true => Poll::End,
            false => Poll::Rows(self.settings.rows(&found, false)?),
        })
    }

    fn position(&self) -> Position {
        Position::START
    }
}
