//! Zones from JSON, queries to bytes and replies from bytes, for the nameserver's tests.
#![allow(dead_code, reason = "each test file uses its own part")]

use _native::dns::answer::{Transport, answer};
use _native::dns::zone::{Answers, Zones};
use _native::document::{parse_plan, parse_settings};
use _native::error::Refusal;
use _native::table::{Served, Service};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::sync::Arc;

pub const HASH: &str = "00";

/// Service `www` of the zone example.test: four providers, two regions, every kind of answer.
pub fn settings() -> Value {
    let upstream = |name: &str| json!({"name": name, "kind": "cdn", "endpoint": {"host": "e.test"}});
    let mut both = upstream("both");
    both["ipv4"] = json!(["192.0.2.1", "192.0.2.2"]);
    both["ipv6"] = json!(["2001:db8::1"]);
    let mut four = upstream("four");
    four["ipv4"] = json!(["198.51.100.1"]);
    let mut alias = upstream("alias");
    alias["cname"] = json!("Customer.CDN.test.");
    json!({
        "service": "www",
        "hostnames": ["www.example.test", "a.b.c.example.test", "elsewhere.invalid"],
        "upstreams": [both, four, alias, upstream("nothing")],
        "regions": [{}, {"name": "eu", "prefixes": ["10.0.0.0/8", "10.9.8.128/26", "2001:db8:e::/48"]}],
        "zone": {
            "apex": "example.test",
            "mailbox": "host.master@example.test",
            "name_servers": [
                {"name": "ns1.example.test", "addresses": ["127.0.0.1", "::1"]},
                {"name": "ns2.other.test", "addresses": ["127.0.0.2"]},
            ],
        },
    })
}

/// A plan: for each region its shares and TTL; every other provider behind them in the order.
pub fn plan(anywhere: (Value, u32), eu: (Value, u32)) -> Value {
    let region = |name: &str, (shares, ttl_s): (Value, u32)| {
        let mut order: Vec<Value> = shares.as_array().unwrap().iter().map(|share| share[0].clone()).collect();
        for provider in ["both", "four", "alias", "nothing"] {
            if !order.contains(&json!(provider)) {
                order.push(json!(provider));
            }
        }
        json!({"region": name, "shares": shares, "order": order, "ttl_s": ttl_s})
    };
    json!({
        "plan": {
            "service": "www", "generation": 7, "parent": 6, "made_ms": 1,
            "regions": [region("anywhere", anywhere), region("eu", eu)],
        },
        "settings_hash": HASH,
    })
}

/// Everywhere "both" with 60 s, in the region eu "alias" with 20 s.
pub fn usual_plan() -> Value {
    plan((json!([["both", 10_000]]), 60), (json!([["alias", 10_000]]), 20))
}

pub fn compile(settings: &Value, plan: &Value) -> Result<Served<Answers>, Refusal> {
    let published = parse_plan(plan.to_string().as_bytes())?;
    let settings = parse_settings(settings.to_string().as_bytes())?;
    let service = Arc::new(Service::compile(settings, &published)?);
    let prepared = Arc::new(Answers::new(&service)?);
    Ok(Served { service, prepared })
}

pub fn zones(settings: &Value, plan: &Value) -> Zones {
    Zones::new(&[compile(settings, plan).unwrap()])
}

/// One that is built up field by field; `bytes` puts it on the wire.
pub struct Ask {
    pub id: u16,
    pub flags: u16,
    pub name: Vec<u8>,
    pub kind: u16,
    pub class: u16,
    pub edns: Option<(u16, u8, Vec<u8>)>,
}

pub fn ask(name: &str, kind: u16) -> Ask {
    let mut wire = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        wire.push(u8::try_from(label.len()).unwrap());
        wire.extend_from_slice(label.as_bytes());
    }
    wire.push(0);
    Ask { id: 0x1234, flags: 0x0100, name: wire, kind, class: 1, edns: None }
}

impl Ask {
    pub fn edns(mut self, payload_bytes: u16, version: u8, options: &[u8]) -> Self {
        self.edns = Some((payload_bytes, version, options.to_vec()));
        self
    }

    /// With a client subnet; the address is cut to the bytes that `bits` needs.
    pub fn subnet(self, address: &str, bits: u8) -> Self {
        self.edns(4096, 0, &subnet_option(address, bits))
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let additional = u16::from(self.edns.is_some());
        for word in [self.id, self.flags, 1, 0, 0, additional] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        out.extend_from_slice(&self.name);
        out.extend_from_slice(&self.kind.to_be_bytes());
        out.extend_from_slice(&self.class.to_be_bytes());
        if let Some((payload_bytes, version, options)) = &self.edns {
            out.extend_from_slice(&[0, 0, 41]);
            out.extend_from_slice(&payload_bytes.to_be_bytes());
            out.extend_from_slice(&[0, *version, 0x80, 0]);
            out.extend_from_slice(&u16::try_from(options.len()).unwrap().to_be_bytes());
            out.extend_from_slice(options);
        }
        out
    }
}

