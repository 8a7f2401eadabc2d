//! An engine from start to drain: config, sockets, workers, signals.
//!
//! One thread per worker with a single-threaded runtime of its own, one thread for control (socket, clock tick,
//! signals). A worker shares nothing that is written while it serves, but its own counters.

use crate::clock;
use crate::control;
use crate::count::WorkerCounts;
use crate::document::AccessDocument;
use crate::error::{EngineError, Refusal};
use crate::listen::{Listeners, Sockets, bind_all};
use crate::metrics::MetricsText;
use crate::purge::{PurgeOrder, Purged};
use crate::store::Store;
use crate::table::{Served, Service, check_path_name};
use arc_swap::ArcSwap;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::Deserialize;
use std::any::Any;
use std::fs::{self, File};
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;
use tokio::sync::watch;

pub const CONFIG_FORMAT: &str = "polycdn/engine/1";

/// How long a drain may take before the process ends anyway.
pub const DRAIN_MAX: Duration = Duration::from_secs(30);

/// How long the control thread may take to end once all workers have.
const LAST_WORD_MAX: Duration = Duration::from_secs(1);

const WORKERS_MAX: usize = 256;

/// What distinguishes an edge from a nameserver.
pub trait Role: Send + Sync + Sized + 'static {
    /// `edge` or `dns`, as `hello` tells it.
    const WORD: &'static str;
    /// What the role needs of one service beyond its table (certificates, precompiled answers).
    type Prepared: Send + Sync + 'static;
    /// What a worker looks up in, made of all services at once.
    type Table: Send + Sync + 'static;

    /// The role of an engine with this config, before anything is loaded.
    fn new(config: &EngineConfig) -> Result<Self, EngineError>;

    /// Refuses a service that this role could not serve; may read the files that the settings name.
    fn prepare(&self, service: &Arc<Service>) -> Result<Self::Prepared, Refusal>;

    /// Whether files that were read for a service have changed since.
    fn is_outdated(&self, prepared: &Self::Prepared) -> bool {
        let _ = prepared;
        false
    }

    /// The table of exactly these services, sorted by name.
    fn table(&self, served: &[Served<Self::Prepared>]) -> Self::Table;

    /// Serves on the worker's sockets until `Worker::draining` and all that was under way is finished.
    fn work(worker: Worker<Self>) -> impl Future<Output = Result<(), EngineError>>;

    /// What the role itself can tell of its work, for `/metrics`.
    fn tell(&self, counts: &[Arc<WorkerCounts>], text: &mut MetricsText) {
        let _ = (counts, text);
    }

    /// Forgets what was kept; refused by a role that keeps nothing.
    fn purge(&self, served: &[Served<Self::Prepared>], order: &PurgeOrder) -> Result<Purged, Refusal> {
        let _ = (served, order);
        Err(Refusal::never("this engine keeps nothing that could be purged"))
    }
}

/// Start config, as `docs/engine-protocol.md` has it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct EngineConfig {
    pub format: String,
    pub engine: String,
    pub state_dir: PathBuf,
    pub socket: PathBuf,
    #[serde(default = "one")]
    pub workers: usize,
    #[serde(default)]
    pub http: Vec<SocketAddr>,
    #[serde(default)]
    pub https: Vec<SocketAddr>,
    #[serde(default)]
    pub dns: Vec<SocketAddr>,
    #[serde(default)]
    pub prefer_good: bool,
    /// End with an error if a plan cannot be loaded at start, instead of serving the others.
    #[serde(default)]
    pub must_load: bool,
    /// The memory tier of the edge's cache, all services together.
    #[serde(default = "memory_bytes")]
    pub memory_bytes: u64,
    #[serde(default)]
    pub disk: Option<DiskConfig>,
    #[serde(default)]
    pub admin: Option<SocketAddr>,
    /// Holds the secret that purging needs; without it nobody can.
    #[serde(default)]
    pub admin_token_file: Option<PathBuf>,
    /// Which clients may connect to the edge at all.
    #[serde(default)]
    pub access: Option<AccessDocument>,
}

/// The disk tier of the edge's cache.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct DiskConfig {
    pub folder: PathBuf,
    pub bytes: u64,
}

fn one() -> usize {
    1
}

fn memory_bytes() -> u64 {
    256_000_000
}

