//! Frames of HTTP/2 that cost the edge more than its client: streams opened and reset at once (CVE-2023-44487), pings and
//! settings that want an answer, frames that carry nothing.
//!
//! The bytes are looked at as they come, before the library reads them: its own limits (`edge/h2.rs`) hold besides.

/// Bytes of a frame's head (RFC 9113 §4.1).
const HEAD_BYTES: usize = 9;

/// What a client sends first (RFC 9113 §3.4).
const PREFACE_BYTES: u64 = 24;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// Frames without use that a connection may send in a minute.
const IDLE_FRAMES_MAX: u64 = 2_000;

const MINUTE_MS: u64 = 60_000;

/// What a connection was caught at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flood {
    /// Too many streams that the client itself reset.
    Resets,
    /// Too many frames that are nothing but work.
    Frames,
}

/// An allowance that fills up within a minute.
#[derive(Clone, Copy, Debug)]
struct Allowance {
    most: u64,
    /// In parts of which a minute makes one.
    left: u64,
    at_ms: u64,
}

impl Allowance {
    fn new(most: u64, now_ms: u64) -> Self {
        Self { most, left: most.saturating_mul(MINUTE_MS), at_ms: now_ms }
    }

    fn take(&mut self, now_ms: u64) -> bool {
        let earned = now_ms.saturating_sub(self.at_ms).saturating_mul(self.most);
        self.at_ms = self.at_ms.max(now_ms);
        self.left = self.left.saturating_add(earned).min(self.most.saturating_mul(MINUTE_MS));
        let is_there = self.left >= MINUTE_MS;
        self.left = self.left.saturating_sub(MINUTE_MS);
        is_there
    }
}

/// Reads over the frames that a client sends.
#[derive(Debug)]
pub struct FrameWatch {
    /// Bytes to pass over until the next head.
    skip: u64,
    head: [u8; HEAD_BYTES],
    filled: usize,
    /// None: no limit.
    resets: Option<Allowance>,
    idle: Allowance,
    /// Since when fields have been coming, and whether this frame is the last of them.
    fields: Option<(u64, bool)>,
}

impl FrameWatch {
    /// For a connection from its first byte. `resets_max` is what a client may reset in a minute, 0 = no limit.
    pub fn new(resets_max: u64, now_ms: u64) -> Self {
        let resets = (resets_max > 0).then(|| Allowance::new(resets_max, now_ms));
        let idle = Allowance::new(IDLE_FRAMES_MAX, now_ms);
        Self { skip: PREFACE_BYTES, head: [0; HEAD_BYTES], filled: 0, resets, idle, fields: None }
    }

