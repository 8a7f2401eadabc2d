//! One upstream of one service, as one worker sees it: its connections, and how it did of late.

use crate::choose::{Budget, Health, Reached, Stance};
use crate::count::Reason;
use crate::document::Limits;
use crate::edge::role::Target;
use crate::edge::tls::reason_of;
use crate::edge::wire::{Stream, Wire};
use crate::reflex::first_byte::{FirstBytes, KINDS};
use crate::reflex::room::Room;
use std::cell::{Cell, RefCell};
use std::io::{Error, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Idle connections kept per worker and upstream, and for how long.
const IDLE_MAX: usize = 128;
const IDLE_MS_MAX: u64 = 30_000;

/// A request that must not be sent twice takes only a connection that was used so recently.
const SURELY_ALIVE_MS: u64 = 1_000;

/// So many that wait for unusually long at once make an upstream silent, if nobody had anything meanwhile.
const SILENT_TOGETHER: u32 = 3;

/// How long a resolved name is used; when it cannot be resolved again the last answer stays in use.
const RESOLVED_MS: u64 = 10_000;

/// Why an attempt failed, and whether the request can have been carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    pub reason: Reason,
    pub reached: Reached,
}

impl Failure {
    pub const fn sent(reason: Reason) -> Self {
        Self { reason, reached: Reached::Sent }
    }

    /// No place among the requests that it is given at once: nothing is said of the upstream.
    pub const fn no_room() -> Self {
        Self::before(Reason::Blind)
    }

    const fn before(reason: Reason) -> Self {
        Self { reason, reached: Reached::NoConnection }
    }
}

/// A place among the requests that an upstream is given at once; free again when dropped.
pub struct Place(Rc<Destination>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.room.borrow_mut().leave();
        self.0.freed.notify_one();
    }
}

/// Counts one that waits, for as long as it does.
pub struct Queued<'a>(&'a Cell<u32>);