/// What all threads of an engine share.
pub struct Engine<R: Role> {
    pub role: Arc<R>,
    pub config: EngineConfig,
    pub table: ArcSwap<R::Table>,
    /// When it started, UTC.
    pub began_ms: u64,
    stage: watch::Sender<Stage>,
}

/// The life of an engine; it only goes forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Serving,
    Draining,
    Stopped,
}

impl<R: Role> Engine<R> {
    pub fn is_serving(&self) -> bool {
        *self.stage.borrow() == Stage::Serving
    }

    /// Goes on to a later stage, and tells whether it was later: an earlier one changes nothing.
    pub fn advance(&self, stage: Stage) -> bool {
        self.stage.send_if_modified(|current| {
            let is_later = stage > *current;
            *current = stage.max(*current);
            is_later
        })
    }

    /// Returns once this stage, or a later one, is reached.
    pub async fn reached(&self, stage: Stage) {
        // The sender lives as long as `self`: waiting cannot fail.
        let _ = self.stage.subscribe().wait_for(|current| *current >= stage).await;
    }
}

/// One worker's own things; a role's `work` gets it.
pub struct Worker<R: Role> {
    pub index: usize,
    pub engine: Arc<Engine<R>>,
    pub counts: Arc<WorkerCounts>,
    pub sockets: Sockets,
}

impl<R: Role> Worker<R> {
    /// Returns once the engine is to accept nothing new.
    pub async fn draining(&self) {
        self.engine.reached(Stage::Draining).await;
    }
}

/// Runs an engine until it is told to drain, and returns the exit code.
pub fn run<R: Role>(config: &[u8]) -> Result<i32, EngineError> {
    let config = parse_config(config, R::WORD)?;
    let folder = config.state_dir.join("engines").join(&config.engine);
    fs::create_dir_all(&folder).map_err(|error| EngineError::system(folder.display(), error))?;
    let lock = lock_folder(&folder)?;
    let role = Arc::new(R::new(&config)?);
    let mut store = Store::new(folder, Arc::clone(&role));
    store.load_all(config.prefer_good)?;
    if let (true, Some(error)) = (config.must_load, store.errors().first()) {
        return Err(EngineError::Config(error.error.clone()));
    }
    let (sockets, admin, listeners) = bind_all(&config)?;
    let engine = Arc::new(Engine {
        table: ArcSwap::from_pointee(role.table(&store.served())),
        role,
        stage: watch::Sender::new(Stage::Serving),
        began_ms: clock::now_ms(),
        config,
    });
    let result = run_threads(&engine, store, sockets, (admin, listeners));
    drop(lock);
    result
}

fn run_threads<R: Role>(
    engine: &Arc<Engine<R>>,
    store: Store<R>,
    sockets: Vec<Sockets>,
    (admin, listeners): (Option<TcpListener>, Listeners),
) -> Result<i32, EngineError> {
    let counts: Vec<Arc<WorkerCounts>> = sockets.iter().map(|_| Arc::default()).collect();
    let socket = control::bind(&engine.config.socket)?;
    let (done, endings) = mpsc::channel();
    let control = control::Control::new(Arc::clone(engine), store, counts.clone(), listeners);
    let (ready, is_ready) = mpsc::channel();
    spawn("control".to_owned(), Ending::Control, &done, move || control.serve(socket, admin, ready))?;
    // Nobody is served before signals are heard: whoever sees an answer may send one. When the thread ended instead, its
    // error comes first below.
    let _ = is_ready.recv();
    for (index, (sockets, counts)) in sockets.into_iter().zip(&counts).enumerate() {
        let worker = Worker { index, engine: Arc::clone(engine), counts: Arc::clone(counts), sockets };
        spawn(format!("worker-{index}"), Ending::Worker, &done, move || R::work(worker))?;
    }
    drop(done);
    let result = wait_for_the_end(engine, &endings, counts.len());
    control::unbind(&engine.config.socket);
    result.map(|()| 0)
}

/// Which kind of thread ended, and how.
enum Ending {
    Worker(Result<(), EngineError>),
    Control(Result<(), EngineError>),
}

