//! The engine, shared by all instances of a process, and compiled pipelines.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use millrace_core::graph::Parameter;
use millrace_core::{Error, Result};
use wasmtime::Engine;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, HasSelf, Linker};

use crate::bindings::{self, PipelinePre};
use crate::component_cache;
use crate::host_state::{HostState, LogSink};
use crate::instance::Instance;
use crate::limits::{EPOCH_TICK, Limits, engine_config};

/// Name and version of the contract that this host speaks.
const PACKAGE: &str = "millrace:pipeline/";
const VERSION: &str = "@0.1.0";

/// wasmtime's engine with our configuration, an epoch that advances, and the code cache. Cheap to clone.
#[derive(Clone)]
pub struct Runtime {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    linker: Linker<HostState>,
    limits: Limits,
    cache: Option<PathBuf>,
    stopped: Arc<AtomicBool>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

impl Runtime {
    /// Starts an engine. `cache`: folder for compiled code; without one each start compiles.
    pub fn new(limits: Limits, cache: Option<PathBuf>) -> Result<Self> {
        let engine = Engine::new(&engine_config(&limits, true))
            .or_else(|_| Engine::new(&engine_config(&limits, false)))
            .map_err(|error| Error::internal(format!("the wasm engine does not start: {error:#}")))?;
        let mut linker = Linker::new(&engine);
        bindings::Pipeline::add_to_linker::<_, HasSelf<HostState>>(&mut linker, |state| state)
            .map_err(|error| Error::internal(format!("imports cannot be linked: {error:#}")))?;
        let stopped = Arc::new(AtomicBool::new(false));
        start_epochs(engine.clone(), stopped.clone())?;
        Ok(Runtime {
            inner: Arc::new(Inner {
                engine,
                linker,
                limits,
                cache,
                stopped,
            }),
        })
    }

    /// The limits of each instance.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    /// Compiles a component, or takes its code from the cache, and checks that it is a pipeline of this
    /// version that asks for nothing else.
    pub fn load(&self, bytes: &[u8]) -> Result<Pipeline> {
        check_preamble(bytes)?;
        let hash = component_cache::content_hash(bytes);
        let component = component_cache::load_or_compile(self.engine(), self.inner.cache.as_deref(), bytes, &hash)
            .map_err(|error| Error::user("WM0001", format!("it is not a valid component: {error:#}")))?;
        let imports = check_world(self.engine(), &component)?;
        let instance = self.inner.linker.instantiate_pre(&component).and_then(PipelinePre::new);
        let instance = instance.map_err(|error| {
            Error::user(
                "WM0003",
                format!("it does not fit {PACKAGE}*{VERSION}: {error:#}; build it with a matching SDK"),
            )
        })?;
        Ok(Pipeline {
            runtime: self.clone(),
            instance,
            hash,
            imports,
        })
    }
}

/// Advances the engine's epoch until the runtime is dropped; deadlines of calls are measured in it.
fn start_epochs(engine: Engine, stopped: Arc<AtomicBool>) -> Result<()> {
    let tick = move || {
        while !stopped.load(Ordering::Relaxed) {
            std::thread::sleep(EPOCH_TICK);
            engine.increment_epoch();
        }
    };
    std::thread::Builder::new()
        .name("wasm-epoch".into())
        .spawn(tick)
        .map(drop)
        .map_err(|error| Error::external("IO0002", format!("a thread cannot be started: {error}")))
}

/// The first eight bytes tell a component from a core module from anything else.
fn check_preamble(bytes: &[u8]) -> Result<()> {
    let problem = match bytes {
        [0, b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => return Ok(()),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => "it is a core wasm module, not a component; `jobctl build` wraps one",
        [0, b'a', b's', b'm', ..] => "it is wasm of an unknown version",
        [] => "the file is empty",
        _ => "it is not a wasm component",
    };
    Err(Error::user("WM0001", problem))
}

/// What a pipeline imports, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imports(pub Vec<String>);

fn check_world(engine: &Engine, component: &Component) -> Result<Imports> {
    let world = component.component_type();
    let exports: Vec<String> = world.exports(engine).map(|(name, _)| name.to_owned()).collect();
    for interface in ["dataflow", "operators"] {
        let expected = format!("{PACKAGE}{interface}{VERSION}");
        if exports.contains(&expected) {
            continue;
        }
        let unversioned = format!("{PACKAGE}{interface}@");
        if let Some(other) = exports.iter().find(|export| export.starts_with(&unversioned)) {
            let message =
                format!("it exports `{other}`, but this host speaks `{expected}`; build it with a matching SDK");
            return Err(Error::user("WM0003", message));
        }
        let message = format!("it is a component, but not a pipeline: it does not export `{expected}`");
        return Err(Error::user("WM0002", message));
    }
    let mut imports = Vec::new();
    for (name, item) in world.imports(engine) {
        if !name.starts_with(PACKAGE) {
            let message = format!(
                "it imports `{name}`; a pipeline gets nothing from outside but {PACKAGE}*{VERSION} (no WASI, no files, no network)"
            );
            return Err(Error::user("WM0004", message));
        }
        let functions = match &item.ty {
            ComponentItem::ComponentInstance(instance) => instance
                .exports(engine)
                .filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentFunc(_)))
                .map(|(function, _)| format!("{name}#{function}"))
                .collect::<Vec<_>>(),
            _ => vec![name.to_owned()],
        };
        imports.extend(functions);
    }
    Ok(Imports(imports))
}

/// A compiled pipeline. Cheap to clone; instances are made from it on the threads that use them.
#[derive(Clone)]
pub struct Pipeline {
    pub(crate) runtime: Runtime,
    pub(crate) instance: PipelinePre<HostState>,
    hash: String,
    imports: Imports,
}

impl Pipeline {
    /// SHA-256 of the component, in hexadecimal.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Functions that it imports.
    pub fn imports(&self) -> &Imports {
        &self.imports
    }

    /// A fresh sandboxed copy. `seed` feeds the guest's random numbers.
    pub fn instantiate(&self, seed: u64, log: LogSink) -> Result<Instance> {
        Instance::new(self, seed, log)
    }

    /// The parameters that the pipeline declares.
    pub fn parameters(&self, log: LogSink) -> Result<Vec<Parameter>> {
        self.instantiate(0, log)?.parameters()
    }
}
