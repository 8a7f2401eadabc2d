//! A body that broke off, taken up again on the next upstream: the client sees one answer.

use crate::count::Reason;
use crate::document::Integrity;
use crate::edge::attempt::{Ended, Interim, Order, Response, attempt, head_bytes};
use crate::edge::destination::{Destination, Place};
use crate::edge::give_up::Tried;
use crate::edge::message::{AnswerHead, Field, RequestHead, value_of};
use crate::edge::route::Route;
use crate::reflex::check::Check;
use crate::reflex::digest::{Pinned, told};
use crate::reflex::identity::{Identity, Rule, Stretch};
use bytes::Bytes;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

/// How often one answer may be taken up again; more is a fault that moves faster than the bytes.
const RESUMES_MAX: u32 = 64;

/// How often in a row without a byte in between.
const RESUMES_IN_VAIN_MAX: u32 = 3;

/// A digest that only the answer itself carries keeps no more than this waiting for it.
const HOLD_TOLD_BYTES: u64 = 64 * 1024;

/// What an answer's body is, and by what another upstream's is known to be the same.
enum Content {
    /// Bytes of a representation.
    Bytes { identity: Identity, rule: Rule, is_pinned: bool },
    /// Server-sent events, which go on behind an id.
    Events,
}

/// All that is needed to ask for the rest of a body elsewhere.
pub struct Course {
    route: Route,
    head: RequestHead,
    client: IpAddr,
    scheme: &'static str,
    content: Content,
    pub stretch: Stretch,
    resumes_left: u32,
    in_vain: u32,
    resumed_at: u64,
}

/// Where a body goes on.
pub struct Resumed {
    pub response: Response,
    pub destination: Rc<Destination>,
    pub provider: u16,
    pub first_byte_ms: u32,
    /// So many bytes of it the client has already.
    pub skip_bytes: u64,
    pub place: Option<Place>,
}

/// With those that were asked in vain.
pub type Coming = Pin<Box<dyn Future<Output = (Vec<Tried>, Result<Resumed, Reason>)>>>;

/// From where on the rest is asked for.
pub enum From {
    Byte(u64),
    Id(Bytes),
    Start,
}

