//! `jobctl run`.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use millrace_core::graph::{Graph, OperatorKind, Origin};
use millrace_core::{Error, Result};
use millrace_engine::{
    ApiOptions, End, Job, JobOptions, Limits, Loaded, LogLevel, Report, STDOUT_CLOSED, StateBackend,
};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::savepoint;
use crate::data_dir::DataDir;
use crate::graph_view::View;
use crate::output::{Format, Printer};
use crate::progress::{Mode, Progress};
use crate::snapshot::Snapshots;
use crate::{cache, files, params, run_report};

/// Run a pipeline on this machine
///
/// The engine runs inside this process: one thread per slot, no cluster. Progress and the summary go to
/// standard error. Ctrl-C stops the sources, lets the rows under way reach the sinks and commits them;
/// windows that are still open do not fire. A second Ctrl-C ends the process at once. `jobctl list`, `savepoint`,
/// `stop` and `cancel` find the job while it runs, by a socket in its data folder.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pipeline: a wasm component, as made by `jobctl build`
    #[arg(value_name = "PIPELINE.wasm")]
    pipeline: PathBuf,

    /// Set a parameter of the pipeline
    #[arg(long = "param", short = 'p', value_name = "NAME=VALUE", value_parser = params::parse)]
    params: Vec<(String, String)>,

    /// Subtasks of each operator that does not set its own
    #[arg(long, value_name = "N", default_value_t = 1)]
    parallelism: u32,

    /// Show only the summary
    #[arg(long, short)]
    quiet: bool,

    /// Most rows in a block, for each subtask that gets a part of it
    #[arg(long, value_name = "ROWS", default_value_t = JobOptions::default().block_rows as u32, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    block_rows: u32,

    /// Most rows that each source reads in a second, all its subtasks together
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u64).range(1..))]
    source_rate: Option<u64>,

    /// Memory of each sandboxed instance, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=4096))]
    memory_limit: u32,

    /// Longest that one call into user code may take
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration)]
    call_timeout: Duration,

    /// Allow HTTP requests to an origin such as `https://api.example.org`, or `https://*.example.org` for all hosts below
    /// a domain
    #[arg(long = "allow-http", value_name = "ORIGIN", value_parser = params::parse_origin)]
    allow_http: Vec<Origin>,

    /// Seed of the random numbers that user code gets
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,

    #[command(flatten)]
    state: super::state_args::StateArgs,

    #[command(flatten)]
    data_dir: DataDir,

    /// Folder or URL for savepoints whose place nobody says [default: savepoints in the data folder]
    #[arg(long, value_name = "URL")]
    savepoint_dir: Option<String>,

    #[command(flatten)]
    checkpoints: super::checkpoint_args::CheckpointArgs,
}

/// Exit code of a job that was cancelled.
const CANCELLED: u8 = 5;

/// Time between two looks at a running job.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Log lines that wait to be printed; a job that logs faster loses lines rather than time.
const LOG_LINES_WAITING_MAX: usize = 1_000;

/// Carries out the command.
pub fn run(args: &Args, printer: &Printer) -> Result<ExitCode> {
    let bytes = files::read(&args.pipeline)?;
    let (log, log_lines) = Log::new();
    let context = |error: Error| error.context(format!("{}", args.pipeline.display()));
    // Removed after the job has ended.
    let (backend, _state) = args.state.open()?;
    let options = options(args, log, backend)?;
    let loaded = Loaded::new(&bytes, options).map_err(context)?;
    let prepared = loaded.prepare(&args.params).map_err(context)?;
    let name = prepared.graph().name.clone();
    View::new(prepared.graph()).warn(printer);
    let operators = prepared.graph().operators.iter();
    let operators = operators.map(|operator| operator.name.clone()).collect::<Vec<_>>();
    let writes_stdout = writes_stdout(prepared.graph());
    let mode = if args.quiet {
        Mode::Quiet
    } else {
        Mode::detect(writes_stdout)
    };
    let stop = stop_on_signals()?;
    let job = prepared.start()?;
    let mut progress = Progress::new(&name, mode);
    let mut snapshots = Snapshots::default();
    watch(&job, &stop, &log_lines, &mut progress, &mut snapshots);
    let result = job.wait();
    log_lines.print(&mut progress);
    match result {
        Ok(report) => {
            progress.finish(&Snapshots::whole(&report));
            say_end(&name, &report, printer);
            finish(&report, &operators, writes_stdout, printer)?;
            Ok(match report.end {
                End::Cancelled => ExitCode::from(CANCELLED),
                End::Finished | End::Stopped | End::Drained => ExitCode::SUCCESS,
            })
        }
        // The reader of our output has seen enough, as with `| head`.
        Err(error) if error.code() == STDOUT_CLOSED => {
            progress.clear();
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            progress.clear();
            Err(error.context(format!("job `{name}`")))
        }
    }
}

/// An end that not everybody may have expected.
fn say_end(name: &str, report: &Report, printer: &Printer) {
    let what = match report.end {
        End::Finished => return,
        End::Stopped => "stopped",
        End::Drained => "drained and stopped",
        End::Cancelled => "cancelled: what no checkpoint holds is not committed",
    };
    printer.note(&format!("job `{name}` was {what}"));
    if let Some(savepoint) = &report.savepoint {
        printer.note(&format!("savepoint `{}`", savepoint.url));
    }
}

