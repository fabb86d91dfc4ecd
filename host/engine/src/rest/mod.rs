//! The API of a running job: HTTP over a Unix socket, the first piece of the cluster's REST API.
//!
//! ```text
//!   jobctl run:    <data-dir>/run/<run>.sock <-- server: connections -- routes: what a request means -- JobControl
//!   jobctl stop:   client: all sockets of the data dir, by name
//! ```
//!
//! `docs/api.md` describes it for users. [`socket`] makes, finds and removes the sockets, [`server`] answers,
//! [`routes`] says what a request means (without I/O), [`messages`] are the bodies of both directions, and [`client`]
//! is what the commands use.

pub mod client;
pub mod messages;
mod routes;
mod server;
mod socket;
mod view;

use std::path::PathBuf;
use std::time::Duration;

use millrace_core::{Error, Result};
use millrace_wasm::LogLevel;

use crate::control::Control;
use crate::prepare::JobOptions;
use server::Server;
use socket::Socket;
pub(crate) use view::JobView;

/// How long a process stays behind the end of its job for those who asked for something to hear what became of it.
const LINGER: Duration = Duration::from_secs(2);

/// Where a job listens. It is there until this is dropped.
pub(crate) struct Endpoint {
    socket: Socket,
    server: Option<Server>,
}

impl Endpoint {
    /// Makes the socket of a run. `None`: the job is not to be found, or it need not be and cannot.
    ///
    /// # Errors
    /// `AP0007` if the run is running already; `AP0008` if there can be no socket, but must.
    pub(crate) fn claim(options: &JobOptions, run: &str) -> Result<Option<Self>> {
        let Some(api) = &options.api else {
            return Ok(None);
        };
        match Socket::claim(&api.data_dir, run) {
            Ok(socket) => Ok(Some(Endpoint { socket, server: None })),
            Err(error) if error.code() == socket::UNUSABLE && !api.required => {
                (options.log)(LogLevel::Warn, &format!("other commands cannot find this job: {error}"));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Begins to answer.
    pub(crate) fn serve(&mut self, view: JobView) -> Result<()> {
        let listener = self.socket.listener()?;
        self.server = Some(Server::start(listener, view)?);
        Ok(())
    }

    /// A folder that is deleted with the socket, sooner or later.
    pub(crate) fn scratch(&self) -> String {
        let folder: PathBuf = self.socket.scratch();
        folder.to_string_lossy().into_owned()
    }

    /// The job has ended: goes as soon as those who asked for something know what became of it.
    pub(crate) fn finish(mut self, control: &Control) {
        control.wait_told(LINGER);
        if let Some(server) = self.server.take() {
            server.finish();
        }
    }
}

fn unusable(message: String) -> Error {
    Error::external(socket::UNUSABLE, message)
}
