//! Targeted cache control (RFC 9213): CDN-Cache-Control and its like, a Dictionary of RFC 9651.
//!
//! The grammar is strict here, and one mistake makes the whole field as if absent (§2.1).

use super::directives::{Directives, Lifetime};
use super::fields::{Fields, SECONDS_MAX, is_token_byte};

/// The directives of the field of that name; None if it is absent, empty, broken, or has a lifetime that is no integer.
pub fn directives<F: Fields + ?Sized>(answer: &F, name: &str) -> Option<Directives> {
    let mut directives = Directives { is_targeted: true, ..Directives::default() };
    let mut has_members = false;
    for line in answer.values(name).filter(|line| !line.is_empty()) {
        has_members = true;
        read_line(line, &mut directives)?;
    }
    has_members.then_some(directives)
}

fn read_line(line: &[u8], directives: &mut Directives) -> Option<()> {
    let mut cursor = Cursor(line);
    loop {
        let (key, value) = cursor.member()?;
        apply(directives, key, value)?;
        cursor.skip(b" \t");
        if cursor.0.is_empty() {
            return Some(());
        }
        cursor.exactly(b',')?;
        cursor.skip(b" \t");
    }
}

fn apply(directives: &mut Directives, key: &[u8], value: Value) -> Option<()> {
    match key {
        b"max-age" => directives.max_age = value.lifetime()?,
        b"s-maxage" => directives.s_maxage = value.lifetime()?,
        b"stale-while-revalidate" => directives.stale_while_revalidate_s = Some(value.seconds()?),
        b"stale-if-error" => directives.stale_if_error_s = Some(value.seconds()?),
        b"no-cache" if value != Value::False => directives.add_no_cache(value == Value::Text),
        b"private" if value != Value::False => directives.add_private(value == Value::Text),
        b"no-cache" | b"private" => {}
        _ if value == Value::False => {}
        _ => directives.add_flag(key),
    }
    Some(())
}

/// As much of a value as directives need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    True,
    False,
    Integer(i64),
    /// A string that is not empty.
    Text,
    Other,
}

impl Value {
    /// A negative number of seconds is an integer, but no lifetime.
    fn lifetime(self) -> Option<Lifetime> {
        match self {
            Value::Integer(number) if number < 0 => Some(Lifetime::Unclear),
            _ => self.seconds().map(Lifetime::Seconds),
        }
    }

    fn seconds(self) -> Option<u32> {
        let Value::Integer(number) = self else { return None };
        Some(u32::try_from(number.max(0)).map_or(SECONDS_MAX, |number| number.min(SECONDS_MAX)))
    }
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    fn take(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn exactly(&mut self, byte: u8) -> Option<()> {
        (self.take()? == byte).then_some(())
    }

    fn skip(&mut self, bytes: &[u8]) {
        self.take_while(|byte| bytes.contains(&byte));
    }

    fn take_while(&mut self, is_part: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.0.iter().position(|byte| !is_part(*byte)).unwrap_or(self.0.len());
        let (part, rest) = self.0.split_at_checked(end).unwrap_or((self.0, &[]));
        self.0 = rest;
        part
    }

    fn member(&mut self) -> Option<(&'a [u8], Value)> {
        let key = self.key()?;
        let value = if self.peek() == Some(b'=') {
            self.take();
            if self.peek() == Some(b'(') { self.inner_list()? } else { self.bare_item()? }
        } else {
            Value::True
        };
        self.parameters()?;
        Some((key, value))
    }

    fn key(&mut self) -> Option<&'a [u8]> {
        let starts = |byte: u8| byte.is_ascii_lowercase() || byte == b'*';
        self.peek().filter(|byte| starts(*byte))?;
        Some(self.take_while(|byte| starts(byte) || byte.is_ascii_digit() || b"_-.".contains(&byte)))
    }

    fn parameters(&mut self) -> Option<()> {
        while self.peek() == Some(b';') {
            self.take();
            self.skip(b" ");
            self.key()?;
            if self.peek() == Some(b'=') {
                self.take();
                self.bare_item()?;
            }
        }
        Some(())
    }

    fn inner_list(&mut self) -> Option<Value> {
        self.exactly(b'(')?;
        loop {
            self.skip(b" ");
            if self.peek()? == b')' {
                self.take();
                return Some(Value::Other);
            }
            self.bare_item()?;
            self.parameters()?;
            if !matches!(self.peek()?, b' ' | b')') {
                return None;
            }
        }
    }

