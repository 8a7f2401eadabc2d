//! Keys that sign tokens, from a JWK Set (RFC 7517). A key is of one algorithm, whatever a token says.

use crate::gate::signing::base64url::decode;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair,
    RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
};
use ring::{hmac, signature};
use serde::Deserialize;
use std::fmt;

/// Keys of one set: more are a mistake, and each may be tried for a token that names none.
const KEYS_MAX: usize = 64;

/// RFC 7518 §3.2: as long as the hash.
const SECRET_BYTES_MIN: usize = 32;

#[derive(Deserialize)]
struct SetDocument {
    keys: Vec<KeyDocument>,
}

#[derive(Deserialize)]
struct KeyDocument {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    crv: Option<String>,
    k: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    d: Option<String>,
}

enum Kind {
    Secret(hmac::Key),
    P256(UnparsedPublicKey<Vec<u8>>, Option<Box<EcdsaKeyPair>>),
    Rsa(PublicKeyComponents<Vec<u8>>),
    Ed25519(UnparsedPublicKey<Vec<u8>>, Option<Box<Ed25519KeyPair>>),
}

pub struct Key {
    pub kid: Option<String>,
    kind: Kind,
}

/// Nothing of the key itself.
impl fmt::Debug for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Key({} {:?})", self.alg(), self.kid)
    }
}

impl Key {
    /// The one algorithm of the key, as RFC 7518 §3.1 and RFC 8037 §3.1 name it.
    pub fn alg(&self) -> &'static str {
        match self.kind {
            Kind::Secret(_) => "HS256",
            Kind::P256(..) => "ES256",
            Kind::Rsa(_) => "RS256",
            Kind::Ed25519(..) => "EdDSA",
        }
    }

    pub fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.kind {
            Kind::Secret(key) => hmac::verify(key, message, signature).is_ok(),
            Kind::P256(key, _) | Kind::Ed25519(key, _) => key.verify(message, signature).is_ok(),
            Kind::Rsa(key) => key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature).is_ok(),
        }
    }

    /// A signature; None if the set holds the public half alone, or the key is RSA, which only verifies here.
    pub fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        match &self.kind {
            Kind::Secret(key) => Some(hmac::sign(key, message).as_ref().to_vec()),
            Kind::P256(_, pair) => {
                let signature = pair.as_ref()?.sign(&SystemRandom::new(), message).ok()?;
                Some(signature.as_ref().to_vec())
            }
            Kind::Ed25519(_, pair) => Some(pair.as_ref()?.sign(message).as_ref().to_vec()),
            Kind::Rsa(_) => None,
        }
    }

    pub fn can_sign(&self) -> bool {
        self.sign(b"").is_some()
    }
}

/// The keys of a set that can verify tokens; else what is wrong. Keys of other kinds or purposes are passed over, as
/// RFC 7517 §5 wants it.
pub fn read_set(text: &str) -> Result<Vec<Key>, String> {
    let document: SetDocument = serde_json::from_str(text).map_err(|error| format!("no JWK Set: {error}"))?;
    if document.keys.len() > KEYS_MAX {
        return Err(format!("{} keys, limit {KEYS_MAX}", document.keys.len()));
    }
    let mut keys: Vec<Key> = Vec::new();
    for (place, one) in document.keys.into_iter().enumerate() {
        let kid = one.kid.clone();
        let named =
            |why: String| format!("key {} ({}): {why}", place + 1, kid.as_deref().unwrap_or("no kid"));
        let Some(kind) = kind_of(&one).map_err(named)? else { continue };
        if kid.is_some() && keys.iter().any(|key| key.kid == kid) {
            return Err(format!("kid {:?} twice", kid.unwrap_or_default()));
        }
        keys.push(Key { kid, kind });
    }
    if keys.is_empty() { Err("no key that could verify a token".to_owned()) } else { Ok(keys) }
}

fn kind_of(key: &KeyDocument) -> Result<Option<Kind>, String> {
    if key.purpose.as_deref().is_some_and(|purpose| purpose != "sig") {
        return Ok(None);
    }
    let (alg, kind) = match (key.kty.as_str(), key.crv.as_deref()) {
        ("oct", _) => ("HS256", secret(key)?),
        ("EC", Some("P-256")) => ("ES256", p256(key)?),
        ("RSA", _) => ("RS256", rsa(key)?),
        ("OKP", Some("Ed25519")) => ("EdDSA", ed25519(key)?),
        _ => return Ok(None),
    };
    match &key.alg {
        Some(told) if told != alg => Err(format!("alg {told:?} of a key that is one for {alg:?}")),
        _ => Ok(Some(kind)),
    }
}

fn member(value: Option<&String>, name: &str) -> Result<Vec<u8>, String> {
    let value = value.ok_or_else(|| format!("no {name:?}"))?;
    decode(value.as_bytes()).ok_or_else(|| format!("{name:?} is not base64url"))
}

fn secret(key: &KeyDocument) -> Result<Kind, String> {
    let secret = member(key.k.as_ref(), "k")?;
    if secret.len() < SECRET_BYTES_MIN {
        return Err(format!("a secret of {} bytes; at least {SECRET_BYTES_MIN}", secret.len()));
    }
    Ok(Kind::Secret(hmac::Key::new(hmac::HMAC_SHA256, &secret)))
}

