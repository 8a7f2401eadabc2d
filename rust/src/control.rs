//! The control socket: one JSON object a line, each answered by one line, in order (docs/engine-protocol.md).
//!
//! A thread of its own, so that neither a slow reader nor a slow disk reaches a worker.

use crate::admin;
use crate::clock;
use crate::control_socket::{Connections, LINE_BYTES_MAX, accept};
use crate::count::{Ring, WorkerCounts};
use crate::error::{EngineError, Refusal};
use crate::handover::{BATCH, Batch, Handed, Label, Predecessor};
use crate::listen::Listeners;
use crate::metrics::{Kind, MetricsText};
use crate::purge::{PurgeOrder, Purged};
use crate::runtime::{Engine, Role, Stage, panic_text};
use crate::store::{Refresh, Store};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::cell::RefCell;
use std::io;
use std::net::TcpListener as StdTcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::AbortHandle;

pub const CONTROL_FORMAT: &str = "polycdn/control/1";

/// Left free in a line for what stands around the rows of `counts`.
const LINE_BYTES_SPARE: usize = 16 * 1024;
/// How often the stamps of certificate files are looked at.
const STAMPS_EVERY_S: u64 = 5;
/// A process that was given sockets has so long to take our place.
const HEIR_MS_MAX: u64 = 60_000;
/// What workers may take to end once the time is over.
const LAST_WORK: Duration = Duration::from_secs(4);
/// Seconds end a little before the tick, so that a tick never falls just before the end of one.
const TICK_DELAY: Duration = Duration::from_millis(5);

#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase", deny_unknown_fields)]
enum Word {
    Hello {},
    Apply { service: String },
    Good { service: String, generation: u64 },
    Remove { service: String },
    Status {},
    Counts { since_ms: u64 },
    Drain {},
    Handover { from: usize },
    Taken {},
    Purge { order: serde_json::Value },
}

/// Everything that the control thread owns.
pub struct Control<R: Role> {
    engine: Arc<Engine<R>>,
    store: Store<R>,
    ring: Ring,
    counts: Vec<Arc<WorkerCounts>>,
    listeners: Listeners,
    /// A descriptor of every socket, until they are handed over or closed.
    kept: Vec<Handed>,
    /// The connection whose process is about to take our place, and since when.
    heir: Option<(u64, u64)>,
    /// Whose place was taken here, while it still finishes what it has.
    predecessor: RefCell<Option<Predecessor>>,
    admin: Option<AbortHandle>,
    /// Since the start.
    seconds: u64,
    /// Whether the newest reload (or the start) had no error, and when it was.
    reload: (bool, u64),
}

impl<R: Role> Control<R> {
    pub fn new(
        engine: Arc<Engine<R>>,
        store: Store<R>,
        counts: Vec<Arc<WorkerCounts>>,
        (listeners, kept, predecessor): (Listeners, Vec<Handed>, Option<Predecessor>),
    ) -> Self {
        let reload = (store.errors().is_empty(), clock::now_ms());
        let ring = Ring::default();
        Self {
            engine,
            store,
            ring,
            counts,
            listeners,
            kept,
            heir: None,
            predecessor: RefCell::new(predecessor),
            admin: None,
            seconds: 0,
            reload,
        }
    }

    /// Says `ready` once signals are heard. Serves the socket, closes the seconds and hears signals until the engine has stopped.
    pub async fn serve(
        self,
        socket: StdUnixListener,
        admin: Option<StdTcpListener>,
        ready: mpsc::Sender<()>,
    ) -> Result<(), EngineError> {
        let failed = |error: io::Error| EngineError::system("control socket", error);
        let listener = UnixListener::from_std(socket).map_err(failed)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
        let _ = ready.send(());
        let engine = Arc::clone(&self.engine);
        let control = Rc::new(RefCell::new(self));
        if let Some(listener) = admin {
            let listener = TcpListener::from_std(listener).map_err(failed)?;
            let serving = tokio::task::spawn_local(admin::serve(Rc::clone(&control), listener));
            control.borrow_mut().admin = Some(serving.abort_handle());
        }
        let mut seconds = ticks();
        let connections = Rc::new(Connections::default());
        let overdue = engine.overdue();
        tokio::pin!(overdue);
        tokio::task::spawn_local(leave(Arc::clone(&engine)));
        loop {
            tokio::select! {
                () = engine.reached(Stage::Stopped) => return Ok(()),
                () = &mut overdue => break,
                // The second signal does not wait for what is under way.
                _ = terminate.recv() => if !control.borrow_mut().drain() { return Ok(()) },
                _ = interrupt.recv() => if !control.borrow_mut().drain() { return Ok(()) },
                _ = hangup.recv() => control.borrow_mut().reload(),
                _ = seconds.tick() => control.borrow_mut().close_second(),
                accepted = listener.accept() => accept(accepted, &control, &connections).await,
            }
        }
        engine.advance(Stage::Stopped);
        tokio::time::sleep(LAST_WORK).await;
        Ok(())
    }

