//! A request's way through the upstreams, in the plan's order, until one answers well.
//!
//! Nothing has gone to the client yet while this runs: whatever fails here, the next upstream may be asked.

use crate::choose::{Reached, Stance, is_clearly_better, line_up, may_repeat};
use crate::count::{Outcome, Reason};
use crate::edge::answer::{Answer, Body, Relay, Report, relayed};
use crate::edge::attempt::{Ended, Interim, Order, Response, attempt, head_bytes, judge, lost, rewind};
use crate::edge::body::{BodyError, Pump, Source};
use crate::edge::destination::{Destination, Failure};
use crate::edge::door;
use crate::edge::framing::{Decoder, Framing, Step};
use crate::edge::message::{Field, RequestHead, value_of};
use crate::edge::meter::Meter;
use crate::edge::stored;
use crate::edge::worker::{Edge, Site};
use bytes::{Bytes, BytesMut};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::timeout;

/// A body of known length up to this size is waited for, for so long, before the answer is passed on: if its
/// upstream breaks off meanwhile, the next one can still be asked.
const HOLD_BYTES_MAX: u64 = 64 * 1024;
const HOLD: Duration = Duration::from_millis(50);

/// How long an upstream may be silent before a client that leaves counts against it.
const SILENCE_MS: u64 = 1_000;

/// An event stream may be quiet for so long (5 minutes), whatever `idle_timeout_ms` says of other bodies: nothing to
/// tell is no fault.
const QUIET_EVENTS: Duration = Duration::from_secs(300);

/// How the name of every engine of ours begins in CDN-Loop, and how many of them one request may have passed.
const LOOP_KIND: &[u8] = b"polycdn-";
const LOOP_KIND_MAX: usize = 8;

pub struct Incoming {
    pub head: RequestHead,
    pub source: Option<Source>,
    pub client: IpAddr,
    /// `http` or `https`.
    pub scheme: &'static str,
    pub interim: Interim,
    /// A client waits for it; else the cache asks for itself, and its end is no request's end.
    pub is_counted: bool,
}

/// One upstream that was asked in vain.
struct Tried {
    provider: u16,
    reason: Reason,
    status: Option<u16>,
}

/// An answer that was not good enough, but is better than none.
struct Fallback {
    response: Response,
    provider: u16,
    reason: Reason,
    first_byte_ms: u32,
}

struct Walk<'a> {
    edge: &'a Rc<Edge>,
    site: &'a Rc<Site>,
    region: u16,
    is_counted: bool,
    tried: Vec<Tried>,
    fallback: Option<Fallback>,
}

/// An attempt whose answer is waited for. Dropped before it is over, the client left: after a while of silence that is
/// the upstream's doing, and if nobody said so, an upstream more silent than clients are patient would look well.
struct Waiting<'a> {
    walk: &'a Walk<'a>,
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
        let now_ms = self.walk.edge.now_ms();
        if self.is_over || now_ms.saturating_sub(self.began_ms) < SILENCE_MS {
            return;
        }
        self.destination.health.borrow_mut().failed(now_ms);
        self.walk.count(self.provider, Reason::Timeout, 0);
        self.walk.edge.counts.served(Some(&self.walk.site.service), self.walk.region, Outcome::Failed);
    }
}

/// The answer to a request that may come in, by the service's cache if it has one; an error if the client's own body did
/// not come.
pub async fn respond(edge: &Rc<Edge>, mut incoming: Incoming) -> Result<Answer, BodyError> {
    let Some(site) = edge.site(&incoming.head.authority) else {
        return Box::pin(forward(edge, incoming)).await;
    };
    let cookie = match door::enter(edge, &site, &mut incoming) {
        Ok(cookie) => cookie,
        Err(denial) => return Ok(door::denied(edge, &denial)),
    };
    let mut answer = if site.prepared.shelf.is_some() {
        Box::pin(stored::respond(edge, &site, incoming)).await?
    } else {
        Box::pin(forward(edge, incoming)).await?
    };
    answer.fields.extend(cookie.map(|cookie| Field::new("set-cookie", cookie)));
    Ok(answer)
}

