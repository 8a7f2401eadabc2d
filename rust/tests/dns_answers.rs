//! What the nameserver answers, read off the bytes.

mod dns_fixture;

use _native::dns::answer::Transport;
use _native::dns::zone::{Answers, Zones};
use _native::table::Served;
use dns_fixture::{Reply, ask, compile, plan, send, send_from, settings, subnet_option, usual_plan, zones};
use serde_json::{Value, json};

const A: u16 = 1;
const NS: u16 = 2;
const CNAME: u16 = 5;
const SOA: u16 = 6;
const HINFO: u16 = 13;
const TXT: u16 = 16;
const AAAA: u16 = 28;
const OPT: u16 = 41;

const NOERROR: u16 = 0;
const FORMERR: u16 = 1;
const NXDOMAIN: u16 = 3;
const NOTIMP: u16 = 4;
const REFUSED: u16 = 5;
const BADVERS: u16 = 16;

fn usual() -> Zones {
    zones(&settings(), &usual_plan())
}

fn assert_negative(reply: &Reply, rcode: u16, negative_ttl_s: u32) {
    assert_eq!(reply.rcode(), rcode);
    assert!(reply.is_authoritative());
    assert!(reply.answer.is_empty());
    let [soa] = &reply.authority[..] else { panic!("one SOA in {:?}", reply.authority) };
    assert_eq!((soa.kind, soa.ttl_s), (SOA, negative_ttl_s));
    assert_eq!(soa.name.to_ascii_lowercase(), "example.test.");
}

#[test]
fn addresses_of_the_one_chosen_provider_come_with_the_regions_ttl() {
    let zones = usual();
    let reply = send(&zones, &ask("www.example.test", A));
    assert_eq!((reply.id, reply.rcode(), reply.flags), (0x1234, NOERROR, 0x8000 | 0x0400 | 0x0100));
    assert_eq!(reply.rdata(A), [&[192, 0, 2, 1], &[192, 0, 2, 2]]);
    assert!(reply.answer.iter().all(|record| record.ttl_s == 60 && record.name == "www.example.test."));
    assert!(reply.authority.is_empty() && reply.additional.is_empty());
    let reply = send(&zones, &ask("www.example.test", AAAA));
    assert_eq!(reply.rdata(AAAA), [&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]]);
}

#[test]
fn a_provider_reached_by_name_is_answered_by_name_whatever_was_asked() {
    let zones = usual();
    for kind in [A, AAAA, CNAME, TXT, 255] {
        let query = ask("www.example.test", kind).bytes();
        let reply = send_from(&zones, &query, "10.1.2.3", Transport::Udp).unwrap();
        assert_eq!(reply.rdata(CNAME), [b"\x08customer\x03cdn\x04test\0"], "type {kind}");
        assert_eq!((reply.answer.len(), reply.answer[0].ttl_s), (1, 20));
    }
}

#[test]
fn a_type_that_is_not_there_is_nodata_and_a_name_that_is_not_there_nxdomain() {
    let zones = usual();
    assert_negative(&send(&zones, &ask("www.example.test", TXT)), NOERROR, 30);
    assert_negative(&send(&zones, &ask("no.example.test", A)), NXDOMAIN, 30);
    assert_negative(&send(&zones, &ask("below.www.example.test", A)), NXDOMAIN, 30);
    let only_ipv4 = plan((json!([["four", 10_000]]), 60), (json!([["four", 10_000]]), 60));
    let zones = dns_fixture::zones(&settings(), &only_ipv4);
    assert_negative(&send(&zones, &ask("www.example.test", AAAA)), NOERROR, 30);
}

#[test]
fn the_negative_ttl_is_the_smaller_of_the_soas_own_and_its_minimum() {
    let mut with_long = settings();
    with_long["zone"]["negative_ttl_s"] = json!(86_400);
    assert_negative(&send(&zones(&with_long, &usual_plan()), &ask("no.example.test", A)), NXDOMAIN, 3_600);
}

