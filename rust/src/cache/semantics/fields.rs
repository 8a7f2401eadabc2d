//! Header fields as the rules see them: borrowed names and values, whoever owns them.

/// A head's fields in the order in which they came. Names compare without case.
pub trait Fields {
    fn lines(&self) -> impl Iterator<Item = (&[u8], &[u8])>;

    /// Every value of that name (lower case), without the spaces around it.
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let is_named = move |line: &(&[u8], &[u8])| line.0.eq_ignore_ascii_case(name.as_bytes());
        self.lines().filter(is_named).map(|line| line.1.trim_ascii())
    }

    fn value(&self, name: &str) -> Option<&[u8]> {
        let mut lines = self.lines();
        lines.find(|line| line.0.eq_ignore_ascii_case(name.as_bytes())).map(|line| line.1.trim_ascii())
    }

    /// The value of a field that may come once only; None if it is absent or repeated with another value.
    fn single(&self, name: &str) -> Option<&[u8]> {
        let first = self.value(name)?;
        let is_other = |line: (&[u8], &[u8])| {
            line.0.eq_ignore_ascii_case(name.as_bytes()) && line.1.trim_ascii() != first
        };
        (!self.lines().any(is_other)).then_some(first)
    }

    fn has(&self, name: &str) -> bool {
        self.lines().any(|line| line.0.eq_ignore_ascii_case(name.as_bytes()))
    }
}

impl<N: AsRef<[u8]>, V: AsRef<[u8]>> Fields for [(N, V)] {
    fn lines(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))
    }
}

impl<F: Fields + ?Sized> Fields for &F {
    fn lines(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        (**self).lines()
    }
}

/// The members of a comma-separated list (RFC 9110 §5.6.1), trimmed; a comma inside of quotes separates nothing.
///
/// A list whose last quote never closes is cut at every comma instead, so that nothing restrictive can hide in it.
#[derive(Clone, Debug)]
pub struct Members<'a> {
    rest: Option<&'a [u8]>,
    has_quotes: bool,
}

pub fn members(list: &[u8]) -> Members<'_> {
    Members { rest: Some(list), has_quotes: list.contains(&b'"') && is_closed(list) }
}

/// The first comma outside of quotes.
fn open_comma(list: &[u8]) -> Option<usize> {
    let mut quotes = Quotes::default();
    list.iter().position(|byte| {
        quotes.step(*byte);
        *byte == b',' && !quotes.is_open
    })
}

/// Whether every quote that opens closes again.
pub fn is_closed(list: &[u8]) -> bool {
    let mut quotes = Quotes::default();
    list.iter().for_each(|byte| quotes.step(*byte));
    !quotes.is_open
}

#[derive(Default)]
struct Quotes {
    is_open: bool,
    is_escaped: bool,
}

impl Quotes {
    fn step(&mut self, byte: u8) {
        match byte {
            _ if self.is_escaped => self.is_escaped = false,
            b'\\' => self.is_escaped = self.is_open,
            b'"' => self.is_open = !self.is_open,
            _ => {}
        }
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest?;
        let end = if self.has_quotes { open_comma(rest) } else { rest.iter().position(|byte| *byte == b',') };
        let (member, rest) = match end.and_then(|end| rest.split_at_checked(end)) {
            Some((member, tail)) => (member, tail.get(1..)),
            None => (rest, None),
        };
        self.rest = rest;
        Some(member.trim_ascii())
    }
}

/// Largest number of seconds that is told apart (RFC 9111 §1.2.2); greater ones count as this one.
pub const SECONDS_MAX: u32 = 1 << 31;

/// delta-seconds: digits only.
pub fn seconds(text: &[u8]) -> Option<u32> {
    let number = digits(text)?;
    Some(u32::try_from(number).map_or(SECONDS_MAX, |seconds| seconds.min(SECONDS_MAX)))
}

/// A number of any count of digits; one that does not fit counts as the largest that does.
pub fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |sum: u64, digit: &u8| sum.saturating_mul(10).saturating_add(u64::from(*digit - b'0'));
    Some(text.iter().fold(0, add))
}

pub fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| is_token_byte(*byte))
}

pub fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Writes a number in decimal.
pub fn put_number(out: &mut Vec<u8>, number: u64) {
    let mut buffer = [0_u8; 20];
    let mut at = buffer.len();
    let mut rest = number;
    for slot in buffer.iter_mut().rev() {
        *slot = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        at -= 1;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(buffer.get(at..).unwrap_or_default());
}

/// How many digits `put_number` writes.
pub fn number_len(number: u64) -> u64 {
    number.checked_ilog10().map_or(1, |log| u64::from(log) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(list: &str) -> Vec<&str> {
        members(list.as_bytes()).map(|member| std::str::from_utf8(member).unwrap()).collect()
    }

    #[test]
    fn commas_in_quotes_do_not_separate() {
        assert_eq!(split("a, b=\"c, \\\" d\" ,e"), ["a", "b=\"c, \\\" d\"", "e"]);
        assert_eq!(split(""), [""]);
        assert_eq!(split("a,,b,"), ["a", "", "b", ""]);
    }

    #[test]
    fn nothing_hides_behind_a_quote_that_never_closes() {
        assert_eq!(split("a=\"b, no-store"), ["a=\"b", "no-store"]);
        assert_eq!(split("a=\"b\\\", no-store"), ["a=\"b\\\"", "no-store"]);
    }

    #[test]
    fn seconds_are_digits_and_saturate() {
        assert_eq!(seconds(b"003600"), Some(3600));
        assert_eq!(seconds(b"2147483649"), Some(SECONDS_MAX));
        assert_eq!(seconds(b"99999999999999999999999999"), Some(SECONDS_MAX));
        for bad in ["", "-1", "+1", "1.0", "1a", " 1", "'1'"] {
            assert_eq!(seconds(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn numbers_are_written_as_rust_writes_them() {
        for number in [0, 1, 9, 10, 99, 100, 12_345, u64::MAX] {
            let mut out = Vec::new();
            put_number(&mut out, number);
            assert_eq!(out, number.to_string().into_bytes());
            assert_eq!(number_len(number), out.len() as u64);
        }
    }

    #[test]
    fn a_repeated_single_field_counts_only_if_it_says_the_same() {
        let head = [("Expires", "a"), ("expires", " a ")];
        assert_eq!(head.as_slice().single("expires"), Some(b"a".as_slice()));
        let head = [("Expires", "a"), ("expires", "b")];
        assert_eq!(head.as_slice().single("expires"), None);
    }
}