    /// Begins to drain, and tells whether it had not begun before. Our own descriptors go first: the workers' must be the
    /// last, since they look into the queues once more.
    fn drain(&mut self) -> bool {
        self.kept.clear();
        self.engine.advance(Stage::Draining)
    }

    fn close_second(&mut self) {
        self.ring.close_second(clock::now_ms(), self.counts.iter().map(|counts| &**counts));
        self.seconds += 1;
        let now_ms = clock::now_ms();
        self.heir.take_if(|(_, since_ms)| now_ms.saturating_sub(*since_ms) > HEIR_MS_MAX);
        if self.seconds % STAMPS_EVERY_S == 0 && self.store.refresh(Refresh::Changed) {
            self.publish();
        }
    }

    /// Reads again all files that services in force name. One that is wrong now is reported, and its old content stays.
    fn reload(&mut self) {
        self.engine.role.reopen();
        if self.store.refresh(Refresh::All) {
            self.publish();
        }
        self.reload = (self.store.errors().is_empty(), clock::now_ms());
    }

    /// Why a load balancer should send nothing here; None if it should.
    pub fn unready(&self) -> Option<String> {
        if !self.engine.is_serving() {
            return Some("draining".to_owned());
        }
        self.store.served().is_empty().then(|| "no service is in force".to_owned())
    }

    pub fn admin_token_file(&self) -> Option<&Path> {
        self.engine.config.admin_token_file.as_deref()
    }

    /// Carries out an order as it came.
    pub fn purge(&self, order: &[u8]) -> Result<Purged, Refusal> {
        self.refuse_while_leaving()?;
        self.purge_everywhere(order)
    }

    /// Here, and in the process whose place was taken.
    fn purge_everywhere(&self, order: &[u8]) -> Result<Purged, Refusal> {
        let purged = self.engine.role.purge(&self.store.served(), &PurgeOrder::parse(order)?)?;
        self.predecessor.borrow_mut().take_if(|old| !old.purge(order));
        Ok(purged)
    }

    /// What is changed here now would be missing in the process that takes over.
    fn refuse_while_leaving(&self) -> Result<(), Refusal> {
        if self.heir.is_none() && self.engine.stage() == Stage::Serving {
            return Ok(());
        }
        Err(Refusal::later("another process takes over; say it again"))
    }

    /// The page of `/metrics`.
    pub fn metrics(&self) -> String {
        let mut text = MetricsText::default();
        let labels = [("version", env!("CARGO_PKG_VERSION")), ("role", R::WORD)];
        text.family("polycdn_build_info", Kind::Gauge, "The program.").sample(&labels, 1);
        text.family(
            "polycdn_config_last_reload_successful",
            Kind::Gauge,
            "Whether the last reload had no error.",
        )
        .sample(&[], u8::from(self.reload.0));
        text.family("polycdn_config_last_reload_success_timestamp_seconds", Kind::Gauge, "When it was.")
            .sample(&[], self.reload.1 / 1_000);
        text.family("polycdn_start_time_seconds", Kind::Gauge, "When the process started, UTC.")
            .sample(&[], self.engine.began_ms as f64 / 1_000.0);
        text.family("polycdn_draining", Kind::Gauge, "Whether it accepts nothing more.")
            .sample(&[], u8::from(!self.engine.is_serving()));
        let status = self.store.status(clock::now_ms());
        text.family("polycdn_plan_generation", Kind::Gauge, "Generation of the plan in force.");
        for one in &status {
            text.sample(&[("service", &one.service)], one.generation);
        }
        text.family("polycdn_decision_age_seconds", Kind::Gauge, "Since this engine took the plan in force.");
        for one in &status {
            text.sample(&[("service", &one.service)], one.age_ms / 1_000);
        }
        self.ring.totals.tell(R::WORD, &mut text);
        self.engine.role.tell(&self.counts, &mut text);
        text.into_text()
    }

    /// A connection is over. One that left before it took our place leaves everything as it was.
    pub fn left(&mut self, connection: u64) {
        self.heir.take_if(|(heir, _)| *heir == connection);
    }

    pub fn role(&self) -> Arc<R> {
        Arc::clone(&self.engine.role)
    }

    /// The answer to one line of a connection. An order that broke us is refused: it takes down nothing else.
    pub fn answer(&mut self, line: &[u8], connection: u64) -> Reply {
        let result = catch_unwind(AssertUnwindSafe(|| {
            let word = serde_json::from_slice(line);
            match word.map_err(|error| Refusal::never(format!("not a word known here: {error}")))? {
                Word::Handover { from } => self.hand_over(from, connection),
                Word::Taken {} => self.hand_over_all(connection),
                word => self.carry_out(word).map(Reply::of),
            }
        }));
        let result = result.unwrap_or_else(|panic| {
            Err(Refusal::never(format!("a mistake in polycdn: {}", panic_text(&*panic))))
        });
        result.unwrap_or_else(|refusal| Reply::of(refused(&refusal)))
    }