fn p256(key: &KeyDocument) -> Result<Kind, String> {
    let (x, y) = (member(key.x.as_ref(), "x")?, member(key.y.as_ref(), "y")?);
    if x.len() != 32 || y.len() != 32 {
        return Err("\"x\" and \"y\" have 32 bytes each".to_owned());
    }
    let point = [&[4][..], &x, &y].concat();
    let pair = key.d.as_ref().map(|d| {
        let d = member(Some(d), "d")?;
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        EcdsaKeyPair::from_private_key_and_public_key(algorithm, &d, &point, &SystemRandom::new())
            .map_err(|_| "\"d\" does not belong to \"x\" and \"y\"".to_owned())
    });
    Ok(Kind::P256(UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point), pair.transpose()?.map(Box::new)))
}

fn rsa(key: &KeyDocument) -> Result<Kind, String> {
    let (n, e) = (member(key.n.as_ref(), "n")?, member(key.e.as_ref(), "e")?);
    if !(256..=1_024).contains(&n.len()) {
        return Err(format!("a modulus of {} bits; 2048 to 8192", n.len() * 8));
    }
    Ok(Kind::Rsa(PublicKeyComponents { n, e }))
}

fn ed25519(key: &KeyDocument) -> Result<Kind, String> {
    let x = member(key.x.as_ref(), "x")?;
    if x.len() != signature::ED25519_PUBLIC_KEY_LEN {
        return Err("\"x\" has 32 bytes".to_owned());
    }
    let pair = key.d.as_ref().map(|d| {
        let d = member(Some(d), "d")?;
        Ed25519KeyPair::from_seed_and_public_key(&d, &x)
            .map_err(|_| "\"d\" does not belong to \"x\"".to_owned())
    });
    Ok(Kind::Ed25519(UnparsedPublicKey::new(&ED25519, x), pair.transpose()?.map(Box::new)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::signing::base64url::encode;
    use ring::signature::KeyPair;

    fn oct(kid: &str, secret: &[u8]) -> String {
        format!(r#"{{"kty":"oct","kid":"{kid}","k":"{}"}}"#, encode(secret))
    }

    fn set(keys: &[String]) -> String {
        format!(r#"{{"keys":[{}]}}"#, keys.join(","))
    }

    #[test]
    fn each_kind_of_key_signs_and_verifies_with_its_own_algorithm() {
        let random = SystemRandom::new();
        let seed = [7_u8; 32];
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
        let x = encode(pair.public_key().as_ref());
        let okp = format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"ed","x":"{x}","d":"{}"}}"#, encode(&seed));
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
        let point = pair.public_key().as_ref();
        let (x, y) = (encode(&point[1..33]), encode(&point[33..]));
        // Where a PKCS #8 of ring has the private half.
        let d = encode(&pkcs8.as_ref()[36..68]);
        let ec = format!(r#"{{"kty":"EC","crv":"P-256","kid":"ec","x":"{x}","y":"{y}","d":"{d}"}}"#);
        let keys = read_set(&set(&[oct("hs", &[1; 32]), okp, ec])).unwrap();
        let algs: Vec<&str> = keys.iter().map(Key::alg).collect();
        assert_eq!(algs, ["HS256", "EdDSA", "ES256"]);
        for key in &keys {
            let signature = key.sign(b"message").unwrap();
            assert!(key.has_signed(b"message", &signature), "{key:?}");
            assert!(!key.has_signed(b"massage", &signature), "{key:?}");
            assert!(!key.has_signed(b"message", &signature[1..]), "{key:?}");
            assert!(!key.has_signed(b"message", b""), "{key:?}");
        }
    }

    #[test]
    fn keys_of_another_kind_or_purpose_are_passed_over() {
        let others = [
            r#"{"kty":"EC","crv":"P-521","x":"AA","y":"AA"}"#.to_owned(),
            r#"{"kty":"XYZ"}"#.to_owned(),
            r#"{"kty":"oct","use":"enc","k":"AA"}"#.to_owned(),
        ];
        assert_eq!(read_set(&set(&[&others[..], &[oct("a", &[1; 32])]].concat())).unwrap().len(), 1);
        assert!(read_set(&set(&others)).unwrap_err().contains("no key"));
    }

    #[test]
    fn what_is_wrong_with_a_set_is_told() {
        let wrong = [
            ("{".to_owned(), "no JWK Set"),
            (r#"{"keys":[{}]}"#.to_owned(), "kty"),
            (set(&[oct("a", &[1; 31])]), "31 bytes"),
            (set(&[oct("a", &[1; 32]), oct("a", &[2; 32])]), "twice"),
            (set(&[r#"{"kty":"oct","kid":"a"}"#.to_owned()]), "no \"k\""),
            (set(&[r#"{"kty":"RSA","n":"AAAA","e":"AQAB"}"#.to_owned()]), "24 bits"),
            (set(&[r#"{"kty":"OKP","crv":"Ed25519","x":"AAAA"}"#.to_owned()]), "32 bytes"),
            (set(&[r#"{"kty":"oct","alg":"RS256","k":"AAAA"}"#.to_owned()]), "bytes"),
            (set(&vec![r#"{"kty":"XYZ"}"#.to_owned(); KEYS_MAX + 1]), "limit"),
        ];
        for (text, why) in wrong {
            let told = read_set(&text).unwrap_err();
            assert!(told.contains(why), "{told:?} for {text:.80}");
        }
        let confused = oct("a", &[1; 32]).replace("\"k\"", "\"alg\":\"ES256\",\"k\"");
        assert!(read_set(&set(&[confused])).unwrap_err().contains("ES256"));
    }

    #[test]
    fn nothing_secret_is_printed() {
        let keys = read_set(&set(&[oct("a", b"0123456789abcdef0123456789abcdef")])).unwrap();
        assert_eq!(format!("{:?}", keys[0]), "Key(HS256 Some(\"a\"))");
    }
}
