//! Where a message body ends (RFC 9112 §6 and §7). Pure; strict, because a lenient reading is a smuggled request.

use bytes::{Buf, Bytes, BytesMut};

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    None,
    Length(u64),
    Chunked,
    /// Only answers: the connection's end is the body's end.
    UntilClose,
}

/// Longest line of a chunk size with its extensions, in bytes.
const CHUNK_LINE_MAX: usize = 256;

/// All trailer fields together, in bytes.
const TRAILER_BYTES_MAX: usize = 8_192;

/// Up to this size a copy costs less than a buffer that several share.
const COPIED_BYTES_MAX: usize = 4_096;

/// The framing was broken by the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken(pub &'static str);

#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Some of the body, never empty.
    Chunk(Bytes),
    NeedMore,
    End,
}

/// Takes a body out of the bytes of its framing.
///
/// | state | leaves with |
/// |---|---|
/// | `Length(n)` | n bytes passed on: `Done` |
/// | `UntilClose` | the connection's end (`at_close`) |
/// | `Size` | a size line: `Chunk(n)`, or `Trailer` for 0 |
/// | `Chunk(n)` | n bytes passed on: `ChunkEnd` |
/// | `ChunkEnd` | CRLF: `Size` |
/// | `Trailer(n)` | an empty line: `Done`; n bytes of trailers were read (`trailers`) |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Length(u64),
    UntilClose,
    Size,
    Chunk(u64),
    ChunkEnd,
    Trailer(usize),
    Done,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoder {
    state: State,
    trailers: BytesMut,
}

impl Decoder {
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(bytes) => State::Length(bytes),
            Framing::Chunked => State::Size,
            Framing::UntilClose => State::UntilClose,
        };
        Self { state, trailers: BytesMut::new() }
    }

    /// The lines of the trailer section, each with its end, as they came; complete once the body is done.
    pub fn trailers(&self) -> &[u8] {
        &self.trailers
    }

    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// What is still to come for certain.
    pub fn left_bytes(&self) -> u64 {
        match self.state {
            State::Length(left) | State::Chunk(left) => left,
            _ => 0,
        }
    }

    /// Whether the connection's end, here, is an end of the body (and not a cut).
    pub fn is_complete_at_close(&self) -> bool {
        matches!(self.state, State::Done | State::UntilClose)
    }

    /// The next piece of the body from the front of `unread`, which keeps what belongs to no body yet.
    pub fn decode(&mut self, unread: &mut BytesMut) -> Result<Step, Broken> {
        loop {
            match self.state {
                State::Done => return Ok(Step::End),
                _ if unread.is_empty() => return Ok(Step::NeedMore),
                State::UntilClose => {
                    let bytes = unread.len();
                    return Ok(Step::Chunk(taken(unread, bytes)));
                }
                State::Length(left) => {
                    let (chunk, left) = take(unread, left);
                    self.state = if left == 0 { State::Done } else { State::Length(left) };
                    return Ok(Step::Chunk(chunk));
                }
                State::Chunk(left) => {
                    let (chunk, left) = take(unread, left);
                    self.state = if left == 0 { State::ChunkEnd } else { State::Chunk(left) };
                    return Ok(Step::Chunk(chunk));
                }
                State::Size | State::ChunkEnd | State::Trailer(_) => {
                    let Some(next) = self.line(unread)? else { return Ok(Step::NeedMore) };
                    self.state = next;
                }
            }
        }
    }

    /// The state after one line of the framing; None if the line is not whole yet.
    fn line(&mut self, unread: &mut BytesMut) -> Result<Option<State>, Broken> {
        let Some(line) = split_line(unread, CHUNK_LINE_MAX.max(self.trailer_room()))? else {
            return Ok(None);
        };
        match self.state {
            State::ChunkEnd if line.is_empty() => Ok(Some(State::Size)),
            State::ChunkEnd => Err(Broken("no line end after a chunk")),
            State::Trailer(_) if line.is_empty() => Ok(Some(State::Done)),
            State::Trailer(seen) if seen + line.len() <= TRAILER_BYTES_MAX => {
                self.trailers.extend_from_slice(&line);
                self.trailers.extend_from_slice(b"\r\n");
                Ok(Some(State::Trailer(seen + line.len())))
            }
            State::Trailer(_) => Err(Broken("trailers too long")),
            _ if line.len() > CHUNK_LINE_MAX => Err(Broken("chunk size line too long")),
            _ => match chunk_size(&line)? {
                0 => Ok(Some(State::Trailer(0))),
                size => Ok(Some(State::Chunk(size))),
            },
        }
    }

    fn trailer_room(&self) -> usize {
        if matches!(self.state, State::Trailer(_)) { TRAILER_BYTES_MAX } else { 0 }
    }
}

fn take(unread: &mut BytesMut, left: u64) -> (Bytes, u64) {
    let bytes = usize::try_from(left).unwrap_or(usize::MAX).min(unread.len());
    (taken(unread, bytes), left - bytes as u64)
}

/// The first `bytes` of a buffer. Little is copied: the buffer stays whole, and can be used again at once.
pub fn taken(unread: &mut BytesMut, bytes: usize) -> Bytes {
    if bytes > COPIED_BYTES_MAX {
        return unread.split_to(bytes).freeze();
    }
    let copy = Bytes::copy_from_slice(&unread[..bytes]);
    unread.advance(bytes);
    copy
}