#[test]
fn a_name_with_names_below_it_exists() {
    let zones = usual();
    for name in ["b.c.example.test", "c.example.test", "example.test"] {
        assert_negative(&send(&zones, &ask(name, A)), NOERROR, 30);
    }
    assert_eq!(send(&zones, &ask("a.b.c.example.test", A)).answer.len(), 2);
}

#[test]
fn the_apex_has_soa_and_name_servers_with_the_addresses_of_those_inside() {
    let zones = usual();
    let reply = send(&zones, &ask("example.test", NS));
    assert_eq!(reply.rdata(NS), [&b"\x03ns1\x07example\x04test\0"[..], b"\x03ns2\x05other\x04test\0"]);
    let glue: Vec<(&str, u16)> = reply.additional.iter().map(|one| (&*one.name, one.kind)).collect();
    assert_eq!(glue, [("ns1.example.test.", A), ("ns1.example.test.", AAAA)]);
    let reply = send(&zones, &ask("example.test", SOA));
    let mut rdata = b"\x03ns1\x07example\x04test\0\x0bhost.master\x07example\x04test\0".to_vec();
    for number in [7_u32, 3_600, 600, 604_800, 30] {
        rdata.extend_from_slice(&number.to_be_bytes());
    }
    assert_eq!(reply.rdata(SOA), [rdata]);
    assert_eq!(send(&zones, &ask("ns1.example.test", A)).rdata(A), [[127, 0, 0, 1]]);
    assert_eq!(send(&zones, &ask("ns1.example.test", AAAA)).answer.len(), 1);
    assert_negative(&send(&zones, &ask("ns1.example.test", TXT)), NOERROR, 30);
}

#[test]
fn any_is_answered_with_one_small_record() {
    let zones = usual();
    for name in ["www.example.test", "example.test", "ns1.example.test"] {
        let reply = send(&zones, &ask(name, 255));
        assert_eq!(reply.rdata(HINFO), [b"\x07RFC8482\0"], "{name}");
        assert_eq!(reply.answer.len(), 1);
    }
    assert_negative(&send(&zones, &ask("c.example.test", 255)), NOERROR, 30);
}

#[test]
fn what_is_not_ours_is_refused() {
    let zones = usual();
    for name in ["elsewhere.invalid", "test", "", "xexample.test", "example.test.net", "ns2.other.test"] {
        let reply = send(&zones, &ask(name, A));
        assert_eq!((reply.rcode(), reply.is_authoritative()), (REFUSED, false), "{name}");
        assert!(reply.answer.is_empty() && reply.authority.is_empty());
    }
    for class in [0, 3, 4, 254, 255] {
        let mut query = ask("www.example.test", A);
        query.class = class;
        assert_eq!(send(&zones, &query).rcode(), REFUSED, "class {class}");
    }
    for kind in [251, 252] {
        assert_eq!(send(&zones, &ask("example.test", kind)).rcode(), REFUSED);
    }
    assert_eq!(send(&Zones::new(&[]), &ask("www.example.test", A)).rcode(), REFUSED);
}

#[test]
fn the_case_of_the_question_is_kept_and_does_not_matter() {
    let zones = usual();
    let query = ask("wWw.ExAmPlE.tEsT", A);
    let reply = send(&zones, &query);
    assert_eq!(reply.answer.len(), 2);
    assert_eq!(reply.question, query.bytes()[12..]);
    assert_eq!(reply.answer[0].name, "wWw.ExAmPlE.tEsT.");
    let reply = send(&zones, &ask("NO.eXample.TEST", A));
    assert_eq!(reply.authority[0].name, "eXample.TEST.");
}

