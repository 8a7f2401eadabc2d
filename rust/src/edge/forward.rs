//! A request's way through the upstreams, in the plan's order, until one answers well.
//!
//! Nothing has gone to the client yet while this runs: whatever fails here, the next upstream may be asked.

use crate::edge::answer::Answer;
use crate::edge::attempt::{Interim, Order, head_bytes};
use crate::edge::body::{BodyError, Pump, Source};
use crate::edge::door;
use crate::edge::message::{Field, RequestHead};
use crate::edge::meter::Meter;
use crate::edge::route::Route;
use crate::edge::stored;
use crate::edge::walk::Walk;
use crate::edge::worker::Edge;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

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
        bytes: &head_bytes(&head, client, scheme, edge.loop_id(), site.service.settings.forwarded),
        expected: site.prepared.expected.get(&*head.target),
        head: &head,
        limits,
        interim: &interim,
        patience: Duration::from_millis(limits.first_byte_timeout_ms),
    };
    let pump = source.map(|source| {
        let meter = Meter::new(&site.prepared.gate.limits, &edge.refusals);
        Box::new(Pump::new(source, meter, head.framing, limits.replay_bytes_max, idle))
    });
    let region = site.service.region_of(client);
    let route = Route { edge: Rc::clone(edge), site: Rc::clone(&site), region };
    Walk::new(route, is_counted, (client, scheme)).run(&order, pump).await
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
