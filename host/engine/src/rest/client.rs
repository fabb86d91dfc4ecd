//! Finds running jobs and asks things of them; blocks.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use millrace_core::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::messages::{
    CancelRequest, Failed, Job, Jobs, Operation, Problem, SavepointRequest, State, StateRequest, StopRequest,
};
use super::socket;

/// How long an answer may take that waits for nothing.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long to wait for the end of an operation before asking again.
const WAIT: Duration = Duration::from_secs(10);

/// A job that runs, and how to reach it.
#[derive(Debug, Clone)]
pub struct RunningJob {
    socket: PathBuf,
    /// What it said of itself.
    pub job: Job,
}

/// A request that was not answered with success.
#[derive(Debug)]
pub enum Failure {
    /// The job said so.
    Said(Problem),
    /// The job could not be asked.
    Error(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Error(error)
    }
}

/// All jobs that run with this data dir, by name and run. What processes have left that were killed is removed.
///
/// # Errors
/// `AP0008` if the folder cannot be read.
pub fn running_jobs(data_dir: &Path) -> Result<Vec<RunningJob>> {
    let failed = |error: io::Error| {
        let message = format!("`{}` cannot be searched for running jobs: {error}", data_dir.display());
        super::unusable(message)
    };
    let (mut running, mut stale) = (Vec::new(), false);
    for socket in socket::sockets(data_dir).map_err(failed)? {
        let Some(stream) = socket::connect(&socket).map_err(failed)? else {
            stale = true;
            continue;
        };
        // One that ends just now does not run.
        if let Ok(Jobs { jobs }) = ask::<(), Jobs>(stream, &socket, Method::GET, "/v1/jobs", None) {
            running.extend(jobs.into_iter().map(|job| RunningJob {
                socket: socket.clone(),
                job,
            }));
        }
    }
    if stale {
        // Whoever may not remove them need not.
        let _ = socket::remove_stale_in(data_dir);
    }
    running.sort_by(|a, b| (&a.job.name, &a.job.run).cmp(&(&b.job.name, &b.job.run)));
    Ok(running)
}

impl RunningJob {
    /// Has a savepoint made.
    ///
    /// # Errors
    /// If the job refuses, or is gone.
    pub fn savepoint(&self, request: &SavepointRequest) -> Result<Operation, Failure> {
        self.post("savepoints", request)
    }

    /// Has the job stop.
    ///
    /// # Errors
    /// If the job refuses, or is gone.
    pub fn stop(&self, request: &StopRequest) -> Result<Operation, Failure> {
        self.post("stop", request)
    }

    /// Has the job cancelled.
    ///
    /// # Errors
    /// If the job refuses, or is gone.
    pub fn cancel(&self) -> Result<Operation, Failure> {
        self.post("cancel", &CancelRequest {})
    }

    /// What an operator holds for a key now.
    ///
    /// # Errors
    /// If there is no such operator or key, or the job is gone.
    pub fn state(&self, request: &StateRequest) -> Result<State, Failure> {
        let path = format!("/v1/jobs/{}/state", self.job.run);
        self.ask(Method::POST, &path, Some(request))
    }

    /// Waits until an operation has ended.
    ///
    /// # Errors
    /// `AP0009` if the process of the job is gone before.
    pub fn wait(&self, mut operation: Operation) -> Result<Operation, Failure> {
        while operation.status == "pending" {
            let (run, id, wait_ms) = (&self.job.run, operation.id, WAIT.as_millis());
            let path = format!("/v1/jobs/{run}/operations/{id}?wait_ms={wait_ms}");
            operation = self.ask::<(), Operation>(Method::GET, &path, None)?;
        }
        Ok(operation)
    }

    fn post(&self, what: &str, body: &impl Serialize) -> Result<Operation, Failure> {
        let path = format!("/v1/jobs/{}/{what}", self.job.run);
        self.ask(Method::POST, &path, Some(body))
    }

    fn ask<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<T, Failure> {
        let stream = socket::connect(&self.socket).map_err(|error| gone(&self.socket, &error))?;
        let stream = stream.ok_or_else(|| gone(&self.socket, &"nobody listens"))?;
        ask(stream, &self.socket, method, path, body)
    }
}

fn gone(socket: &Path, why: &dyn std::fmt::Display) -> Error {
    let message = format!(
        "the process of the job does not answer any more (`{}`): {why}",
        socket.display()
    );
    Error::external("AP0009", message)
}

fn ask<B: Serialize, T: DeserializeOwned>(
    stream: UnixStream,
    socket: &Path,
    method: Method,
    path: &str,
    body: Option<&B>,
) -> Result<T, Failure> {
    let gone = |why: &dyn std::fmt::Display| Failure::Error(gone(socket, why));
    let body = body.map_or_else(Vec::new, |body| {
        serde_json::to_vec(body).expect("messages have text keys only")
    });
    let request = Request::builder().method(method).uri(path);
    let request = request
        .header(HOST, "localhost")
        .header(CONTENT_TYPE, "application/json");
    let request = request
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| gone(&error))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| gone(&error))?;
    let exchange = async {
        stream.set_nonblocking(true).map_err(|error| error.to_string())?;
        let stream = tokio::net::UnixStream::from_std(stream).map_err(|error| error.to_string())?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = response.status();
        let body = response
            .into_body()
            .collect()
            .await
            .map_err(|error| error.to_string())?;
        Ok::<_, String>((status, body.to_bytes()))
    };
    let timed = runtime.block_on(async { tokio::time::timeout(ANSWER_TIMEOUT + WAIT, exchange).await });
    let (status, body) = match timed {
        Ok(Ok(answer)) => answer,
        Ok(Err(why)) => return Err(gone(&why)),
        Err(_) => return Err(gone(&"it takes too long")),
    };
    if status.is_success() {
        return serde_json::from_slice(&body).map_err(|error| gone(&format!("it said what makes no sense: {error}")));
    }
    match serde_json::from_slice::<Failed>(&body) {
        Ok(failed) => Err(Failure::Said(failed.error)),
        Err(_) => Err(gone(&format!("it answered with {status}"))),
    }
}