impl Course {
    /// None where nothing could tell that another upstream's bytes belong to this answer, or where there is no body.
    pub fn new(
        route: &Route,
        request: &RequestHead,
        (client, scheme): (IpAddr, &'static str),
        answer: &AnswerHead,
        pinned: Option<&Pinned>,
    ) -> Option<Self> {
        if request.method.as_ref() != b"GET" {
            return None;
        }
        let rule = route.site.service.settings.reflexes.identity;
        let (content, stretch) = if is_events(answer) {
            (Content::Events, Stretch { first: 0, end: None })
        } else {
            let (identity, stretch) = Identity::of(answer)?;
            // Only of a whole do digests say all.
            let is_pinned = pinned
                .is_some_and(|pinned| pinned.bytes.is_some() && pinned.bytes == stretch.end)
                && stretch.first == 0;
            if !is_pinned && !identity.is_recognisable(rule) {
                return None;
            }
            (Content::Bytes { identity, rule, is_pinned }, stretch)
        };
        Some(Self {
            route: route.clone(),
            head: request.clone(),
            client,
            scheme,
            content,
            stretch,
            resumes_left: RESUMES_MAX,
            in_vain: 0,
            resumed_at: u64::MAX,
        })
    }

    pub fn is_events(&self) -> bool {
        matches!(self.content, Content::Events)
    }

    /// Whether there is anybody else to go on with.
    pub fn has_others(&self) -> bool {
        self.route.site.destinations.len() > 1 && self.resumes_left > 0
    }

    /// Asks for the rest, from `failed`'s successors in the plan's order and at last from `failed` itself; None when it was
    /// taken up too often, or too often in vain: `passed` says how far it has come.
    pub fn resume(&mut self, from: From, passed: u64, failed: (u16, Rc<Destination>)) -> Option<Coming> {
        let at = if let From::Byte(at) = from { at } else { 0 };
        self.in_vain = if passed == self.resumed_at { self.in_vain + 1 } else { 0 };
        self.resumed_at = passed;
        if self.resumes_left == 0 || self.in_vain >= RESUMES_IN_VAIN_MAX {
            return None;
        }
        self.resumes_left -= 1;
        let mut line = self.route.line_up(true);
        line.retain(|provider| *provider != failed.0);
        line.push(failed.0);
        let end = self.stretch.end;
        let mut head = self.head.clone();
        head.fields.retain(|field| !is_replaced(field));
        let wanted = match (&self.content, from) {
            (Content::Bytes { identity, rule, is_pinned }, _) => {
                if at > 0 || end.is_some_and(|end| Some(end) != identity.complete_bytes) {
                    head.fields.extend(identity.ask_for(at, end, *rule));
                }
                Wanted::Bytes { identity: identity.clone(), rule: *rule, is_pinned: *is_pinned, at, end }
            }
            (Content::Events, from) => {
                let id = if let From::Id(id) = from { Some(id) } else { None };
                head.fields.extend(id.map(|id| Field::new("last-event-id", id)));
                Wanted::Events
            }
        };
        let resumption = Resumption {
            route: self.route.clone(),
            head,
            client: self.client,
            scheme: self.scheme,
            line,
            failed: failed.1,
            wanted,
        };
        Some(Box::pin(async move {
            let mut tried = Vec::new();
            let resumed = resumption.run(&mut tried).await;
            (tried, resumed)
        }))
    }
}

fn is_replaced(field: &Field) -> bool {
    [
        "range",
        "if-range",
        "last-event-id",
        "if-none-match",
        "if-modified-since",
        "if-match",
        "if-unmodified-since",
    ]
    .iter()
    .any(|name| field.is(name))
}

pub fn is_events(head: &AnswerHead) -> bool {
    head.status == 200
        && value_of(&head.fields, "content-type").is_some_and(|kind| kind.starts_with(b"text/event-stream"))
}

/// What stands between these bytes and the client until they are known to be right; None: nothing is known of them.
pub fn check_of(route: &Route, answer: &AnswerHead, pinned: Option<&Pinned>) -> Option<Check> {
    let pinned = pinned.filter(|_| !answer.is_coded());
    let told = told(answer);
    if pinned.is_none() && told.is_none() {
        return None;
    }
    let (_, stretch) = Identity::of(answer)?;
    let reflexes = &route.site.service.settings.reflexes;
    let holds_all = pinned.is_some() || reflexes.integrity == Integrity::Strict;
    let hold_bytes = if holds_all { reflexes.hold_bytes_max } else { HOLD_TOLD_BYTES };
    Check::new(pinned, told, stretch, hold_bytes)
}

enum Wanted {
    Bytes { identity: Identity, rule: Rule, is_pinned: bool, at: u64, end: Option<u64> },
    Events,
}

impl Wanted {
    /// How many bytes of that answer come before what is wanted; an error: it is not the rest.
    fn skip_bytes(&self, head: &AnswerHead) -> Result<u64, Reason> {
        match self {
            Self::Bytes { identity, rule, is_pinned, at, end } => {
                // The digests say whether it is the same, whatever the validators do.
                if *is_pinned {
                    identity.go_on_checked(head, *at, *end)
                } else {
                    identity.go_on(head, *at, *end, *rule)
                }
            }
            Self::Events if is_events(head) => Ok(0),
            Self::Events if head.status >= 500 => Err(Reason::Http5xx),
            Self::Events => Err(Reason::Status),
        }
    }
}

struct Resumption {
    route: Route,
    head: RequestHead,
    client: IpAddr,
    scheme: &'static str,
    line: Vec<u16>,
    failed: Rc<Destination>,
    wanted: Wanted,
}

impl Resumption {
    async fn run(self, tried: &mut Vec<Tried>) -> Result<Resumed, Reason> {
        let (route, mut failed) = (&self.route, Rc::clone(&self.failed));
        let settings = &route.site.service.settings;
        let (limits, reflexes) = (&settings.limits, &settings.reflexes);
        let bytes = head_bytes(
            &self.head,
            self.client,
            self.scheme,
            route.edge.loop_id(),
            route.site.service.settings.forwarded,
        );
        let patience = Duration::from_millis(limits.first_byte_timeout_ms);
        let interim = &Interim::Nowhere;
        let order = Order { bytes: &bytes, expected: None, head: &self.head, limits, interim, patience };
        let mut reason = Reason::Truncated;
        for provider in &self.line {
            let Some(destination) = route.destination(*provider) else { continue };
            if route.go_on(&failed, &destination).is_none() {
                continue;
            }
            let Some(place) = destination.enter(reflexes.queue_max, patience).await else { continue };
            let began_ms = route.edge.now_ms();
            let asked = attempt(&order, &destination, &mut None, began_ms).await;
            let taken_ms = u32::try_from(route.edge.now_ms() - began_ms).unwrap_or(u32::MAX).max(1);
            reason = match asked {
                Err(Ended::Client(_)) => Reason::Blind,
                Err(Ended::Failed(failure)) => failure.reason,
                Ok(response) => match self.wanted.skip_bytes(&response.head) {
                    Ok(skip_bytes) => {
                        let (provider, place) = (*provider, Some(place));
                        return Ok(Resumed {
                            response,
                            destination,
                            provider,
                            first_byte_ms: taken_ms,
                            skip_bytes,
                            place,
                        });
                    }
                    Err(reason) => reason,
                },
            };
            route.count(*provider, reason, taken_ms);
            tried.push(Tried { provider: *provider, reason, status: None });
            destination.failed(reason, route.edge.now_ms());
            failed = destination;
        }
        Err(reason)
    }
}
