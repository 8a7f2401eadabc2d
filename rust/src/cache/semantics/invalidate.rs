//! What a request that changes something makes unusable (RFC 9111 §4.4).

/// Whether an answer with this status to this method invalidates its target, and what Location and Content-Location
/// name on the same origin (`resolve`). Unknown methods count as unsafe.
pub fn invalidates(method: &[u8], status: u16) -> bool {
    (200..400).contains(&status) && !is_safe(method)
}

/// The methods registered as safe.
fn is_safe(method: &[u8]) -> bool {
    const SAFE: [&[u8]; 8] =
        [b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PROPFIND", b"REPORT", b"SEARCH", b"QUERY"];
    SAFE.contains(&method)
}

/// Appends path and query of what `reference` means at that address (RFC 3986 §5.2), and says whether it did: only for the
/// same origin. `scheme` in lower case; `target` is path and query.
pub fn resolve(scheme: &str, authority: &[u8], target: &[u8], reference: &[u8], out: &mut Vec<u8>) -> bool {
    let is_written_well = |byte: &u8| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(byte);
    if !reference.iter().all(is_written_well) || !target.starts_with(b"/") {
        return false;
    }
    let reference = reference.split(|byte| *byte == b'#').next().unwrap_or_default();
    let Some(local) = on_this_origin(scheme, authority, reference) else { return false };
    let (base, base_query) = cut(target);
    let (path, query) = cut(local);
    let has_authority = local.len() != reference.len() || reference.starts_with(b"//");
    match path {
        [] if has_authority => out.push(b'/'),
        [] => {
            out.extend_from_slice(base);
            out.extend_from_slice(if query.is_empty() { base_query } else { query });
            return true;
        }
        [b'/', ..] => write_without_dots(&[path], out),
        _ => {
            let folder = base.iter().rposition(|byte| *byte == b'/').and_then(|at| base.get(..=at));
            write_without_dots(&[folder.unwrap_or(b"/"), path], out);
        }
    }
    out.extend_from_slice(query);
    true
}

/// Path, and query with its question mark.
fn cut(target: &[u8]) -> (&[u8], &[u8]) {
    let at = target.iter().position(|byte| *byte == b'?').unwrap_or(target.len());
    target.split_at_checked(at).unwrap_or((target, &[]))
}

/// The reference without scheme and authority; None if they are not ours.
fn on_this_origin<'r>(scheme: &str, authority: &[u8], reference: &'r [u8]) -> Option<&'r [u8]> {
    let end = reference.iter().position(|byte| b":/?".contains(byte));
    let (named, rest) = match end.filter(|at| reference.get(*at) == Some(&b':')) {
        Some(at) => (Some(reference.get(..at)?), reference.get(at + 1..)?),
        None => (None, reference),
    };
    if named.is_some_and(|named| !named.eq_ignore_ascii_case(scheme.as_bytes())) {
        return None;
    }
    let Some(rest) = rest.strip_prefix(b"//") else { return named.is_none().then_some(reference) };
    let at = rest.iter().position(|byte| b"/?".contains(byte)).unwrap_or(rest.len());
    let (host, local) = rest.split_at_checked(at)?;
    let ours = without_default_port(scheme, authority);
    without_default_port(scheme, host).eq_ignore_ascii_case(ours).then_some(local)
}

fn without_default_port<'a>(scheme: &str, authority: &'a [u8]) -> &'a [u8] {
    let port: &[u8] = if scheme == "https" { b":443" } else { b":80" };
    authority.strip_suffix(port).or(authority.strip_suffix(b":")).unwrap_or(authority)
}

/// RFC 3986 §5.2.4, of a path in pieces that begins with "/".
pub fn write_without_dots(pieces: &[&[u8]], out: &mut Vec<u8>) {
    let start = out.len();
    let path = pieces.concat();
    let mut segments = path.split(|byte| *byte == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            b"." | b".." => {
                if segment == b".." {
                    let written = out.get(start..).unwrap_or_default();
                    let parent = written.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                    out.truncate(start + parent);
                }
                if is_last {
                    out.push(b'/');
                }
            }
            _ => {
                out.push(b'/');
                out.extend_from_slice(segment);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::semantics::dice::Dice;

    fn meant(reference: &str) -> Option<String> {
        let mut out = Vec::new();
        let is_ours = resolve("http", b"A.example:80", b"/b/c/d;p?q", reference.as_bytes(), &mut out);
        is_ours.then(|| String::from_utf8(out).unwrap())
    }

    #[test]
    fn unsafe_methods_invalidate_when_they_succeed() {
        for method in ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH", "get"] {
            assert!(invalidates(method.as_bytes(), 200) && invalidates(method.as_bytes(), 303), "{method}");
            assert!(!invalidates(method.as_bytes(), 500) && !invalidates(method.as_bytes(), 404), "{method}");
        }
        assert!(!invalidates(b"GET", 200) && !invalidates(b"OPTIONS", 200));
    }

    #[test]
    fn references_mean_what_the_rfc_says() {
        for (reference, expected) in [
            ("g", "/b/c/g"),
            ("./g", "/b/c/g"),
            ("g/", "/b/c/g/"),
            ("/g", "/g"),
            ("//a.EXAMPLE/g", "/g"),
            ("http://a.example/g?x#y", "/g?x"),
            ("HTTP://a.example:80", "/"),
            ("http://a.example:?x", "/?x"),
            ("?y", "/b/c/d;p?y"),
            ("g?y", "/b/c/g?y"),
            ("#s", "/b/c/d;p?q"),
            ("", "/b/c/d;p?q"),
            (".", "/b/c/"),
            ("..", "/b/"),
            ("../..", "/"),
            ("../../../g", "/g"),
            ("/./g/../h", "/h"),
            ("g;x=1/../y", "/b/c/y"),
        ] {
            assert_eq!(meant(reference).as_deref(), Some(expected), "{reference}");
        }
    }

    #[test]
    fn other_origins_are_left_alone() {
        for reference in [
            "https://a.example/g",
            "http://b.example/g",
            "//a.example:81/g",
            "http://u@a.example/g",
            "http:g",
            "mailto:x",
            "/a b",
            "/\u{e4}",
        ] {
            assert_eq!(meant(reference), None, "{reference}");
        }
    }

    #[test]
    fn no_bytes_break_it() {
        let mut dice = Dice(17);
        for _ in 0..50_000 {
            let reference = dice.text(&["http:", "//", "a.example", "/", "..", ".", "?", "#", "x", ":80"]);
            let mut out = Vec::new();
            if resolve("http", b"a.example", b"/x/y?z", &reference, &mut out) {
                assert!(out.starts_with(b"/"), "{reference:?}");
            }
        }
    }
}
