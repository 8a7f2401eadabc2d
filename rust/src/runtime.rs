//! An engine from start to drain: config, sockets, workers, signals.
//!
//! One thread per worker with a single-threaded runtime of its own, one thread for control (socket, clock tick,
//! signals). A worker shares nothing that is written while it serves, but its own counters.

use crate::clock;
use crate::control;
use crate::control_socket;
use crate::count::WorkerCounts;
use crate::error::{EngineError, Refusal};
use crate::handover::{Inherited, Predecessor};
use crate::listen::{Bound, Sockets, bind_all};
use crate::metrics::MetricsText;
use crate::purge::{PurgeOrder, Purged};
use crate::start::parse_config;
pub use crate::start::{AccessLogConfig, DiskConfig, EngineConfig};
use crate::store::Store;
use crate::table::{Served, Service};
use arc_swap::ArcSwap;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::any::Any;
use std::fs::{self, File};
use std::future::Future;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;
use tokio::sync::watch;

/// What an idle connection gets of a drain, at most: time in which a request that is on its way arrives, and is answered
/// as the last.
const LAST_REQUEST_MAX: Duration = Duration::from_secs(2);

/// How long after a hand-over a client of DNS over TCP may go on with its connection.
const LAST_QUERIES: Duration = Duration::from_secs(20);

/// How long the control thread may take to end once all workers have.
const LAST_WORD_MAX: Duration = Duration::from_secs(1);

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

    /// Takes what only one process may have at a time; the process before has let go of it by now.
    fn open(&self, config: &EngineConfig) -> Result<(), EngineError> {
        let _ = config;
        Ok(())
    }

    /// Lets go of what only one process may have at a time, for the process that takes over.
    fn let_go(&self) -> impl Future<Output = ()> {
        std::future::ready(())
    }

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

    /// Opens files anew that were perhaps moved away.
    fn reopen(&self) {}

    /// Forgets what was kept; refused by a role that keeps nothing.
    fn purge(&self, served: &[Served<Self::Prepared>], order: &PurgeOrder) -> Result<Purged, Refusal> {
        let _ = (served, order);
        Err(Refusal::never("this engine keeps nothing that could be purged"))
    }
}

/// What all threads of an engine share.
pub struct Engine<R: Role> {
    pub role: Arc<R>,
    pub config: EngineConfig,
    pub table: ArcSwap<R::Table>,
    /// When it started, UTC.
    pub began_ms: u64,
    stage: watch::Sender<Stage>,
    /// Of the engine's folder; None once another process has it.
    lock: Mutex<Option<File>>,
}

/// The life of an engine; it only goes forward.
///
/// | stage | new connections | idle connections | what is under way |
/// |---|---|---|---|
/// | serving | taken | kept | goes on |
/// | handed over | left to the process that took over | kept as ever, for one last request | goes on for `handover_drain_s` |
/// | draining | those that came before | kept for `last_request`, for one last request | goes on for `drain_s` |
/// | leaving | none | closed | the same |
/// | stopped | - | - | - |
///
/// A server cannot close an idle connection without the risk that a request is on its way on it (RFC 9112 §9.5). So where
/// there is time, as after a hand-over, it is the next answer that says that the connection closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Serving,
    HandedOver,
    Draining,
    Leaving,
    Stopped,
}

impl<R: Role> Engine<R> {
    pub fn is_serving(&self) -> bool {
        self.stage() == Stage::Serving
    }

    pub fn stage(&self) -> Stage {
        *self.stage.borrow()
    }

    /// Returns when what is under way has taken as long as it may.
    pub async fn overdue(&self) {
        self.reached(Stage::HandedOver).await;
        tokio::select! {
            biased;
            () = self.reached(Stage::Draining) => tokio::time::sleep(self.drain_max()).await,
            () = tokio::time::sleep(Duration::from_secs(self.config.handover_drain_s)) => {}
        }
    }

    fn drain_max(&self) -> Duration {
        Duration::from_secs(self.config.drain_s)
    }

    /// What a drain leaves to connections on which nothing is under way.
    pub fn last_request(&self) -> Duration {
        LAST_REQUEST_MAX.min(self.drain_max() / 2)
    }

    /// A second descriptor of the folder's lock; None if it is another's by now.
    pub fn lock(&self) -> Option<File> {
        let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        lock.as_ref().and_then(|file| file.try_clone().ok())
    }

    /// Leaves the folder's lock to whoever has another descriptor of it.
    pub fn drop_lock(&self) {
        *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = None;
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
        self.engine.reached(Stage::HandedOver).await;
    }

