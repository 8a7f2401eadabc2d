//! What the client gets when nobody answered well.

use crate::count::{Outcome, Reason};
use crate::edge::answer::{Answer, Body};
use crate::edge::attempt::Order;
use crate::edge::message::Field;
use crate::edge::walk::{Fallback, Walk};
use crate::edge::worker::Site;
use crate::table::Service;
use bytes::Bytes;

/// When to come back: soon, since another provider may be in the plan by then.
const RETRY_AFTER_S: &str = "2";

const NOBODY: &str = "no provider of this service answered well";

/// One upstream that was asked in vain.
#[derive(Clone, Debug)]
pub struct Tried {
    pub provider: u16,
    pub reason: Reason,
    pub status: Option<u16>,
}

impl Walk {
    /// A good answer that hardly comes, if nobody did better; the last upstream's own word, if that does not claim to be
    /// good; else the service's own fallback; else ours.
    pub fn give_up(mut self, order: &Order<'_>) -> Answer {
        let fallback = match self.fallback.take().map(|fallback| *fallback) {
            Some(Fallback { attempted, response, reason: Reason::Stalled }) => {
                return self.answered(order, attempted, response, None, Reason::Stalled);
            }
            fallback => fallback,
        };
        let spoken = fallback.filter(|last| matches!(last.reason, Reason::Http5xx | Reason::Status));
        let site = &self.route.site;
        let may_fall_back = matches!(order.head.method.as_ref(), b"GET" | b"HEAD");
        let told = proxy_status(&site.service, &self.tried);
        let has_own = may_fall_back && site.prepared.fallback.is_some();
        if let Some(Fallback { attempted, response, reason }) = spoken.filter(|_| !has_own) {
            let mut answer = self.answered(order, attempted, response, None, reason);
            answer.fields.push(Field::new("proxy-status", told));
            return answer;
        }
        if self.is_counted {
            let route = &self.route;
            route.edge.counts.served(Some(&route.site.service), route.region, Outcome::Failed);
        }
        own_word(site, own_status(&self.tried), told, may_fall_back)
    }
}

/// What a client gets in place of an answer whose body broke off everywhere before anything of it went out. Of a body that
/// is being stored it may not be known who was asked; then `reason` is all there is to tell.
pub fn unsaid(site: &Site, tried: &[Tried], reason: Reason, may_fall_back: bool) -> Answer {
    if !tried.is_empty() {
        return own_word(site, own_status(tried), proxy_status(&site.service, tried), may_fall_back);
    }
    let told = format!("polycdn; error={}; details=\"{}\"", proxy_error(reason), reason.word());
    own_word(site, if reason == Reason::Stalled { 504 } else { 502 }, told.into(), may_fall_back)
}

/// The service's own fallback, or ours with this status.
fn own_word(site: &Site, status: u16, proxy_status: Bytes, may_fall_back: bool) -> Answer {
    let own = site.prepared.fallback.clone().filter(|_| may_fall_back);
    let mut answer = own.map_or_else(|| Answer::own(status, NOBODY), |own| own.answer());
    answer.fields.push(Field::new("proxy-status", proxy_status));
    if answer.status >= 500 {
        answer.fields.push(Field::new("retry-after", RETRY_AFTER_S));
    }
    answer
}

fn own_status(tried: &[Tried]) -> u16 {
    let all = |fits: fn(&Reason) -> bool| tried.iter().all(|tried| fits(&tried.reason));
    let is_away = |reason: &Reason| matches!(reason, Reason::Refused | Reason::Unreachable | Reason::Blind);
    let is_late = |reason: &Reason| matches!(reason, Reason::Timeout | Reason::DnsTimeout | Reason::Stalled);
    if tried.is_empty() || all(is_away) {
        503
    } else if all(is_late) {
        504
    } else {
        502
    }
}

/// One member per attempt, in their order (RFC 9209 §2).
fn proxy_status(service: &Service, tried: &[Tried]) -> Bytes {
    let member = |tried: &Tried| {
        let name: String = service
            .upstream_name(tried.provider)
            .chars()
            .filter(|c| c.is_ascii_graphic() && !"\"\\".contains(*c))
            .collect();
        let received = tried.status.map_or(String::new(), |status| format!("; received-status={status}"));
        let (error, word) = (proxy_error(tried.reason), tried.reason.word());
        format!("polycdn; error={error}; next-hop=\"{name}\"{received}; details=\"{word}\"")
    };
    Bytes::from(tried.iter().map(member).collect::<Vec<_>>().join(", "))
}

/// What a service says by itself when nobody else can.
#[derive(Clone, Debug)]
pub struct OwnWord {
    pub status: u16,
    pub content_type: Bytes,
    pub body: Bytes,
}

impl OwnWord {
    fn answer(self) -> Answer {
        let kind = Field::new("content-type", self.content_type);
        let fields = vec![kind, Field::new("cache-control", Bytes::from_static(b"no-store"))];
        let length = Some(self.body.len() as u64);
        Answer { status: self.status, fields, length, body: Body::Full(self.body), is_ours: true }
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
        Reason::Blind => "connection_limit_reached",
        _ => "http_protocol_error",
    }
}