#[test]
fn without_edns_there_is_no_opt_and_with_it_there_is() {
    let zones = usual();
    assert!(send(&zones, &ask("www.example.test", A)).opt.is_none());
    let opt = send(&zones, &ask("www.example.test", A).edns(4096, 0, &[])).opt.unwrap();
    assert_eq!((opt.class, opt.ttl_s, &*opt.name), (1_232, 0x8000, ""), "size 1232, version 0, DO as asked");
    let unknown_option = [0xFF, 0, 0, 2, 1, 2];
    assert_eq!(send(&zones, &ask("www.example.test", A).edns(512, 0, &unknown_option)).answer.len(), 2);
}

#[test]
fn another_edns_version_is_badvers() {
    let reply = send(&usual(), &ask("www.example.test", A).edns(4096, 1, b"whatever"));
    assert_eq!((reply.rcode(), reply.answer.len()), (BADVERS, 0));
    assert_eq!(reply.opt.unwrap().ttl_s & 0x00FF_0000, 0, "we tell the version that we know");
}

#[test]
fn malformed_queries_are_formerr_and_what_is_no_query_gets_no_reply() {
    let zones = usual();
    let good = ask("www.example.test", A).edns(1232, 0, &[]).bytes();
    let silent = |bytes: &[u8]| send_from(&zones, bytes, "::1", Transport::Udp).is_none();
    assert!(silent(&[]) && silent(&good[..11]));
    let mut reply = good.clone();
    reply[2] |= 0x80;
    assert!(silent(&reply));

    let rcode = |bytes: &[u8]| send_from(&zones, bytes, "::1", Transport::Udp).unwrap().rcode();
    for end in 12..good.len() {
        assert_eq!(rcode(&good[..end]), FORMERR, "cut at {end}");
    }
    let changed = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    assert_eq!(rcode(&[&good[..], &[0]].concat()), FORMERR, "something behind the last record");
    assert_eq!(rcode(&changed(5, 0)), FORMERR, "no question");
    assert_eq!(rcode(&changed(5, 2)), FORMERR, "two questions");
    assert_eq!(rcode(&changed(12, 0xC0)), FORMERR, "a pointer in the question");
    assert_eq!(rcode(&changed(12, 0x40)), FORMERR, "a label type that is not in use");
    assert_eq!(send(&zones, &ask("www.example.test", OPT)).rcode(), FORMERR);
    for opcode in 1..16 {
        let reply = send_from(&zones, &changed(2, opcode << 3), "::1", Transport::Udp).unwrap();
        assert_eq!((reply.rcode(), reply.flags >> 11 & 0xF), (NOTIMP, u16::from(opcode)));
    }
    let mut two_opts = good.clone();
    two_opts[11] = 2;
    two_opts.extend_from_slice(&good[good.len() - 11..]);
    assert_eq!(rcode(&two_opts), FORMERR);
    let name = [b'a'; 60];
    let long = |labels: usize| ask(&vec![std::str::from_utf8(&name).unwrap(); labels].join("."), A);
    assert_eq!(send(&zones, &long(4)).rcode(), REFUSED);
    assert_eq!(send(&zones, &long(5)).rcode(), FORMERR, "a name of more than 255 bytes");
}

#[test]
fn the_region_is_that_of_the_told_subnet_else_of_the_sender() {
    let zones = usual();
    let is_eu = |query: &dns_fixture::Ask, client: &str| {
        let reply = send_from(&zones, &query.bytes(), client, Transport::Udp).unwrap();
        !reply.rdata(CNAME).is_empty()
    };
    let plain = || ask("www.example.test", A);
    assert!(is_eu(&plain(), "10.0.0.1") && is_eu(&plain(), "2001:db8:e::5") && !is_eu(&plain(), "11.0.0.1"));
    assert!(is_eu(&plain().subnet("10.0.0.0", 24), "11.0.0.1"));
    assert!(!is_eu(&plain().subnet("11.0.0.0", 24), "10.0.0.1"));
    assert!(is_eu(&plain().subnet("2001:db8:e::", 48), "11.0.0.1"));
    assert!(is_eu(&plain().subnet("0.0.0.0", 0), "10.0.0.1"), "length 0: not to be used");
}

