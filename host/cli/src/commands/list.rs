//! `jobctl list`.

use std::time::Duration;

use millrace_core::Result;
use millrace_engine::rest::client::running_jobs;
use millrace_engine::rest::messages::{Job, Jobs};

use crate::data_dir::DataDir;
use crate::format;
use crate::output::{Align, Printer, Table};

/// List the jobs that run on this machine
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    data_dir: DataDir,
}

/// Carries out the command.
pub fn run(args: &Args, printer: &Printer) -> Result<()> {
    let running = running_jobs(&args.data_dir.folder()?)?;
    let jobs = running.into_iter().map(|running| running.job).collect();
    printer.data(&Jobs { jobs }, |jobs| text(&jobs.jobs))
}

fn text(jobs: &[Job]) -> String {
    if jobs.is_empty() {
        return "no job runs\n".to_owned();
    }
    let mut table = Table::new(&[
        ("job", Align::Left),
        ("run", Align::Left),
        ("state", Align::Left),
        ("started", Align::Left),
        ("uptime", Align::Right),
        ("parallelism", Align::Right),
        ("restarts", Align::Right),
        ("last checkpoint", Align::Left),
    ]);
    for job in jobs {
        let checkpoint = match &job.last_checkpoint {
            None => "-".to_owned(),
            Some(last) => {
                let (bytes, time) = (format::bytes(last.bytes), format::timestamp(last.completed_ms));
                format!("{} at {time}, {bytes}", last.id)
            }
        };
        table.row(vec![
            job.name.clone(),
            job.run.clone(),
            job.state.clone(),
            format::timestamp(job.started_ms / 1000 * 1000),
            format::elapsed(Duration::from_millis(job.uptime_ms)),
            job.parallelism.to_string(),
            job.restarts.to_string(),
            checkpoint,
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use millrace_engine::rest::messages::Checkpoint;

    use super::*;

    #[test]
    fn jobs_as_a_table() {
        assert_eq!(text(&[]), "no job runs\n");
        let job = Job {
            name: "clicks".into(),
            run: "20231114T221320.123Z-00c0ffee".into(),
            state: "running".into(),
            pid: 7,
            started_ms: 1_700_000_000_123,
            uptime_ms: 65_000,
            parallelism: 4,
            slots: 4,
            slot_sharing_groups: Vec::new(),
            restarts: 1,
            last_failure: None,
            checkpoint_dir: None,
            savepoint_dir: String::new(),
            last_checkpoint: Some(Checkpoint {
                id: 12,
                completed_ms: 1_700_000_060_000,
                duration_ms: 8,
                bytes: 2048,
            }),
        };
        let expect = "\
job     run                            state    started                uptime  parallelism  restarts  last checkpoint
clicks  20231114T221320.123Z-00c0ffee  running  2023-11-14 22:13:20  1:05 min            4         1  12 at 2023-11-14 22:14:20, 2.00 KiB
";
        assert_eq!(text(&[job]), expect);
    }
}
