//! What an answer varies by, as the second part of its key (RFC 9111 §4.1).
//!
//! A variant is told by bytes that carry their own names, so that a stored answer can be matched with a request without
//! anything besides: for every name of Vary, in lower case, sorted, each once:
//! `name` 0x00 (absent) or `name` 0x01 `value`, then LF. No field line can hold any of the three. An answer
//! that varies by nothing has the empty variant.
//!
//! Values are brought into one form first: lines combined, spaces around commas removed. Accept-Language,
//! Accept-Encoding and Accept-Charset are lists in which neither case nor order counts but for the weights, so they are
//! sorted by weight and name.

use super::fields::{Fields, is_token, members};
use super::reason::Reason;

const ABSENT: u8 = 0;
const PRESENT: u8 = 1;
/// In front of the answer's own language, behind the value of accept-language.
const LANGUAGE: u8 = 2;

/// Whether an answer can be told from others by at most so many names.
pub fn check<F: Fields + ?Sized>(answer: &F, names_max: usize) -> Result<(), Reason> {
    let names = || answer.values("vary").flat_map(members).filter(|name| !name.is_empty());
    // What is no name could be anything, and so is no better than a star.
    if names().any(|name| name == b"*" || !is_token(name)) {
        return Err(Reason::VaryStar);
    }
    if names().count() > names_max { Err(Reason::VaryTooWide) } else { Ok(()) }
}

/// Appends the variant that `answer` is for requests like `request`.
pub fn write_variant<A: Fields + ?Sized, R: Fields + ?Sized>(answer: &A, request: &R, out: &mut Vec<u8>) {
    let listed = answer.values("vary").flat_map(members).filter(|name| !name.is_empty());
    let mut names: Vec<Vec<u8>> = listed.map(<[u8]>::to_ascii_lowercase).collect();
    names.sort_unstable();
    names.dedup();
    for name in &names {
        out.extend_from_slice(name);
        let name = std::str::from_utf8(name).unwrap_or_default();
        write_value(name, request, &mut |byte| out.push(byte));
        if name == "accept-language" {
            if let Some(language) = answer.single("content-language").filter(|tag| is_language(tag)) {
                out.push(LANGUAGE);
                out.extend(language.to_ascii_lowercase());
            }
        }
        out.push(b'\n');
    }
}

/// Whether a request asks for that variant. Allocates nothing.
pub fn matches<R: Fields + ?Sized>(variant: &[u8], request: &R) -> bool {
    let mut lines = variant.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.all(|line| is_asked_for(line, request).unwrap_or(false))
}

/// Appends the variant that a request asks for by the names of another variant: equal for all requests that an answer like
/// that one does not tell apart, so that they can wait for one fetch.
pub fn write_alike<R: Fields + ?Sized>(variant: &[u8], request: &R, out: &mut Vec<u8>) {
    for line in variant.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let name = line.split(|byte| *byte <= PRESENT).next().unwrap_or_default();
        out.extend_from_slice(name);
        write_value(std::str::from_utf8(name).unwrap_or_default(), request, &mut |byte| out.push(byte));
        out.push(b'\n');
    }
}

/// Whether an answer of one variant takes the place of one of the other; the language that it came in is no part of it.
pub fn is_same(one: &[u8], other: &[u8]) -> bool {
    let lines = |variant| <[u8]>::split(variant, |byte| *byte == b'\n').map(without_language);
    lines(one).eq(lines(other))
}

fn without_language(line: &[u8]) -> &[u8] {
    line.split(|byte| *byte == LANGUAGE).next().unwrap_or_default()
}

fn is_asked_for<R: Fields + ?Sized>(line: &[u8], request: &R) -> Option<bool> {
    let name_end = line.iter().position(|byte| *byte <= PRESENT)?;
    let (name, value) = line.split_at_checked(name_end)?;
    let value_end = value.iter().position(|byte| *byte == LANGUAGE).unwrap_or(value.len());
    let (value, language) = value.split_at_checked(value_end)?;
    let name = std::str::from_utf8(name).ok()?;
    let mut rest = Some(value);
    write_value(name, request, &mut |byte| {
        rest = rest
            .and_then(|rest| rest.split_first())
            .filter(|(first, _)| **first == byte)
            .map(|(_, rest)| rest);
    });
    let is_same = rest.is_some_and(<[u8]>::is_empty);
    Some(is_same || language.get(1..).is_some_and(|language| prefers(request, language)))
}

/// Whether an answer in that language is what the request wants most, and nothing else as much.
fn prefers<R: Fields + ?Sized>(request: &R, language: &[u8]) -> bool {
    let mut weighted = [Weighted::default(); CHOICES_MAX];
    let Some(choices) = weigh("accept-language", request, &mut weighted) else { return false };
    let is_alone = |first: &Weighted| choices.get(1).is_none_or(|second| second.weight < first.weight);
    choices
        .first()
        .is_some_and(|first| first.weight > 0 && first.name.eq_ignore_ascii_case(language) && is_alone(first))
}