    fn bare_item(&mut self) -> Option<Value> {
        match self.peek()? {
            b'-' | b'0'..=b'9' => self.number(),
            b'"' => self.string(),
            b'?' => self.boolean(),
            b':' => self.bytes(),
            b'@' => self.date(),
            b'%' => self.display_string(),
            byte if byte.is_ascii_alphabetic() || byte == b'*' => {
                self.take_while(|byte| is_token_byte(byte) || b":/".contains(&byte));
                Some(Value::Other)
            }
            _ => None,
        }
    }

    /// At most 15 digits, or 12 and 3 behind a point (RFC 9651 §3.3).
    fn number(&mut self) -> Option<Value> {
        let is_negative = self.peek() == Some(b'-');
        if is_negative {
            self.take();
        }
        let whole = self.take_while(|byte| byte.is_ascii_digit());
        if self.peek() == Some(b'.') {
            self.take();
            let part = self.take_while(|byte| byte.is_ascii_digit());
            let is_decimal = (1..=12).contains(&whole.len()) && (1..=3).contains(&part.len());
            return is_decimal.then_some(Value::Other);
        }
        let number = super::fields::digits(whole).filter(|_| whole.len() <= 15)?;
        let number = i64::try_from(number).ok()?;
        Some(Value::Integer(if is_negative { -number } else { number }))
    }

    fn string(&mut self) -> Option<Value> {
        self.exactly(b'"')?;
        let mut is_empty = true;
        loop {
            match self.take()? {
                b'"' => return Some(if is_empty { Value::Other } else { Value::Text }),
                b'\\' => drop(self.take().filter(|byte| b"\"\\".contains(byte))?),
                0x20..=0x7e => {}
                _ => return None,
            }
            is_empty = false;
        }
    }

    fn boolean(&mut self) -> Option<Value> {
        self.exactly(b'?')?;
        match self.take()? {
            b'0' => Some(Value::False),
            b'1' => Some(Value::True),
            _ => None,
        }
    }

    fn bytes(&mut self) -> Option<Value> {
        self.exactly(b':')?;
        self.take_while(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte));
        self.exactly(b':')?;
        Some(Value::Other)
    }

    fn date(&mut self) -> Option<Value> {
        self.exactly(b'@')?;
        matches!(self.number()?, Value::Integer(_)).then_some(Value::Other)
    }

    fn display_string(&mut self) -> Option<Value> {
        self.exactly(b'%')?;
        self.exactly(b'"')?;
        self.take_while(|byte| (0x20..0x7f).contains(&byte) && byte != b'"');
        self.exactly(b'"')?;
        Some(Value::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Option<Directives> {
        let head: Vec<_> = lines.iter().map(|line| ("CDN-Cache-Control", *line)).collect();
        directives(head.as_slice(), "cdn-cache-control")
    }

    #[test]
    fn valid_fields_govern() {
        let max_age = |line: &str| read(&[line]).unwrap().max_age;
        assert_eq!(max_age("max-age=3600"), Lifetime::Seconds(3600));
        assert_eq!(max_age("max-age=99999999999"), Lifetime::Seconds(SECONDS_MAX));
        assert_eq!(max_age("foobar, max-age=3600"), Lifetime::Seconds(3600));
        assert_eq!(max_age("max-age=1;a=2;b, ext=(1 \"x\";y ?0), max-age=7"), Lifetime::Seconds(7));
        assert_eq!(max_age("a=:YQ==:, b=@12, c=1.5, d=%\"x\", e=tok/en, foo"), Lifetime::Absent);
        assert_eq!(max_age("max-age=-5"), Lifetime::Unclear);
        assert!(read(&["no-store"]).unwrap().no_store);
        assert!(!read(&["no-store=?0"]).unwrap().no_store);
        assert!(read(&["private"]).unwrap().private);
        assert!(read(&["no-cache=\"a, b\""]).unwrap().withholds_fields);
        assert!(read(&["no-cache=token"]).unwrap().no_cache);
        assert!(read(&["", "max-age=1", "no-store"]).unwrap().no_store);
    }

    #[test]
    fn a_mistake_anywhere_makes_the_field_absent() {
        for line in [
            "",
            "max-age=10000, &&&&&",
            "max-age=\"10000\"",
            "max-age=1.0",
            "max-age",
            "max-age =100",
            "max-age= 100",
            "MaX-aGe=3600",
            "max-age=1,",
            "max-age=1 no-store",
            "max-age=1234567890123456",
            "a=\"x",
            "a=(1",
            "a=?2",
        ] {
            assert_eq!(read(&[line]), None, "{line}");
        }
        assert_eq!(read(&["max-age=1", "&"]), None);
        assert_eq!(read(&[]), None);
    }
}
