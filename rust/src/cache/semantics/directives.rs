//! Cache-Control (RFC 9111 §5.2) of answers and of requests.
//!
//! Whatever forbids wins over whatever allows: a directive that restricts counts whatever its argument, a lifetime
//! counts only if it is written as it should be. A lifetime that is there but cannot be read makes the answer stale
//! (§4.2.1), and so do two that differ. Unknown directives are ignored.

use super::fields::{Fields, SECONDS_MAX, is_closed, is_token, members, seconds};
use super::targeted;

/// A lifetime as the sender wrote it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lifetime {
    #[default]
    Absent,
    /// It is there, but says nothing that can be relied upon: stale.
    Unclear,
    Seconds(u32),
}

impl Lifetime {
    pub(super) fn add(&mut self, other: Lifetime) {
        *self = match *self {
            Lifetime::Absent => other,
            before if before == other => other,
            _ => Lifetime::Unclear,
        };
    }

    pub fn is_present(self) -> bool {
        self != Lifetime::Absent
    }
}

/// What an answer's sender tells caches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Directives {
    pub max_age: Lifetime,
    pub s_maxage: Lifetime,
    pub stale_while_revalidate_s: Option<u32>,
    pub stale_if_error_s: Option<u32>,
    pub no_store: bool,
    /// Without field names.
    pub no_cache: bool,
    /// Without field names.
    pub private: bool,
    /// no-cache or private with field names: those fields are not stored.
    pub withholds_fields: bool,
    pub public: bool,
    pub must_revalidate: bool,
    pub proxy_revalidate: bool,
    pub must_understand: bool,
    pub immutable: bool,
    /// A targeted field governs (RFC 9213): Cache-Control and Expires are as if absent.
    pub is_targeted: bool,
}

impl Directives {
    /// The directives that govern a shared cache: those of the first of the `targeted` fields (names in lower case) that
    /// is valid and not empty, or else those of Cache-Control.
    pub fn of_answer<F: Fields + ?Sized>(answer: &F, targeted: &[impl AsRef<str>]) -> Self {
        let found = targeted.iter().find_map(|name| targeted::directives(answer, name.as_ref()));
        found.unwrap_or_else(|| {
            let mut directives = Self::default();
            answer.values("cache-control").for_each(|line| directives.add_line(line));
            directives
        })
    }

    fn add_line(&mut self, line: &[u8]) {
        members(line).map(Directive::read).for_each(|directive| self.add(&directive));
        if !is_closed(line) {
            self.max_age.add(Lifetime::Unclear);
            if self.s_maxage.is_present() {
                self.s_maxage = Lifetime::Unclear;
            }
        }
    }

    fn add(&mut self, directive: &Directive) {
        if directive.is("max-age") {
            self.max_age.add(directive.lifetime());
        } else if directive.is("s-maxage") {
            self.s_maxage.add(directive.lifetime());
        } else if directive.is("stale-while-revalidate") {
            shorten(&mut self.stale_while_revalidate_s, directive);
        } else if directive.is("stale-if-error") {
            shorten(&mut self.stale_if_error_s, directive);
        } else if directive.is("no-cache") {
            self.add_no_cache(directive.field_names().is_some());
        } else if directive.is("private") {
            self.add_private(directive.field_names().is_some());
        } else {
            self.add_flag(directive.name);
        }
    }

    pub(super) fn add_no_cache(&mut self, has_names: bool) {
        self.no_cache |= !has_names;
        self.withholds_fields |= has_names;
    }

    pub(super) fn add_private(&mut self, has_names: bool) {
        self.private |= !has_names;
        self.withholds_fields |= has_names;
    }

    pub(super) fn add_flag(&mut self, name: &[u8]) {
        let is = |flag: &str| name.eq_ignore_ascii_case(flag.as_bytes());
        self.no_store |= is("no-store");
        self.public |= is("public");
        self.must_revalidate |= is("must-revalidate");
        self.proxy_revalidate |= is("proxy-revalidate");
        self.must_understand |= is("must-understand");
        self.immutable |= is("immutable");
    }
}

/// The shorter of two windows is the one that both allow; one that cannot be read allows nothing.
fn shorten(window_s: &mut Option<u32>, directive: &Directive) {
    let other_s = match directive.lifetime() {
        Lifetime::Seconds(other_s) => other_s,
        _ => 0,
    };
    *window_s = Some(window_s.map_or(other_s, |before_s| before_s.min(other_s)));
}

/// One member of a Cache-Control list.
#[derive(Clone, Copy, Debug)]
struct Directive<'a> {
    name: &'a [u8],
    argument: Option<&'a [u8]>,
    /// Spaces around "=", which the grammar does not have.
    is_spaced: bool,
}

