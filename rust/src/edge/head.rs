//! Heads of HTTP/1 messages, read strictly (RFC 9112). Pure.
//!
//! Whatever two parsers could read in two ways is refused: that is how requests are smuggled.

use crate::edge::framing::{Broken, Framing};
use crate::edge::message::{AnswerHead, Field, RequestHead, is_authority};
use crate::gate::limits::TOO_MANY_FIELDS;
use crate::gate::why::Denial;
use bytes::{Buf, Bytes, BytesMut};
use std::mem::MaybeUninit;

/// As many fields are added to most heads on their way.
const ADDED_FIELDS: usize = 3;

/// Most field lines of one head.
const FIELDS_MAX: usize = 128;

/// Why a request is refused: the status, and a sentence for the one who sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    pub status: u16,
    pub why: &'static str,
}

impl From<Denial> for Refused {
    fn from(denial: Denial) -> Self {
        Self { status: denial.status, why: denial.text }
    }
}

const fn bad(why: &'static str) -> Refused {
    Refused { status: 400, why }
}

/// Fields that concern one connection only (RFC 9110 §7.6.1), or that the edge answers for itself.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "content-length",
];

/// A mark for each length that one of them has.
const HOP_BY_HOP_LENGTHS: u32 = {
    let (mut marks, mut at) = (0, 0);
    while at < HOP_BY_HOP.len() {
        marks |= length_mark(HOP_BY_HOP[at]);
        at += 1;
    }
    marks
};

const fn length_mark(name: &str) -> u32 {
    if name.len() < 32 { 1 << name.len() } else { 0 }
}

/// Finds the end of a head that arrives in pieces, looking at every byte once.
#[derive(Debug, Default)]
pub struct HeadScan {
    scanned: usize,
    line_start: usize,
}

impl HeadScan {
    /// The length of the head in `unread` with its empty line; None if the end has not come yet.
    pub fn end(&mut self, unread: &[u8]) -> Result<Option<usize>, Broken> {
        while let Some(offset) = unread.get(self.scanned..).and_then(|rest| memchr::memchr(b'\n', rest)) {
            let at = self.scanned + offset;
            if at == 0 || unread[at - 1] != b'\r' {
                return Err(Broken("bare LF"));
            }
            let is_empty_line = at - 1 == self.line_start;
            self.scanned = at + 1;
            self.line_start = at + 1;
            if is_empty_line {
                return Ok(Some(at + 1));
            }
        }
        self.scanned = unread.len();
        Ok(None)
    }
}

/// Drops empty lines before a request (RFC 9112 §2.2).
pub fn skip_empty_lines(unread: &mut BytesMut) {
    while unread.starts_with(b"\r\n") {
        unread.advance(2);
    }
}

/// Room for the fields of one head.
pub type Slots<'h> = [MaybeUninit<httparse::Header<'h>>; FIELDS_MAX];

pub const fn slots<'h>() -> Slots<'h> {
    [const { MaybeUninit::uninit() }; FIELDS_MAX]
}

/// A request's head as it lies in the buffer; nothing is copied.
pub struct Seen<'h, 's> {
    pub method: &'h [u8],
    /// As it was written: a path, `*` or a URL.
    pub target: &'h str,
    pub fields: &'s [httparse::Header<'h>],
    pub framing: Framing,
    pub version: u8,
    pub is_persistent: bool,
    pub expects_continue: bool,
    authority: &'h [u8],
    path: Option<&'h str>,
    marks: Marks<'h>,
}

impl<'h> Seen<'h, '_> {
    /// Authority and path of a request that asks for nothing but an answer: no body, nothing of the connection but
    /// whether it goes on.
    pub fn plain(&self) -> Option<(&'h [u8], &'h str)> {
        let is_close =
            |name: &&[u8]| name.eq_ignore_ascii_case(b"close") || name.eq_ignore_ascii_case(b"keep-alive");
        let has_nothing_else = self.marks.upgrade.is_none() && self.marks.nominated.iter().all(is_close);
        let is_plain = self.framing == Framing::None && !self.expects_continue && has_nothing_else;
        self.path.filter(|path| is_plain && path.starts_with('/')).map(|path| (self.authority, path))
    }

    /// Host and port that the request is for.
    pub fn authority(&self) -> &'h [u8] {
        self.authority
    }

    /// The same on its own: in a copy of `head`, where this was read.
    pub fn owned(&self, head: &[u8]) -> RequestHead {
        let head = &Copied { original: head, octets: Bytes::copy_from_slice(head) };
        let target = self.path.map(|path| head.part(path.as_bytes()));
        let version = self.version;
        RequestHead {
            method: head.part(self.method),
            target: target.unwrap_or_else(|| without_path(self.target)),
            authority: head.part(self.authority),
            fields: end_to_end(head, self.fields, &self.marks, &["host", "expect"]),
            framing: self.framing,
            version,
            is_persistent: self.is_persistent,
            expects_continue: self.expects_continue,
            upgrade: if version == 1 { self.marks.upgrade(head) } else { None },
        }
    }
}

