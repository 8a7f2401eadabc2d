//! Now and then an answer is compared with what another provider says of the same object: two that disagree are reported
//! before anybody needs the second one.

use crate::count::Reason;
use crate::edge::attempt::{Interim, Order, Response, attempt, head_bytes};
use crate::edge::framing::{Decoder, Framing, Step};
use crate::edge::message::{Field, RequestHead};
use crate::edge::route::Route;
use crate::reflex::identity::Identity;
use bytes::Bytes;
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::timeout;

/// The front of an object, which is compared byte by byte.
const SAMPLE_BYTES: u64 = 64 * 1024;

/// How long one provider's sample may take.
const SAMPLE: Duration = Duration::from_secs(5);

/// Whether the request with that number is one whose answer is compared.
pub fn is_due(number: u64, sample_bp: u32) -> bool {
    sample_bp > 0 && number % (10_000 / u64::from(sample_bp.min(10_000))) == 0
}

/// Compares the front of the object at two providers, behind the client's back. Costs each one request.
pub fn compare(route: &Route, request: &RequestHead, client: IpAddr, scheme: &'static str, pair: (u16, u16)) {
    let route = route.clone();
    let mut head = request.clone();
    let is_conditional =
        |field: &Field| ["range", "if-", "cookie", "authorization"].iter().any(|name| starts(field, name));
    if head.fields.iter().any(is_conditional) {
        // What is meant for one client is not asked for twice.
        return;
    }
    head.fields.push(Field::new("range", format!("bytes=0-{}", SAMPLE_BYTES - 1)));
    tokio::task::spawn_local(async move {
        let bytes =
            head_bytes(&head, client, scheme, route.edge.loop_id(), route.site.service.settings.forwarded);
        let first = sample(&route, &head, &bytes, pair.0).await;
        let second = sample(&route, &head, &bytes, pair.1).await;
        if let Some(((first, front), (second, other_front))) = first.zip(second)
            && disagree(&route, (&first, &front), (&second, &other_front))
        {
            route.count(pair.1, Reason::Parity, 0);
        }
    });
}

fn starts(field: &Field, name: &str) -> bool {
    field.name.get(..name.len()).is_some_and(|front| front.eq_ignore_ascii_case(name.as_bytes()))
}

/// Two that both carry the object, and not the same one: validators or lengths that contradict each other, or other bytes.
fn disagree(route: &Route, first: (&Identity, &Bytes), second: (&Identity, &Bytes)) -> bool {
    let rule = route.site.service.settings.reflexes.identity;
    let is_comparable = first.0.is_recognisable(rule) && second.0.is_recognisable(rule);
    let is_other_length = matches!(
        (first.0.complete_bytes, second.0.complete_bytes), (Some(one), Some(other)) if one != other
    );
    let shorter = first.1.len().min(second.1.len());
    let is_other_front = first.1[..shorter] != second.1[..shorter];
    is_other_length || is_comparable && !first.0.is_same(second.0, rule) || is_other_front
}

async fn sample(route: &Route, head: &RequestHead, bytes: &[u8], provider: u16) -> Option<(Identity, Bytes)> {
    let destination = route.destination(provider)?;
    let limits = &route.site.service.settings.limits;
    let order = Order { bytes, expected: None, head, limits, interim: &Interim::Nowhere, patience: SAMPLE };
    let _place = destination.enter(0, SAMPLE).await?;
    let response = attempt(&order, &destination, &mut None, route.edge.now_ms()).await.ok()?;
    let (identity, stretch) = Identity::of(&response.head)?;
    let front = timeout(SAMPLE, front(&response)).await.ok()??;
    if stretch.first > 0 {
        return None;
    }
    if matches!(response.head.framing, Framing::Length(length) if length <= SAMPLE_BYTES)
        && response.head.is_persistent
    {
        destination.keep(response.wire, route.edge.now_ms());
    }
    Some((identity, front))
}

/// The body as far as a sample goes; None if it breaks off before.
async fn front(response: &Response) -> Option<Bytes> {
    let (mut decoder, mut front) = (Decoder::new(response.head.framing), Vec::new());
    while (front.len() as u64) < SAMPLE_BYTES {
        match response.wire.with_unread(|unread| decoder.decode(unread)).ok()? {
            Step::Chunk(piece) => front.extend_from_slice(&piece),
            Step::End => break,
            Step::NeedMore => match response.wire.fill().await {
                Ok(1..) => {}
                Ok(0) if decoder.is_complete_at_close() => break,
                _ => return None,
            },
        }
    }
    front.truncate(SAMPLE_BYTES as usize);
    Some(front.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_compared_answers_is_the_configured_one() {
        let due = |sample_bp| (0..100_000).filter(|number| is_due(*number, sample_bp)).count();
        assert_eq!((due(0), due(10), due(10_000)), (0, 100, 100_000));
    }
}
