//! Bytes from a stranger: whatever comes, a well-formed reply within its limit, or none.

mod dns_fixture;

use _native::dns::answer::{Transport, answer};
use _native::dns::zone::Zones;
use dns_fixture::{ask, read_reply, settings, usual_plan, zones};
use std::net::IpAddr;

/// About a second in a debug build.
const CASES: u64 = 200_000;

/// splitmix64: the same cases every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB) >> 16
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.roll() % limit as u64) as usize
    }

    fn byte(&mut self) -> u8 {
        self.roll() as u8
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let names = [
        "www.example.test",
        "no.example.test",
        "example.test",
        "b.c.example.test",
        "ns1.example.test",
        "x",
        "",
    ];
    let mut seeds = Vec::new();
    for name in names {
        for kind in [1, 2, 5, 6, 28, 41, 252, 255] {
            seeds.push(ask(name, kind).bytes());
            seeds.push(ask(name, kind).edns(1232, 0, &[]).bytes());
            seeds.push(ask(name, kind).subnet("10.9.8.0", 24).bytes());
            seeds.push(ask(name, kind).subnet("2001:db8:e::", 56).bytes());
        }
    }
    seeds
}

fn mutate(dice: &mut Dice, bytes: &mut Vec<u8>) {
    for _ in 0..=dice.below(4) {
        let at = dice.below(bytes.len().max(1));
        match dice.below(6) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at.min(bytes.len()), dice.byte()),
            2 => bytes.extend_from_within(at.min(bytes.len())..),
            3 if !bytes.is_empty() => bytes[at] ^= 1 << dice.below(8),
            4 if !bytes.is_empty() => bytes[at] = [0, 1, 63, 64, 0xC0, 0xFF][dice.below(6)],
            _ if !bytes.is_empty() => bytes[at] = dice.byte(),
            _ => {}
        }
        bytes.truncate(4_096);
    }
}

fn check(zones: &Zones, query: &[u8], client: IpAddr, out: &mut Vec<u8>) -> bool {
    for transport in [Transport::Udp, Transport::Tcp] {
        if answer(zones, query, client, transport, out).is_none() {
            assert!(
                query.len() < 12 || query[2] & 0x80 != 0,
                "only what is no query gets no reply: {query:?}"
            );
            return false;
        }
        let reply = read_reply(out);
        assert!(reply.bytes <= if transport == Transport::Udp { 1_232 } else { 65_535 });
        assert_eq!(out[..2], query[..2], "the id");
        assert!(query[12..].starts_with(&reply.question), "the question as asked");
        assert!(!(reply.is_cut() && transport == Transport::Tcp));
        assert!(reply.answer.is_empty() || reply.rcode() == 0);
    }
    true
}

#[test]
fn mutated_queries_get_a_well_formed_reply_or_none() {
    let zones = zones(&settings(), &usual_plan());
    let (seeds, mut dice, mut out) = (seeds(), Dice(1), Vec::new());
    let mut answered = 0;
    for _ in 0..CASES {
        let mut query = seeds[dice.below(seeds.len())].clone();
        mutate(&mut dice, &mut query);
        answered += u64::from(check(&zones, &query, "10.9.8.130".parse().unwrap(), &mut out));
    }
    assert!(answered > CASES / 2, "most mutations still reach the parser: {answered}");
}

#[test]
fn random_bytes_get_a_well_formed_reply_or_none() {
    let zones = zones(&settings(), &usual_plan());
    let (mut dice, mut out) = (Dice(2), Vec::new());
    for _ in 0..CASES / 2 {
        let mut query: Vec<u8> = (0..dice.below(64)).map(|_| dice.byte()).collect();
        // Half of them with a plausible header, so that the rest is looked at.
        if query.len() >= 12 && dice.below(2) == 0 {
            query[2..12].copy_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0, dice.byte() % 3]);
        }
        check(&zones, &query, "::1".parse().unwrap(), &mut out);
    }
}

#[test]
fn the_largest_counts_and_the_longest_message_take_no_time() {
    let zones = zones(&settings(), &usual_plan());
    let mut query = ask("www.example.test", 1).bytes();
    query[6..12].fill(0xFF);
    query.resize(65_535, 0);
    let mut out = Vec::new();
    for _ in 0..100 {
        check(&zones, &query, "::1".parse().unwrap(), &mut out);
    }
}