impl<'a> Directive<'a> {
    fn read(member: &'a [u8]) -> Self {
        let equals = member.iter().position(|byte| *byte == b'=');
        let Some((name, argument)) = equals.and_then(|at| member.split_at_checked(at)) else {
            return Self { name: member, argument: None, is_spaced: false };
        };
        let argument = argument.get(1..).unwrap_or_default();
        let (bare_name, bare_argument) = (name.trim_ascii(), argument.trim_ascii());
        let is_spaced = bare_name.len() != name.len() || bare_argument.len() != argument.len();
        Self { name: bare_name, argument: Some(bare_argument), is_spaced }
    }

    fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// Quoted or not (§5.2: recipients ought to accept both forms).
    fn seconds(&self) -> Option<u32> {
        let argument = self.argument.filter(|_| !self.is_spaced)?;
        seconds(unquoted(argument).unwrap_or(argument))
    }

    fn lifetime(&self) -> Lifetime {
        self.seconds().map_or(Lifetime::Unclear, Lifetime::Seconds)
    }

    /// The list of names in the argument; None if there is no such list, and so the directive is about the whole answer.
    fn field_names(&self) -> Option<&'a [u8]> {
        let argument = self.argument?;
        let list = unquoted(argument).unwrap_or(argument);
        let is_list = members(list).all(|name| name.is_empty() || is_token(name));
        (is_list && members(list).any(|name| !name.is_empty())).then_some(list)
    }
}

fn unquoted(argument: &[u8]) -> Option<&[u8]> {
    argument.strip_prefix(b"\"")?.strip_suffix(b"\"")
}

/// Whether `no-cache="name"` or `private="name"` of the field called `governing` keeps that field out of a shared cache.
pub fn is_withheld<F: Fields + ?Sized>(answer: &F, governing: &str, name: &[u8]) -> bool {
    let directives = answer.values(governing).flat_map(members).map(Directive::read);
    let restricting = directives.filter(|directive| directive.is("no-cache") || directive.is("private"));
    let mut lists = restricting.filter_map(|directive| directive.field_names());
    lists.any(|list| members(list).any(|listed| listed.eq_ignore_ascii_case(name)))
}

/// What a client tells caches (§5.2.1). Advice: what cannot be read is ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    pub max_age_s: Option<u32>,
    pub min_fresh_s: Option<u32>,
    /// `SECONDS_MAX` if any staleness is accepted.
    pub max_stale_s: Option<u32>,
    pub stale_if_error_s: Option<u32>,
    pub no_cache: bool,
    pub no_store: bool,
    pub only_if_cached: bool,
}

impl Wishes {
    pub fn add_line(&mut self, line: &[u8]) {
        for directive in members(line).map(Directive::read) {
            let shorter = |before_s: Option<u32>| match (before_s, directive.seconds()) {
                (Some(before_s), Some(after_s)) => Some(before_s.min(after_s)),
                (before_s, after_s) => before_s.or(after_s),
            };
            match directive.name.len() {
                7 if directive.is("max-age") => self.max_age_s = shorter(self.max_age_s),
                8 if directive.is("no-cache") => self.no_cache = true,
                8 if directive.is("no-store") => self.no_store = true,
                9 if directive.is("max-stale") && directive.argument.is_none() => {
                    self.max_stale_s = self.max_stale_s.or(Some(SECONDS_MAX));
                }
                9 if directive.is("max-stale") => self.max_stale_s = shorter(self.max_stale_s),
                9 if directive.is("min-fresh") => {
                    self.min_fresh_s = self.min_fresh_s.max(directive.seconds());
                }
                14 if directive.is("only-if-cached") => self.only_if_cached = true,
                14 if directive.is("stale-if-error") => {
                    self.stale_if_error_s = shorter(self.stale_if_error_s);
                }
                _ => {}
            }
        }
    }