/// A head and a copy of it.
struct Copied<'h> {
    original: &'h [u8],
    octets: Bytes,
}

impl Copied<'_> {
    /// The copy of a part of the original.
    fn part(&self, part: &[u8]) -> Bytes {
        if part.is_empty() {
            return Bytes::new();
        }
        let from = part.as_ptr() as usize - self.original.as_ptr() as usize;
        self.octets.slice(from..from + part.len())
    }
}

/// The request of a whole head.
pub fn parse_request(head: &[u8]) -> Result<RequestHead, Refused> {
    let mut slots = slots();
    Ok(look(head, &mut slots)?.owned(head))
}

/// What a whole head says.
pub fn look<'h, 's>(head: &'h [u8], slots: &'s mut Slots<'h>) -> Result<Seen<'h, 's>, Refused> {
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(head, slots) {
        Ok(httparse::Status::Complete(bytes)) if bytes == head.len() => {}
        Ok(_) => return Err(bad("the head does not end where it should")),
        Err(httparse::Error::TooManyHeaders) => return Err(TOO_MANY_FIELDS.into()),
        Err(httparse::Error::Version) => return Err(Refused { status: 505, why: "HTTP/1.0 and 1.1 only" }),
        Err(_) => return Err(bad("malformed head")),
    }
    let (method, target) = (parsed.method.unwrap_or_default(), parsed.path.unwrap_or_default());
    let version = parsed.version.unwrap_or(0);
    let fields: &'s [httparse::Header<'h>] = parsed.headers;
    let marks = Marks::read(fields).map_err(|broken| bad(broken.0))?;
    let (authority, path) = route(method, target, fields)?;
    Ok(Seen {
        method: method.as_bytes(),
        target,
        fields,
        framing: request_framing(&marks, version)?,
        version,
        is_persistent: marks.is_persistent(version),
        expects_continue: expectation(fields, version)?,
        authority,
        path,
        marks,
    })
}

/// The path of a URL that begins with its query, or has none.
fn without_path(url: &str) -> Bytes {
    match url.find('?') {
        Some(at) => Bytes::from(format!("/{}", &url[at..])),
        None => Bytes::from_static(b"/"),
    }
}

/// The answer of a whole head, to a request of that method.
pub fn parse_answer(head: &Bytes, method: &[u8]) -> Result<AnswerHead, Broken> {
    let mut slots = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    match config.parse_response_with_uninit_headers(&mut parsed, head, &mut slots) {
        Ok(httparse::Status::Complete(bytes)) if bytes == head.len() => {}
        _ => return Err(Broken("malformed head")),
    }
    let (status, minor) = (parsed.code.unwrap_or(0), parsed.version.unwrap_or(0));
    if !(100..=599).contains(&status) {
        return Err(Broken("status is not 100 to 599"));
    }
    let marks = Marks::read(parsed.headers)?;
    if marks.length.is_some() && marks.is_chunked {
        return Err(Broken("both Content-Length and Transfer-Encoding"));
    }
    let framing = match (status, marks.is_chunked, marks.length) {
        (100..=199 | 204 | 304, _, _) => Framing::None,
        _ if method == b"HEAD" => Framing::None,
        (_, true, _) => Framing::Chunked,
        (_, _, Some(bytes)) => Framing::Length(bytes),
        _ => Framing::UntilClose,
    };
    let head = &Copied { original: head, octets: head.clone() };
    Ok(AnswerHead {
        status,
        fields: end_to_end(head, parsed.headers, &marks, &[]),
        framing,
        length: marks.length,
        is_persistent: marks.is_persistent(minor) && framing != Framing::UntilClose,
        upgrade: marks.upgrade(head),
    })
}

