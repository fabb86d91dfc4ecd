//! Running jobs as the commands see them: one by its name or run, and what became of what it was asked.

use millrace_core::{Error, Result};
use millrace_engine::rest::client::{Failure, RunningJob, running_jobs};
use millrace_engine::rest::messages::{Operation, Problem};

use crate::data_dir::DataDir;
use crate::pack;

/// A job that runs.
#[derive(Debug, Clone, clap::Args)]
pub struct Which {
    /// Name of the job, or its run if there are several of that name (`jobctl list` shows both)
    #[arg(value_name = "JOB")]
    pub job: String,

    /// Where running jobs are found.
    #[command(flatten)]
    pub data_dir: DataDir,
}

impl Which {
    /// The running job that is meant.
    ///
    /// # Errors
    /// `CL0031` if there is none, `CL0032` if there are several of the name.
    pub fn find(&self) -> Result<RunningJob> {
        let folder = self.data_dir.folder()?;
        let all = running_jobs(&folder)?;
        let found = select(&self.job, &all, |running| (&running.job.name, &running.job.run));
        found.cloned().map_err(|error| match error {
            Unclear::Missing => {
                let (job, folder) = (&self.job, folder.display());
                Error::user(
                    "CL0031",
                    format!("no job `{job}` runs (with the data folder `{folder}`)"),
                )
            }
            Unclear::Several(runs) => {
                let (job, runs) = (&self.job, runs.join("`, `"));
                Error::user("CL0032", format!("several jobs `{job}` run: `{runs}`"))
            }
        })
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Unclear {
    Missing,
    Several(Vec<String>),
}

/// The run is unique, names need not be.
fn select<'a, T>(wanted: &str, all: &'a [T], names: impl Fn(&T) -> (&String, &String)) -> Result<&'a T, Unclear> {
    if let Some(found) = all.iter().find(|job| names(job).1 == wanted) {
        return Ok(found);
    }
    let named: Vec<&T> = all.iter().filter(|job| names(job).0 == wanted).collect();
    match named[..] {
        [] => Err(Unclear::Missing),
        [one] => Ok(one),
        _ => Err(Unclear::Several(named.iter().map(|job| names(job).1.clone()).collect())),
    }
}

/// What a job has said; an error if it refused or is gone.
pub fn answered<T>(running: &RunningJob, answer: Result<T, Failure>) -> Result<T> {
    let context = |error: Error| error.context(format!("job `{}`", running.job.name));
    answer.map_err(|failure| match failure {
        Failure::Said(problem) => context(to_error(&problem)),
        Failure::Error(error) => context(error),
    })
}

/// Waits for the end of what a job was asked; an error if it came to nothing.
pub fn wait(running: &RunningJob, asked: Result<Operation, Failure>) -> Result<Operation> {
    let context = |error: Error| error.context(format!("job `{}`", running.job.name));
    let operation = answered(running, asked.and_then(|operation| running.wait(operation)))?;
    match &operation.error {
        Some(problem) => Err(context(to_error(problem))),
        None => Ok(operation),
    }
}

/// The error that a job reported. One whose code this `jobctl` does not know is a job's of another version.
fn to_error(problem: &Problem) -> Error {
    let known = pack::error_pages().find(|(code, _)| *code == problem.code);
    match known {
        Some((code, _)) => problem.to_error(code),
        None => Error::external("CL0033", format!("{}: {}", problem.code, problem.message)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_found_by_name_or_run() {
        let all = [("a", "1"), ("b", "2"), ("b", "3"), ("2", "4")].map(|(name, run)| (name.to_owned(), run.to_owned()));
        let find = |wanted| select(wanted, &all, |(name, run)| (name, run)).map(|(_, run)| run.as_str());
        assert_eq!(find("a"), Ok("1"));
        assert_eq!(find("3"), Ok("3"));
        assert_eq!(find("2"), Ok("2"), "a run goes before a name");
        assert_eq!(find("c"), Err(Unclear::Missing));
        assert_eq!(find("b"), Err(Unclear::Several(vec!["2".to_owned(), "3".to_owned()])));
    }
}