#[test]
fn the_told_subnet_comes_back_with_the_bits_that_mattered() {
    let zones = usual();
    let told = |name: &str, address: &str, bits: u8| {
        let opt = send(&zones, &ask(name, A).subnet(address, bits)).opt.unwrap();
        let mut expected = subnet_option(address, bits);
        assert_eq!(opt.rdata.len(), expected.len());
        expected[7] = opt.rdata[7];
        assert_eq!(opt.rdata, expected, "echoed but for the scope");
        opt.rdata[7]
    };
    assert_eq!(told("www.example.test", "192.0.2.0", 24), 24);
    assert_eq!(told("www.example.test", "192.0.0.0", 16), 16);
    assert_eq!(told("www.example.test", "192.0.2.9", 32), 26, "a region has a /26");
    assert_eq!(told("www.example.test", "2001:db8::", 64), 56);
    assert_eq!(told("www.example.test", "0.0.0.0", 0), 0);
    assert_eq!(told("example.test", "192.0.2.0", 24), 0, "the same for everyone");
}

#[test]
fn a_malformed_subnet_is_formerr() {
    let zones = usual();
    let fine = subnet_option("192.0.2.0", 24);
    let changed = |at: usize, value: u8| {
        let mut option = fine.clone();
        option[at] = value;
        option
    };
    let cases = [
        ("scope in a query", changed(7, 24)),
        ("unknown family", changed(5, 3)),
        ("more address than the length needs", changed(6, 16)),
        ("less address than the length needs", changed(6, 25)),
        ("bits beyond the length", changed(6, 22)),
        ("longer than an address", subnet_option("192.0.2.1", 33)),
        ("twice", [fine.clone(), fine.clone()].concat()),
        ("cut", fine[..7].to_vec()),
    ];
    for (what, option) in cases {
        let reply = send(&zones, &ask("www.example.test", A).edns(1232, 0, &option));
        assert_eq!(reply.rcode(), FORMERR, "{what}");
    }
    let exact = changed(6, 23);
    assert_eq!(send(&zones, &ask("www.example.test", A).edns(1232, 0, &exact)).rcode(), NOERROR);
}

#[test]
fn a_client_that_wants_no_subnet_used_may_leave_the_family_out() {
    let reply = send(&usual(), &ask("www.example.test", A).edns(1232, 0, &[0, 8, 0, 4, 0, 0, 0, 0]));
    assert_eq!((reply.rcode(), reply.answer.len()), (NOERROR, 2));
    assert_eq!(reply.opt.unwrap().rdata, [0, 8, 0, 4, 0, 0, 0, 0]);
}

#[test]
fn what_does_not_fit_is_cut_and_comes_whole_over_tcp() {
    let mut many = settings();
    many["upstreams"][0]["ipv4"] =
        (0..100).map(|number| json!(format!("192.0.2.{number}"))).collect::<Value>();
    let zones = zones(&many, &usual_plan());
    let sizes =
        [(None, 512), (Some(100), 512), (Some(600), 600), (Some(1_232), 1_232), (Some(65_535), 1_232)];
    for (payload_bytes, limit) in sizes {
        let query = match payload_bytes {
            None => ask("www.example.test", A),
            Some(bytes) => ask("www.example.test", A).edns(bytes, 0, &[]),
        };
        let reply = send(&zones, &query);
        assert!(reply.is_cut() && reply.bytes <= limit && reply.answer.is_empty());
        assert_eq!(reply.question, query.bytes()[12..12 + reply.question.len()]);
        let whole = send_from(&zones, &query.bytes(), "203.0.113.9", Transport::Tcp).unwrap();
        assert!(!whole.is_cut() && whole.answer.len() == 100);
    }
    many["upstreams"][0]["ipv4"] =
        (0..29).map(|number| json!(format!("192.0.2.{number}"))).collect::<Value>();
    let fitting = send(&dns_fixture::zones(&many, &usual_plan()), &ask("www.example.test", A));
    assert!(!fitting.is_cut() && fitting.answer.len() == 29 && fitting.bytes <= 512);
}