fn is_language(tag: &[u8]) -> bool {
    !tag.is_empty() && tag.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
}

/// The mark and the value of a request's field in its one form, byte by byte.
pub(super) fn write_value<R: Fields + ?Sized>(name: &str, request: &R, put: &mut impl FnMut(u8)) {
    if !request.has(name) {
        return put(ABSENT);
    }
    put(PRESENT);
    let mut weighted = [Weighted::default(); CHOICES_MAX];
    let is_weighted = matches!(name, "accept-language" | "accept-encoding" | "accept-charset");
    match is_weighted.then(|| weigh(name, request, &mut weighted)).flatten() {
        Some(choices) => choices.iter().for_each(|choice| choice.write(put)),
        None => write_list(name, request, put),
    }
}

fn write_list<R: Fields + ?Sized>(name: &str, request: &R, put: &mut impl FnMut(u8)) {
    let mut is_first = true;
    for member in request.values(name).flat_map(members) {
        if !std::mem::take(&mut is_first) {
            put(b',');
        }
        // Bytes that carry the form cannot come from a field; should they, they match nothing else.
        member.iter().for_each(|byte| put(if *byte <= LANGUAGE || *byte == b'\n' { b' ' } else { *byte }));
    }
}

/// More choices are compared as they stand.
const CHOICES_MAX: usize = 24;

/// One choice with its weight in thousandths (RFC 9110 §12.4.2).
#[derive(Clone, Copy, Debug, Default)]
struct Weighted<'a> {
    name: &'a [u8],
    weight: u16,
}

impl Weighted<'_> {
    fn write(&self, put: &mut impl FnMut(u8)) {
        self.name.iter().for_each(|byte| put(byte.to_ascii_lowercase()));
        put(b';');
        // As thousandths, two bytes above every mark.
        put(b'0' + u8::try_from(self.weight / 32).unwrap_or(0));
        put(b'0' + u8::try_from(self.weight % 32).unwrap_or(0));
    }

    /// Heavier first, then by name.
    fn order(&self, other: &Self) -> std::cmp::Ordering {
        let (ours, theirs) = (self.name.iter().map(u8::to_ascii_lowercase), other.name.iter());
        other.weight.cmp(&self.weight).then_with(|| ours.cmp(theirs.map(u8::to_ascii_lowercase)))
    }
}

/// The choices in their one order; None if they are too many or not written as choices.
fn weigh<'s, 'a, R: Fields + ?Sized>(
    name: &'a str,
    request: &'a R,
    slots: &'s mut [Weighted<'a>; CHOICES_MAX],
) -> Option<&'s [Weighted<'a>]> {
    let mut found = 0;
    for member in request.values(name).flat_map(members).filter(|member| !member.is_empty()) {
        *slots.get_mut(found)? = read_choice(member)?;
        found += 1;
    }
    let choices = slots.get_mut(..found)?;
    choices.sort_unstable_by(Weighted::order);
    Some(choices)
}

fn read_choice(member: &[u8]) -> Option<Weighted<'_>> {
    let mut parts = member.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let name = parts.next().filter(|name| is_token(name))?;
    let weight = match parts.next() {
        None => 1_000,
        Some(part) => read_weight(part.strip_prefix(b"q=").or(part.strip_prefix(b"Q="))?)?,
    };
    parts.next().is_none().then_some(Weighted { name, weight })
}