    /// What the next bytes of the connection, in their order, amount to; None: nothing to object to.
    pub fn see(&mut self, mut bytes: &[u8], now_ms: u64) -> Option<Flood> {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let passed = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
                self.skip -= passed as u64;
                bytes = &bytes[passed..];
                self.end_fields();
                continue;
            }
            let taken = (HEAD_BYTES - self.filled).min(bytes.len());
            self.head[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled == HEAD_BYTES {
                self.filled = 0;
                let [high, middle, low, kind, flags, ..] = self.head;
                self.skip = u64::from(u32::from_be_bytes([0, high, middle, low]));
                if kind == HEADERS || kind == CONTINUATION {
                    let since_ms = self.fields.map_or(now_ms, |(since_ms, _)| since_ms);
                    self.fields = Some((since_ms, flags & END_HEADERS != 0));
                }
                if let Some(flood) = self.judge(kind, flags, now_ms) {
                    return Some(flood);
                }
                self.end_fields();
            }
        }
        None
    }

    /// Since when the client has been sending fields that have not ended; None: it is not.
    pub fn fields_since_ms(&self) -> Option<u64> {
        self.fields.map(|(since_ms, _)| since_ms)
    }

    fn end_fields(&mut self) {
        self.fields = self.fields.filter(|(_, is_last)| self.skip > 0 || !is_last);
    }

    fn judge(&mut self, kind: u8, flags: u8, now_ms: u64) -> Option<Flood> {
        let is_empty = self.skip == 0;
        let is_idle = match kind {
            RST_STREAM => {
                let is_within = self.resets.as_mut().is_none_or(|resets| resets.take(now_ms));
                return (!is_within).then_some(Flood::Resets);
            }
            PING | SETTINGS => flags & ACK == 0,
            DATA => is_empty && flags & END_STREAM == 0,
            PRIORITY => true,
            CONTINUATION => is_empty,
            _ => false,
        };
        (is_idle && !self.idle.take(now_ms)).then_some(Flood::Frames)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn begun(resets_max: u64) -> FrameWatch {
        let mut watch = FrameWatch::new(resets_max, 0);
        assert_eq!(watch.see(PREFACE, 0), None);
        watch
    }

    /// How many of these frames pass, each at its moment, before the watch objects.
    fn passed(watch: &mut FrameWatch, one: &[u8], frames: u64, every_ms: u64) -> (u64, Option<Flood>) {
        for number in 0..frames {
            if let Some(flood) = watch.see(one, number * every_ms) {
                return (number, Some(flood));
            }
        }
        (frames, None)
    }

    #[test]
    fn resets_in_one_burst_are_stopped_at_the_limit() {
        let pair = [frame(1, 5, b"head"), frame(RST_STREAM, 0, &[0, 0, 0, 8])].concat();
        assert_eq!(passed(&mut begun(100), &pair, 1_000, 0), (100, Some(Flood::Resets)));
        assert_eq!(passed(&mut begun(0), &pair, 100_000, 0), (100_000, None));
    }

    #[test]
    fn resets_that_are_spread_out_go_on_for_ever() {
        let reset = frame(RST_STREAM, 0, &[0, 0, 0, 8]);
        assert_eq!(passed(&mut begun(100), &reset, 10_000, 600), (10_000, None));
        let (until, flood) = passed(&mut begun(100), &reset, 10_000, 300);
        assert_eq!(flood, Some(Flood::Resets));
        assert!((190..=210).contains(&until), "{until}");
    }

    #[test]
    fn frames_that_only_cost_are_stopped_and_others_are_not() {
        let idle = [(PING, 0), (SETTINGS, 0), (PRIORITY, 0), (DATA, 0), (CONTINUATION, 0)];
        for (kind, flags) in idle {
            let (until, flood) = passed(&mut begun(9), &frame(kind, flags, b""), 5_000, 0);
            assert_eq!((until, flood), (IDLE_FRAMES_MAX, Some(Flood::Frames)), "kind {kind}");
        }
        let useful: [(u8, u8, &[u8]); 5] = [
            (PING, ACK, b""),
            (SETTINGS, ACK, b""),
            (DATA, 0, b"x"),
            (DATA, END_STREAM, b""),
            (8, 0, b"1234"),
        ];
        for (kind, flags, payload) in useful {
            let (_, flood) = passed(&mut begun(9), &frame(kind, flags, payload), 50_000, 0);
            assert_eq!(flood, None, "kind {kind}");
        }
    }

    #[test]
    fn fields_that_do_not_end_are_seen() {
        let mut watch = begun(9);
        watch.see(&frame(HEADERS, END_HEADERS, b"head"), 5);
        assert_eq!(watch.fields_since_ms(), None);
        watch.see(&frame(HEADERS, 0, b"head"), 10);
        watch.see(&frame(CONTINUATION, 0, b"more"), 20);
        assert_eq!(watch.fields_since_ms(), Some(10));
        let last = frame(CONTINUATION, END_HEADERS, b"last");
        watch.see(&last[..11], 30);
        assert_eq!(watch.fields_since_ms(), Some(10));
        watch.see(&last[11..], 40);
        assert_eq!(watch.fields_since_ms(), None);
        watch.see(&frame(HEADERS, 0, b""), 50);
        assert_eq!(watch.fields_since_ms(), Some(50));
        watch.see(&frame(CONTINUATION, END_HEADERS, b""), 60);
        assert_eq!(watch.fields_since_ms(), None);
    }

    #[test]
    fn frames_are_found_however_the_bytes_arrive() {
        let mut bytes = PREFACE.to_vec();
        for number in 0..11_u8 {
            bytes.extend(frame(DATA, 0, &vec![RST_STREAM; usize::from(number) * 7]));
            bytes.extend(frame(RST_STREAM, 0, &[0, 0, 0, 8]));
        }
        for piece in 1..60 {
            let mut watch = FrameWatch::new(10, 0);
            let floods = bytes.chunks(piece).filter_map(|piece| watch.see(piece, 0)).count();
            assert_eq!(floods, 1, "in pieces of {piece}");
            let mut watch = FrameWatch::new(11, 0);
            assert!(bytes.chunks(piece).all(|piece| watch.see(piece, 0).is_none()), "in pieces of {piece}");
        }
    }
}
