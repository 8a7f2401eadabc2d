//! The nameserver: every reply is one, of a size that its asker takes, and says of itself what is in it.

use super::Input;
use crate::dns::answer::{Transport, answer};
use crate::dns::query::parse;
use crate::dns::zone::{Answers, Zones};
use crate::document::{parse_plan, parse_settings};
use crate::table::{Served, Service};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, OnceLock};

const SETTINGS: &str = r#"{"service":"www","hostnames":["www.example.test","example.test"],"upstreams":[
{"name":"one","kind":"cdn","endpoint":{"host":"one.test"},"ipv4":["192.0.2.1"],"ipv6":["2001:db8::1"]},
{"name":"two","kind":"cdn","endpoint":{"host":"two.test"},"ipv4":["192.0.2.2","192.0.2.3"]}],
"zone":{"apex":"example.test","name_servers":[{"name":"ns1.example.test","addresses":["192.0.2.53"]}],
"mailbox":"hostmaster@example.test"}}"#;
const PLAN: &str = r#"{"plan":{"service":"www","generation":1,"parent":0,"made_ms":1,"regions":[{"region":"anywhere",
"shares":[["one",5000],["two",5000]],"order":["one","two"],"ttl_s":60}]},"settings_hash":"x"}"#;

pub fn dns_message(bytes: &[u8]) {
    let mut input = Input(bytes);
    let transport = if input.byte() % 2 == 0 { Transport::Udp } else { Transport::Tcp };
    let message = input.0;
    let zones = zones();
    assert!(!zones.zones.is_empty());
    let mut reply = Vec::new();
    let client = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 200));
    let told = answer(zones, message, client, transport, &mut reply);
    let query = parse(message);
    assert_eq!(told.is_some(), query.is_some());
    let Some(query) = query else { return };
    let limit = if transport == Transport::Udp { 1_232 } else { 65_535 };
    assert!((12..=limit).contains(&reply.len()));
    assert_eq!(reply.get(..2), message.get(..2), "the id comes back");
    assert!(reply.get(2).is_some_and(|flags| flags & 0x80 != 0));
    assert_eq!(walk(&reply), Some(reply.len()), "counts and lengths say what is there");
    if let Some(question) = &query.question {
        assert!(message.get(12..).is_some_and(|rest| rest.starts_with(question.bytes)));
        assert_eq!(reply.get(12..12 + question.bytes.len()), Some(question.bytes));
        assert!(question.name().len() <= 255 && question.name().last() == Some(&0));
    }
    assert!(parse(&reply).is_none(), "a reply is never answered");
}

fn zones() -> &'static Zones {
    static ZONES: OnceLock<Zones> = OnceLock::new();
    ZONES.get_or_init(|| {
        let (settings, plan) = (parse_settings(SETTINGS.as_bytes()), parse_plan(PLAN.as_bytes()));
        let service = settings.and_then(|settings| Service::compile(settings, &plan?)).map(Arc::new);
        let served = service.and_then(|service| {
            let prepared = Arc::new(Answers::new(&service)?);
            Ok(Served { service, prepared })
        });
        assert!(served.is_ok(), "{:?}", served.err());
        served.map_or_else(|_| Zones::default(), |served| Zones::new(&[served]))
    })
}

/// Where a message ends by its own counts and lengths.
fn walk(message: &[u8]) -> Option<usize> {
    let count = |at: usize| Some(usize::from(u16::from_be_bytes(*message.get(at..)?.first_chunk()?)));
    let mut at = 12;
    for _ in 0..count(4)? {
        at = name_end(message, at)? + 4;
    }
    for _ in 0..count(6)? + count(8)? + count(10)? {
        at = name_end(message, at)? + 8;
        at += 2 + count(at)?;
    }
    Some(at)
}

fn name_end(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length @ 1..=63 => at += usize::from(length) + 1,
            // A pointer leads back into the question.
            high @ 192.. => {
                let to = usize::from(high & 0x3f) << 8 | usize::from(*message.get(at + 1)?);
                return (12..at).contains(&to).then_some(at + 2);
            }
            _ => return None,
        }
    }
}