impl<'a> Queued<'a> {
    fn new(waiting: &'a Cell<u32>) -> Self {
        waiting.set(waiting.get() + 1);
        Self(waiting)
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

struct Idle {
    wire: Box<Wire>,
    since_ms: u64,
}

pub struct Destination {
    target: Target,
    pub budget: RefCell<Budget>,
    first_bytes: RefCell<[FirstBytes; KINDS]>,
    /// When the last first byte came, and how many requests wait for unusually long for theirs.
    answered_ms: Cell<u64>,
    late: Cell<u32>,
    room: RefCell<Room>,
    waiting: Cell<u32>,
    freed: Notify,
    idle: RefCell<Vec<Idle>>,
    resolved: RefCell<(Vec<IpAddr>, u64)>,
    /// Which of several addresses is tried first: the one that worked last.
    first_address: Cell<usize>,
}

impl Destination {
    /// `room` is the most that this worker asks of it at once.
    pub fn new(target: &Target, room: u32) -> Self {
        let tls = target.tls.as_ref().map(super::tls::UpstreamTls::for_worker);
        Self {
            target: Target { tls, ..target.clone() },
            budget: RefCell::default(),
            first_bytes: RefCell::default(),
            answered_ms: Cell::new(0),
            late: Cell::new(0),
            room: RefCell::new(Room::new(room)),
            waiting: Cell::new(0),
            freed: Notify::new(),
            idle: RefCell::default(),
            resolved: RefCell::default(),
            first_address: Cell::new(0),
        }
    }

    /// How it did of late, for all workers: what one has seen the others know with their next request.
    pub fn health(&self) -> Health {
        self.target.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn stance(&self, now_ms: u64) -> Stance {
        self.target.health.lock().unwrap_or_else(PoisonError::into_inner).stance(now_ms)
    }

    pub fn begin_trial(&self, now_ms: u64) {
        self.target.health.lock().unwrap_or_else(PoisonError::into_inner).begin_trial(now_ms);
    }

    pub fn succeeded(&self, now_ms: u64) {
        self.target.health.lock().unwrap_or_else(PoisonError::into_inner).succeeded(now_ms);
        self.room.borrow_mut().succeeded();
    }

    pub fn failed(&self, reason: Reason, now_ms: u64) {
        self.target.health.lock().unwrap_or_else(PoisonError::into_inner).failed(now_ms);
        if matches!(reason, Reason::Timeout | Reason::Refused | Reason::Http5xx) {
            self.room.borrow_mut().overloaded(now_ms);
        }
    }

    /// A first byte of a path of that kind came after so long.
    pub fn note_first_byte(&self, kind: usize, first_byte_ms: u64, now_ms: u64) {
        self.answered_ms.set(now_ms);
        if let Some(times) = self.first_bytes.borrow_mut().get_mut(kind) {
            times.note(first_byte_ms);
        }
    }

    /// One more request waits for unusually long, until this is dropped.
    pub fn note_late(&self) -> Queued<'_> {
        Queued::new(&self.late)
    }

    /// Whether it is silent to everybody, and not slow with one request: several wait, and nobody got anything since.
    pub fn is_silent_since(&self, began_ms: u64) -> bool {
        self.late.get() >= SILENT_TOGETHER && self.answered_ms.get() < began_ms
    }

    /// What the times of late say of paths of that kind.
    pub fn with_first_bytes<T>(&self, kind: usize, ask: impl FnOnce(&FirstBytes) -> T) -> Option<T> {
        self.first_bytes.borrow().get(kind).map(ask)
    }

    /// A place among the requests under way, when one is free; None when too many wait already or none came free in
    /// time.
    pub async fn enter(self: &Rc<Self>, queue_max: u32, limit: Duration) -> Option<Place> {
        let place = || Place(Rc::clone(self));
        if self.waiting.get() == 0 && self.room.borrow_mut().enter() {
            return Some(place());
        }
        if self.waiting.get() >= queue_max {
            return None;
        }
        let queued = Queued::new(&self.waiting);
        let entered = timeout(limit, async {
            while !self.room.borrow_mut().enter() {
                self.freed.notified().await;
            }
        });
        let is_in = entered.await.is_ok();
        drop(queued);
        is_in.then(place)
    }

    /// A kept connection that is still open; the one used last, so that the others can be let go.
    pub fn take_idle(&self, now_ms: u64, is_repeatable: bool) -> Option<Box<Wire>> {
        let age_ms_max = if is_repeatable { IDLE_MS_MAX } else { SURELY_ALIVE_MS };
        loop {
            let idle = self.idle.borrow_mut().pop()?;
            if now_ms.saturating_sub(idle.since_ms) > age_ms_max {
                // Older ones lie below.
                self.idle.borrow_mut().clear();
                return None;
            }
            if idle.wire.is_quiet() {
                return Some(idle.wire);
            }
        }
    }

    pub fn keep(&self, wire: Box<Wire>, now_ms: u64) {
        let mut idle = self.idle.borrow_mut();
        // Its memory stays with it for a moment: of what it brought last something may still be in use.
        let is_clean = wire.with_unread(|unread| unread.is_empty());
        if idle.len() < IDLE_MAX && is_clean {
            idle.push(Idle { wire, since_ms: now_ms });
        }
    }

    /// Drops connections that were idle for too long, and the memory of the others.
    pub fn forget_old(&self, now_ms: u64) {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|idle| now_ms.saturating_sub(idle.since_ms) <= IDLE_MS_MAX);
        idle.iter().for_each(|idle| idle.wire.rest());
    }

    /// A new connection, with TLS agreed if the endpoint has it.
    pub async fn connect(&self, limits: &Limits, now_ms: u64) -> Result<Box<Wire>, Failure> {
        let limit = Duration::from_millis(limits.connect_timeout_ms);
        match timeout(limit, self.connect_and_agree(limit, now_ms)).await {
            Ok(result) => result.map_err(Failure::before),
            Err(_) => Err(Failure::before(Reason::Timeout)),
        }
    }

    async fn connect_and_agree(&self, limit: Duration, now_ms: u64) -> Result<Box<Wire>, Reason> {
        let stream = self.connect_tcp(limit, now_ms).await?;
        let Some(tls) = &self.target.tls else { return Ok(Box::new(Wire::new(Stream::Plain(stream)))) };
        let connector = TlsConnector::from(std::sync::Arc::clone(&tls.config));
        let stream = connector.connect(tls.name.clone(), stream).await.map_err(|error| reason_of(&error))?;
        Ok(Box::new(Wire::new(Stream::Client(Box::new(stream)))))
    }

    /// Tries the addresses in turn; each has its part of the time, so that one that is silent does not use it all.
    async fn connect_tcp(&self, limit: Duration, now_ms: u64) -> Result<TcpStream, Reason> {
        let addresses = self.addresses(now_ms).await?;
        let part = limit / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
        let first = self.first_address.get();
        let mut reason = Reason::DnsEmpty;
        for turn in 0..addresses.len() {
            let place = (first + turn) % addresses.len();
            let connect = TcpStream::connect(SocketAddr::new(addresses[place], self.target.port));
            match timeout(part, connect).await {
                Ok(Ok(stream)) => {
                    self.first_address.set(place);
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Ok(Err(error)) => reason = connect_reason(&error),
                Err(_) => reason = Reason::Timeout,
            }
        }
        Err(reason)
    }

    async fn addresses(&self, now_ms: u64) -> Result<Vec<IpAddr>, Reason> {
        if !self.target.addresses.is_empty() {
            return Ok(self.target.addresses.to_vec());
        }
        if let Ok(address) = self.target.host.trim_matches(['[', ']']).parse() {
            return Ok(vec![address]);
        }
        let (kept, until_ms) = self.resolved.borrow().clone();
        if now_ms < until_ms {
            return Ok(kept);
        }
        match tokio::net::lookup_host((&*self.target.host, self.target.port)).await {
            Ok(found) => {
                let found: Vec<IpAddr> = found.map(|address| address.ip()).collect();
                *self.resolved.borrow_mut() = (found.clone(), now_ms.saturating_add(RESOLVED_MS));
                if found.is_empty() { Err(Reason::DnsEmpty) } else { Ok(found) }
            }
            Err(_) if !kept.is_empty() => Ok(kept),
            Err(_) => Err(Reason::DnsServfail),
        }
    }
}

fn connect_reason(error: &Error) -> Reason {
    match error.kind() {
        ErrorKind::ConnectionRefused => Reason::Refused,
        ErrorKind::ConnectionReset => Reason::Reset,
        ErrorKind::TimedOut => Reason::Timeout,
        _ => Reason::Unreachable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination() -> Destination {
        let addresses = Box::default();
        let health = std::sync::Arc::default();
        Destination::new(&Target { host: "a.test".into(), port: 80, addresses, tls: None, health }, 8)
    }

    #[test]
    fn an_upstream_is_silent_when_several_wait_and_nobody_had_anything_since() {
        let one = destination();
        one.note_first_byte(0, 5, 1_000);
        let waiting: Vec<_> = (0..SILENT_TOGETHER).map(|_| one.note_late()).collect();
        assert!(one.is_silent_since(2_000));
        one.note_first_byte(0, 5, 2_500);
        assert!(!one.is_silent_since(2_000), "somebody was answered meanwhile");
        assert!(one.is_silent_since(3_000));
        drop(waiting);
        assert!(!one.is_silent_since(3_000), "nobody waits any more");
    }

    #[test]
    fn one_that_waits_long_makes_no_upstream_silent() {
        let one = destination();
        let _late = [one.note_late(), one.note_late()];
        assert!(!one.is_silent_since(2_000));
    }
}