/// The upstreams' answer to a request; an error if the client's own body did not come.
pub async fn forward(edge: &Rc<Edge>, incoming: Incoming) -> Result<Answer, BodyError> {
    let Some(site) = edge.site(&incoming.head.authority) else {
        return Ok(Answer::own(421, "no service of this name here"));
    };
    let Incoming { head, source, client, scheme, interim, is_counted } = incoming;
    if is_loop(&head, edge.loop_id()) {
        return Ok(Answer::own(508, "this request has been here before"));
    }
    let limits = &site.service.settings.limits;
    let idle = Duration::from_millis(limits.idle_timeout_ms);
    let order = Order {
        bytes: &head_bytes(&head, &client.to_canonical().to_string(), scheme, edge.loop_id()),
        expected: site.prepared.expected.get(&*head.target),
        head: &head,
        limits,
        interim: &interim,
    };
    let pump = source.map(|source| {
        let meter = Meter::new(&site.prepared.gate.limits, &edge.refusals);
        Pump::new(source, meter, head.framing, limits.replay_bytes_max, idle)
    });
    let region = site.service.region_of(client);
    Walk { edge, site: &site, region, is_counted, tried: Vec::new(), fallback: None }.run(&order, pump).await
}

/// Whether a request has passed through this engine already, or through too many of its kind (RFC 8586).
fn is_loop(head: &RequestHead, own: &str) -> bool {
    let lines = head.fields.iter().filter(|field| field.is("cdn-loop"));
    let ids = lines.flat_map(|field| field.value.split(|byte| *byte == b','));
    let ids = ids.filter_map(|member| member.split(|byte| *byte == b';').next()).map(<[u8]>::trim_ascii);
    let (mut is_own, mut of_kind) = (false, 0);
    for id in ids {
        is_own |= id.eq_ignore_ascii_case(own.as_bytes());
        of_kind +=
            usize::from(id.get(..LOOP_KIND.len()).is_some_and(|kind| kind.eq_ignore_ascii_case(LOOP_KIND)));
    }
    is_own || of_kind >= LOOP_KIND_MAX
}

