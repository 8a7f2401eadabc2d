//! Ranges: what is given lies in the body, and covers exactly what was asked for.

use super::Input;
use crate::cache::semantics::range::{Multipart, Span, Wanted, content_range, wanted, write_content_range};
use crate::edge::stored::blocks::blocks_around;

/// The gap below which two parts are one.
const GAP_BYTES: u64 = 80;

pub fn range(bytes: &[u8]) {
    let mut input = Input(bytes);
    let shift = u32::from(input.byte()) % 64;
    let (length, ranges_max) = (input.word() >> shift, usize::from(input.byte() % 20));
    let block_bytes = 1 << (u32::from(input.byte()) % 24);
    // As a value comes from a head.
    let text = input.0.trim_ascii();
    let found = wanted(text, length, ranges_max);
    match &found {
        Wanted::One(span) => check_span(*span, length),
        Wanted::Many(spans) => {
            assert!(spans.len() >= 2 && spans.len() <= ranges_max);
            spans.iter().for_each(|span| check_span(*span, length));
            check_apart(spans);
            // Longer ones exist nowhere, and their sums with the heads would not fit.
            if length < 1 << 62 {
                check_multipart(spans, length);
            }
        }
        Wanted::Whole | Wanted::NotSatisfiable => {}
    }
    check_members(text, length, &found);
    check_blocks(text, block_bytes);
    if let Some(range) = content_range(text) {
        assert!(range.first <= range.last && range.complete.is_none_or(|complete| range.last < complete));
    }
}

fn check_span(span: Span, length: u64) {
    assert!(span.first <= span.last && span.last < length);
    let mut text = Vec::new();
    write_content_range(Some(span), length, &mut text);
    let told = content_range(&text);
    assert!(
        told.is_some_and(
            |told| (told.first, told.last, told.complete) == (span.first, span.last, Some(length))
        )
    );
}

fn check_apart(spans: &[Span]) {
    for (place, one) in spans.iter().enumerate() {
        for other in spans.iter().skip(place + 1) {
            let (before, after) = if one.first < other.first { (one, other) } else { (other, one) };
            assert!(before.last.saturating_add(GAP_BYTES) < after.first, "{one:?} and {other:?} are one");
        }
    }
}

/// Heads and tail as they are written, and the bytes of the parts, make the length that is told.
fn check_multipart(spans: &[Span], length: u64) {
    let frame = Multipart::new(length, Some(b"text/plain"), length);
    let mut text = Vec::new();
    for (place, span) in spans.iter().enumerate() {
        frame.write_part_head(*span, place == 0, &mut text);
    }
    frame.write_tail(&mut text);
    let parts = spans.iter().map(|span| span.len()).fold(text.len() as u64, u64::saturating_add);
    assert_eq!(frame.body_len(spans), parts);
}

/// Every byte that some member names is served, and nothing but those and the gaps that joining them takes along.
fn check_members(text: &[u8], length: u64, found: &Wanted) {
    let spans: &[Span] = match found {
        Wanted::One(span) => std::slice::from_ref(span),
        Wanted::Many(spans) => spans,
        Wanted::Whole | Wanted::NotSatisfiable => return,
    };
    let set = text.get(6..).unwrap_or_default();
    let named: Vec<Span> =
        set.split(|byte| *byte == b',').filter_map(|member| plainly(member, length)).collect();
    let is_served = |span: &Span| spans.iter().any(|part| part.first <= span.first && span.last <= part.last);
    assert!(named.iter().all(is_served), "{named:?} of {spans:?}");
    let is_an_edge = |at: u64| named.iter().any(|span| span.first == at || span.last == at);
    assert!(spans.iter().all(|part| is_an_edge(part.first) && is_an_edge(part.last)));
}

/// A member by the simplest reading that there is; None outside of the whole.
fn plainly(member: &[u8], length: u64) -> Option<Span> {
    let text = std::str::from_utf8(member.trim_ascii()).ok()?;
    let (first, last) = text.split_once('-')?;
    let number = |text: &str| text.parse::<u128>().unwrap_or(u128::MAX);
    let end = u128::from(length).checked_sub(1)?;
    let (first, last) = match (first, last) {
        ("", suffix) => (u128::from(length).saturating_sub(number(suffix)), end),
        (first, "") => (number(first), end),
        (first, last) => (number(first), number(last).min(end)),
    };
    let span = Span { first: u64::try_from(first).ok()?, last: u64::try_from(last).ok()? };
    (span.first <= span.last).then_some(span)
}

/// The blocks that are fetched for a range begin and end where blocks do, and hold the range.
fn check_blocks(text: &[u8], block_bytes: u64) {
    let Some(asked) = blocks_around(text, block_bytes, 1) else { return };
    let length = u64::MAX - 1;
    let of = |range: &[u8]| match wanted(range, length, 1) {
        Wanted::One(span) => Some(span),
        _ => None,
    };
    let both = of(text).zip(of(asked.as_bytes()));
    assert!(both.is_some(), "{asked} is not one range, or was asked for none");
    let Some((span, around)) = both else { return };
    assert!(around.first <= span.first && span.last <= around.last, "{asked}");
    if !asked.starts_with("bytes=-") {
        assert!(around.first % block_bytes == 0, "{asked}");
        let is_to_the_end = around.last == length - 1;
        assert!(is_to_the_end || (around.last + 1) % block_bytes == 0, "{asked}");
    }
}
