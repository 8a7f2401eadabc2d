//! One request at the upstreams: in their order, one beside the other where one is silent, until one answers well.

use crate::access;
use crate::choose::{Reached, Stance, may_repeat};
use crate::clock::timer_moment;
use crate::count::{Outcome, Reason};
use crate::document::IdempotencyScope;
use crate::edge::answer::{Answer, Body, relayed};
use crate::edge::attempt::{Ended, Order, Response, attempt, judge, lost, rewind};
use crate::edge::body::{BodyError, Pump};
use crate::edge::destination::{Destination, Failure, Place};
use crate::edge::framing::{Decoder, Framing, Step};
use crate::edge::give_up::Tried;
use crate::edge::message::{AnswerHead, value_of};
use crate::edge::relay::{Beginning, Relay, Waits};
use crate::edge::report::Report;
use crate::edge::resume::{Course, check_of, is_events};
use crate::edge::route::Route;
use crate::edge::sample;
use crate::reflex::check::Check;
use crate::reflex::digest::told;
use crate::reflex::first_byte::kind_of;
use crate::reflex::known::{Keys, Likeness, Look};
use bytes::BytesMut;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

/// A body up to this size is waited for, for so long, before the answer is passed on: if its upstream breaks off
/// meanwhile, the next one can still be asked.
const HOLD_BYTES_MAX: u64 = 64 * 1024;
const HOLD: Duration = Duration::from_millis(50);

/// So long, where nothing could tell that another upstream's bytes belong to the same answer.
const HOLD_UNKNOWN: Duration = Duration::from_millis(500);

/// How soon it is looked again whether another may be asked beside a silent one.
const OVERTAKE_AGAIN: Duration = Duration::from_millis(100);

/// How long an upstream may be silent before a client that leaves counts against it.
const SILENCE_MS: u64 = 1_000;

/// From so many failures in a row on, an upstream that was overtaken counts as one that timed out.
const OVERTAKEN_TO_COUNT: u32 = 3;

/// An event stream may be quiet for so long (5 minutes), whatever `idle_timeout_ms` says of other bodies: nothing to
/// tell is no fault.
const QUIET_EVENTS: Duration = Duration::from_secs(300);

/// An answer that was not good enough, but is better than none.
pub struct Fallback {
    pub attempted: Attempted,
    pub response: Response,
    pub reason: Reason,
}

/// An attempt that is over.
pub struct Attempted {
    pub provider: u16,
    pub destination: Rc<Destination>,
    pub place: Option<Place>,
    pub first_byte_ms: u32,
}

/// What an attempt brought.
type Came = (Attempted, Result<Response, Failure>);

pub struct Walk {
    pub route: Route,
    pub is_counted: bool,
    client: (IpAddr, &'static str),
    pub tried: Vec<Tried>,
    pub fallback: Option<Box<Fallback>>,
    /// There is another to ask who did not fail of late.
    has_other_opinion: bool,
    /// A good answer that does not look like the object that it is known as.
    doubted: Option<Box<(Attempted, Response, Look)>>,
}

/// An attempt whose answer is waited for. Dropped before it is over, the client left: after a while of silence that is
/// the upstream's doing, and if nobody said so, an upstream more silent than clients are patient would look well.
struct Waiting<'a> {
    walk: &'a Walk,
    destination: &'a Destination,
    provider: u16,
    began_ms: u64,
    is_over: bool,
}

impl Waiting<'_> {
    fn over(mut self) {
        self.is_over = true;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let route = &self.walk.route;
        let now_ms = route.edge.now_ms();
        if self.is_over || now_ms.saturating_sub(self.began_ms) < SILENCE_MS {
            return;
        }
        self.destination.failed(Reason::Timeout, now_ms);
        route.count(self.provider, Reason::Timeout, 0);
        route.edge.counts.served(Some(&route.site.service), route.region, Outcome::Failed);
    }
}