#[test]
fn clients_are_spread_by_share_and_moving_a_share_moves_about_as_many() {
    let with = |both_bp: u32| {
        let shares = json!([["both", both_bp], ["four", 10_000 - both_bp]]);
        zones(&settings(), &plan((shares.clone(), 60), (shares, 60)))
    };
    let picks = |zones: &Zones| -> Vec<bool> {
        (0..10_000_u32)
            .map(|number| {
                let client = std::net::Ipv4Addr::from_bits(number << 10).to_string();
                let reply = send_from(zones, &ask("www.example.test", A).bytes(), &client, Transport::Udp);
                reply.unwrap().rdata(A).len() == 2
            })
            .collect()
    };
    let (before, after) = (picks(&with(7_000)), picks(&with(6_000)));
    let count = |picks: &[bool]| picks.iter().filter(|is_both| **is_both).count();
    assert!((6_800..=7_200).contains(&count(&before)) && (5_800..=6_200).contains(&count(&after)));
    let came = before.iter().zip(&after).filter(|(old, new)| !**old && **new).count();
    assert_eq!(came, 0, "nobody moves towards the provider that loses");
}

#[test]
fn what_could_become_an_empty_answer_is_refused() {
    let refused = |settings: &Value, plan: &Value| compile(settings, plan).unwrap_err().message;
    let nothing = plan((json!([["nothing", 10_000]]), 60), (json!([["both", 10_000]]), 60));
    assert!(refused(&settings(), &nothing).contains("nothing to answer with"));
    let mut at_apex = settings();
    at_apex["hostnames"] = json!(["example.test"]);
    assert!(refused(&at_apex, &usual_plan()).contains("the name of the zone itself"));
    for (field, value) in [("zone", Value::Null), ("hostnames", json!(["elsewhere.invalid"]))] {
        let mut changed = settings();
        changed[field] = value;
        assert!(compile(&changed, &usual_plan()).is_err(), "{field}");
    }
    let mut no_servers = settings();
    no_servers["zone"]["name_servers"] = json!([]);
    assert!(refused(&no_servers, &usual_plan()).contains("name_servers"));
}

fn second_service(name: &str, hostname: &str, apex: &str) -> Served<Answers> {
    let (mut settings, mut plan) = (settings(), usual_plan());
    settings["service"] = json!(name);
    settings["hostnames"] = json!([hostname]);
    settings["zone"]["apex"] = json!(apex);
    plan["plan"]["service"] = json!(name);
    compile(&settings, &plan).unwrap()
}

#[test]
fn services_share_a_zone_and_a_zone_can_lie_inside_another() {
    let first = compile(&settings(), &usual_plan()).unwrap();
    let same_zone = second_service("xyz", "shop.example.test", "example.test");
    let inner = second_service("yyy", "www.eu.example.test", "eu.example.test");
    let zones = Zones::new(&[first, same_zone, inner]);
    for name in ["www.example.test", "shop.example.test", "www.eu.example.test"] {
        assert_eq!(send(&zones, &ask(name, A)).answer.len(), 2, "{name}");
    }
    assert_eq!(send(&zones, &ask("no.eu.example.test", A)).authority[0].name, "eu.example.test.");
    assert_eq!(send(&zones, &ask("eu.example.test", SOA)).answer.len(), 1);
    let soa = &send(&zones, &ask("example.test", SOA)).answer[0].rdata;
    assert_eq!(
        soa[soa.len() - 20..soa.len() - 16],
        14_u32.to_be_bytes(),
        "the serial grows with either plan"
    );
}
