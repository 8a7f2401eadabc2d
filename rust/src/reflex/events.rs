//! Server-sent events (WHATWG HTML §9.2): only whole ones go on, so that a stream that breaks off can be taken up again
//! on another upstream, behind the last one that the client has.

use bytes::{Bytes, BytesMut};

/// A longer event is passed on as it comes; from then on the stream cannot be taken up again.
const EVENT_BYTES_MAX: usize = 1 << 20;

/// One stream, cut into whole events.
#[derive(Debug, Default)]
pub struct Events {
    unread: BytesMut,
    /// How much of `unread` was looked through for an empty line.
    seen: usize,
    last_id: Option<Bytes>,
    /// The first event of a stream that was taken up again is left out if it is the one that the client has.
    has_resumed: bool,
    /// So much at the front of `unread` is such an event.
    unwanted: usize,
    is_too_long: bool,
}

impl Events {
    /// The id of the last whole event that had one; what Last-Event-ID asks to go on behind.
    pub fn last_id(&self) -> Option<&Bytes> {
        self.last_id.as_ref().filter(|id| !self.is_too_long && !id.is_empty())
    }

    pub fn push(&mut self, piece: &[u8]) {
        self.unread.extend_from_slice(piece);
    }

    /// The next whole events, as many as there are; None when more must come first.
    pub fn take(&mut self) -> Option<Bytes> {
        let unwanted = std::mem::take(&mut self.unwanted);
        drop(self.split(unwanted));
        let mut end = 0;
        while let Some(next) = self.end_of_event() {
            if self.note(end, next) {
                end = next;
            } else if end > 0 {
                // What came before it goes first.
                self.unwanted = next - end;
                return Some(self.split(end));
            } else {
                drop(self.split(next));
            }
        }
        if end == 0 && self.unread.len() > EVENT_BYTES_MAX {
            self.is_too_long = true;
            end = self.unread.len();
        }
        (end > 0).then(|| self.split(end))
    }

    /// What is left of the stream after its orderly end; it is no whole event, but it was sent.
    pub fn rest(&mut self) -> Bytes {
        drop(self.unread.split_to(std::mem::take(&mut self.unwanted)));
        self.seen = 0;
        self.unread.split().freeze()
    }

    /// The stream broke off and is taken up again: what came of an event that is not whole is forgotten.
    pub fn resume(&mut self) {
        self.unread.clear();
        (self.seen, self.unwanted) = (0, 0);
        self.has_resumed = true;
    }

    fn split(&mut self, end: usize) -> Bytes {
        self.seen = self.seen.saturating_sub(end);
        self.unread.split_to(end).freeze()
    }

    /// The end of the first event that ends behind `seen`, its empty line included.
    fn end_of_event(&mut self) -> Option<usize> {
        let mut at = self.seen;
        while let Some(length) = line_length(&self.unread[at..]) {
            let is_empty = matches!(self.unread[at], b'\r' | b'\n');
            at += length;
            self.seen = at;
            if is_empty {
                return Some(at);
            }
        }
        None
    }

    /// Reads the id of the event in these bytes; whether the client is to have it.
    fn note(&mut self, from: usize, to: usize) -> bool {
        let id = self.unread.get(from..to).and_then(id_of).map(Bytes::copy_from_slice);
        let is_first = std::mem::take(&mut self.has_resumed);
        if is_first && id.is_some() && id == self.last_id {
            return false;
        }
        // An event without data or id (a comment that keeps the line open) is not the first that counts.
        self.has_resumed = is_first && id.is_none();
        if id.is_some() {
            self.last_id = id;
        }
        true
    }
}

/// The length of the first line with its end, which is CR LF, LF or CR; None if it may not be whole.
fn line_length(bytes: &[u8]) -> Option<usize> {
    let end = memchr::memchr2(b'\r', b'\n', bytes)?;
    match (bytes[end], bytes.get(end + 1)) {
        (b'\n', _) => Some(end + 1),
        (_, None) => None,
        (_, Some(b'\n')) => Some(end + 2),
        (_, Some(_)) => Some(end + 1),
    }
}