/// Where the job can be found. Without a folder for it the job runs all the same, unless somebody named one.
fn api(args: &Args) -> Result<Option<ApiOptions>> {
    let data_dir = match args.data_dir.folder() {
        Ok(folder) => folder,
        Err(_) if !args.data_dir.is_named() => return Ok(None),
        Err(error) => return Err(error),
    };
    let savepoint_dir = match &args.savepoint_dir {
        Some(named) => savepoint::absolute(named)?,
        None => data_dir.join("savepoints").to_string_lossy().into_owned(),
    };
    Ok(Some(ApiOptions {
        data_dir,
        required: args.data_dir.is_named(),
        savepoint_dir,
        remedy: crate::error::remedy,
    }))
}

fn options(args: &Args, log: Log, backend: StateBackend) -> Result<JobOptions> {
    let limits = Limits {
        memory_bytes: args.memory_limit as usize * (1 << 20),
        call_deadline: args.call_timeout,
        ..Limits::default()
    };
    Ok(JobOptions {
        parallelism: args.parallelism,
        block_rows: args.block_rows as usize,
        source_rate: args.source_rate,
        limits,
        cache: Some(cache::folder()?.join("code")),
        log: Arc::new(move |level, message| log.take(level, message)),
        quiet: args.quiet,
        seed: args.seed,
        backend,
        checkpoints: args.checkpoints.options()?,
        from: args.checkpoints.from()?,
        on_trap: args.checkpoints.on_trap()?,
        allow_http: args.allow_http.clone(),
        api: api(args)?,
    })
}

/// Where log lines of user code come in.
struct Log {
    lines: SyncSender<String>,
    dropped: Arc<AtomicU64>,
}

/// Log lines that wait to be printed.
struct LogLines {
    lines: Receiver<String>,
    dropped: Arc<AtomicU64>,
}

impl Log {
    fn new() -> (Log, LogLines) {
        let (sender, lines) = sync_channel(LOG_LINES_WAITING_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let log = Log {
            lines: sender,
            dropped: dropped.clone(),
        };
        (log, LogLines { lines, dropped })
    }

    fn take(&self, level: LogLevel, message: &str) {
        // A full channel means that lines come faster than a terminal takes them.
        if self
            .lines
            .try_send(format!("{:5} {message}", level_name(level)))
            .is_err()
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl LogLines {
    fn print(&self, progress: &mut Progress) {
        for line in self.lines.try_iter() {
            progress.message(&line);
        }
        match self.dropped.swap(0, Ordering::Relaxed) {
            0 => {}
            dropped => progress.message(&format!("warn  {dropped} log lines came too fast and were dropped")),
        }
    }
}

fn level_name(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Trace => "trace",
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
    }
}

fn writes_stdout(graph: &Graph) -> bool {
    graph.operators.iter().any(|operator| match &operator.kind {
        OperatorKind::Sink { connector } => connector.kind == "stdout",
        OperatorKind::Source { .. }
        | OperatorKind::Watermarks(_)
        | OperatorKind::Requests(_)
        | OperatorKind::Lookup(_)
        | OperatorKind::Function { .. } => false,
    })
}

/// A flag that the first signal sets; a second signal ends the process.
fn stop_on_signals() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // Registered first, so that it looks at the flag before the same signal sets it.
        let registered = signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, stop.clone())
            .and_then(|_| signal_hook::flag::register(signal, stop.clone()));
        registered.map_err(|error| Error::external("CL0020", format!("signals cannot be handled: {error}")))?;
    }
    Ok(stop)
}

fn watch(job: &Job, stop: &AtomicBool, log_lines: &LogLines, progress: &mut Progress, snapshots: &mut Snapshots) {
    let mut stopped = false;
    while !job.is_finished() {
        if stop.load(Ordering::SeqCst) && !stopped {
            stopped = true;
            progress.message("stopping: sources end, rows under way are written; once more to end at once");
            job.stop();
        }
        log_lines.print(progress);
        progress.update(&snapshots.take(job));
        job.wait_timeout(POLL_INTERVAL);
    }
}

/// The report: JSON on stdout unless the job's own rows are there; for people on stderr, like all progress.
fn finish(report: &Report, operators: &[String], writes_stdout: bool, printer: &Printer) -> Result<()> {
    let text = run_report::text(report, operators);
    match printer.format() {
        Format::Table => {
            if !text.is_empty() {
                printer.note(text.trim_end());
            }
            Ok(())
        }
        Format::Json if writes_stdout => {
            let line = serde_json::to_string(&run_report::json(report)).expect("reports have text keys only");
            // Nobody is left to tell if stderr is gone.
            let _ = writeln!(std::io::stderr(), "{line}");
            Ok(())
        }
        Format::Json => printer.data(&run_report::json(report), |_| String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_find_no_room_are_counted() {
        let (log, lines) = Log::new();
        for _ in 0..LOG_LINES_WAITING_MAX + 7 {
            log.take(LogLevel::Info, "x");
        }
        assert_eq!(lines.dropped.load(Ordering::Relaxed), 7);
        assert_eq!(lines.lines.try_iter().count(), LOG_LINES_WAITING_MAX);
    }
}
