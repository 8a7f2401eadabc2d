//! Ranges (RFC 9110 §14): which bytes a request wants of how many there are, and which a 206 brought.

use super::fields::{digits, members, number_len, put_number};

/// Bytes `first` to `last`, both included; never empty, always inside of the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub first: u64,
    pub last: u64,
}

impl Span {
    /// In bytes.
    pub fn len(self) -> u64 {
        self.last.saturating_sub(self.first).saturating_add(1)
    }

    pub fn is_empty(self) -> bool {
        false
    }
}

/// What a Range field means for a whole of a known length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// No Range, or one that is to be ignored: everything.
    Whole,
    One(Span),
    /// At least two, in the order asked for, none touching another.
    Many(Vec<Span>),
    /// 416 with `Content-Range: bytes */length`.
    NotSatisfiable,
}

/// Parts closer than this are sent as one: less than what two part heads take (RFC 9110 §15.3.7.2).
const GAP_BYTES: u64 = 80;

/// The bytes that `range` wants of `length`. A field that is wrong anywhere is ignored, and so is one with more than
/// `ranges_max` ranges; those that touch or overlap become one, so that no byte is sent twice.
pub fn wanted(range: &[u8], length: u64, ranges_max: usize) -> Wanted {
    let Some(set) = byte_set(range) else { return Wanted::Whole };
    if !set.contains(&b',') {
        return match read(set.trim_ascii(), length) {
            Read::Span(span) => Wanted::One(span),
            Read::Outside => Wanted::NotSatisfiable,
            Read::Wrong => Wanted::Whole,
        };
    }
    let mut spans = Vec::new();
    let mut count = 0;
    for member in members(set).filter(|member| !member.is_empty()) {
        count += 1;
        match read(member, length) {
            _ if count > ranges_max => return Wanted::Whole,
            Read::Wrong => return Wanted::Whole,
            Read::Outside => {}
            Read::Span(span) => spans.push(span),
        }
    }
    if count == 0 {
        return Wanted::Whole;
    }
    let spans = joined(spans);
    match spans.as_slice() {
        [] => Wanted::NotSatisfiable,
        [one] => Wanted::One(*one),
        _ => Wanted::Many(spans),
    }
}

fn byte_set(range: &[u8]) -> Option<&[u8]> {
    let (unit, set) = range.split_at_checked(6)?;
    unit.eq_ignore_ascii_case(b"bytes=").then_some(set)
}

enum Read {
    Span(Span),
    Outside,
    Wrong,
}

/// `first-last`, `first-` or `-suffix`.
fn read(spec: &[u8], length: u64) -> Read {
    let Some(at) = spec.iter().position(|byte| *byte == b'-') else { return Read::Wrong };
    let (first, last) = (spec.get(..at).unwrap_or_default(), spec.get(at + 1..).unwrap_or_default());
    let end = length.saturating_sub(1);
    let (first, last) = match (first, digits(first), last, digits(last)) {
        ([], _, _, Some(suffix)) if suffix > 0 => (length.saturating_sub(suffix), end),
        ([], _, _, Some(_)) => return Read::Outside,
        (_, Some(first), [], _) => (first, end.max(first)),
        (_, Some(first), _, Some(last)) if first <= last => (first, last),
        _ => return Read::Wrong,
    };
    if first >= length { Read::Outside } else { Read::Span(Span { first, last: last.min(end) }) }
}

/// The same bytes with no two parts near each other; each group stands where its first member stood.
fn joined(spans: Vec<Span>) -> Vec<Span> {
    let mut groups: Vec<Span> = Vec::with_capacity(spans.len());
    for mut span in spans {
        let mut place = groups.len();
        // A span that grows may reach groups that it did not reach before.
        while let Some(at) = groups.iter().position(|group| is_near(*group, span)) {
            let group = groups.remove(at);
            span = Span { first: group.first.min(span.first), last: group.last.max(span.last) };
            place = place.min(at);
        }
        groups.insert(place.min(groups.len()), span);
    }
    groups
}

fn is_near(one: Span, other: Span) -> bool {
    let reaches = |from: Span, to: Span| from.last.saturating_add(GAP_BYTES) >= to.first;
    reaches(one, other) && reaches(other, one)
}

/// A 206's Content-Range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRange {
    pub first: u64,
    pub last: u64,
    /// Of the whole; None if the sender does not know it (`*`).
    pub complete: Option<u64>,
}

impl ContentRange {
    /// In bytes.
    pub fn len(&self) -> u64 {
        self.last.saturating_sub(self.first).saturating_add(1)
    }

