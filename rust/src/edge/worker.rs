//! One worker of the edge: its listeners, and what its connections share. Nothing here is shared with other workers but
//! the table, which is swapped whole.

use crate::access::{Asker, Sampler};
use crate::cache::store::{Front, resident_bytes};
use crate::choose::{Allowance, Budget};
use crate::clock;
use crate::count::WorkerCounts;
use crate::document::{ClientLimits, Limits};
use crate::edge::destination::Destination;
use crate::edge::door::{self, Doors, Ticket};
use crate::edge::patience::Patience;
use crate::edge::role::{EdgeRole, Prepared};
use crate::edge::stored::entry::Entry;
use crate::edge::stored::tally::Tally;
use crate::edge::traffic::Traffic;
use crate::edge::wire::{Stream, Wire};
use crate::edge::{h1, h2, tls};
use crate::error::EngineError;
use crate::gate::limits::wider;
use crate::gate::why::Refusals;
use crate::reflex::known::KnownObjects;
use crate::runtime::{Engine, Stage, Worker};
use crate::table::{Service, Snapshot};
use bytes::Bytes;
use rustc_hash::FxHashMap;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, UNIX_EPOCH};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

/// Pause when the system has no connection to give (no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Most connections taken from a listener's queue when a drain begins; its length.
const LATE_MAX: usize = 4_096;

/// How often idle connections to upstreams are looked through.
const TIDY: Duration = Duration::from_secs(1);

/// How long the end may wait for a disk.
const FLUSH: Duration = Duration::from_secs(3);

/// How often the store looks through a part of its index for what was purged.
const UPKEEP: Duration = Duration::from_millis(100);

/// One service in one worker.
pub struct Site {
    pub service: Arc<Service>,
    pub prepared: Arc<Prepared>,
    /// One per upstream of the service, in its order.
    pub destinations: Box<[Rc<Destination>]>,
    /// Extra attempts of the service as a whole: what a fault behind all providers gets.
    pub budget: RefCell<Budget>,
    pub allowance: Allowance,
    /// Attempts beside a silent one.
    pub hedges: RefCell<Budget>,
    pub hedge_allowance: Allowance,
    /// What its objects look like.
    pub known: Arc<KnownObjects>,
    /// Answers of which some are compared with another provider's. Begins at 1: the first request of a start is not one.
    pub sampled: Cell<u64>,
    timers: RefCell<Vec<Patience>>,
    /// Fetches for the cache under way.
    pub fills: Rc<Cell<u64>>,
}

impl Site {
    /// A timer for one wait; it comes back, still set, for another.
    pub fn take_timer(&self) -> Timer<'_> {
        Timer { patience: self.timers.borrow_mut().pop().unwrap_or_default(), site: self }
    }
}

/// A timer on loan.
pub struct Timer<'a> {
    patience: Patience,
    site: &'a Site,
}

impl Timer<'_> {
    /// Ready from `until` on.
    pub fn poll(&mut self, cx: &mut Context<'_>, until: tokio::time::Instant) -> Poll<()> {
        self.patience.poll(cx, until)
    }
}

impl Drop for Timer<'_> {
    fn drop(&mut self) {
        let mut timers = self.site.timers.borrow_mut();
        if timers.len() < TIMERS_MAX {
            timers.push(std::mem::take(&mut self.patience));
        }
    }
}

/// Timers kept for further waits.
const TIMERS_MAX: usize = 256;

/// Hedges that a service with little load may always have, a second.
const HEDGES_FLOOR_RPS: u64 = 2;

/// What the worker made of the table that it last saw.
struct View {
    snapshot: Arc<Snapshot<Prepared>>,
    sites: FxHashMap<*const Service, Rc<Site>>,
    limits: Limits,
    clients: ClientLimits,
}

pub struct Edge {
    engine: Arc<Engine<EdgeRole>>,
    pub counts: Arc<WorkerCounts>,
    pub tally: Arc<Tally>,
    pub refusals: Arc<Refusals>,
    pub traffic: Arc<Traffic>,
    pub sampler: Sampler,
    /// The hottest objects, with a buffer for the keys that ask for them.
    front: RefCell<(Option<Front<Entry>>, Vec<u8>)>,
    index: usize,
    /// The engine's name in CDN-Loop (RFC 8586); no other engine's, and the same in all its workers.
    loop_id: Box<str>,
    view: RefCell<View>,
    began: (Instant, u64),
    /// The Date field of a second, and that second.
    date: RefCell<(u64, Bytes)>,
    is_draining: Cell<bool>,
    drain: Notify,
    open: Cell<usize>,
    closed: Notify,
    /// Connections that are being told why they were not let in.
    pub turned_away: Cell<usize>,
}