    /// Pragma counts only where there is no Cache-Control (RFC 7234 §5.4, for clients of HTTP/1.0).
    pub fn add_pragma(&mut self, line: &[u8]) {
        self.no_cache |= members(line).any(|member| member.eq_ignore_ascii_case(b"no-cache"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::semantics::dice::Dice;

    fn answer(lines: &[&str]) -> Directives {
        let head: Vec<_> = lines.iter().map(|line| ("Cache-Control", *line)).collect();
        Directives::of_answer(head.as_slice(), &["cdn-cache-control"])
    }

    fn max_age(line: &str) -> Lifetime {
        answer(&[line]).max_age
    }

    #[test]
    fn lifetimes_are_digits_quoted_or_not_in_any_case() {
        for line in
            ["max-age=3600", "MaX-aGe=3600", "foobar, max-age=3600", "max-age=\"3600\"", "max-age=003600"]
        {
            assert_eq!(max_age(line), Lifetime::Seconds(3600), "{line}");
        }
        assert_eq!(max_age("max-age=99999999999"), Lifetime::Seconds(SECONDS_MAX));
        assert_eq!(max_age("s-maxage=1"), Lifetime::Absent);
    }

    #[test]
    fn a_lifetime_that_cannot_be_read_is_unclear() {
        for line in [
            "max-age=-3600",
            "max-age='3600'",
            "max-age=3600.0",
            "max-age=a3600",
            "max-age=3600a",
            "max-age =3600",
            "max-age= 3600",
            "max-age=",
            "max-age",
            "max-age=1800, max-age=1",
            "max-age=1, max-age=1800",
            "ext=\"max-age=3600, max-age=3600",
        ] {
            assert_eq!(max_age(line), Lifetime::Unclear, "{line}");
        }
        assert_eq!(answer(&["max-age=1", "max-age=2"]).max_age, Lifetime::Unclear);
        assert_eq!(answer(&["max-age=2", "max-age=2"]).max_age, Lifetime::Seconds(2));
    }

    #[test]
    fn quoted_text_is_no_directive() {
        assert_eq!(max_age("extension=\"max-age=3600\", max-age=1"), Lifetime::Seconds(1));
        assert_eq!(max_age("max-age=1, extension=\"max-age=3600, no-store\""), Lifetime::Seconds(1));
        assert!(!answer(&["a=\"no-store\""]).no_store);
    }

    #[test]
    fn what_restricts_counts_however_it_is_written() {
        for line in ["no-store", "No-StOrE", "no-store=1", "no-store =x", " , no-store,", "a=\"b, no-store"] {
            assert!(answer(&[line]).no_store, "{line}");
        }
    }

    #[test]
    fn field_names_restrict_fields_and_anything_else_the_whole() {
        for line in ["no-cache=\"a\"", "no-cache=a", "no-cache=\" a , b \""] {
            let directives = answer(&[line]);
            assert!(!directives.no_cache && directives.withholds_fields, "{line}");
        }
        for line in ["no-cache", "no-cache=", "no-cache=\"\"", "no-cache=\"a b\"", "no-cache=\"a\", no-cache"]
        {
            assert!(answer(&[line]).no_cache, "{line}");
        }
        let head = [("cache-control", "no-cache=\"a, B\", private=c")];
        let is = |name: &str| is_withheld(head.as_slice(), "cache-control", name.as_bytes());
        assert!(is("A") && is("b") && is("C") && !is("d"));
    }

    #[test]
    fn windows_shorten_each_other() {
        let directives = answer(&["stale-while-revalidate=9, stale-while-revalidate=5, stale-if-error=x"]);
        assert_eq!(directives.stale_while_revalidate_s, Some(5));
        assert_eq!(directives.stale_if_error_s, Some(0));
    }

    #[test]
    fn wishes_are_read_and_nonsense_is_ignored() {
        let mut wishes = Wishes::default();
        wishes.add_line(b"max-age=5, MIN-FRESH=7, max-stale, only-if-cached, no-store, nothing-to-see-here");
        let expected = Wishes {
            max_age_s: Some(5),
            min_fresh_s: Some(7),
            max_stale_s: Some(SECONDS_MAX),
            only_if_cached: true,
            no_store: true,
            ..Wishes::default()
        };
        assert_eq!(wishes, expected);
        let mut wishes = Wishes::default();
        wishes.add_line(b"max-age=x, min-fresh=-1, max-stale=1.5, no-cachee");
        assert_eq!(wishes, Wishes::default());
        wishes.add_pragma(b"foo, No-Cache");
        assert!(wishes.no_cache);
    }

    #[test]
    fn no_bytes_break_the_reader() {
        let pieces = ["max-age", "=", "\"", ",", " ", "no-cache", "3600", "s-maxage", "\\", "private", "a"];
        let mut dice = Dice(3);
        for _ in 0..50_000 {
            let line = dice.text(&pieces);
            let head = [("cache-control", line.clone()), ("cdn-cache-control", line.clone())];
            let _ = Directives::of_answer(head.as_slice(), &["cdn-cache-control"]);
            let _ = is_withheld(head.as_slice(), "cache-control", b"a");
            Wishes::default().add_line(&line);
        }
    }
}
