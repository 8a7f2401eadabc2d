//! A signed token as it is written: a JWS in compact form (RFC 7515 §7.1).

use crate::gate::signing::base64url::decode;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Longer than any honest token, shorter than what would be work to read.
pub const TOKEN_BYTES_MAX: usize = 8_192;

#[derive(Debug, Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<serde_json::Value>,
}

/// The parts of a token; nothing in it is to be believed before its signature is found right.
#[derive(Debug)]
pub struct Token<'t> {
    pub alg: String,
    pub kid: Option<String>,
    /// What the signature is of: header and claims as they stand in the text.
    pub signed: &'t [u8],
    /// JSON, as the signer wrote it.
    pub claims: Vec<u8>,
    pub signature: Vec<u8>,
}

/// The token of a text; else why it is none.
pub fn parse(text: &[u8]) -> Result<Token<'_>, &'static str> {
    if text.len() > TOKEN_BYTES_MAX {
        return Err("the token is too long");
    }
    let mut parts = text.split(|byte| *byte == b'.');
    let (header, claims, signature) = match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(header), Some(claims), Some(signature), None) => (header, claims, signature),
        _ => return Err("the token has not the three parts of a signed one"),
    };
    let signed = &text[..header.len() + 1 + claims.len()];
    let part = |part| decode(part).ok_or("a part of the token is not base64url");
    let header: Header = object(&part(header)?).ok_or("the token's header cannot be read")?;
    if header.crit.is_some() {
        return Err("the token's header names extensions as critical, and none is known here");
    }
    let (claims, signature) = (part(claims)?, part(signature)?);
    Ok(Token { alg: header.alg, kid: header.kid, signed, claims, signature })
}

/// A JSON object as what it stands for; serde alone would take a list, field by field.
pub fn object<T: DeserializeOwned>(json: &[u8]) -> Option<T> {
    let is_object = json.trim_ascii_start().first() == Some(&b'{');
    if is_object { serde_json::from_slice(json).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::signing::base64url::encode;

    fn text(header: &str, claims: &str) -> String {
        format!("{}.{}.{}", encode(header.as_bytes()), encode(claims.as_bytes()), encode(b"sig"))
    }

    #[test]
    fn a_token_is_taken_apart() {
        let text = text(r#"{"alg":"ES256","kid":"k1","typ":"JWT"}"#, "{}");
        let token = parse(text.as_bytes()).unwrap();
        assert_eq!((token.alg.as_str(), token.kid.as_deref()), ("ES256", Some("k1")));
        assert_eq!((token.claims.as_slice(), token.signature.as_slice()), (&b"{}"[..], &b"sig"[..]));
        assert_eq!(token.signed, text.rsplit_once('.').unwrap().0.as_bytes());
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let good = text(r#"{"alg":"ES256"}"#, "{}");
        let mut wrong = vec![String::new(), ".".to_owned(), "..".to_owned(), "a.b".to_owned()];
        wrong.push(format!("{good}.x"));
        wrong.push(format!("{good}="));
        wrong.push(text("{}", "{}"));
        wrong.push(text(r#"{"alg":1}"#, "{}"));
        wrong.push(text(r#"{"alg":"a","alg":"b"}"#, "{}"));
        wrong.push(text(r#"{"alg":"ES256","crit":["exp"]}"#, "{}"));
        wrong.push(text(r#"["ES256",null,null]"#, "{}"));
        wrong.push(format!("{good}{}", "A".repeat(TOKEN_BYTES_MAX)));
        for one in wrong {
            assert!(parse(one.as_bytes()).is_err(), "{one:.60}");
        }
    }
}