impl Edge {
    fn new(worker: &Worker<EdgeRole>) -> Self {
        let snapshot = worker.engine.table.load_full();
        let edge = Self {
            engine: Arc::clone(&worker.engine),
            counts: Arc::clone(&worker.counts),
            tally: worker.engine.role.new_tally(),
            refusals: worker.engine.role.doors.new_refusals(),
            traffic: worker.engine.role.new_traffic(),
            sampler: Sampler::new(worker.engine.role.access_log()),
            front: RefCell::default(),
            index: worker.index,
            loop_id: loop_id(&worker.engine).into(),
            view: RefCell::new(View {
                snapshot,
                sites: FxHashMap::default(),
                limits: Limits::default(),
                clients: ClientLimits::default(),
            }),
            began: (clock::moment(), clock::now_ms()),
            date: RefCell::default(),
            is_draining: Cell::new(false),
            drain: Notify::new(),
            open: Cell::new(0),
            closed: Notify::new(),
            turned_away: Cell::new(0),
        };
        edge.see_anew();
        edge
    }

    pub fn loop_id(&self) -> &str {
        &self.loop_id
    }

    /// Milliseconds UTC by the monotonic clock since the worker began: no memory shared with other workers.
    pub fn now_ms(&self) -> u64 {
        let since = clock::moment().saturating_duration_since(self.began.0);
        self.began.1.saturating_add(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// How a request came that is read just now, for its line in the access log.
    pub fn asker(&self, client: IpAddr, scheme: &'static str, protocol: &'static str) -> Asker {
        Asker { client, scheme, protocol, at_ms: self.now_ms() }
    }

    /// The Date field's value (RFC 9110 §6.6.1), made once a second.
    pub fn date(&self) -> Bytes {
        let second = self.now_ms() / 1_000;
        let mut date = self.date.borrow_mut();
        if date.0 != second {
            *date = (second, httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(second)).into());
        }
        date.1.clone()
    }

    /// The service of a Host, as the newest table has it.
    pub fn site(&self, authority: &[u8]) -> Option<Rc<Site>> {
        self.look();
        let view = self.view.borrow();
        let served = view.snapshot.host(authority)?;
        view.sites.get(&Arc::as_ptr(&served.service)).map(Rc::clone)
    }

    /// The widest limits of all services: what holds while the service of a connection is not known yet.
    pub fn client_limits(&self) -> (Duration, usize) {
        self.look();
        let view = self.view.borrow();
        let bytes_max = usize::try_from(view.limits.head_bytes_max).unwrap_or(usize::MAX);
        (Duration::from_millis(view.limits.client_head_timeout_ms), bytes_max)
    }

    /// The widest of what clients may do to any service: what holds for connections.
    pub fn gate_limits(&self) -> ClientLimits {
        self.look();
        self.view.borrow().clients
    }

    pub fn doors(&self) -> &Doors {
        &self.engine.role.doors
    }

    pub fn open_connections(&self) -> usize {
        self.open.get()
    }

    fn look(&self) {
        if !std::ptr::eq(&**self.engine.table.load(), &*self.view.borrow().snapshot) {
            self.see_anew();
        }
    }

    /// Takes the newest table over; services whose settings did not change keep their connections and memory.
    fn see_anew(&self) {
        let snapshot = self.engine.table.load_full();
        let mut view = self.view.borrow_mut();
        let mut sites = FxHashMap::default();
        for served in &snapshot.served {
            let old = view.sites.values().find(|old| is_same(&old.service, &served.service));
            let site = self.site_of(&served.service, &served.prepared, old.map(|old| &**old));
            sites.insert(Arc::as_ptr(&served.service), Rc::new(site));
        }
        let all = snapshot.served.iter().map(|served| &served.service.settings.limits);
        let clients = snapshot.served.iter().map(|served| served.prepared.gate.limits);
        let clients = clients.reduce(|one, other| wider(&one, &other)).unwrap_or_default();
        *view = View { limits: widest(all), clients, sites, snapshot };
    }

    fn site_of(&self, service: &Arc<Service>, prepared: &Arc<Prepared>, old: Option<&Site>) -> Site {
        let (limits, reflexes) = (&service.settings.limits, &service.settings.reflexes);
        let workers = self.engine.config.workers;
        let room = reflexes.concurrency_max.div_ceil(u32::try_from(workers).unwrap_or(1).max(1));
        Site {
            service: Arc::clone(service),
            prepared: Arc::clone(prepared),
            destinations: match old {
                Some(old) => old.destinations.clone(),
                None => {
                    prepared.targets.iter().map(|target| Rc::new(Destination::new(target, room))).collect()
                }
            },
            budget: RefCell::new(old.map_or_else(Budget::default, |old| old.budget.borrow().clone())),
            allowance: Allowance::of_worker(
                limits.retry_budget_bp,
                limits.retry_floor_rps,
                self.index,
                workers,
            ),
            hedges: RefCell::new(old.map_or_else(Budget::default, |old| old.hedges.borrow().clone())),
            hedge_allowance: Allowance::of_worker(
                reflexes.hedge_budget_bp,
                if reflexes.hedge_budget_bp > 0 { HEDGES_FLOOR_RPS } else { 0 },
                self.index,
                workers,
            ),
            known: Arc::clone(old.map_or(&prepared.known, |old| &old.known)),
            sampled: Cell::new(old.map_or(1, |old| old.sampled.get())),
            timers: RefCell::default(),
            fills: old.map_or_else(Rc::default, |old| Rc::clone(&old.fills)),
        }
    }

    pub fn is_draining(&self) -> bool {
        self.is_draining.get()
    }

    /// Returns once the worker is to finish.
    pub async fn drained(&self) {
        while !self.is_draining.get() {
            self.drain.notified().await;
        }
    }

    /// Returns once a connection on which nothing is under way is to be closed.
    pub async fn idle_is_over(&self) {
        self.drained().await;
        self.engine.reached(Stage::Leaving).await;
    }

    fn begin_drain(&self) {
        self.is_draining.set(true);
        self.drain.notify_waiters();
    }

    async fn all_closed(&self) {
        while self.open.get() > 0 {
            self.closed.notified().await;
        }
    }

    /// What `ask` finds in this worker's own view of the store; None while there is no store.
    pub fn with_front<T>(&self, ask: impl FnOnce(&mut Front<Entry>, &mut Vec<u8>) -> T) -> Option<T> {
        let mut front = self.front.borrow_mut();
        let (front, key) = &mut *front;
        if front.is_none() {
            let workers = u64::try_from(self.engine.config.workers).unwrap_or(1);
            *front = self.engine.role.store().map(|store| Front::new(store, workers));
        }
        Some(ask(front.as_mut()?, key))
    }

    /// The store's upkeep, by one worker for all.
    async fn keep_up(self: Rc<Self>) {
        loop {
            sleep(UPKEEP).await;
            // At the end, the first worker may be gone before the others.
            let is_mine = self.index == 0 || self.is_draining();
            if let Some(store) = self.engine.role.store().filter(|_| is_mine) {
                store.tick(self.now_ms());
                store.press(resident_bytes());
            }
        }
    }

    /// Lets the access log and the disk tier finish what they have begun.
    async fn flush(&self) {
        let _ = timeout(FLUSH, self.sampler.flush()).await;
        if let Some(disk) = self.engine.role.store().and_then(|store| store.disk()) {
            let _ = timeout(FLUSH, disk.flush()).await;
        }
    }

    async fn tidy(self: Rc<Self>) {
        loop {
            sleep(TIDY).await;
            self.look();
            self.with_front(|front, _| front.tick());
            let now_ms = self.now_ms();
            for site in self.view.borrow().sites.values() {
                site.destinations.iter().for_each(|destination| destination.forget_old(now_ms));
            }
        }
    }
}

/// From what no two engines share at one time: process, start and addresses.
fn loop_id(engine: &Engine<EdgeRole>) -> String {
    let (config, process) = (&engine.config, std::process::id());
    let own =
        format!("{process} {} {:?} {:?} {:?}", engine.began_ms, config.engine, config.http, config.https);
    let hash = ring::digest::digest(&ring::digest::SHA256, own.as_bytes());
    let hex: String = hash.as_ref().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("polycdn-{hex}")
}

fn is_same(old: &Service, new: &Service) -> bool {
    old.name == new.name && old.settings_hash == new.settings_hash
}

fn widest<'a>(all: impl Iterator<Item = &'a Limits>) -> Limits {
    let wider = |one: Limits, other: &Limits| Limits {
        client_head_timeout_ms: one.client_head_timeout_ms.max(other.client_head_timeout_ms),
        head_bytes_max: one.head_bytes_max.max(other.head_bytes_max),
        ..one
    };
    let mut all = all;
    all.next().cloned().map_or_else(Limits::default, |first| all.fold(first, wider))
}