/// The value of the last `id` line; one with a NUL in it does not count.
fn id_of(event: &[u8]) -> Option<&[u8]> {
    let lines = event.split(|byte| matches!(byte, b'\r' | b'\n'));
    let value = |line: &'_ [u8]| -> Option<(usize, usize)> {
        let value = line.strip_prefix(b"id")?;
        match value.split_first() {
            None => Some((line.len(), line.len())),
            Some((b':', rest)) => {
                Some((line.len() - rest.strip_prefix(b" ").unwrap_or(rest).len(), line.len()))
            }
            Some(_) => None,
        }
    };
    let found = lines.filter_map(|line| value(line).and_then(|(from, to)| line.get(from..to)));
    let mut found = found;
    found.rfind(|id| !id.contains(&0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(events: &mut Events) -> Vec<u8> {
        std::iter::from_fn(|| events.take()).flatten().collect()
    }

    #[test]
    fn only_whole_events_go_on_whatever_the_pieces_and_line_ends() {
        for end in ["\n", "\r\n", "\r"] {
            let stream = ["id: 1", "data: a", "", ": quiet", "", "id:2", "data: b", "", ""].join(end);
            for size in 1..stream.len() {
                let mut events = Events::default();
                let mut out = Vec::new();
                for piece in stream.as_bytes().chunks(size) {
                    events.push(piece);
                    out.extend(all(&mut events));
                }
                // A lone CR at the end may be half a CR LF.
                out.extend(events.rest());
                assert_eq!(out, stream.as_bytes(), "pieces of {size}");
            }
        }
    }

    #[test]
    fn a_stream_is_taken_up_behind_the_last_whole_event() {
        let mut events = Events::default();
        events.push(b"id: 7\ndata: a\n\nid: 8\ndata: hal");
        assert_eq!(all(&mut events), b"id: 7\ndata: a\n\n");
        assert_eq!(events.last_id().unwrap(), "7");
        events.resume();
        events.push(b"id: 8\ndata: half\n\n");
        assert_eq!(all(&mut events), b"id: 8\ndata: half\n\n");
        assert_eq!(events.last_id().unwrap(), "8");
    }

    #[test]
    fn an_event_that_the_client_has_is_not_repeated() {
        let mut events = Events::default();
        events.push(b"id: 7\ndata: a\n\n");
        all(&mut events);
        events.resume();
        events.push(b": hello\n\nid: 7\ndata: a\n\nid: 8\ndata: b\n\nid: 8\ndata: c\n\n");
        let shown = all(&mut events);
        assert_eq!(shown, b": hello\n\nid: 8\ndata: b\n\nid: 8\ndata: c\n\n");
    }

    #[test]
    fn the_last_id_line_counts_and_others_are_none() {
        assert_eq!(id_of(b"id: 1\nid: 2\ndata: x\n\n"), Some(&b"2"[..]));
        assert_eq!(id_of(b"id\n\n"), Some(&b""[..]));
        assert_eq!(id_of(b"id:a\0b\n\n"), None);
        assert_eq!(id_of(b"identity: 1\ndata: id: 3\n\n"), None);
    }

    #[test]
    fn a_stream_without_ids_cannot_be_taken_up() {
        let mut events = Events::default();
        events.push(b"data: a\n\n");
        assert_eq!(all(&mut events), b"data: a\n\n");
        assert_eq!(events.last_id(), None);
    }

    #[test]
    fn an_endless_event_is_passed_on_and_not_taken_up() {
        let mut events = Events::default();
        events.push(b"id: 1\n\n");
        events.push(&vec![b'x'; EVENT_BYTES_MAX + 1]);
        assert!(all(&mut events).len() > EVENT_BYTES_MAX);
        assert_eq!(events.last_id(), None);
    }
}