/// A line without its CRLF; None if it is not whole yet. A bare CR or LF is refused.
fn split_line(unread: &mut BytesMut, bytes_max: usize) -> Result<Option<BytesMut>, Broken> {
    let Some(at) = memchr::memchr2(b'\r', b'\n', unread) else {
        return if unread.len() > bytes_max { Err(Broken("line too long")) } else { Ok(None) };
    };
    if at > bytes_max {
        return Err(Broken("line too long"));
    }
    match (unread[at], unread.get(at + 1)) {
        (b'\r', Some(b'\n')) => {
            let line = unread.split_to(at);
            unread.advance(2);
            Ok(Some(line))
        }
        (b'\r', None) => Ok(None),
        _ => Err(Broken("bare CR or LF")),
    }
}

/// The size of a chunk: 1 to 16 hex digits; extensions (RFC 9112 §7.1.1) are read over.
fn chunk_size(line: &[u8]) -> Result<u64, Broken> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    if digits == 0 || digits > 16 {
        return Err(Broken("chunk size is not 1 to 16 hex digits"));
    }
    let extension = &line[digits..];
    let starts_well = matches!(extension.trim_ascii_start().first(), None | Some(b';'));
    let is_clean = extension.iter().all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f));
    if !starts_well || !is_clean || extension.trim_ascii_start().is_empty() && !extension.is_empty() {
        return Err(Broken("chunk extension"));
    }
    line[..digits].iter().try_fold(0_u64, |size, byte| {
        let digit = (*byte as char).to_digit(16).unwrap_or(0);
        Ok(size << 4 | u64::from(digit))
    })
}

/// The head of a chunk of `bytes` bytes: its size in hex and CRLF.
pub fn chunk_head(bytes: usize) -> ([u8; 18], usize) {
    let mut text = [0_u8; 18];
    let digits = ((usize::BITS - bytes.leading_zeros()).div_ceil(4)).max(1) as usize;
    for (place, slot) in text.iter_mut().enumerate().take(digits) {
        let digit = (bytes >> (4 * (digits - 1 - place))) & 0xf;
        *slot = b"0123456789abcdef"[digit];
    }
    text[digits] = b'\r';
    text[digits + 1] = b'\n';
    (text, digits + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All of a body, the wire given in pieces of `piece` bytes, and what was left over.
    fn decode(framing: Framing, wire: &[u8], piece: usize) -> Result<(Vec<u8>, Vec<u8>, bool), Broken> {
        let mut decoder = Decoder::new(framing);
        let mut unread = BytesMut::new();
        let mut body = Vec::new();
        for part in wire.chunks(piece) {
            unread.extend_from_slice(part);
            while let Step::Chunk(chunk) = decoder.decode(&mut unread)? {
                assert!(!chunk.is_empty());
                body.extend_from_slice(&chunk);
            }
        }
        Ok((body, unread.to_vec(), decoder.is_done()))
    }

    #[test]
    fn chunked_body_comes_out_whole_however_it_is_cut() {
        let wire = b"4\r\nWiki\r\nA;name=\"v\"\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\nGET /";
        for piece in 1..wire.len() {
            let (body, left, is_done) = decode(Framing::Chunked, wire, piece).expect("valid");
            assert_eq!(
                (body.as_slice(), left.as_slice(), is_done),
                (&b"Wiki0123456789"[..], &b"GET /"[..], true)
            );
        }
    }

    #[test]
    fn length_body_leaves_the_next_message() {
        let (body, left, is_done) = decode(Framing::Length(3), b"abcdef", 2).expect("valid");
        assert_eq!((body.as_slice(), left.as_slice(), is_done), (&b"abc"[..], &b"def"[..], true));
    }

    #[test]
    fn broken_chunks_are_refused() {
        for wire in [
            &b"\r\n"[..],
            b"g\r\n",
            b"-1\r\n",
            b"+1\r\n",
            b"0x1\r\n",
            b" 1\r\n",
            b"1 \r\na\r\n",
            b"1\na\r\n",
            b"1\r\nab\r\n",
            b"1\r\na\n",
            b"1\r\na\rb",
            b"11111111111111111\r\n",
            b"1;a\rb\r\n",
            b"1;a\x00\r\na",
            b"1,\r\na",
            b"0\r\nx: y\n\r\n",
        ] {
            assert!(
                decode(Framing::Chunked, wire, wire.len()).is_err(),
                "{:?}",
                wire.escape_ascii().to_string()
            );
        }
    }

    #[test]
    fn endless_lines_are_refused() {
        let extension = [b"1;".to_vec(), vec![b'x'; 10_000]].concat();
        assert!(decode(Framing::Chunked, &extension, 1_000).is_err());
        let trailer = [b"0\r\n".to_vec(), b"a: b\r\n".repeat(10_000)].concat();
        assert!(decode(Framing::Chunked, &trailer, 1_000).is_err());
    }

    #[test]
    fn only_a_body_until_close_is_complete_when_the_connection_ends() {
        assert!(Decoder::new(Framing::UntilClose).is_complete_at_close());
        assert!(!Decoder::new(Framing::Length(1)).is_complete_at_close());
        assert!(!Decoder::new(Framing::Chunked).is_complete_at_close());
        assert!(Decoder::new(Framing::Length(0)).is_done());
    }

    #[test]
    fn chunk_head_is_hex_and_reads_back() {
        for bytes in [1_usize, 9, 15, 16, 255, 65_536, usize::MAX] {
            let (text, length) = chunk_head(bytes);
            assert_eq!(text[..length], *format!("{bytes:x}\r\n").as_bytes());
            assert_eq!(chunk_size(&text[..length - 2]), Ok(bytes as u64));
        }
    }
}