/// Counts an open connection for as long as it lives.
struct Open {
    edge: Rc<Edge>,
    _ticket: Ticket,
}

impl Open {
    fn new(edge: &Rc<Edge>, ticket: Ticket) -> Self {
        edge.open.set(edge.open.get() + 1);
        edge.traffic.opened(edge.open.get());
        Self { edge: Rc::clone(edge), _ticket: ticket }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.edge.open.set(self.edge.open.get().saturating_sub(1));
        self.edge.traffic.closed(self.edge.open.get());
        self.edge.closed.notify_waiters();
    }
}

/// Lets the process have as many connections as the system permits it; the default of 1024 is for people at a terminal.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// Serves until the engine drains and all that was under way is finished.
pub async fn work(mut worker: Worker<EdgeRole>) -> Result<(), EngineError> {
    raise_open_files();
    let edge = Rc::new(Edge::new(&worker));
    let acceptor = tls::server_config(Arc::clone(&worker.engine))
        .map_err(|error| EngineError::system("setting up TLS", error))
        .map(TlsAcceptor::from)?;
    let mut accepting = Vec::new();
    let sockets = std::mem::take(&mut worker.sockets);
    let plain = sockets.http.into_iter().map(|listener| (listener, None));
    let secure = sockets.https.into_iter().map(|listener| (listener, Some(acceptor.clone())));
    for (listener, acceptor) in plain.chain(secure) {
        let listener =
            TcpListener::from_std(listener).map_err(|error| EngineError::system("listening", error))?;
        accepting.push(tokio::task::spawn_local(accept(Rc::clone(&edge), listener, acceptor)));
    }
    let tidying = tokio::task::spawn_local(Rc::clone(&edge).tidy());
    let upkeep = tokio::task::spawn_local(Rc::clone(&edge).keep_up());
    worker.draining().await;
    edge.begin_drain();
    for task in accepting {
        let _ = task.await;
    }
    tokio::select! {
        () = edge.all_closed() => {}
        () = worker.engine.reached(Stage::Stopped) => {}
    }
    tidying.abort();
    upkeep.abort();
    edge.flush().await;
    Ok(())
}