/// A thread with a runtime of its own; a panic inside becomes an error like any other.
fn spawn<F, W>(
    name: String,
    ending: fn(Result<(), EngineError>) -> Ending,
    done: &mpsc::Sender<Ending>,
    work: W,
) -> Result<(), EngineError>
where
    F: Future<Output = Result<(), EngineError>>,
    W: FnOnce() -> F + Send + 'static,
{
    let done = done.clone();
    let thread_name = name.clone();
    let body = move || {
        let result = catch_unwind(AssertUnwindSafe(|| block_on(work)));
        let result =
            result.unwrap_or_else(|panic| Err(EngineError::Bug(format!("{name}: {}", panic_text(&*panic)))));
        // Nobody listens any more when the drain took too long.
        let _ = done.send(ending(result));
    };
    let spawned = thread::Builder::new().name(format!("polycdn-{thread_name}")).spawn(body);
    spawned.map(|_| ()).map_err(|error| EngineError::system("starting a thread", error))
}

fn block_on<F, W>(work: W) -> Result<(), EngineError>
where
    F: Future<Output = Result<(), EngineError>>,
    W: FnOnce() -> F,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| EngineError::system("starting a runtime", error))?;
    tokio::task::LocalSet::new().block_on(&runtime, work())
}

/// The text of a panic, for a report.
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panicked")
}

/// Waits until all workers ended, or the control thread says that the drain took too long. The first error drains
/// the rest and is what comes back.
fn wait_for_the_end<R: Role>(
    engine: &Engine<R>,
    endings: &mpsc::Receiver<Ending>,
    workers: usize,
) -> Result<(), EngineError> {
    let mut first_error = None;
    let mut working = workers;
    while working > 0 {
        let result = match endings.recv() {
            Ok(Ending::Worker(result)) => {
                working -= 1;
                result
            }
            Ok(Ending::Control(Ok(()))) => return first_error.map_or(Ok(()), Err),
            Ok(Ending::Control(Err(error))) => {
                drain_without_control(engine, endings, working);
                return Err(first_error.unwrap_or(error));
            }
            Err(_) => break,
        };
        first_error = first_error.or(result.err());
        engine.advance(Stage::Draining);
    }
    engine.advance(Stage::Stopped);
    // The word `drain` gets its answer before the process ends.
    let _ = endings.recv_timeout(LAST_WORD_MAX);
    first_error.map_or(Ok(()), Err)
}

/// Nobody is left who could say when the drain took too long.
fn drain_without_control<R: Role>(engine: &Engine<R>, endings: &mpsc::Receiver<Ending>, working: usize) {
    engine.advance(Stage::Draining);
    for _ in 0..working {
        if endings.recv_timeout(DRAIN_MAX).is_err() {
            return;
        }
    }
}

fn parse_config(bytes: &[u8], role: &str) -> Result<EngineConfig, EngineError> {
    let config: EngineConfig =
        serde_json::from_slice(bytes).map_err(|error| EngineError::Config(error.to_string()))?;
    let wrong = |text: String| Err(EngineError::Config(text));
    if config.format != CONFIG_FORMAT {
        return wrong(format!("format {:?} is not known here; known: {CONFIG_FORMAT:?}", config.format));
    }
    check_path_name("engine", &config.engine).map_err(|error| EngineError::Config(error.message))?;
    if !(1..=WORKERS_MAX).contains(&config.workers) {
        return wrong(format!("workers: {}; allowed: 1 to {WORKERS_MAX}", config.workers));
    }
    let (web, dns) = (config.http.len() + config.https.len(), config.dns.len());
    let (wanted, unwanted, names) = match role {
        "dns" => (dns, web, ("dns", "http and https")),
        _ => (web, dns, ("http or https", "dns")),
    };
    if wanted == 0 {
        return wrong(format!("{role}: no address to listen on; name one in {}", names.0));
    }
    if unwanted != 0 {
        return wrong(format!("{role}: this engine does not listen on {}", names.1));
    }
    Ok(config)
}

/// Keeps a second engine of the same name away; the kernel lets go of it however this process ends.
fn lock_folder(folder: &Path) -> Result<File, EngineError> {
    let path = folder.join("lock");
    let file = File::create(&path).map_err(|error| EngineError::system(path.display(), error))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => {
            Err(EngineError::System(format!("another engine runs on {}", folder.display())))
        }
        Err(error) => Err(EngineError::system(path.display(), error)),
    }
}