    /// Sockets from number `from` on, as many as go with one line; orders are refused until the connection ends.
    fn hand_over(&mut self, from: usize, connection: u64) -> Result<Reply, Refusal> {
        let is_anothers = self.heir.is_some_and(|(heir, _)| heir != connection);
        if is_anothers || self.engine.stage() != Stage::Serving {
            return Err(Refusal::later("another process takes over already, or this one ends"));
        }
        let lock = self.engine.lock().map(|lock| Handed::of_lock(lock.into()));
        let all: Vec<&Handed> = lock.iter().chain(&self.kept).collect();
        let wanted = all.get(from..all.len().min(from.saturating_add(BATCH))).unwrap_or_default();
        let fds = wanted.iter().map(|one| one.fd.try_clone()).collect::<io::Result<_>>();
        let fds = fds.map_err(|error| Refusal::later(error.to_string()))?;
        let sockets: Vec<Label> = wanted.iter().map(|one| one.label).collect();
        let more = from.saturating_add(wanted.len()) < all.len();
        self.heir = Some((connection, clock::now_ms()));
        Ok(Reply { fds, ..Reply::of(accepted(&Batch { sockets, more })?) })
    }

    /// Accepts nothing more; the process on this connection does from now on.
    fn hand_over_all(&mut self, connection: u64) -> Result<Reply, Refusal> {
        if self.heir.is_none_or(|(heir, _)| heir != connection) || self.engine.stage() != Stage::Serving {
            return Err(Refusal::never("no sockets were handed over on this connection, or too long ago"));
        }
        self.engine.advance(Stage::HandedOver);
        self.kept.clear();
        self.listeners.clear();
        self.engine.drop_lock();
        if let Some(admin) = self.admin.take() {
            admin.abort();
        }
        Ok(Reply { lets_go: true, ..Reply::of(accepted(&json!({}))?) })
    }

    fn carry_out(&mut self, word: Word) -> Result<String, Refusal> {
        if matches!(word, Word::Apply { .. } | Word::Good { .. } | Word::Remove { .. }) {
            self.refuse_while_leaving()?;
        }
        match word {
            Word::Hello {} => accepted(&self.hello()),
            Word::Apply { service } => {
                let applied = self.store.apply(&service)?;
                if applied.changed {
                    self.publish();
                }
                accepted(&applied)
            }
            Word::Good { service, generation } => {
                self.store.good(&service, generation)?;
                accepted(&json!({}))
            }
            Word::Remove { service } => {
                self.store.remove(&service)?;
                self.publish();
                accepted(&json!({}))
            }
            Word::Status {} => {
                let services = self.store.status(clock::now_ms());
                accepted(&json!({"services": services, "errors": self.store.errors()}))
            }
            Word::Counts { since_ms } => {
                let room = LINE_BYTES_MAX - LINE_BYTES_SPARE;
                Ok(format!("{{\"ok\":true,{}}}", self.ring.since(since_ms, room)))
            }
            Word::Drain {} => {
                self.drain();
                accepted(&json!({}))
            }
            Word::Purge { order } => accepted(&self.purge_everywhere(order.to_string().as_bytes())?),
            Word::Handover { .. } | Word::Taken {} => Err(Refusal::never("is answered elsewhere")),
        }
    }

    fn hello(&self) -> serde_json::Value {
        json!({
            "format": CONTROL_FORMAT,
            "engine": self.engine.config.engine,
            "role": R::WORD,
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "listeners": self.listeners,
        })
    }

    fn publish(&self) {
        self.engine.table.store(Arc::new(self.engine.role.table(&self.store.served())));
    }
}

/// What goes back for one line.
pub struct Reply {
    pub line: String,
    /// They go with the line's beginning.
    pub fds: Vec<OwnedFd>,
    /// Before it goes, the role lets go of what the other process wants.
    pub lets_go: bool,
}

impl Reply {
    fn of(line: String) -> Self {
        Self { line, fds: Vec::new(), lets_go: false }
    }
}

/// Closes what is idle a while after the drain began.
async fn leave<R: Role>(engine: Arc<Engine<R>>) {
    engine.reached(Stage::Draining).await;
    tokio::time::sleep(engine.last_request()).await;
    engine.advance(Stage::Leaving);
}

fn ticks() -> tokio::time::Interval {
    let first = tokio::time::Instant::from_std(
        clock::moment() + clock::until_next_second(clock::now_ms()) + TICK_DELAY,
    );
    let mut ticks = tokio::time::interval_at(first, Duration::from_secs(1));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    ticks
}

/// The fields of `answer` with `"ok": true` in front.
fn accepted(answer: &impl Serialize) -> Result<String, Refusal> {
    let fields = serde_json::to_string(answer).map_err(|error| Refusal::never(error.to_string()))?;
    let fields = fields.strip_prefix('{').unwrap_or(&fields);
    let comma = if fields == "}" { "" } else { "," };
    Ok(format!("{{\"ok\":true{comma}{fields}"))
}

/// A refusal as a line.
pub fn refused(refusal: &Refusal) -> String {
    json!({"ok": false, "error": refusal.message, "retry": refusal.is_retryable}).to_string()
}
