//! The control socket: one JSON object a line, each answered by one line, in order (docs/engine-protocol.md).
//!
//! A thread of its own, so that neither a slow reader nor a slow disk reaches a worker.

use crate::admin;
use crate::clock;
use crate::count::{Ring, WorkerCounts};
use crate::error::{EngineError, Refusal};
use crate::listen::Listeners;
use crate::metrics::{Kind, MetricsText};
use crate::purge::{PurgeOrder, Purged};
use crate::runtime::{DRAIN_MAX, Engine, Role, Stage, panic_text};
use crate::store::{Refresh, Store};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::cell::{Cell, RefCell};
use std::fs;
use std::io;
use std::net::TcpListener as StdTcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};

pub const CONTROL_FORMAT: &str = "polycdn/control/1";

/// The longest line read or written, without its end.
const LINE_BYTES_MAX: usize = 1024 * 1024;
/// Left free in a line for what stands around the rows of `counts`.
const LINE_BYTES_SPARE: usize = 16 * 1024;
const CONNECTIONS_MAX: usize = 64;
/// How often the stamps of certificate files are looked at.
const STAMPS_EVERY_S: u64 = 5;
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
}

/// Everything that the control thread owns.
pub struct Control<R: Role> {
    engine: Arc<Engine<R>>,
    store: Store<R>,
    ring: Ring,
    counts: Vec<Arc<WorkerCounts>>,
    listeners: Listeners,
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
        listeners: Listeners,
    ) -> Self {
        let reload = (store.errors().is_empty(), clock::now_ms());
        Self { engine, store, ring: Ring::default(), counts, listeners, seconds: 0, reload }
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
            tokio::task::spawn_local(admin::serve(Rc::clone(&control), listener));
        }
        let mut seconds = ticks();
        let connections = Rc::new(Cell::new(0));
        let overdue = async {
            engine.reached(Stage::Draining).await;
            tokio::time::sleep(DRAIN_MAX).await;
        };
        tokio::pin!(overdue);
        loop {
            tokio::select! {
                () = engine.reached(Stage::Stopped) => return Ok(()),
                () = &mut overdue => return Ok(()),
                // The second signal does not wait for what is under way.
                _ = terminate.recv() => if !engine.advance(Stage::Draining) { return Ok(()) },
                _ = interrupt.recv() => if !engine.advance(Stage::Draining) { return Ok(()) },
                _ = hangup.recv() => control.borrow_mut().reload(),
                _ = seconds.tick() => control.borrow_mut().close_second(),
                accepted = listener.accept() => accept(accepted, &control, &connections).await,
            }
        }
    }

    fn close_second(&mut self) {
        self.ring.close_second(clock::now_ms(), self.counts.iter().map(|counts| &**counts));
        self.seconds += 1;
        if self.seconds % STAMPS_EVERY_S == 0 && self.store.refresh(Refresh::Changed) {
            self.publish();
        }
    }

    /// Reads again all files that services in force name. One that is wrong now is reported, and its old content stays.
    fn reload(&mut self) {
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

    pub fn purge(&self, order: &PurgeOrder) -> Result<Purged, Refusal> {
        self.engine.role.purge(&self.store.served(), order)
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

    /// The answer to one line, without its end. An order that broke us is refused: it takes down nothing else.
    fn answer(&mut self, line: &[u8]) -> String {
        let result = catch_unwind(AssertUnwindSafe(|| {
            let word = serde_json::from_slice(line);
            self.carry_out(word.map_err(|error| Refusal::never(format!("not a word known here: {error}")))?)
        }));
        let result = result.unwrap_or_else(|panic| {
            Err(Refusal::never(format!("a mistake in polycdn: {}", panic_text(&*panic))))
        });
        result.unwrap_or_else(|refusal| refused(&refusal))
    }

    fn carry_out(&mut self, word: Word) -> Result<String, Refusal> {
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
                self.engine.advance(Stage::Draining);
                accepted(&json!({}))
            }
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

fn ticks() -> tokio::time::Interval {
    let first = tokio::time::Instant::from_std(
        clock::moment() + clock::until_next_second(clock::now_ms()) + TICK_DELAY,
    );
    let mut ticks = tokio::time::interval_at(first, Duration::from_secs(1));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    ticks
}

async fn accept<R: Role>(
    accepted: io::Result<(UnixStream, tokio::net::unix::SocketAddr)>,
    control: &Rc<RefCell<Control<R>>>,
    connections: &Rc<Cell<usize>>,
) {
    let Ok((stream, _)) = accepted else {
        // No file descriptors left: wait for one rather than spin.
        tokio::time::sleep(Duration::from_millis(100)).await;
        return;
    };
    let (control, connections) = (Rc::clone(control), Rc::clone(connections));
    tokio::task::spawn_local(async move {
        connections.set(connections.get() + 1);
        // How a connection ended is the peer's matter; the next one starts afresh.
        let _ = serve_connection(stream, &control, connections.get() > CONNECTIONS_MAX).await;
        connections.set(connections.get() - 1);
    });
}

async fn serve_connection<R: Role>(
    stream: UnixStream,
    control: &Rc<RefCell<Control<R>>>,
    is_one_too_many: bool,
) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    if is_one_too_many {
        let refusal = Refusal::later(format!("more than {CONNECTIONS_MAX} connections"));
        return write_line(&mut writer, refused(&refusal)).await;
    }
    let mut line = Vec::new();
    loop {
        line.clear();
        let limit = LINE_BYTES_MAX as u64 + 1;
        (&mut reader).take(limit).read_until(b'\n', &mut line).await?;
        match line.pop() {
            None => return Ok(()),
            Some(b'\n') => {}
            Some(_) if line.len() < LINE_BYTES_MAX => return Ok(()),
            Some(_) => {
                let refusal = Refusal::never(format!("a line of more than {LINE_BYTES_MAX} bytes"));
                return write_line(&mut writer, refused(&refusal)).await;
            }
        }
        let answer = control.borrow_mut().answer(&line);
        write_line(&mut writer, answer).await?;
    }
}

async fn write_line(writer: &mut (impl AsyncWriteExt + Unpin), mut line: String) -> io::Result<()> {
    line.push('\n');
    writer.write_all(line.as_bytes()).await
}

/// The fields of `answer` with `"ok": true` in front.
fn accepted(answer: &impl Serialize) -> Result<String, Refusal> {
    let fields = serde_json::to_string(answer).map_err(|error| Refusal::never(error.to_string()))?;
    let fields = fields.strip_prefix('{').unwrap_or(&fields);
    let comma = if fields == "}" { "" } else { "," };
    Ok(format!("{{\"ok\":true{comma}{fields}"))
}

fn refused(refusal: &Refusal) -> String {
    json!({"ok": false, "error": refusal.message, "retry": refusal.is_retryable}).to_string()
}

/// A listening socket of mode 0600 in the place of whatever lay there. It gets its name only when it has its mode.
pub fn bind(path: &Path) -> Result<StdUnixListener, EngineError> {
    let failed = |error: io::Error| EngineError::system(format!("control socket {}", path.display()), error);
    // Short, since the whole path of a socket has at most 107 bytes.
    let temporary = path.with_file_name(format!(".{}", std::process::id()));
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = StdUnixListener::bind(&temporary).map_err(failed)?;
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    fs::rename(&temporary, path).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

/// Takes the socket away after the end; the engine holds its folder's lock until then.
pub fn unbind(path: &Path) {
    // It may be gone already: then it is as wanted.
    let _ = fs::remove_file(path);
}