pub fn subnet_option(address: &str, bits: u8) -> Vec<u8> {
    let address: IpAddr = address.parse().unwrap();
    let (family, octets) = match address {
        IpAddr::V4(v4) => (1, v4.octets().to_vec()),
        IpAddr::V6(v6) => (2, v6.octets().to_vec()),
    };
    let octets = &octets[..usize::from(bits).div_ceil(8).min(octets.len())];
    let length = u8::try_from(octets.len()).unwrap() + 4;
    let mut option = vec![0, 8, 0, length, 0, family, bits, 0];
    option.extend_from_slice(octets);
    option
}

#[derive(Debug, PartialEq, Eq)]
pub struct Record {
    pub name: String,
    pub kind: u16,
    pub class: u16,
    pub ttl_s: u32,
    pub rdata: Vec<u8>,
}

#[derive(Debug)]
pub struct Reply {
    pub id: u16,
    pub flags: u16,
    pub question: Vec<u8>,
    pub answer: Vec<Record>,
    pub authority: Vec<Record>,
    pub additional: Vec<Record>,
    pub opt: Option<Record>,
    pub bytes: usize,
}

impl Reply {
    /// With the high bits from the OPT record.
    pub fn rcode(&self) -> u16 {
        let high = self.opt.as_ref().map_or(0, |opt| (opt.ttl_s >> 24) as u16);
        high << 4 | self.flags & 0xF
    }

    pub fn is_authoritative(&self) -> bool {
        self.flags & 0x0400 != 0
    }

    pub fn is_cut(&self) -> bool {
        self.flags & 0x0200 != 0
    }

    /// RDATA of the answers of a kind.
    pub fn rdata(&self, kind: u16) -> Vec<&[u8]> {
        self.answer.iter().filter(|record| record.kind == kind).map(|record| &*record.rdata).collect()
    }
}

pub fn send_from(zones: &Zones, query: &[u8], client: &str, transport: Transport) -> Option<Reply> {
    let mut out = Vec::new();
    answer(zones, query, client.parse().unwrap(), transport, &mut out)?;
    Some(read_reply(&out))
}

pub fn send(zones: &Zones, ask: &Ask) -> Reply {
    send_from(zones, &ask.bytes(), "203.0.113.9", Transport::Udp).unwrap()
}

/// Reads a whole reply; panics on anything that is not well-formed, so that every test checks that too.
pub fn read_reply(message: &[u8]) -> Reply {
    let word = |at: usize| u16::from_be_bytes([message[at], message[at + 1]]);
    assert!(word(2) & 0x8000 != 0, "QR is set");
    assert!(word(2) & 0x00F0 == 0, "RA and the bits after it are clear");
    let mut at = 12;
    assert!(word(4) <= 1);
    if word(4) == 1 {
        at = read_name(message, at).1 + 4;
    }
    let question = message[12..at].to_vec();
    let mut section =
        |count: u16| -> Vec<Record> { (0..count).map(|_| read_record(message, &mut at)).collect() };
    let (answer, authority, mut additional) = (section(word(6)), section(word(8)), section(word(10)));
    assert_eq!(at, message.len(), "nothing behind the last record");
    let opts: Vec<usize> = (0..additional.len()).filter(|index| additional[*index].kind == 41).collect();
    assert!(opts.len() <= 1);
    let opt = opts.first().map(|index| additional.remove(*index));
    Reply { id: word(0), flags: word(2), question, answer, authority, additional, opt, bytes: message.len() }
}

fn read_record(message: &[u8], at: &mut usize) -> Record {
    let (name, end) = read_name(message, *at);
    let word = |at: usize| u16::from_be_bytes([message[at], message[at + 1]]);
    let ttl_s = u32::from_be_bytes(message[end + 4..end + 8].try_into().unwrap());
    let rdata = message[end + 10..end + 10 + usize::from(word(end + 8))].to_vec();
    *at = end + 10 + rdata.len();
    Record { name, kind: word(end), class: word(end + 2), ttl_s, rdata }
}

/// The name, and where it ends. Pointers must go back.
pub fn read_name(message: &[u8], start: usize) -> (String, usize) {
    let (mut name, mut at, mut end) = (String::new(), start, None);
    loop {
        match message[at] {
            0 => return (name, end.unwrap_or(at + 1)),
            length @ 1..=63 => {
                let label = &message[at + 1..at + 1 + usize::from(length)];
                name.extend(label.iter().map(|byte| char::from(*byte)));
                name.push('.');
                at += 1 + usize::from(length);
            }
            high => {
                assert!(high >= 0xC0);
                let target = usize::from(u16::from_be_bytes([high & 0x3F, message[at + 1]]));
                assert!(target < at, "a pointer goes back");
                end.get_or_insert(at + 2);
                at = target;
            }
        }
    }
}
