//! The next token of a chain (RFC 9246 §3), and the cookie that carries it.

use crate::gate::signing::base64url::encode;
use crate::gate::signing::jwk::Key;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::{Map, Value, json};

/// The same claims with a later end, signed anew in the name of `issuer`; None if the key cannot sign. A token for one
/// use gets another name.
pub fn renewed(claims: &[u8], key: &Key, issuer: &str, now_s: u64, for_s: u64) -> Option<String> {
    let mut claims: Map<String, Value> = serde_json::from_slice(claims).ok()?;
    claims.insert("exp".to_owned(), json!(now_s.saturating_add(for_s)));
    if claims.contains_key("iat") {
        claims.insert("iat".to_owned(), json!(now_s));
    }
    if claims.contains_key("iss") {
        claims.insert("iss".to_owned(), json!(issuer));
    }
    if claims.contains_key("jti") {
        let mut name = [0_u8; 16];
        SystemRandom::new().fill(&mut name).ok()?;
        claims.insert("jti".to_owned(), json!(encode(&name)));
    }
    let mut header = json!({"alg": key.alg(), "typ": "JWT"});
    if let (Some(kid), Some(header)) = (&key.kid, header.as_object_mut()) {
        header.insert("kid".to_owned(), json!(kid));
    }
    let part = |value: &Value| encode(value.to_string().as_bytes());
    let signed = format!("{}.{}", part(&header), part(&Value::Object(claims)));
    let signature = key.sign(signed.as_bytes())?;
    Some(format!("{signed}.{}", encode(&signature)))
}

/// The value of Set-Cookie.
pub fn cookie(attribute: &str, token: &str, scope: &str, for_s: u64, is_secure: bool) -> String {
    // A page of another site may play what this one serves; browsers take such cookies only with Secure.
    let rest = if is_secure { "; Secure; SameSite=None" } else { "" };
    format!("{attribute}={token}; Path={scope}; Max-Age={for_s}; HttpOnly{rest}")
}

/// The path that a cookie is for: so many leading segments of the URI's (`cdnistd`); 0: the whole host.
pub fn scope(path: &[u8], depth: u64) -> String {
    let depth = usize::try_from(depth).unwrap_or(usize::MAX);
    let segments = path.split(|byte| *byte == b'/').skip(1).take(depth);
    let scope: Vec<u8> = segments.flat_map(|segment| [&b"/"[..], segment]).flatten().copied().collect();
    // A cookie cannot name such a path; the token's own URIs still hold.
    let is_plain = scope.iter().all(|byte| byte.is_ascii_graphic() && *byte != b';');
    match String::from_utf8(scope) {
        Ok(scope) if is_plain && !scope.is_empty() => scope,
        _ => "/".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::signing::jwk::read_set;
    use crate::gate::signing::token::parse;

    fn key() -> Key {
        let set = format!(r#"{{"keys":[{{"kty":"oct","kid":"k","k":"{}"}}]}}"#, encode(&[1; 32]));
        read_set(&set).unwrap().remove(0)
    }

    #[test]
    fn the_next_token_says_the_same_with_a_later_end() {
        let old =
            br#"{"exp":10,"iat":1,"iss":"them","jti":"one","cdniuc":"regex:.*","cdnistt":1,"own":{"a":[1]}}"#;
        let text = renewed(old, &key(), "us", 100, 30).unwrap();
        let token = parse(text.as_bytes()).unwrap();
        assert!(key().has_signed(token.signed, &token.signature));
        assert_eq!((token.alg.as_str(), token.kid.as_deref()), ("HS256", Some("k")));
        let claims: Value = serde_json::from_slice(&token.claims).unwrap();
        assert_eq!((&claims["exp"], &claims["iat"]), (&json!(130), &json!(100)));
        assert_eq!((&claims["cdniuc"], &claims["own"]), (&json!("regex:.*"), &json!({"a": [1]})));
        assert_eq!(claims["iss"], "us");
        assert_ne!(claims["jti"], "one");
    }

    #[test]
    fn the_cookie_is_for_as_much_of_the_path_as_the_token_says() {
        let of = |path: &str, depth| scope(path.as_bytes(), depth);
        assert_eq!(of("/a/b/c", 0), "/");
        assert_eq!(of("/a/b/c", 2), "/a/b");
        assert_eq!(of("/a/b", u64::MAX), "/a/b");
        assert_eq!(of("/a;b/c", 2), "/");
        assert_eq!(cookie("T", "x.y.z", "/a", 30, false), "T=x.y.z; Path=/a; Max-Age=30; HttpOnly");
        assert!(cookie("T", "x", "/", 1, true).ends_with("; Secure; SameSite=None"));
    }
}