impl Walk<'_> {
    async fn run(mut self, order: &Order<'_>, mut pump: Option<Pump>) -> Result<Answer, BodyError> {
        let mut before: Option<(Rc<Destination>, Reached)> = None;
        for provider in self.line_up(order, pump.is_some()) {
            let Some(destination) = self.site.destinations.get(usize::from(provider)).map(Rc::clone) else {
                continue;
            };
            let is_free = match &before {
                None => self.begin(&destination),
                Some((_, reached)) if !may_repeat(&order.head.method, *reached) || !rewind(&mut pump) => {
                    break;
                }
                Some((failed, _)) => match self.go_on(failed, &destination) {
                    Some(is_free) => is_free,
                    None => continue,
                },
            };
            let began_ms = self.edge.now_ms();
            let waiting =
                Waiting { walk: &self, destination: &destination, provider, began_ms, is_over: false };
            let asked = self.ask(order, &destination, &mut pump).await;
            waiting.over();
            let failure = match asked {
                Err(Ended::Client(error)) => return Err(error),
                Err(Ended::Failed(failure)) => {
                    self.count(provider, failure.reason, 0);
                    self.tried.push(Tried { provider, reason: failure.reason, status: None });
                    failure
                }
                Ok(response) => {
                    let first_byte_ms =
                        u32::try_from(self.edge.now_ms() - began_ms).unwrap_or(u32::MAX).max(1);
                    let reason = judge(order, &response.head);
                    if reason == Reason::Ok {
                        let report = self.report(provider, first_byte_ms, reason);
                        return Ok(answered(order, response, destination, pump, report));
                    }
                    self.count(provider, reason, first_byte_ms);
                    self.set_aside(Fallback { response, provider, reason, first_byte_ms }, pump.as_ref());
                    Failure::sent(reason)
                }
            };
            destination.health.borrow_mut().failed(self.edge.now_ms());
            if is_free {
                // It was free because it looked well; since it was not, it is load that a common fault got in vain.
                self.site.budget.borrow_mut().spend(self.edge.now_ms());
            }
            before = Some((destination, failure.reached));
        }
        Ok(self.give_up(order))
    }

    /// Providers in the order in which this request tries them.
    fn line_up(&self, order: &Order<'_>, has_body: bool) -> Vec<u16> {
        let now_ms = self.edge.now_ms();
        let planned = &self.site.service.region(self.region).order;
        let health =
            |provider: &u16| self.site.destinations.get(usize::from(*provider)).map(|one| &one.health);
        let stance =
            |provider| health(provider).map_or(Stance::SteppedBack, |one| one.borrow().stance(now_ms));
        let stances: Vec<Stance> = planned.iter().map(stance).collect();
        let may_try = !has_body && may_repeat(&order.head.method, Reached::Sent);
        let (positions, trial) = line_up(&stances, may_try);
        if let Some(health) = trial.and_then(|position| planned.get(position)).and_then(health) {
            health.borrow_mut().begin_trial(now_ms);
        }
        positions.into_iter().filter_map(|position| planned.get(position).copied()).collect()
    }

    /// The first attempt of a request; never an extra one.
    fn begin(&self, destination: &Destination) -> bool {
        let now_ms = self.edge.now_ms();
        self.site.budget.borrow_mut().add_load(now_ms);
        destination.budget.borrow_mut().add_load(now_ms);
        false
    }

    /// Whether one more attempt is free (Some(true)), charged to the budgets (Some(false)) or refused by them.
    fn go_on(&self, failed: &Destination, next: &Destination) -> Option<bool> {
        let now_ms = self.edge.now_ms();
        if is_clearly_better(&next.health.borrow(), &failed.health.borrow(), now_ms) {
            next.budget.borrow_mut().add_load(now_ms);
            return Some(true);
        }
        let (mut service, mut own) = (self.site.budget.borrow_mut(), next.budget.borrow_mut());
        if !service.has_room(now_ms, self.site.allowance) || !own.has_room(now_ms, self.site.allowance) {
            return None;
        }
        service.spend(now_ms);
        own.spend(now_ms);
        Some(false)
    }

    async fn ask(
        &self,
        order: &Order<'_>,
        destination: &Destination,
        pump: &mut Option<Pump>,
    ) -> Result<Response, Ended> {
        let response = attempt(order, destination, pump, self.edge.now_ms()).await?;
        let is_sent = pump.as_ref().is_none_or(Pump::is_done);
        if let (Framing::Length(bytes @ 1..), true) = (response.head.framing, is_sent) {
            hold(&response, bytes).await?;
        }
        Ok(response)
    }

    fn count(&self, provider: u16, reason: Reason, first_byte_ms: u32) {
        self.edge.counts.attempt(&self.site.service, provider, self.region, reason, first_byte_ms);
    }

    fn report(&self, provider: u16, first_byte_ms: u32, verdict: Reason) -> Report {
        Report {
            edge: Rc::clone(self.edge),
            site: Rc::clone(self.site),
            provider,
            region: self.region,
            first_byte_ms,
            verdict,
            began_ms: self.edge.now_ms(),
            is_attempt_counted: verdict != Reason::Ok,
            is_request_counted: !self.is_counted,
        }
    }

    /// Keeps an answer that is not good for the case that there is no better one.
    fn set_aside(&mut self, mut fallback: Fallback, pump: Option<&Pump>) {
        let (provider, reason) = (fallback.provider, fallback.reason);
        self.tried.push(Tried { provider, reason, status: Some(fallback.response.head.status) });
        // Its connection has seen only a part of the request.
        fallback.response.head.is_persistent &= pump.is_none_or(Pump::is_done);
        if let Some(older) = self.fallback.replace(fallback) {
            self.reuse(older);
        }
    }

    /// Keeps the connection of an answer that nobody wants, if the answer is here already.
    fn reuse(&self, fallback: Fallback) {
        let Response { wire, head } = fallback.response;
        let mut decoder = Decoder::new(head.framing);
        while matches!(wire.with_unread(|unread| decoder.decode(unread)), Ok(Step::Chunk(_))) {}
        let destination = self.site.destinations.get(usize::from(fallback.provider));
        if let Some(destination) = destination.filter(|_| decoder.is_done() && head.is_persistent) {
            destination.keep(wire, self.edge.now_ms());
        }
    }

    /// What the client gets when nobody answered well: the last upstream's own word on it, if there was one that does
    /// not claim to be good, else ours.
    fn give_up(mut self, order: &Order<'_>) -> Answer {
        let status = Field::new("proxy-status", self.proxy_status());
        let fallback =
            self.fallback.take().filter(|last| matches!(last.reason, Reason::Http5xx | Reason::Status));
        let destination =
            fallback.as_ref().and_then(|last| self.site.destinations.get(usize::from(last.provider)));
        if let (Some(destination), Some(last)) = (destination.map(Rc::clone), fallback) {
            let report = self.report(last.provider, last.first_byte_ms, last.reason);
            let mut answer = answered(order, last.response, destination, None, report);
            answer.fields.push(status);
            return answer;
        }
        if self.is_counted {
            self.edge.counts.served(Some(&self.site.service), self.region, Outcome::Failed);
        }
        let mut answer = Answer::own(self.own_status(), "no provider of this service answered well");
        answer.fields.push(status);
        answer
    }

    fn own_status(&self) -> u16 {
        let all = |fits: fn(&Reason) -> bool| self.tried.iter().all(|tried| fits(&tried.reason));
        if self.tried.is_empty() || all(|reason| matches!(reason, Reason::Refused | Reason::Unreachable)) {
            503
        } else if all(|reason| matches!(reason, Reason::Timeout | Reason::DnsTimeout | Reason::Stalled)) {
            504
        } else {
            502
        }
    }

    /// One member per attempt, in their order (RFC 9209 §2).
    fn proxy_status(&self) -> Bytes {
        let member = |tried: &Tried| {
            let name: String = self
                .site
                .service
                .upstream_name(tried.provider)
                .chars()
                .filter(|c| c.is_ascii_graphic() && !"\"\\".contains(*c))
                .collect();
            let received = tried.status.map_or(String::new(), |status| format!("; received-status={status}"));
            let (error, word) = (proxy_error(tried.reason), tried.reason.word());
            format!("polycdn; error={error}; next-hop=\"{name}\"{received}; details=\"{word}\"")
        };
        Bytes::from(self.tried.iter().map(member).collect::<Vec<_>>().join(", "))
    }
}