/// What the connection's own fields say.
struct Marks<'h> {
    length: Option<u64>,
    is_chunked: bool,
    nominated: Vec<&'h [u8]>,
    upgrade: Option<&'h [u8]>,
}

impl<'h> Marks<'h> {
    fn read(fields: &[httparse::Header<'h>]) -> Result<Self, Broken> {
        let mut marks = Self { length: None, is_chunked: false, nominated: Vec::new(), upgrade: None };
        for field in fields {
            match field.name.len() {
                14 if field.name.eq_ignore_ascii_case("content-length") => marks.add_length(field.value)?,
                17 if field.name.eq_ignore_ascii_case("transfer-encoding") => {
                    marks.add_encoding(field.value)?
                }
                10 if field.name.eq_ignore_ascii_case("connection") => {
                    let tokens = field.value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
                    marks.nominated.extend(tokens.filter(|token| !token.is_empty()));
                }
                7 if field.name.eq_ignore_ascii_case("upgrade") => {
                    marks.upgrade = Some(field.value.trim_ascii())
                }
                _ => {}
            }
        }
        Ok(marks)
    }

    fn add_length(&mut self, value: &[u8]) -> Result<(), Broken> {
        let value = value.trim_ascii();
        if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
            return Err(Broken("Content-Length is not a number"));
        }
        let bytes = value.iter().fold(0_u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
        if self.length.is_some_and(|before| before != bytes) {
            return Err(Broken("two different Content-Length"));
        }
        self.length = Some(bytes);
        Ok(())
    }

    fn add_encoding(&mut self, value: &[u8]) -> Result<(), Broken> {
        if self.is_chunked || !value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
            return Err(Broken("Transfer-Encoding other than chunked"));
        }
        self.is_chunked = true;
        Ok(())
    }

    fn names(&self, token: &str) -> bool {
        self.nominated.iter().any(|name| name.eq_ignore_ascii_case(token.as_bytes()))
    }

    fn is_persistent(&self, minor: u8) -> bool {
        if minor == 0 { self.names("keep-alive") && !self.names("close") } else { !self.names("close") }
    }

    /// HTTP/2 is never changed to this way (RFC 9113 §3.1): an upstream that did would see past the edge's rules.
    fn upgrade(&self, head: &Copied<'_>) -> Option<Bytes> {
        let protocols = self.upgrade.filter(|protocols| self.names("upgrade") && !protocols.is_empty())?;
        let is_http = |name: &[u8]| {
            let name = name.trim_ascii().to_ascii_lowercase();
            name.starts_with(b"h2") || name.starts_with(b"http")
        };
        let offers_http = protocols.split(|byte| *byte == b',').any(is_http);
        (!offers_http).then(|| head.part(protocols))
    }
}

fn end_to_end(head: &Copied<'_>, fields: &[httparse::Header], marks: &Marks, without: &[&str]) -> Vec<Field> {
    let is_one_of = |names: &[&str], name: &str| names.iter().any(|one| one.eq_ignore_ascii_case(name));
    let is_dropped = |name: &str| {
        // Most names are told from all of these by their length.
        HOP_BY_HOP_LENGTHS & length_mark(name) != 0 && is_one_of(&HOP_BY_HOP, name)
            || is_one_of(without, name)
            || !marks.nominated.is_empty() && marks.names(name)
    };
    // Room for what a proxy adds, too.
    let mut kept = Vec::with_capacity(fields.len() + ADDED_FIELDS);
    let end_to_end = fields.iter().filter(|field| !is_dropped(field.name));
    kept.extend(
        end_to_end
            .map(|field| Field { name: head.part(field.name.as_bytes()), value: head.part(field.value) }),
    );
    kept
}

fn request_framing(marks: &Marks, minor: u8) -> Result<Framing, Refused> {
    match (marks.is_chunked, marks.length) {
        (true, Some(_)) => Err(bad("both Content-Length and Transfer-Encoding")),
        (true, None) if minor == 0 => Err(bad("Transfer-Encoding in HTTP/1.0")),
        (true, None) => Ok(Framing::Chunked),
        (false, Some(bytes)) => Ok(Framing::Length(bytes)),
        (false, None) => Ok(Framing::None),
    }
}