async fn accept(edge: Rc<Edge>, listener: TcpListener, acceptor: Option<TlsAcceptor>) {
    let mut late = 0;
    while late < LATE_MAX && edge.engine.stage() != Stage::HandedOver {
        late += usize::from(edge.is_draining());
        // Whoever connected before the drain is still served: what waits in the listener's queue comes first.
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            () = edge.drained() => return,
        };
        match accepted {
            Ok((stream, client)) => {
                // Counted before its task runs: a worker that drains ends when none is open.
                match door::connect(&edge, client.ip()) {
                    Ok(ticket) => {
                        let open = Open::new(&edge, ticket);
                        tokio::task::spawn_local(serve(open, stream, client, acceptor.clone()));
                    }
                    Err(denial) if acceptor.is_none() => door::turn_away(&edge, stream, &denial),
                    Err(_) => {}
                }
            }
            Err(_) if edge.is_draining() => return,
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn serve(open: Open, stream: TcpStream, client: SocketAddr, acceptor: Option<TlsAcceptor>) {
    let edge = Rc::clone(&open.edge);
    let _ = stream.set_nodelay(true);
    let Some(acceptor) = acceptor else {
        return h1::serve(edge, Wire::new(Stream::Plain(stream)), client.ip(), "http").await;
    };
    Box::pin(serve_tls(edge, stream, client, acceptor)).await;
}

async fn serve_tls(edge: Rc<Edge>, stream: TcpStream, client: SocketAddr, acceptor: TlsAcceptor) {
    let (patience, _) = edge.client_limits();
    let accepted = timeout(patience, acceptor.accept(stream)).await;
    edge.traffic.handshake(matches!(accepted, Ok(Ok(_))));
    let Ok(Ok(stream)) = accepted else { return };
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let stream = Stream::Server(Box::new(stream));
    if is_http2 {
        Box::pin(h2::serve(edge, stream, client.ip(), "https")).await;
    } else {
        h1::serve(edge, Wire::new(stream), client.ip(), "https").await;
    }
}