    /// Returns once connections are to be closed between two queries, by a protocol whose clients expect that.
    pub async fn closing_idle(&self) {
        self.draining().await;
        tokio::select! {
            () = self.engine.reached(Stage::Leaving) => {}
            () = tokio::time::sleep(LAST_QUERIES) => {}
        }
    }
}

/// Runs an engine until it is told to drain, and returns the exit code.
pub fn run<R: Role>(config: &[u8]) -> Result<i32, EngineError> {
    let config = parse_config(config, R::WORD)?;
    let folder = config.state_dir.join("engines").join(&config.engine);
    fs::create_dir_all(&folder).map_err(|error| EngineError::system(folder.display(), error))?;
    let asked = config.take_over.as_deref().map(Predecessor::ask).transpose()?.flatten();
    let (predecessor, mut inherited) =
        asked.map_or((None, Inherited::default()), |(old, its)| (Some(old), its));
    let lock = lock_folder(&folder, inherited.take_lock())?;
    let role = Arc::new(R::new(&config)?);
    if predecessor.is_none() {
        role.open(&config)?;
    }
    let mut store = Store::new(folder, Arc::clone(&role));
    store.load_all(config.prefer_good)?;
    if let (true, Some(error)) = (config.must_load, store.errors().first()) {
        return Err(EngineError::Config(error.error.clone()));
    }
    let bound = bind_all(&config, inherited)?;
    let engine = Arc::new(Engine {
        table: ArcSwap::from_pointee(role.table(&store.served())),
        role,
        stage: watch::Sender::new(Stage::Serving),
        began_ms: clock::now_ms(),
        lock: Mutex::new(Some(lock)),
        config,
    });
    run_threads(&engine, store, bound, predecessor)
}

fn run_threads<R: Role>(
    engine: &Arc<Engine<R>>,
    store: Store<R>,
    bound: Bound,
    predecessor: Option<Predecessor>,
) -> Result<i32, EngineError> {
    let Bound { workers, admin, listeners, kept } = bound;
    let counts: Vec<Arc<WorkerCounts>> = workers.iter().map(|_| Arc::default()).collect();
    let socket = control_socket::bind(&engine.config.socket)?;
    if let Some(old) = &predecessor {
        // Until here, whatever failed left the old process serving.
        old.dismiss()?;
        engine.role.open(&engine.config).unwrap_or_else(|error| eprintln!("polycdn: {error}"));
    }
    let socket = socket.show()?;
    let (done, endings) = mpsc::channel();
    let control =
        control::Control::new(Arc::clone(engine), store, counts.clone(), (listeners, kept, predecessor));
    let (ready, is_ready) = mpsc::channel();
    spawn("control".to_owned(), Ending::Control, &done, move || control.serve(socket, admin, ready))?;
    // Nobody is served before signals are heard: whoever sees an answer may send one. When the thread ended instead, its
    // error comes first below.
    let _ = is_ready.recv();
    for (index, (sockets, counts)) in workers.into_iter().zip(&counts).enumerate() {
        let worker = Worker { index, engine: Arc::clone(engine), counts: Arc::clone(counts), sockets };
        spawn(format!("worker-{index}"), Ending::Worker, &done, move || R::work(worker))?;
    }
    drop(done);
    let result = wait_for_the_end(engine, &endings, counts.len());
    if engine.lock().is_some() {
        control_socket::unbind(&engine.config.socket);
    }
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
                // After a hand-over one may have nothing left to do while clients of another still have.
                if result.is_ok() && engine.stage() >= Stage::HandedOver {
                    continue;
                }
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
    engine.advance(Stage::Leaving);
    for _ in 0..working {
        if endings.recv_timeout(engine.drain_max()).is_err() {
            return;
        }
    }
}

/// Keeps a second engine of the same name away; the kernel lets go of it however this process ends. A lock that was
/// handed over is held already.
fn lock_folder(folder: &Path, inherited: Option<File>) -> Result<File, EngineError> {
    let path = folder.join("lock");
    let file = File::create(&path).map_err(|error| EngineError::system(path.display(), error))?;
    if let Some(inherited) = inherited.filter(|inherited| is_same_file(inherited, &file)) {
        return Ok(inherited);
    }
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => {
            Err(EngineError::System(format!("another engine runs on {}", folder.display())))
        }
        Err(error) => Err(EngineError::system(path.display(), error)),
    }
}

fn is_same_file(one: &File, other: &File) -> bool {
    let place = |file: &File| file.metadata().map(|found| (found.dev(), found.ino())).ok();
    place(one).is_some_and(|found| Some(found) == place(other))
}