/// `0` to `1` with at most three digits behind the point.
fn read_weight(text: &[u8]) -> Option<u16> {
    let (whole, part) = match text.iter().position(|byte| *byte == b'.') {
        Some(at) => (text.get(..at)?, text.get(at + 1..)?),
        None => (text, [].as_slice()),
    };
    if !matches!(whole, b"0" | b"1") || part.len() > 3 || !part.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |at: usize| part.get(at).map_or(0, |digit| u16::from(digit - b'0'));
    let thousandths = digit(0) * 100 + digit(1) * 10 + digit(2);
    let weight = if whole == b"1" { 1_000 + thousandths } else { thousandths };
    (weight <= 1_000).then_some(weight)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::semantics::dice::Dice;

    type Head<'a> = [(&'a str, &'a str)];

    fn variant(answer: &Head, request: &Head) -> Vec<u8> {
        let mut out = Vec::new();
        write_variant(answer, request, &mut out);
        out
    }

    fn is_match(answer: &Head, first: &Head, second: &Head) -> bool {
        matches(&variant(answer, first), second)
    }

    #[test]
    fn only_nominated_fields_count_and_all_of_them() {
        let answer = [("Vary", "Foo, bar"), ("vary", "Baz")];
        let asked = [("foo", "1"), ("bar", "abc"), ("other", "2")];
        assert!(is_match(&answer, &asked, &[("Bar", "abc"), ("FOO", "1"), ("other", "3")]));
        assert!(!is_match(&answer, &asked, &[("bar", "abcde"), ("foo", "1")]));
        assert!(!is_match(&answer, &asked, &[("foo", "1")]));
        assert!(!is_match(&answer, &asked, &[("foo", "1"), ("bar", "abc"), ("baz", "")]));
        assert!(!is_match(&answer, &[], &[("foo", "1")]));
        assert!(is_match(&[], &asked, &[]));
    }

    #[test]
    fn variants_do_not_depend_on_how_vary_is_written() {
        let asked = [("foo", "1"), ("bar", "2")];
        let one = variant(&[("vary", "Foo, Bar")], &asked);
        assert_eq!(one, variant(&[("vary", "bar,,"), ("vary", "FOO, foo")], &asked));
    }

    #[test]
    fn values_are_brought_into_one_form() {
        let answer = [("vary", "foo, accept-language, accept-encoding")];
        let same = [
            (vec![("foo", "1,2")], vec![("foo", " 1, 2 ")]),
            (vec![("foo", "1, 2")], vec![("foo", "1"), ("foo", "2")]),
            (vec![("accept-language", "en, de")], vec![("accept-language", "De ,  eN")]),
            (vec![("accept-encoding", "gzip, br")], vec![("accept-encoding", "br;q=1.0,gzip;q=1")]),
        ];
        for (first, second) in &same {
            assert!(is_match(&answer, first, second), "{first:?} {second:?}");
        }
        let other = [
            (vec![("foo", "1 2")], vec![("foo", "12")]),
            (vec![("foo", "a, b")], vec![("foo", "b, a")]),
            (vec![("foo", "\"a, b\"")], vec![("foo", "\"a,b\"")]),
            (vec![("foo", "A")], vec![("foo", "a")]),
            (vec![("accept-language", "en, de;q=0.5")], vec![("accept-language", "en, de")]),
            (vec![("accept-encoding", "gzip")], vec![("accept-encoding", "gzip;q=0")]),
        ];
        for (first, second) in &other {
            assert!(!is_match(&answer, first, second), "{first:?} {second:?}");
        }
    }

    #[test]
    fn the_language_that_a_request_wants_most_will_do() {
        let answer = [("vary", "accept-language"), ("content-language", "DE")];
        let asked = [("accept-language", "en, de")];
        let will_do = |wanted| is_match(&answer, &asked, &[("accept-language", wanted)]);
        assert!(will_do("fr;q=0.5, de;q=1.0") && will_do("de"));
        assert!(!will_do("fr, de;q=0.9") && !will_do("fr, de") && !will_do("de;q=0") && !will_do("*"));
        assert!(!is_match(&answer, &asked, &[]));
        let english = [("vary", "accept-language"), ("content-language", "en")];
        assert!(is_same(&variant(&answer, &asked), &variant(&english, &asked)));
        assert!(!is_same(&variant(&answer, &asked), &variant(&answer, &[])));
        let mixed = [("vary", "accept-language"), ("content-language", "de, en")];
        assert!(!is_match(&mixed, &asked, &[("accept-language", "de")]));
    }

    #[test]
    fn a_star_anywhere_cannot_be_told() {
        for value in ["*", "*, *", ", *", "*, Foo", "Foo, *", "foo bar"] {
            assert_eq!(check([("vary", value)].as_slice(), 16), Err(Reason::VaryStar), "{value}");
        }
        assert_eq!(check([("vary", ""), ("vary", "*")].as_slice(), 16), Err(Reason::VaryStar));
        assert_eq!(check([("vary", "a, b")].as_slice(), 1), Err(Reason::VaryTooWide));
        assert_eq!(check([("vary", "")].as_slice(), 0), Ok(()));
    }

    #[test]
    fn a_request_always_matches_the_variant_that_it_made() {
        let mut dice = Dice(5);
        let pieces = ["en", "de", ",", ";q=", "0.5", "*", " ", "\"", "a", "\n", "\u{1}", "\u{2}"];
        for _ in 0..20_000 {
            let request: Vec<_> = ["foo", "accept-language", "accept-encoding", "foo"]
                .iter()
                .take(dice.below(5) as usize)
                .map(|name| (name.as_bytes().to_vec(), dice.text(&pieces)))
                .collect();
            let answer = [("vary", "foo, accept-language, accept-encoding")];
            let mut out = Vec::new();
            write_variant(answer.as_slice(), request.as_slice(), &mut out);
            assert!(matches(&out, request.as_slice()), "{request:?}");
            let mut alike = Vec::new();
            write_alike(&out, request.as_slice(), &mut alike);
            assert_eq!(alike, out);
            let _ = matches(&dice.text(&pieces), request.as_slice());
        }
    }
}