/// Authority and path (RFC 9112 §3.2): an absolute target's own authority wins over Host. None for a URL without a path.
fn route<'h>(
    method: &str,
    target: &'h str,
    fields: &[httparse::Header<'h>],
) -> Result<(&'h [u8], Option<&'h str>), Refused> {
    let mut hosts = fields.iter().filter(|field| field.name.eq_ignore_ascii_case("host"));
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.value.trim_ascii(),
        (None, _) => return Err(bad("no Host")),
        (Some(_), Some(_)) => return Err(bad("more than one Host")),
    };
    if method == "CONNECT" {
        return Err(Refused { status: 501, why: "CONNECT is not served" });
    }
    if !is_authority(host) {
        return Err(bad("Host is not a host with an optional port"));
    }
    if !target.bytes().all(|byte| (0x21..0x7f).contains(&byte) && byte != b'#') {
        return Err(bad("the target has bytes that must be encoded"));
    }
    if target.starts_with('/') || target == "*" && method == "OPTIONS" {
        return Ok((host, Some(target)));
    }
    absolute(target).ok_or(bad("the target is neither a path nor an http URL"))
}

fn absolute(target: &str) -> Option<(&[u8], Option<&str>)> {
    let (scheme, rest) = target.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return None;
    }
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if !is_authority(authority.as_bytes()) {
        return None;
    }
    Some((authority.as_bytes(), Some(path).filter(|path| path.starts_with('/'))))
}