    pub fn is_empty(&self) -> bool {
        false
    }

    pub fn covers(&self, span: Span) -> bool {
        self.first <= span.first && span.last <= self.last
    }
}

/// `bytes first-last/complete`; None for anything else, and where the numbers contradict each other (RFC 9110 §14.4).
pub fn content_range(text: &[u8]) -> Option<ContentRange> {
    let (unit, rest) = text.split_at_checked(6)?;
    let slash = rest.iter().position(|byte| *byte == b'/')?;
    let (range, complete) = (rest.get(..slash)?, rest.get(slash + 1..)?);
    let dash = range.iter().position(|byte| *byte == b'-')?;
    let (first, last) = (digits(range.get(..dash)?)?, digits(range.get(dash + 1..)?)?);
    let complete = if complete == b"*" { None } else { Some(digits(complete)?) };
    let is_sound = first <= last && last < u64::MAX && complete.is_none_or(|complete| last < complete);
    (is_sound && unit.eq_ignore_ascii_case(b"bytes ")).then_some(ContentRange { first, last, complete })
}

/// Appends the value of a Content-Range: of a part, or without one (416).
pub fn write_content_range(part: Option<Span>, length: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"bytes ");
    match part {
        Some(span) => {
            put_number(out, span.first);
            out.push(b'-');
            put_number(out, span.last);
        }
        None => out.push(b'*'),
    }
    out.push(b'/');
    put_number(out, length);
}

/// The frame around the parts of a multipart/byteranges body (RFC 9110 §14.6).
#[derive(Clone, Copy, Debug)]
pub struct Multipart<'a> {
    boundary: [u8; 24],
    /// The whole's own Content-Type, if it has one.
    content_type: Option<&'a [u8]>,
    length: u64,
}

impl<'a> Multipart<'a> {
    /// `seed` should be hard to foresee, so that no body contains the boundary on purpose.
    pub fn new(seed: u64, content_type: Option<&'a [u8]>, length: u64) -> Self {
        let mut boundary = *b"polycdn-0000000000000000";
        for (slot, nibble) in boundary.iter_mut().skip(8).zip((0..16).rev()) {
            let digit = u8::try_from(seed >> (nibble * 4) & 15).unwrap_or(0);
            *slot = if digit < 10 { b'0' + digit } else { b'a' + digit - 10 };
        }
        Self { boundary, content_type, length }
    }

