//! HTTP dates (RFC 9110 §5.6.7): three forms are read, one is written. Seconds since 1970, UTC; before that negative.

/// Length of the form that is written.
pub const DATE_LEN: usize = 29;

const DAYS: [&[u8]; 7] = [b"Sun", b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat"];
const FULL_DAYS: [&[u8]; 7] =
    [b"Sunday", b"Monday", b"Tuesday", b"Wednesday", b"Thursday", b"Friday", b"Saturday"];
const MONTHS: [&[u8]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// The moment that `text` names; None if it is none of the three forms. Letters compare without case; everything else
/// (spaces, commas, digits, GMT) must be as it should. `now_s` decides the century of a year with two digits.
pub fn parse(text: &[u8], now_s: i64) -> Option<i64> {
    let mut reader = Reader(text.trim_ascii());
    let comma = reader.0.iter().position(|byte| *byte == b',');
    let moment = match comma {
        Some(3) => imf(&mut reader),
        Some(_) => rfc850(&mut reader, now_s),
        None => asctime(&mut reader),
    }?;
    reader.0.is_empty().then_some(moment)
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
fn imf(reader: &mut Reader) -> Option<i64> {
    reader.one_of(&DAYS)?;
    reader.exactly(b", ")?;
    let day = reader.number(2)?;
    reader.exactly(b" ")?;
    let month = reader.one_of(&MONTHS)?;
    reader.exactly(b" ")?;
    let year = reader.number(4)?;
    reader.exactly(b" ")?;
    let second = reader.clock()?;
    reader.exactly(b" GMT")?;
    moment(year, month, day, second)
}

/// `Sunday, 06-Nov-94 08:49:37 GMT`
fn rfc850(reader: &mut Reader, now_s: i64) -> Option<i64> {
    reader.one_of(&FULL_DAYS)?;
    reader.exactly(b", ")?;
    let day = reader.number(2)?;
    reader.exactly(b"-")?;
    let month = reader.one_of(&MONTHS)?;
    reader.exactly(b"-")?;
    let short_year = reader.number(2)?;
    reader.exactly(b" ")?;
    let second = reader.clock()?;
    reader.exactly(b" GMT")?;
    let (this_year, ..) = civil(now_s.div_euclid(86_400));
    let year = this_year - this_year.rem_euclid(100) + short_year;
    // More than 50 years ahead is the past (RFC 9110 §5.6.7); as far behind would be ahead in the next century.
    let year = match year - this_year {
        51.. => year - 100,
        ..=-50 => year + 100,
        _ => year,
    };
    moment(year, month, day, second)
}

/// `Sun Nov  6 08:49:37 1994`
fn asctime(reader: &mut Reader) -> Option<i64> {
    reader.one_of(&DAYS)?;
    reader.exactly(b" ")?;
    let month = reader.one_of(&MONTHS)?;
    reader.exactly(b" ")?;
    let day = if reader.exactly(b" ").is_some() { reader.number(1) } else { reader.number(2) }?;
    reader.exactly(b" ")?;
    let second = reader.clock()?;
    reader.exactly(b" ")?;
    let year = reader.number(4)?;
    moment(year, month, day, second)
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn exactly(&mut self, text: &[u8]) -> Option<()> {
        let (head, rest) = self.0.split_at_checked(text.len())?;
        if !head.eq_ignore_ascii_case(text) {
            return None;
        }
        self.0 = rest;
        Some(())
    }

    fn number(&mut self, digits: usize) -> Option<i64> {
        let (head, rest) = self.0.split_at_checked(digits)?;
        self.0 = rest;
        i64::try_from(super::fields::digits(head)?).ok()
    }

    fn one_of(&mut self, names: &[&[u8]]) -> Option<i64> {
        let starts =
            |name: &&[u8]| self.0.get(..name.len()).is_some_and(|head| head.eq_ignore_ascii_case(name));
        let found = names.iter().position(starts)?;
        self.0 = self.0.get(names.get(found)?.len()..)?;
        i64::try_from(found).ok()
    }

    /// Seconds since midnight.
    fn clock(&mut self) -> Option<i64> {
        let hour = self.number(2)?;
        self.exactly(b":")?;
        let minute = self.number(2)?;
        self.exactly(b":")?;
        let second = self.number(2)?;
        (hour < 24 && minute < 60 && second <= 60).then_some(hour * 3_600 + minute * 60 + second)
    }
}

/// `month` is 0 to 11.
fn moment(year: i64, month: i64, day: i64, second: i64) -> Option<i64> {
    let days = days_from_civil(year, month + 1, day);
    let is_real = day >= 1 && civil(days) == (year, month + 1, day);
    is_real.then_some(days * 86_400 + second)
}

/// Days since 1970-01-01 in the Gregorian calendar, in years that begin in March (Howard Hinnant, "chrono-compatible
/// low-level date algorithms").
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month (1 to 12) and day; the inverse of `days_from_civil`.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// The moment as IMF-fixdate, for years 0 to 9999 (outside of them: the nearest).
pub fn format(moment_s: i64) -> [u8; DATE_LEN] {
    let moment_s =
        moment_s.clamp(days_from_civil(0, 1, 1) * 86_400, days_from_civil(10_000, 1, 1) * 86_400 - 1);
    let (days, second) = (moment_s.div_euclid(86_400), moment_s.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let mut out = *b"Sun, 00 Jan 0000 00:00:00 GMT";
    let mut put = |at: usize, text: &[u8]| {
        if let Some(slot) = out.get_mut(at..at + text.len()) {
            slot.copy_from_slice(text);
        }
    };
    let name = |names: &[&'static [u8]], index: i64| {
        usize::try_from(index).ok().and_then(|index| names.get(index).copied()).unwrap_or_default()
    };
    put(0, name(&DAYS, (days + 4).rem_euclid(7)));
    put(5, &two(day));
    put(8, name(&MONTHS, month - 1));
    put(12, &two(year / 100));
    put(14, &two(year % 100));
    put(17, &two(second / 3_600));
    put(20, &two(second / 60 % 60));
    put(23, &two(second % 60));
    out
}

fn two(number: i64) -> [u8; 2] {
    let digit = |number: i64| b'0' + u8::try_from(number.rem_euclid(10)).unwrap_or(0);
    [digit(number / 10), digit(number)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::semantics::dice::Dice;

    const NOW_S: i64 = 1_790_000_000; // 2026

    fn read(text: &str) -> Option<i64> {
        parse(text.as_bytes(), NOW_S)
    }

    #[test]
    fn the_three_forms_of_the_rfc_name_one_moment() {
        for text in
            ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
        {
            assert_eq!(read(text), Some(784_111_777), "{text}");
        }
    }

    #[test]
    fn letters_compare_without_case() {
        for text in [
            "THU, 18 Aug 2050 02:01:18 GMT",
            "Thu, 18 AUG 2050 02:01:18 GMT",
            "Thu, 18 Aug 2050 02:01:18 gMT",
            "Thursday, 18-Aug-50 02:01:18 GMT",
            "Thu Aug 18 02:01:18 2050",
        ] {
            assert_eq!(read(text), Some(2_544_400_878), "{text}");
        }
        assert!(read("Sun, 21 Nov 2286 04:46:39 GMT").is_some());
        assert_eq!(read("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert!(read("Thu, 01 Jan 1900 00:00:00 GMT").unwrap() < 0);
    }

    #[test]
    fn anything_else_is_no_date() {
        for text in [
            "",
            "0",
            "-1",
            "foo",
            "Thu, 18 Aug 2050 02:01:18 UTC",
            "Thu, 18 Aug 2050 02:01:18 AEST",
            "Thu, 18 Aug 2050 02:01:18 GMT+1",
            "Thu, 18 Aug 2050 02:01:18",
            "Thu, 18 Aug 50 02:01:18 GMT",
            "Thu 18 Aug 2050 02:01:18 GMT",
            "Thu, 18  Aug  2050 02:01:18 GMT",
            "Thu, 18-Aug-2050 02:01:18 GMT",
            "Thu, 18 Aug 2050 02.01.18 GMT",
            "Thu, 18 Aug 2050 2:01:18 GMT",
            "Thu, 31 Feb 2050 02:01:18 GMT",
            "Thu, 00 Feb 2050 02:01:18 GMT",
            "Thu, 18 Aug 2050 24:01:18 GMT",
            "Thu, +8 Aug 2050 02:01:18 GMT",
            "Thu, 18 Aug 2050 02:01:18 GMT, Thu, 18 Aug 2050 02:01:18 GMT",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn two_digits_of_a_year_are_at_most_fifty_ahead() {
        let year = |text| civil(read(text).unwrap().div_euclid(86_400)).0;
        assert_eq!(year("Sunday, 06-Nov-76 08:49:37 GMT"), 2076);
        assert_eq!(year("Sunday, 06-Nov-77 08:49:37 GMT"), 1977);
        assert_eq!(year("Sunday, 06-Nov-00 08:49:37 GMT"), 2000);
    }

    #[test]
    fn what_is_written_is_read_as_the_same_moment() {
        let mut dice = Dice(7);
        for _ in 0..20_000 {
            let moment_s = i64::try_from(dice.below(313_000_000_000)).unwrap() - 60_000_000_000;
            assert_eq!(parse(&format(moment_s), NOW_S), Some(moment_s));
        }
        assert_eq!(&format(784_111_777), b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(&format(i64::MAX)[12..16], b"9999");
    }

    #[test]
    fn no_bytes_break_the_reader() {
        let mut dice = Dice(11);
        for _ in 0..100_000 {
            let mut text = *b"Sunday, 06-Nov-94 08:49:37 GMT";
            for _ in 0..dice.below(4) {
                text[usize::try_from(dice.below(30)).unwrap()] = dice.byte();
            }
            let _ = parse(&text[..usize::try_from(dice.below(31)).unwrap()], NOW_S);
        }
    }
}