fn expectation(fields: &[httparse::Header], minor: u8) -> Result<bool, Refused> {
    let Some(expect) = fields.iter().find(|field| field.name.eq_ignore_ascii_case("expect")) else {
        return Ok(false);
    };
    if expect.value.trim_ascii().eq_ignore_ascii_case(b"100-continue") {
        Ok(minor == 1)
    } else {
        Err(Refused { status: 417, why: "only 100-continue can be expected" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(head: &str) -> Result<RequestHead, Refused> {
        parse_request(head.as_bytes())
    }

    fn answer(head: &str, method: &str) -> Result<AnswerHead, Broken> {
        parse_answer(&Bytes::copy_from_slice(head.as_bytes()), method.as_bytes())
    }

    fn names(fields: &[Field]) -> Vec<&str> {
        fields.iter().map(|field| std::str::from_utf8(&field.name).unwrap()).collect()
    }

    #[test]
    fn head_end_is_found_however_the_head_arrives() {
        let head = b"GET / HTTP/1.1\r\nhost: a\r\n\r\nrest";
        for cut in 1..head.len() {
            let mut scan = HeadScan::default();
            let first = scan.end(&head[..cut]).unwrap();
            let found = first.or_else(|| scan.end(head).unwrap());
            assert_eq!(found, Some(head.len() - 4), "cut at {cut}");
        }
    }

    #[test]
    fn bare_line_feeds_are_found_at_once() {
        for head in ["\n", "GET / HTTP/1.1\n", "GET / HTTP/1.1\r\na: b\n"] {
            assert!(HeadScan::default().end(head.as_bytes()).is_err(), "{head:?}");
        }
    }

    #[test]
    fn only_end_to_end_fields_are_kept() {
        let head = request(
            "POST /p?q HTTP/1.1\r\nHost: A.b:80\r\nConnection: close, X-One\r\nX-One: 1\r\nX-Two: 2\r\n\
             Keep-Alive: 1\r\nTE: trailers\r\nContent-Length: 3\r\nExpect: 100-Continue\r\n\r\n",
        )
        .unwrap();
        assert_eq!(names(&head.fields), ["X-Two"]);
        assert_eq!((&head.authority[..], &head.target[..]), (&b"A.b:80"[..], &b"/p?q"[..]));
        assert_eq!(
            (head.framing, head.is_persistent, head.expects_continue),
            (Framing::Length(3), false, true)
        );
        assert_eq!(head.path(), b"/p");
    }

    #[test]
    fn refusals_have_the_status_that_fits() {
        let host = "host: a\r\n";
        let cases = [
            ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
            (format!("GET / HTTP/1.1\r\n{host}{host}\r\n"), 400),
            (format!("GET / HTTP/1.1\r\n{host}content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n"), 400),
            (format!("GET / HTTP/1.1\r\n{host}content-length: 1\r\ncontent-length: 2\r\n\r\n"), 400),
            (format!("GET / HTTP/1.1\r\n{host}content-length: 0x1\r\n\r\n"), 400),
            (format!("GET / HTTP/1.1\r\n{host} folded: 1\r\n\r\n"), 400),
            (format!("GET / HTTP/1.1\r\n{host}a : 1\r\n\r\n"), 400),
            (format!("GET /ä HTTP/1.1\r\n{host}\r\n"), 400),
            (format!("GET / HTTP/2.0\r\n{host}\r\n"), 505),
            (format!("CONNECT a:80 HTTP/1.1\r\n{host}\r\n"), 501),
            (format!("GET / HTTP/1.1\r\n{host}expect: tea\r\n\r\n"), 417),
            (format!("GET / HTTP/1.1\r\n{host}{}\r\n", "a: b\r\n".repeat(200)), 431),
        ];
        for (head, status) in cases {
            assert_eq!(
                request(&head).map(|_| 200).unwrap_or_else(|refused| refused.status),
                status,
                "{head:?}"
            );
        }
    }

    #[test]
    fn same_content_length_twice_is_one() {
        let head = "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 7\r\ncontent-length: 7\r\n\r\n";
        assert_eq!(request(head).unwrap().framing, Framing::Length(7));
    }

    #[test]
    fn absolute_target_wins_over_host() {
        for (target, path) in [("http://b:8/p?q", "/p?q"), ("HTTPS://b:8", "/"), ("http://b:8?q", "/?q")] {
            let head = request(&format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n")).unwrap();
            assert_eq!((&head.authority[..], &head.target[..]), (&b"b:8"[..], path.as_bytes()));
        }
        for target in ["ftp://b/", "http:///p", "http://u@b/", "b", "*"] {
            assert!(request(&format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n")).is_err(), "{target}");
        }
        assert!(request("OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n").is_ok());
    }

    #[test]
    fn upgrade_needs_both_fields_and_never_leads_to_http2() {
        let upgrade =
            |fields: &str| request(&format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n")).unwrap().upgrade;
        assert_eq!(
            upgrade("connection: Upgrade\r\nupgrade: websocket\r\n").as_deref(),
            Some(&b"websocket"[..])
        );
        assert_eq!(upgrade("upgrade: websocket\r\n"), None);
        assert_eq!(upgrade("connection: upgrade\r\nupgrade: h2c\r\n"), None);
        assert_eq!(upgrade("connection: upgrade\r\nupgrade: websocket, HTTP/2.0\r\n"), None);
    }

    #[test]
    fn connection_persists_as_version_and_field_say() {
        let persists = |version: &str, fields: &str| {
            request(&format!("GET / HTTP/{version}\r\nhost: a\r\n{fields}\r\n")).unwrap().is_persistent
        };
        assert!(persists("1.1", "") && persists("1.0", "connection: Keep-Alive\r\n"));
        assert!(!persists("1.0", "") && !persists("1.1", "connection: x, close\r\n"));
    }

    #[test]
    fn answers_end_as_their_status_method_and_fields_say() {
        let framing = |head: &str, method: &str| answer(head, method).unwrap().framing;
        assert_eq!(framing("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", "GET"), Framing::Length(5));
        assert_eq!(framing("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", "HEAD"), Framing::None);
        assert_eq!(framing("HTTP/1.1 304 X\r\ncontent-length: 5\r\n\r\n", "GET"), Framing::None);
        assert_eq!(framing("HTTP/1.1 200\r\ntransfer-encoding: chunked\r\n\r\n", "GET"), Framing::Chunked);
        let open = answer("HTTP/1.1 200 OK\r\n\r\n", "GET").unwrap();
        assert_eq!((open.framing, open.is_persistent), (Framing::UntilClose, false));
    }

    #[test]
    fn answers_that_could_be_read_in_two_ways_are_broken() {
        for head in [
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n",
            "HTTP/1.1 999 OK\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/3 200 OK\r\n\r\n",
            "ICY 200 OK\r\n\r\n",
        ] {
            assert!(answer(head, "GET").is_err(), "{head:?}");
        }
    }
}
