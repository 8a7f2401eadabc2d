//! Where a request carries its token: in the path, in the query or in a cookie; and the request without it.

/// Delimiters that may stand before the attribute, and those of them after which something of the same part may follow
/// (RFC 3986 §2.2: reserved, sub-delims).
const RESERVED: &[u8] = b":/?#[]@!$&'()*+,;=";
const SUB_DELIMS: &[u8] = b"!$&'()*+,;=";

/// A target with a token in it, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub struct Found<'t> {
    pub token: &'t [u8],
    /// The target without the token, as RFC 9246 §2.1.15 takes it out.
    pub rest: Vec<u8>,
}

/// The token in a request's target; None if there is none. More than one is refused: two readers could take different
/// ones.
pub fn in_target<'t>(target: &'t [u8], attribute: &str) -> Result<Option<Found<'t>>, &'static str> {
    let mut places = places(target, attribute);
    let Some(start) = places.next() else { return Ok(None) };
    if places.next().is_some() {
        return Err("there is more than one token in the URI");
    }
    let begin = start + attribute.len() + 1;
    let is_of_token = |byte: &&u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    let end = begin + target[begin..].iter().take_while(is_of_token).count();
    // With a sub-delimiter behind it the token goes with that one, else with the delimiter before it.
    let (from, to) = match target.get(end) {
        Some(next) if SUB_DELIMS.contains(next) => (start, end + 1),
        _ => (start - 1, end),
    };
    let mut rest = [&target[..from], &target[to..]].concat();
    if rest.first() != Some(&b'/') {
        rest.insert(0, b'/');
    }
    Ok(Some(Found { token: &target[begin..end], rest }))
}

/// Where the attribute, with a delimiter before it and an equals sign behind it, begins.
fn places<'t>(target: &'t [u8], attribute: &'t str) -> impl Iterator<Item = usize> + 't {
    memchr::memmem::find_iter(target, attribute.as_bytes()).filter(move |start| {
        let before = start.checked_sub(1).and_then(|at| target.get(at));
        let after = target.get(start + attribute.len());
        before.is_some_and(|byte| RESERVED.contains(byte)) && after == Some(&b'=')
    })
}

/// The tokens in a Cookie field: a browser sends those of longer paths first.
pub fn in_cookie<'c>(cookie: &'c [u8], attribute: &'c str) -> impl Iterator<Item = &'c [u8]> + 'c {
    pairs(cookie).filter_map(move |pair| value_of(pair, attribute))
}

/// A Cookie field without the tokens; None if nothing is left.
pub fn without_cookie(cookie: &[u8], attribute: &str) -> Option<Vec<u8>> {
    let kept: Vec<&[u8]> = pairs(cookie).filter(|pair| value_of(pair, attribute).is_none()).collect();
    (!kept.is_empty()).then(|| kept.join(&b"; "[..]))
}

fn pairs(cookie: &[u8]) -> impl Iterator<Item = &[u8]> {
    cookie.split(|byte| *byte == b';').map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty())
}

fn value_of<'c>(pair: &'c [u8], attribute: &str) -> Option<&'c [u8]> {
    pair.strip_prefix(attribute.as_bytes())?.strip_prefix(b"=")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(target: &str) -> (String, String) {
        let found = in_target(target.as_bytes(), "T").unwrap().unwrap();
        (String::from_utf8_lossy(found.token).into_owned(), String::from_utf8(found.rest).unwrap())
    }

    #[test]
    fn the_token_goes_out_of_path_and_query() {
        let cases = [
            ("/a/b?T=x.y.z", "/a/b"),
            ("/a/b?q=1&T=x.y.z", "/a/b?q=1"),
            ("/a/b?T=x.y.z&q=1", "/a/b?q=1"),
            ("/a/b?q=1&T=x.y.z&r=2", "/a/b?q=1&r=2"),
            ("/a;T=x.y.z/b", "/a/b"),
            ("/a/T=x.y.z/b", "/a/b"),
            ("/a;T=x.y.z?q=1", "/a?q=1"),
            ("/a;v=1;T=x.y.z/b", "/a;v=1/b"),
            ("/T=x.y.z", "/"),
            ("/T=x.y.z?q", "/?q"),
        ];
        for (target, rest) in cases {
            assert_eq!(found(target), ("x.y.z".to_owned(), rest.to_owned()), "{target}");
        }
    }

    #[test]
    fn what_only_looks_like_the_attribute_is_left_alone() {
        for target in ["/a", "/a?XT=1", "/a?T", "/aT=x", "/a?%54=x", "*", ""] {
            assert_eq!(in_target(target.as_bytes(), "T"), Ok(None), "{target}");
        }
        assert!(in_target(b"/a?T=x&T=y", "T").is_err());
        assert!(in_target(b"/a;T=x/b?T=y", "T").is_err());
    }

    #[test]
    fn cookies_are_found_in_their_order_and_taken_out() {
        let cookie = b"a=1; T=one;T=two ; b=T=3";
        let tokens: Vec<&[u8]> = in_cookie(cookie, "T").collect();
        assert_eq!(tokens, [&b"one"[..], b"two"]);
        assert_eq!(without_cookie(cookie, "T").unwrap(), b"a=1; b=T=3");
        assert_eq!(without_cookie(b"T=one", "T"), None);
        assert_eq!(in_cookie(b"TT=1; t=2", "T").count(), 0);
    }
}