impl Walk {
    pub fn new(route: Route, is_counted: bool, client: (IpAddr, &'static str)) -> Self {
        Self {
            route,
            is_counted,
            client,
            tried: Vec::new(),
            fallback: None,
            has_other_opinion: false,
            doubted: None,
        }
    }

    pub async fn run(mut self, order: &Order<'_>, mut pump: Option<Box<Pump>>) -> Result<Answer, BodyError> {
        let may_try = pump.is_none() && may_repeat(&order.head.method, Reached::Sent);
        let line = self.route.line_up(may_try);
        let mut before: Option<(Rc<Destination>, Reached)> = None;
        let mut turn = 0;
        while let Some(provider) = line.get(turn).copied() {
            turn += 1;
            let Some(destination) = self.route.destination(provider) else { continue };
            let is_free = match &before {
                None => {
                    self.route.begin(&destination);
                    false
                }
                Some((_, reached)) if !self.may_go_on(order, *reached) || !rewind(&mut pump) => break,
                Some((failed, _)) => match self.route.go_on(failed, &destination) {
                    Some(is_free) => is_free,
                    None => continue,
                },
            };
            let next = line.get(turn).copied();
            self.has_other_opinion = next.is_some_and(|next| self.is_well(next));
            let order = &Order { patience: self.patience(order, &destination, next.is_some()), ..*order };
            let (first, second) = match next.filter(|_| pump.is_none() && is_hedgeable(order)) {
                Some(next) => self.beside(order, (provider, &destination), next).await?,
                None => (self.ask(order, provider, &destination, &mut pump).await?, None),
            };
            turn += usize::from(second.is_some());
            for came in [Some(first), second].into_iter().flatten() {
                let destination = Rc::clone(&came.0.destination);
                match self.settle(order, came, &mut pump) {
                    Ok(answer) => return Ok(*answer),
                    Err(reached) => before = Some((destination, reached)),
                }
            }
            if is_free {
                // It was free because it looked well; since it was not, it is load that a common fault got in vain.
                self.route.charge();
            }
        }
        if let Some((attempted, response, _)) = self.doubted.take().map(|doubted| *doubted) {
            return Ok(self.answered(order, attempted, response, None, Reason::Ok));
        }
        Ok(self.give_up(order))
    }

    fn is_well(&self, provider: u16) -> bool {
        let now_ms = self.route.edge.now_ms();
        let stance = self.route.destination(provider).map(|destination| destination.stance(now_ms));
        matches!(stance, Some(Stance::Well | Stance::Shaky))
    }

    fn may_go_on(&self, order: &Order<'_>, reached: Reached) -> bool {
        let is_keyed = value_of(&order.head.fields, "idempotency-key").is_some()
            && self.route.site.service.settings.reflexes.idempotency_scope == IdempotencyScope::Service;
        is_keyed || may_repeat(&order.head.method, reached)
    }

    /// How long this upstream's first byte is waited for: less than the limit only if there is another to ask.
    fn patience(&self, order: &Order<'_>, destination: &Destination, has_next: bool) -> Duration {
        let most_ms = order.limits.first_byte_timeout_ms;
        if !has_next || !self.may_go_on(order, Reached::Sent) {
            return Duration::from_millis(most_ms);
        }
        let learned =
            destination.with_first_bytes(kind_of(order.head.path()), |one| one.give_up_after_ms(most_ms));
        Duration::from_millis(learned.unwrap_or(most_ms))
    }

    /// Asks one upstream, and while it is silent for unusually long the next one too; those that are over, in their order.
    async fn beside(
        &self,
        order: &Order<'_>,
        (provider, destination): (u16, &Rc<Destination>),
        next: u16,
    ) -> Result<(Came, Option<Came>), BodyError> {
        let most_ms = order.limits.first_byte_timeout_ms;
        let after_ms =
            destination.with_first_bytes(kind_of(order.head.path()), |one| one.hedge_after_ms(most_ms));
        let (mut nothing, mut nothing_too) = (None, None);
        let mut first = pin!(self.ask(order, provider, destination, &mut nothing));
        let began_ms = self.route.edge.now_ms();
        let mut late = None;
        let mut timer = self.route.site.take_timer();
        let mut until = timer_moment() + Duration::from_millis(after_ms.unwrap_or(most_ms));
        let other = loop {
            tokio::select! {
                biased;
                came = &mut first => return Ok((came?, None)),
                () = poll_fn(|cx| timer.poll(cx, until)) => {}
            }
            late.get_or_insert_with(|| destination.note_late());
            let other = self.route.destination(next);
            if let Some(other) = other.filter(|other| self.may_overtake(destination, other, began_ms)) {
                break other;
            }
            until = timer_moment() + OVERTAKE_AGAIN;
        };
        drop(timer);
        let mut second = Box::pin(self.ask(order, next, &other, &mut nothing_too));
        tokio::select! {
            biased;
            came = &mut first => {
                let came = came?;
                if is_good(order, &came) { Ok((came, None)) } else { Ok((came, Some(second.await?))) }
            }
            came = &mut second => {
                let came = came?;
                if !is_good(order, &came) {
                    return Ok((came, Some(first.await?)));
                }
                self.overtaken(provider, destination);
                Ok((came, None))
            }
        }
    }

    /// Beside one that looks well only within the hedges' budget; one that others found failing meanwhile is left, and
    /// one that is silent to everybody.
    fn may_overtake(&self, silent: &Destination, other: &Destination, began_ms: u64) -> bool {
        let now_ms = self.route.edge.now_ms();
        let is_left = matches!(silent.stance(now_ms), Stance::SteppedBack | Stance::Trial)
            && other.stance(now_ms) == Stance::Well
            && self.route.go_on(silent, other).is_some();
        let is_silent = || silent.is_silent_since(began_ms) && self.route.may_leave_silent(other);
        is_left || self.route.may_hedge(other) || is_silent()
    }

    /// Nobody will know how long it had taken. Once is chance, and says nothing of the provider; several times in a row
    /// is silence.
    fn overtaken(&self, provider: u16, destination: &Destination) {
        destination.failed(Reason::Slow, self.route.edge.now_ms());
        if destination.health().failures_in_row() >= OVERTAKEN_TO_COUNT {
            self.route.count(provider, Reason::Timeout, 0);
        }
    }

    async fn ask(
        &self,
        order: &Order<'_>,
        provider: u16,
        destination: &Rc<Destination>,
        pump: &mut Option<Box<Pump>>,
    ) -> Result<Came, BodyError> {
        let began_ms = self.route.edge.now_ms();
        let waiting = Waiting { walk: self, destination, provider, began_ms, is_over: false };
        let queue_max = self.route.site.service.settings.reflexes.queue_max;
        let place = destination.enter(queue_max, order.patience).await;
        let came = match &place {
            Some(_) => self.exchange(order, destination, pump).await,
            None => Err(Failure::no_room().into()),
        };
        waiting.over();
        let now_ms = self.route.edge.now_ms();
        let first_byte_ms = u32::try_from(now_ms - began_ms).unwrap_or(u32::MAX).max(1);
        let attempted = Attempted { provider, destination: Rc::clone(destination), place, first_byte_ms };
        match came {
            Ok(response) => Ok((attempted, Ok(response))),
            Err(Ended::Failed(failure)) => Ok((attempted, Err(failure))),
            Err(Ended::Client(error)) => Err(error),
        }
    }

    async fn exchange(
        &self,
        order: &Order<'_>,
        destination: &Destination,
        pump: &mut Option<Box<Pump>>,
    ) -> Result<Response, Ended> {
        let mut response = attempt(order, destination, pump, self.route.edge.now_ms()).await?;
        if pump.as_ref().is_none_or(|pump| pump.is_done()) && !is_events(&response.head) {
            let rate_min_bytes_per_s = self.route.site.service.settings.reflexes.rate_min_bytes_per_s;
            response.is_slow = hold(&response, rate_min_bytes_per_s).await?;
            response.is_verified = verify(&response)?;
        }
        Ok(response)
    }

    /// What an attempt comes to: the answer for the client, or how far it had got.
    fn settle(
        &mut self,
        order: &Order<'_>,
        (attempted, came): Came,
        pump: &mut Option<Box<Pump>>,
    ) -> Result<Box<Answer>, Reached> {
        let response = match came {
            Ok(response) => response,
            Err(failure) => {
                self.failed(&attempted, failure.reason, 0);
                self.tried.push(Tried { provider: attempted.provider, reason: failure.reason, status: None });
                return Err(failure.reached);
            }
        };
        let (kind, now_ms) = (kind_of(order.head.path()), self.route.edge.now_ms());
        attempted.destination.note_first_byte(kind, u64::from(attempted.first_byte_ms), now_ms);
        let reason = self.judged(order, &response);
        if reason != Reason::Ok {
            self.failed(&attempted, reason, attempted.first_byte_ms);
            self.set_aside(Fallback { attempted, response, reason }, pump.as_deref());
            return Err(Reached::Sent);
        }
        let (attempted, response) = self.believe(order, attempted, response)?;
        Ok(Box::new(self.answered(order, attempted, response, pump.take(), Reason::Ok)))
    }

    /// What an answer is worth as far as it is here. One whose few bytes do not come is worth less than another's, where
    /// another may be asked.
    fn judged(&self, order: &Order<'_>, response: &Response) -> Reason {
        match judge(order, &response.head) {
            Reason::Ok if !self.is_of_its_size(order, &response.head) => Reason::Content,
            Reason::Ok
                if response.is_slow && self.has_other_opinion && self.may_go_on(order, Reached::Sent) =>
            {
                Reason::Stalled
            }
            reason => reason,
        }
    }

    /// False where the settings name a digest of the object, and the answer is of another length.
    fn is_of_its_size(&self, order: &Order<'_>, head: &AnswerHead) -> bool {
        let is_plain = head.status == 200 && order.head.method.as_ref() == b"GET" && !head.is_coded();
        let pinned = self.route.site.prepared.pinned(order.head).filter(|_| is_plain);
        let wanted = pinned.and_then(|pinned| pinned.bytes);
        wanted.is_none() || head.length.is_none() || head.length == wanted
    }

    /// The answer if it looks like the object, or like what another upstream says that it is now; else it waits for a
    /// second opinion.
    fn believe(
        &mut self,
        order: &Order<'_>,
        attempted: Attempted,
        response: Response,
    ) -> Result<(Attempted, Response), Reached> {
        let is_plain = order.head.method.as_ref() == b"GET" && self.route.site.destinations.len() > 1;
        let look = if is_plain { Look::of(&response.head) } else { None };
        let Some(look) = look else {
            return Ok((attempted, response));
        };
        let keys = Keys::of(&order.head.authority, &order.head.target);
        // Not the memory itself: all workers count its holders.
        let site = Rc::clone(&self.route.site);
        let likeness = site.known.likeness(&keys, &look);
        match self.doubted.take().map(|doubted| *doubted) {
            None if likeness == Likeness::Strange && self.has_other_opinion => {
                self.doubted = Some(Box::new((attempted, response, look)));
                return Err(Reached::Sent);
            }
            Some((first, answer, doubted)) if likeness == Likeness::Strange && !look.agrees(&doubted) => {
                // Two strange ones that say different things: the plan's order decides, and nothing is learned.
                return Ok((first, answer));
            }
            Some((first, _, doubted)) if !look.agrees(&doubted) => {
                self.failed(&first, Reason::Content, first.first_byte_ms);
                return Ok((attempted, response));
            }
            _ => site.known.learn(&keys, look),
        }
        Ok((attempted, response))
    }

    fn failed(&self, attempted: &Attempted, reason: Reason, first_byte_ms: u32) {
        self.route.count(attempted.provider, reason, first_byte_ms);
        if reason.is_failure() {
            attempted.destination.failed(reason, self.route.edge.now_ms());
        }
    }

    /// Keeps an answer that is not good for the case that there is no better one.
    fn set_aside(&mut self, mut fallback: Fallback, pump: Option<&Pump>) {
        let (provider, reason) = (fallback.attempted.provider, fallback.reason);
        self.tried.push(Tried { provider, reason, status: Some(fallback.response.head.status) });
        // Its connection has seen only a part of the request.
        fallback.response.head.is_persistent &= pump.is_none_or(Pump::is_done);
        if let Some(older) = self.fallback.replace(Box::new(fallback)) {
            self.reuse(*older);
        }
    }

    /// Keeps the connection of an answer that nobody wants, if the answer is here already.
    fn reuse(&self, fallback: Fallback) {
        let Response { wire, head, .. } = fallback.response;
        let mut decoder = Decoder::new(head.framing);
        while matches!(wire.with_unread(|unread| decoder.decode(unread)), Ok(Step::Chunk(_))) {}
        if decoder.is_done() && head.is_persistent {
            fallback.attempted.destination.keep(wire, self.route.edge.now_ms());
        }
    }

    pub fn answered(
        &self,
        order: &Order<'_>,
        attempted: Attempted,
        response: Response,
        pump: Option<Box<Pump>>,
        verdict: Reason,
    ) -> Answer {
        let now_ms = self.route.edge.now_ms();
        let Attempted { provider, destination, place, first_byte_ms } = attempted;
        access::note_provider(self.route.site.service.upstream_name(provider));
        let report = Report {
            route: self.route.clone(),
            provider,
            first_byte_ms,
            verdict,
            began_ms: now_ms,
            is_attempt_counted: verdict != Reason::Ok,
            is_request_counted: !self.is_counted,
        };
        if response.head.status == 101 {
            destination.succeeded(now_ms);
            let protocol = response.head.upgrade.unwrap_or_default();
            let body = Body::Tunnel(response.wire, protocol);
            return Answer { status: 101, fields: response.head.fields, length: None, body, is_ours: false };
        }
        let (course, check) = self.precautions(order, &response, verdict);
        if course.is_some() {
            self.compare_now_and_then(order, provider);
        }
        let (waits, tried) = (self.waits_of(order, &response), self.tried.clone());
        let make = |response| {
            Relay::new(Beginning { response, destination, place, waits, pump, report, course, check, tried })
        };
        let has_via = self.route.site.service.settings.forwarded.has_via;
        relayed(response, make, order.head.is_head(), has_via)
    }

    fn compare_now_and_then(&self, order: &Order<'_>, provider: u16) {
        let site = &self.route.site;
        let number = site.sampled.get();
        site.sampled.set(number.wrapping_add(1));
        if sample::is_due(number, site.service.settings.reflexes.sample_bp) {
            let mut others = self.route.line_up(false).into_iter().filter(|other| *other != provider);
            if let Some(other) = others.next() {
                let (client, scheme) = self.client;
                sample::compare(&self.route, order.head, client, scheme, (provider, other));
            }
        }
    }

    /// What makes a fault in the middle of the body invisible; nothing for an answer that is passed on for want of a
    /// better one.
    fn precautions(
        &self,
        order: &Order<'_>,
        response: &Response,
        verdict: Reason,
    ) -> (Option<Box<Course>>, Option<Box<Check>>) {
        if verdict != Reason::Ok || order.head.method.as_ref() != b"GET" {
            return (None, None);
        }
        let pinned = self.route.site.prepared.pinned(order.head);
        // What was compared with its own digest already needs no second look, unless the settings know better.
        let is_known_right = response.is_verified && pinned.is_none();
        let check = if is_known_right { None } else { check_of(&self.route, &response.head, pinned) };
        if check.is_none() && response.is_whole_here() {
            return (None, None);
        }
        let pinned = pinned.filter(|_| check.is_some());
        let course = Course::new(&self.route, order.head, self.client, &response.head, pinned);
        (course.map(Box::new), check.map(Box::new))
    }

    fn waits_of(&self, order: &Order<'_>, response: &Response) -> Waits {
        let reflexes = &self.route.site.service.settings.reflexes;
        let idle = Duration::from_millis(order.limits.idle_timeout_ms);
        let idle = if is_events(&response.head) { idle.max(QUIET_EVENTS) } else { idle };
        let stall = Duration::from_millis(reflexes.stall_timeout_ms).min(idle);
        Waits { idle, stall, rate_min_bytes_per_s: reflexes.rate_min_bytes_per_s }
    }
}

fn is_hedgeable(order: &Order<'_>) -> bool {
    matches!(order.head.method.as_ref(), b"GET" | b"HEAD") && order.head.upgrade.is_none()
}

fn is_good(order: &Order<'_>, came: &Came) -> bool {
    came.1.as_ref().is_ok_and(|response| !response.is_slow && judge(order, &response.head) == Reason::Ok)
}

/// A small body that is here whole must have the digest that its own head tells: whatever the method, a wrong one goes
/// to nobody. False where there was nothing to compare.
fn verify(response: &Response) -> Result<bool, Failure> {
    let Framing::Length(bytes @ 1..=HOLD_BYTES_MAX) = response.head.framing else { return Ok(false) };
    let Some(digest) = told(&response.head) else { return Ok(false) };
    let is_right = response.wire.with_unread(|unread| {
        let body = usize::try_from(bytes).ok().and_then(|bytes| unread.get(..bytes))?;
        let mut context = digest.context();
        context.update(body);
        Some(digest.is(context))
    });
    if is_right == Some(false) { Err(Failure::sent(Reason::Corrupt)) } else { Ok(is_right.is_some()) }
}

/// Waits, a moment at most, until a small body is here whole; of a large one only the beginning tells anything, and it
/// is not to be kept waiting for. True where of a small one, which nothing could tell from another's, hardly a byte came
/// in that time.
async fn hold(response: &Response, rate_min_bytes_per_s: u64) -> Result<bool, Failure> {
    let head = &response.head;
    let has_validator = value_of(&head.fields, "etag").is_some_and(|etag| etag.starts_with(b"\""));
    let is_here: &dyn Fn(&mut BytesMut) -> bool = match head.framing {
        Framing::None | Framing::UntilClose | Framing::Length(0) => return Ok(false),
        Framing::Length(bytes) if bytes <= HOLD_BYTES_MAX => &move |unread| unread.len() as u64 >= bytes,
        Framing::Length(_) => &|unread| !unread.is_empty(),
        // How its framing ends; a body that ends like this in its middle is passed on a moment sooner.
        Framing::Chunked => &|unread| unread.ends_with(b"0\r\n\r\n") || unread.len() as u64 > HOLD_BYTES_MAX,
    };
    let is_short = matches!(head.framing, Framing::Length(..=HOLD_BYTES_MAX));
    let limit = if is_short && !has_validator { HOLD_UNKNOWN } else { HOLD };
    let here_bytes = response.wire.with_unread(|unread| unread.len());
    let whole = async {
        while !response.wire.with_unread(is_here) {
            match response.wire.fill().await {
                Ok(0) => return Err(Failure::sent(Reason::Truncated)),
                Ok(_) => {}
                Err(error) => return Err(Failure::sent(lost(&error))),
            }
        }
        Ok(())
    };
    match response.wire.within(limit, pin!(whole)).await {
        Some(came) => came.map(|()| false),
        None if limit != HOLD_UNKNOWN => Ok(false),
        None => {
            let came_bytes = response.wire.with_unread(|unread| unread.len()).saturating_sub(here_bytes);
            let wanted = rate_min_bytes_per_s.saturating_mul(HOLD_UNKNOWN.as_millis() as u64) / 1_000;
            Ok((came_bytes as u64) < wanted)
        }
    }
}
