//! Noise, mutations and cuts of real messages: nothing that arrives makes the readers panic or disagree with themselves.

use _native::edge::framing::{Decoder, Framing, Step};
use _native::edge::head::{HeadScan, parse_answer, parse_request};
use bytes::{Bytes, BytesMut};

/// A repeatable stream of numbers (xorshift64*), so that a failure can be run again.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).unwrap_or(0)
    }
}

const HEADS: [&[u8]; 5] = [
    b"GET /a?b HTTP/1.1\r\nHost: www.example.test:80\r\nConnection: close, x\r\nX: y\r\n\r\n",
    b"POST http://h/ HTTP/1.1\r\nhost: h\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
    b"PUT / HTTP/1.0\r\nhost: [::1]:1\r\ncontent-length: 18446744073709551615\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nKeep-Alive: 1\r\n\r\n",
    b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
];

const PIECES: [&[u8]; 12] = [
    b"\r\n",
    b"\n",
    b"\r",
    b":",
    b" ",
    b"\t",
    b"\x00",
    b"chunked",
    b"content-length: 1\r\n",
    b",",
    b"\xff",
    b"host: b\r\n",
];

fn mutate(numbers: &mut Numbers, message: &[u8]) -> Vec<u8> {
    let mut bytes = message.to_vec();
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(bytes.len() + 1);
        match numbers.below(3) {
            0 if at < bytes.len() => bytes[at] = u8::try_from(numbers.below(256)).unwrap_or(0),
            1 => drop(bytes.splice(at..at, PIECES[numbers.below(PIECES.len())].iter().copied())),
            _ => bytes.truncate(at),
        }
    }
    bytes
}

#[test]
fn heads_never_panic_and_accepted_ones_are_clean() {
    let mut numbers = Numbers(0x5eed_0001);
    let mut accepted = 0;
    for _ in 0..200_000 {
        let message = HEADS[numbers.below(HEADS.len())];
        let bytes = Bytes::from(mutate(&mut numbers, message));
        let _ = HeadScan::default().end(&bytes);
        let _ = parse_answer(&bytes, b"GET");
        if let Ok(head) = parse_request(&bytes) {
            accepted += 1;
            assert!(head.target.starts_with(b"/") || &head.target[..] == b"*");
            let is_clean = |part: &[u8]| !part.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0));
            assert!(is_clean(&head.target) && is_clean(&head.authority) && is_clean(&head.method));
            for field in &head.fields {
                assert!(is_clean(&field.value) && is_clean(&field.name));
                assert!(!field.is("content-length") && !field.is("transfer-encoding") && !field.is("host"));
            }
        }
    }
    assert!(accepted > 1_000, "only {accepted} mutations were requests: the test tests nothing");
}

/// Body, what was left, and whether it ended; None if it was refused.
fn decode(wire: &[u8], pieces: &[usize]) -> Option<(Vec<u8>, Vec<u8>, bool)> {
    let mut decoder = Decoder::new(Framing::Chunked);
    let (mut unread, mut body, mut at) = (BytesMut::new(), Vec::new(), 0);
    for piece in pieces.iter().chain([&usize::MAX]) {
        let end = at + (*piece).min(wire.len() - at);
        unread.extend_from_slice(&wire[at..end]);
        at = end;
        while let Step::Chunk(chunk) = decoder.decode(&mut unread).ok()? {
            body.extend_from_slice(&chunk);
        }
    }
    Some((body, unread.to_vec(), decoder.is_done()))
}

#[test]
fn chunks_are_read_alike_however_they_are_cut() {
    let wire = b"5\r\nhello\r\n1a;ext=1\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nx: y\r\n\r\nGET / HTTP/1.1\r\n";
    let mut numbers = Numbers(0x5eed_0002);
    let mut whole = 0;
    for round in 0..100_000 {
        let bytes = if round % 4 == 0 { wire.to_vec() } else { mutate(&mut numbers, wire) };
        let pieces: Vec<usize> = (0..6).map(|_| 1 + numbers.below(12)).collect();
        let at_once = decode(&bytes, &[]);
        assert_eq!(decode(&bytes, &pieces), at_once, "{}", bytes.escape_ascii());
        whole += usize::from(at_once.is_some_and(|(_, _, is_done)| is_done));
    }
    assert!(whole > 25_000);
}