/// The error types of RFC 9209 §2.3.
fn proxy_error(reason: Reason) -> &'static str {
    match reason {
        Reason::Refused => "connection_refused",
        Reason::Reset => "connection_terminated",
        Reason::Timeout => "http_response_timeout",
        Reason::Unreachable => "destination_ip_unroutable",
        Reason::Tls => "tls_protocol_error",
        Reason::CertExpired => "tls_certificate_error",
        Reason::Empty | Reason::Truncated | Reason::Stalled => "http_response_incomplete",
        Reason::DnsServfail | Reason::DnsEmpty => "dns_error",
        Reason::DnsTimeout => "dns_timeout",
        Reason::Http5xx | Reason::Status | Reason::Content => "destination_unavailable",
        _ => "http_protocol_error",
    }
}

/// Waits, a moment at most, until a small body is here whole.
async fn hold(response: &Response, body_bytes: u64) -> Result<(), Failure> {
    let wanted = usize::try_from(body_bytes.min(HOLD_BYTES_MAX)).unwrap_or(usize::MAX);
    // Of a large body only the beginning tells anything, and it is not to be kept waiting for.
    let wanted = if body_bytes > HOLD_BYTES_MAX { 1 } else { wanted };
    let whole = async {
        while response.wire.with_unread(|unread: &mut BytesMut| unread.len()) < wanted {
            match response.wire.fill().await {
                Ok(0) => return Err(Failure::sent(Reason::Truncated)),
                Ok(_) => {}
                Err(error) => return Err(Failure::sent(lost(&error))),
            }
        }
        Ok(())
    };
    timeout(HOLD, whole).await.unwrap_or(Ok(()))
}

fn answered(
    order: &Order<'_>,
    response: Response,
    destination: Rc<Destination>,
    pump: Option<Pump>,
    report: Report,
) -> Answer {
    if response.head.status == 101 {
        destination.health.borrow_mut().succeeded(report.began_ms);
        let protocol = response.head.upgrade.unwrap_or_default();
        let body = Body::Tunnel(Box::new(response.wire), protocol);
        return Answer { status: 101, fields: response.head.fields, length: None, body, is_ours: false };
    }
    let is_events = value_of(&response.head.fields, "content-type")
        .is_some_and(|kind| kind.starts_with(b"text/event-stream"));
    let idle = Duration::from_millis(order.limits.idle_timeout_ms);
    let idle = if is_events { idle.max(QUIET_EVENTS) } else { idle };
    relayed(response, |response| Relay::new(response, destination, idle, pump, report), order.head.is_head())
}