    /// The answer's Content-Type.
    pub fn write_content_type(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"multipart/byteranges; boundary=");
        out.extend_from_slice(&self.boundary);
    }

    /// What goes before the bytes of a part.
    pub fn write_part_head(&self, span: Span, is_first: bool, out: &mut Vec<u8>) {
        out.extend_from_slice(if is_first { b"--" } else { b"\r\n--" });
        out.extend_from_slice(&self.boundary);
        if let Some(content_type) = self.content_type {
            out.extend_from_slice(b"\r\nContent-Type: ");
            out.extend_from_slice(content_type);
        }
        out.extend_from_slice(b"\r\nContent-Range: ");
        write_content_range(Some(span), self.length, out);
        out.extend_from_slice(b"\r\n\r\n");
    }

    /// What goes behind the last part.
    pub fn write_tail(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\r\n--");
        out.extend_from_slice(&self.boundary);
        out.extend_from_slice(b"--\r\n");
    }

    /// The answer's Content-Length: heads, bytes and tail.
    pub fn body_len(&self, spans: &[Span]) -> u64 {
        let type_len = self.content_type.map_or(0, |text| 16 + text.len() as u64);
        let fixed = 4 + 24 + type_len + 17 + 8 + number_len(self.length) + 4;
        let part = |span: &Span| fixed + number_len(span.first) + number_len(span.last) + span.len();
        // The first part has no line end before it; the tail has its own.
        spans.iter().map(part).fold(0, u64::saturating_add).saturating_add(4 + 24 + 4).saturating_sub(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::semantics::dice::Dice;

    fn ask(range: &str, length: u64) -> Wanted {
        wanted(range.as_bytes(), length, 16)
    }

    fn span(first: u64, last: u64) -> Span {
        Span { first, last }
    }

    #[test]
    fn single_ranges_are_cut_to_the_whole() {
        for (range, expected) in [
            ("bytes=0-1", span(0, 1)),
            ("bytes=1-", span(1, 10)),
            ("bytes=-1", span(10, 10)),
            ("bytes=-99", span(0, 10)),
            ("bytes=5-99999999999999999999999", span(5, 10)),
            ("BYTES=10-10", span(10, 10)),
            ("bytes= 2-3 ", span(2, 3)),
        ] {
            assert_eq!(ask(range, 11), Wanted::One(expected), "{range}");
        }
    }

    #[test]
    fn ranges_outside_are_not_satisfiable_and_wrong_ones_are_ignored() {
        for range in
            ["bytes=11-", "bytes=11-12", "bytes=-0", "bytes=99999999999999999999999-", "bytes=20-30,40-"]
        {
            assert_eq!(ask(range, 11), Wanted::NotSatisfiable, "{range}");
        }
        assert_eq!(ask("bytes=0-", 0), Wanted::NotSatisfiable);
        assert_eq!(ask("bytes=-5", 0), Wanted::NotSatisfiable);
        for range in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=2-1",
            "bytes=a-b",
            "items=0-1",
            "bytes=0-1,x",
            "bytes 0-1",
            "bytes=1",
            "bytes=,",
            "bytes=--1",
            "bytes=0x1-2",
        ] {
            assert_eq!(ask(range, 11), Wanted::Whole, "{range}");
        }
    }

    #[test]
    fn several_ranges_keep_their_order_and_touch_nowhere() {
        assert_eq!(ask("bytes=900-909, 0-9", 1_000), Wanted::Many(vec![span(900, 909), span(0, 9)]));
        assert_eq!(ask("bytes=0-9,5-20", 1_000), Wanted::One(span(0, 20)));
        assert_eq!(ask("bytes=0-9,50-60", 1_000), Wanted::One(span(0, 60)));
        assert_eq!(ask("bytes=0-9,500-509,5-505", 1_000), Wanted::One(span(0, 509)));
        assert_eq!(ask("bytes=0-0,-1,2000-", 1_000), Wanted::Many(vec![span(0, 0), span(999, 999)]));
        assert_eq!(ask(&format!("bytes={}", "0-,".repeat(17)), 1_000), Wanted::Whole);
    }

    #[test]
    fn no_range_reaches_beyond_the_end_or_twice_over_a_byte() {
        let mut dice = Dice(9);
        let pieces = ["bytes=", "0", "5", "9", "-", ",", " ", "18446744073709551615", "500-600", "-5"];
        for round in 0..100_000_u64 {
            let mut range = dice.text(&pieces);
            if round % 2 == 0 {
                range.splice(0..0, *b"bytes=");
            }
            let length = if round % 3 == 0 { dice.below(2_000) } else { dice.next() };
            let spans = match wanted(&range, length, 8) {
                Wanted::One(span) => vec![span],
                Wanted::Many(spans) => spans,
                _ => continue,
            };
            let total = spans.iter().try_fold(0_u64, |sum, span| sum.checked_add(span.len()));
            assert!(total.unwrap() <= length, "{spans:?} of {length}");
            assert!(spans.iter().all(|span| span.first <= span.last && span.last < length));
            let _ = content_range(&range);
        }
    }

    #[test]
    fn content_range_is_read_strictly() {
        let read = |text: &str| content_range(text.as_bytes());
        assert_eq!(read("bytes 4-9/10"), Some(ContentRange { first: 4, last: 9, complete: Some(10) }));
        assert_eq!(read("bytes 0-0/*").unwrap().complete, None);
        for bad in [
            "bytes 4-3/10",
            "bytes 4-10/10",
            "bytes */10",
            "bytes 4-9",
            "4-9/10",
            "bytes=4-9/10",
            "bytes 4-9/x",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert!(
            read("bytes 4-9/10").unwrap().covers(span(6, 8))
                && !read("bytes 4-9/10").unwrap().covers(span(3, 4))
        );
    }

    #[test]
    fn the_multipart_length_is_the_length_of_what_is_written() {
        let content_types: [Option<&[u8]>; 2] = [None, Some(b"text/plain; charset=utf-8")];
        for content_type in content_types {
            let frame = Multipart::new(0x0123_4567_89ab_cdef, content_type, 12_345);
            let spans = [span(0, 0), span(100, 199), span(12_000, 12_344)];
            let mut body = Vec::new();
            for (index, part) in spans.iter().enumerate() {
                frame.write_part_head(*part, index == 0, &mut body);
                body.extend(std::iter::repeat_n(b'x', usize::try_from(part.len()).unwrap()));
            }
            frame.write_tail(&mut body);
            assert_eq!(frame.body_len(&spans), body.len() as u64);
            assert!(body.starts_with(b"--polycdn-0123456789abcdef\r\nContent-"));
        }
    }
}
