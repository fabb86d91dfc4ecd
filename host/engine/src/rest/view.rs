//! What the API says about a job, and asks of it.

use std::sync::Arc;
use std::time::Duration;

use millrace_core::control::{OperationId, Request};
use millrace_core::{Error, Result};
use millrace_state::savepoint;

use super::messages;
use super::routes::{self, Call};
use crate::control::{JobControl, OperationReport};
use crate::env::{Clock, random_u32};
use crate::look_up::{Found, look_up};
use crate::prepare::ApiOptions;
use crate::worker::SlotJob;

/// A job as the API sees it.
pub(crate) struct JobView {
    name: String,
    run: String,
    parallelism: u32,
    started_ms: i64,
    checkpoint_dir: Option<String>,
    api: ApiOptions,
    clock: Clock,
    control: JobControl,
    job: Arc<SlotJob>,
}

/// Entries of a large state that are told if nobody says how many.
const ENTRIES: u32 = 1_000;

/// An answer: status and body.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
    /// Where what was begun can be asked about.
    pub(super) location: Option<String>,
    /// Methods that would have been right.
    pub(super) allow: Option<&'static str>,
}

impl JobView {
    /// `job` has [`ApiOptions`].
    pub(crate) fn new(job: &Arc<SlotJob>, run: &str, clock: Clock, control: JobControl) -> Self {
        let api = job
            .options
            .api
            .clone()
            .expect("a job that is served has options for it");
        JobView {
            name: job.graph.name.clone(),
            run: run.to_owned(),
            parallelism: job.options.parallelism,
            started_ms: clock.now_millis(),
            checkpoint_dir: job.options.checkpoints.as_ref().map(|options| options.storage.clone()),
            api,
            clock,
            control,
            job: job.clone(),
        }
    }

    /// Does what is asked. May take as long as storage or the request say.
    pub(super) fn answer(&self, method: &str, path: &str, query: Option<&str>, body: &[u8]) -> Answer {
        let call = routes::parse(method, path, query, body);
        match call.and_then(|call| self.carry_out(call).map_err(routes::Rejection::from)) {
            Ok(answer) => answer,
            Err(rejection) => {
                let error = messages::Problem::new(&rejection.error, self.api.remedy);
                Answer {
                    allow: rejection.allow,
                    ..answer(rejection.status, &messages::Failed { error })
                }
            }
        }
    }

    fn carry_out(&self, call: Call) -> Result<Answer> {
        let request = match call {
            Call::Jobs => {
                let jobs = vec![self.job()];
                return Ok(answer(200, &messages::Jobs { jobs }));
            }
            Call::Job { run } => {
                self.check(&run)?;
                return Ok(answer(200, &self.job()));
            }
            Call::Operation { run, id, wait } => {
                self.check(&run)?;
                return Ok(answer(200, &self.operation(id, wait)?));
            }
            Call::State { run, request } => {
                self.check(&run)?;
                return Ok(answer(200, &self.state(&request)?));
            }
            Call::Savepoint { run, request } => {
                self.check(&run)?;
                let target = self.target(request);
                Request::Savepoint { target }
            }
            Call::Stop { run, request } => {
                self.check(&run)?;
                Request::Stop {
                    savepoint: request.savepoint.map(|savepoint| self.target(savepoint)),
                    drain: request.drain,
                }
            }
            Call::Cancel { run } => {
                self.check(&run)?;
                Request::Cancel
            }
        };
        let id = self.control.request(request)?;
        let operation = self.operation(id, Duration::ZERO)?;
        Ok(Answer {
            location: Some(format!("/v1/jobs/{}/operations/{}", self.run, id.0)),
            ..answer(202, &operation)
        })
    }

    fn check(&self, run: &str) -> Result<()> {
        if run == self.run {
            return Ok(());
        }
        let message = format!(
            "there is no run `{run}` here, but `{}` of job `{}`",
            self.run, self.name
        );
        Err(Error::user("AP0001", message))
    }

    fn target(&self, request: messages::SavepointRequest) -> String {
        request.target.unwrap_or_else(|| {
            let folder = savepoint::folder_name(&self.name, self.clock.now_millis(), random_u32());
            format!("{}/{folder}", self.api.savepoint_dir.trim_end_matches('/'))
        })
    }

    fn state(&self, request: &messages::StateRequest) -> Result<messages::State> {
        let limit = request.limit.unwrap_or(ENTRIES).max(1) as usize;
        let Found {
            operator: (operator, id),
            held,
            more,
        } = look_up(&self.job, &self.control.0, &request.operator, &request.key, limit)?;
        Ok(messages::State {
            operator,
            id,
            held,
            more,
        })
    }

    fn job(&self) -> messages::Job {
        let checkpoints = self.control.0.statistics();
        let last = (checkpoints.completed > 0).then_some(messages::Checkpoint {
            id: checkpoints.last_id,
            completed_ms: checkpoints.last_completed_ms,
            duration_ms: checkpoints.last_duration.as_millis() as u64,
            bytes: checkpoints.last_bytes,
        });
        let placement = &self.job.plan.placement;
        let groups = placement.groups().iter().map(|group| messages::SlotSharingGroup {
            name: group.name.clone(),
            slots: group.slots.len() as u32,
        });
        messages::Job {
            name: self.name.clone(),
            run: self.run.clone(),
            state: self.control.state().to_string(),
            pid: std::process::id(),
            started_ms: self.started_ms,
            uptime_ms: self.clock.elapsed().as_millis() as u64,
            parallelism: self.parallelism,
            slots: placement.slot_count(),
            slot_sharing_groups: groups.collect(),
            restarts: checkpoints.restarts,
            last_failure: self.control.0.last_failure(),
            checkpoint_dir: self.checkpoint_dir.clone(),
            savepoint_dir: self.api.savepoint_dir.clone(),
            last_checkpoint: last,
        }
    }

    fn operation(&self, id: OperationId, wait: Duration) -> Result<messages::Operation> {
        let report = self.control.wait_operation(id, wait).ok_or_else(|| {
            let message = format!("run `{}` has no operation {}, or it is long over", self.run, id.0);
            Error::user("AP0001", message)
        })?;
        let OperationReport {
            request,
            ended,
            savepoint,
            error,
            ..
        } = report;
        let kind = match request {
            Request::Savepoint { .. } => "savepoint",
            Request::Stop { .. } => "stop",
            Request::Cancel => "cancel",
        };
        let status = match (ended, &error) {
            (false, _) => "pending",
            (true, None) => "completed",
            (true, Some(_)) => "failed",
        };
        Ok(messages::Operation {
            id: id.0,
            run: self.run.clone(),
            kind: kind.to_owned(),
            status: status.to_owned(),
            savepoint: savepoint.map(|savepoint| messages::Savepoint {
                url: savepoint.url,
                checkpoint: savepoint.checkpoint,
                taken_ms: savepoint.taken_ms,
                operators: savepoint.operators as u64,
                entries: savepoint.entries,
                bytes: savepoint.bytes,
            }),
            error: error.map(|error| messages::Problem::new(&error, self.api.remedy)),
        })
    }
}

fn answer(status: u16, body: &impl serde::Serialize) -> Answer {
    Answer {
        status,
        body: serde_json::to_string(body).expect("messages have text keys only"),
        location: None,
        allow: None,
    }
}
