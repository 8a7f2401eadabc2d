//! What a request says that matters to a cache, found in one pass over its fields. Nothing is copied.

use super::directives::Wishes;
use super::fields::Fields;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    /// Passed on; answers to it are not stored, but may invalidate (`invalidate`). POST is known for its one exception.
    Post,
    Other,
}

impl Method {
    pub fn read(name: &[u8]) -> Self {
        match name {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"POST" => Method::Post,
            _ => Method::Other,
        }
    }
}

/// A field that may come on several lines: the first of them, and whether to go back for more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listed<'a> {
    pub first: Option<&'a [u8]>,
    pub is_repeated: bool,
}

impl<'a> Listed<'a> {
    fn add(&mut self, value: &'a [u8]) {
        self.is_repeated = self.first.is_some();
        self.first = self.first.or(Some(value));
    }

    /// The value of a field that may come once only.
    fn only(self) -> Option<&'a [u8]> {
        self.first.filter(|_| !self.is_repeated)
    }
}

/// A request as the rules see it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a, F: ?Sized> {
    pub method: Method,
    pub fields: &'a F,
    pub wishes: Wishes,
    pub has_authorization: bool,
    /// A body that the key says nothing of.
    pub has_body: bool,
    pub if_match: Listed<'a>,
    pub if_none_match: Listed<'a>,
    pub if_modified_since: Option<&'a [u8]>,
    pub if_unmodified_since: Option<&'a [u8]>,
    pub if_range: Option<&'a [u8]>,
    /// None also if it came twice, which makes it invalid.
    pub range: Option<&'a [u8]>,
}

impl<'a, F: Fields + ?Sized> Request<'a, F> {
    /// `obeys_clients`: see `Rules`. Lines are looked at by length and first letter before anything is compared.
    pub fn read(method: &[u8], fields: &'a F, has_body: bool, obeys_clients: bool) -> Self {
        let (mut wishes, mut pragma, mut has_control) = (Wishes::default(), None, false);
        let (mut if_match, mut if_none_match) = (Listed::default(), Listed::default());
        let (mut modified, mut unmodified) = (Listed::default(), Listed::default());
        let (mut if_range, mut range, mut has_authorization) = (Listed::default(), Listed::default(), false);
        for (name, value) in fields.lines() {
            let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
            match (name.len(), name.first().map(u8::to_ascii_lowercase)) {
                (5, Some(b'r')) if is("range") => range.add(value.trim_ascii()),
                (6, Some(b'p')) if is("pragma") => pragma = Some(value),
                (8, Some(b'i')) if is("if-match") => if_match.add(value.trim_ascii()),
                (8, Some(b'i')) if is("if-range") => if_range.add(value.trim_ascii()),
                (13, Some(b'a')) if is("authorization") => has_authorization = true,
                (13, Some(b'i')) if is("if-none-match") => if_none_match.add(value.trim_ascii()),
                (13, Some(b'c')) if is("cache-control") => {
                    has_control = true;
                    if obeys_clients {
                        wishes.add_line(value);
                    }
                }
                (17, Some(b'i')) if is("if-modified-since") => modified.add(value.trim_ascii()),
                (19, Some(b'i')) if is("if-unmodified-since") => unmodified.add(value.trim_ascii()),
                _ => {}
            }
        }
        if let (Some(pragma), false, true) = (pragma, has_control, obeys_clients) {
            wishes.add_pragma(pragma);
        }
        Self {
            method: Method::read(method),
            fields,
            wishes,
            has_authorization,
            has_body,
            if_match,
            if_none_match,
            if_modified_since: modified.only(),
            if_unmodified_since: unmodified.only(),
            if_range: if_range.only(),
            range: range.only(),
        }
    }

    /// Whether the answer can depend on what only this client has (RFC 9110 §13).
    pub fn is_conditional(&self) -> bool {
        let has_tags = self.if_match.first.is_some() || self.if_none_match.first.is_some();
        has_tags || self.if_modified_since.is_some() || self.if_unmodified_since.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pass_finds_everything() {
        let head = [
            ("Cache-Control", "max-age=5"),
            ("cache-control", "no-store"),
            ("RANGE", " bytes=0-1 "),
            ("If-None-Match", "\"a\""),
            ("If-None-Match", "\"b\""),
            ("Authorization", "x"),
            ("If-Modified-Since", "a"),
            ("If-Modified-Since", "b"),
            ("Pragma", "no-cache"),
        ];
        let request = Request::read(b"GET", head.as_slice(), false, true);
        assert_eq!((request.wishes.max_age_s, request.wishes.no_store), (Some(5), true));
        assert_eq!(request.range, Some(b"bytes=0-1".as_slice()));
        assert_eq!(request.if_none_match.first, Some(b"\"a\"".as_slice()));
        assert!(request.if_none_match.is_repeated && request.has_authorization);
        assert_eq!(request.if_modified_since, None);
        assert!(!request.wishes.no_cache, "Pragma beside Cache-Control");
    }

    #[test]
    fn clients_are_obeyed_only_where_that_is_the_rule() {
        for (name, value) in [("Cache-Control", "no-cache"), ("Pragma", "no-cache")] {
            let head = [(name, value)];
            assert!(Request::read(b"GET", head.as_slice(), false, true).wishes.no_cache);
            assert!(!Request::read(b"GET", head.as_slice(), false, false).wishes.no_cache);
        }
    }

    #[test]
    fn a_range_that_comes_twice_is_none() {
        let head = [("Range", "bytes=0-1"), ("Range", "bytes=0-1")];
        assert_eq!(Request::read(b"GET", head.as_slice(), false, true).range, None);
    }
}
