//! What the client gets when nobody answered well.

use crate::count::{Outcome, Reason};
use crate::edge::answer::{Answer, Body};
use crate::edge::attempt::Order;
use crate::edge::message::Field;
use crate::edge::walk::{Fallback, Walk};
use bytes::Bytes;

/// When to come back: soon, since another provider may be in the plan by then.
const RETRY_AFTER_S: &str = "2";

/// One upstream that was asked in vain.
pub struct Tried {
    pub provider: u16,
    pub reason: Reason,
    pub status: Option<u16>,
}

impl Walk {
    /// The last upstream's own word on it, if there was one that does not claim to be good; else the service's own
    /// fallback; else ours.
    pub fn give_up(mut self, order: &Order<'_>) -> Answer {
        let status = Field::new("proxy-status", self.proxy_status());
        let spoken =
            self.fallback.take().filter(|last| matches!(last.reason, Reason::Http5xx | Reason::Status));
        let own = self
            .route
            .site
            .prepared
            .fallback
            .clone()
            .filter(|_| matches!(order.head.method.as_ref(), b"GET" | b"HEAD"));
        if let Some(Fallback { attempted, response, reason }) = spoken.filter(|_| own.is_none()) {
            let mut answer = self.answered(order, attempted, response, None, reason);
            answer.fields.push(status);
            return answer;
        }
        if self.is_counted {
            let route = &self.route;
            route.edge.counts.served(Some(&route.site.service), route.region, Outcome::Failed);
        }
        let why = "no provider of this service answered well";
        let mut answer = own.map_or_else(|| Answer::own(self.own_status(), why), |own| own.answer());
        answer.fields.push(status);
        if answer.status >= 500 {
            answer.fields.push(Field::new("retry-after", RETRY_AFTER_S));
        }
        answer
    }

    fn own_status(&self) -> u16 {
        let all = |fits: fn(&Reason) -> bool| self.tried.iter().all(|tried| fits(&tried.reason));
        let is_away =
            |reason: &Reason| matches!(reason, Reason::Refused | Reason::Unreachable | Reason::Blind);
        let is_late =
            |reason: &Reason| matches!(reason, Reason::Timeout | Reason::DnsTimeout | Reason::Stalled);
        if self.tried.is_empty() || all(is_away) {
            503
        } else if all(is_late) {
            504
        } else {
            502
        }
    }

    /// One member per attempt, in their order (RFC 9209 §2).
    fn proxy_status(&self) -> Bytes {
        let member = |tried: &Tried| {
            let service = &self.route.site.service;
            let name: String = service
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
