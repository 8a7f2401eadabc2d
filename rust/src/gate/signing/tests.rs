use super::base64url::encode;
use super::*;
use serde_json::{Value, json};
use std::io::Write;
use tempfile::NamedTempFile;

const NOW_S: u64 = 1_700_000_000;
const OLD: [u8; 32] = [1; 32];
const NEW: [u8; 32] = [2; 32];

/// A file of HS256 keys.
fn key_file(keys: &[(&str, &[u8])]) -> NamedTempFile {
    let keys: Vec<Value> =
        keys.iter().map(|(kid, secret)| json!({"kty": "oct", "kid": kid, "k": encode(secret)})).collect();
    let mut file = NamedTempFile::new().unwrap();
    write!(file, "{}", json!({"keys": keys})).unwrap();
    file
}

fn document(files: &[(&str, &NamedTempFile)]) -> SigningDocument {
    let issuer = |(name, file): &(&str, &NamedTempFile)| IssuerDocument {
        name: (*name).to_owned(),
        key_file: file.path().to_str().unwrap().to_owned(),
    };
    SigningDocument {
        issuers: files.iter().map(issuer).collect(),
        audience: vec!["edge".to_owned()],
        attribute: "T".to_owned(),
        leeway_s: 0,
        renew_kid: None,
    }
}

fn signing() -> Signing {
    let (us, them) = (key_file(&[("old", &OLD), ("new", &NEW)]), key_file(&[("theirs", &[9; 32])]));
    Signing::new(&document(&[("us", &us), ("them", &them)])).unwrap()
}

fn signed(header: &Value, claims: &Value, secret: &[u8]) -> String {
    let text = format!("{}.{}", encode(header.to_string().as_bytes()), encode(claims.to_string().as_bytes()));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
    let signature = ring::hmac::sign(&key, text.as_bytes());
    format!("{text}.{}", encode(signature.as_ref()))
}

fn token(claims: &Value) -> String {
    signed(&json!({"alg": "HS256", "kid": "old"}), claims, &OLD)
}

fn anything() -> Value {
    json!({"exp": NOW_S + 60, "cdniuc": "regex:http://a\\.test/.*"})
}

fn judge(signing: &Signing, target: &str, cookies: &[&[u8]]) -> Result<Pass, Denial> {
    let request =
        Signed { service: "www", scheme: "http", authority: b"a.test", target: target.as_bytes(), cookies };
    signing.judge(&request, NOW_S, &Nonces::default())
}

fn with_token(token: &str) -> Result<Pass, Denial> {
    judge(&signing(), &format!("/video/1?T={token}"), &[])
}

#[test]
fn a_token_lets_its_uri_pass_wherever_it_stands() {
    let (signing, token) = (signing(), token(&anything()));
    let pass = |target: &str| Ok(Pass { target: target.as_bytes().to_vec(), cookie: None });
    assert_eq!(judge(&signing, &format!("/v/1?a=b&T={token}"), &[]), pass("/v/1?a=b"));
    assert_eq!(judge(&signing, &format!("/v;T={token}/1?a=b"), &[]), pass("/v/1?a=b"));
    let cookie = format!("x=1; T={token}");
    assert_eq!(judge(&signing, "/v/1", &[cookie.as_bytes()]), pass("/v/1"));
    assert_eq!(judge(&signing, "/v/1", &[b"x=1"]), Err(UNSIGNED));
    assert_eq!(judge(&signing, "/v/1", &[]), Err(UNSIGNED));
}

#[test]
fn one_good_token_among_old_ones_is_enough() {
    let signing = signing();
    let (old, good) = (token(&json!({"exp": 1, "cdniuc": "regex:.*"})), token(&anything()));
    let cookie = format!("T={old}; T={good}");
    assert!(judge(&signing, &format!("/v?T={old}"), &[cookie.as_bytes()]).is_ok());
    let many = format!("{}T={good}", format!("T={old}; ").repeat(TOKENS_MAX));
    let denial = judge(&signing, "/v", &[many.as_bytes()]).unwrap_err();
    assert_eq!(denial.text, "the token has expired");
}

#[test]
fn nobody_passes_with_another_algorithm_or_none() {
    let unsigned = |alg: &str| {
        let header = encode(json!({"alg": alg, "kid": "old"}).to_string().as_bytes());
        format!("{header}.{}.", encode(anything().to_string().as_bytes()))
    };
    for alg in ["none", "None", "", "HS256", "HS512", "ES256", "RS256"] {
        assert!(with_token(&unsigned(alg)).is_err(), "{alg}");
    }
    for alg in ["none", "hs256", "HS384", "RS256", "ES256", "EdDSA"] {
        let token = signed(&json!({"alg": alg, "kid": "old"}), &anything(), &OLD);
        assert!(with_token(&token).is_err(), "{alg}");
    }
}

#[test]
fn a_public_key_is_no_secret_for_hs256() {
    let x = encode(&[3; 32]);
    let mut file = NamedTempFile::new().unwrap();
    write!(file, "{}", json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": x}]})).unwrap();
    let signing = Signing::new(&document(&[("us", &file)])).unwrap();
    let token = signed(&json!({"alg": "HS256", "kid": "k"}), &anything(), &[3; 32]);
    let text = judge(&signing, &format!("/?T={token}"), &[]).unwrap_err().text;
    assert_eq!(text, "nobody who is known here has signed the token");
}

#[test]
fn keys_rotate_by_kid() {
    let by = |kid: &str, secret: &[u8]| {
        with_token(&signed(&json!({"alg": "HS256", "kid": kid}), &anything(), secret)).is_ok()
    };
    assert!(by("old", &OLD) && by("new", &NEW));
    assert!(!by("old", &NEW) && !by("gone", &OLD));
    assert!(with_token(&signed(&json!({"alg": "HS256"}), &anything(), &NEW)).is_ok());
}

#[test]
fn an_issuer_signs_with_its_own_keys_only() {
    let claims = |iss: &str| json!({"iss": iss, "exp": NOW_S + 60, "cdniuc": "regex:.*"});
    assert!(with_token(&token(&claims("us"))).is_ok());
    for iss in ["them", "nobody", ""] {
        let denial = with_token(&token(&claims(iss))).unwrap_err();
        assert_eq!((denial.status, denial.text), (403, "the token was signed by another than its issuer"));
    }
}

#[test]
fn a_token_without_uris_is_for_none() {
    assert!(with_token(&token(&json!({"exp": NOW_S + 60}))).is_err());
    assert!(with_token(&token(&json!({"exp": NOW_S + 60, "cdniuc": "regex:http://a.test/other"}))).is_err());
}

#[test]
fn the_uri_is_compared_in_its_normal_form_without_the_token() {
    let token = token(&json!({"cdniuc": "regex:http://a\\.test/video/[0-9]\\?q=1"}));
    let signing = signing();
    assert!(judge(&signing, &format!("/x/../%76ideo/1?q=1&T={token}"), &[]).is_ok());
    assert!(judge(&signing, &format!("/video/../secret/1?q=1&T={token}"), &[]).is_err());
    assert!(judge(&signing, &format!("/secret?x=http://a.test/video/1?q=1&T={token}"), &[]).is_err());
}

#[test]
fn a_token_for_one_use_is_used_once() {
    let (signing, nonces) = (signing(), Nonces::default());
    let token = token(&json!({"jti": "1", "exp": NOW_S + 60, "cdniuc": "regex:.*"}));
    let judge = |service: &str, path: &str| {
        let target = format!("{path}?T={token}");
        let (scheme, authority, target) = ("http", &b"a.test"[..], target.as_bytes());
        signing.judge(&Signed { service, scheme, authority, target, cookies: &[] }, NOW_S, &nonces).is_ok()
    };
    assert!(judge("www", "/a"));
    assert!(!judge("www", "/a") && !judge("www", "/./a"));
    assert!(judge("www", "/b") && judge("other", "/a"));
}

#[test]
fn a_chain_goes_on_from_cookie_to_cookie() {
    let signing = signing();
    let claims = json!({
        "exp": NOW_S + 1, "cdniuc": "regex:http://a\\.test/v/.*", "cdnistt": 1, "cdniets": 30, "cdnistd": 1,
    });
    let first = judge(&signing, &format!("/v/1?T={}", token(&claims)), &[]).unwrap().cookie.unwrap();
    let (pair, rest) = first.split_once("; ").unwrap();
    assert_eq!(rest, "Path=/v; Max-Age=30; HttpOnly");
    let at = |now_s: u64| {
        let (scheme, authority, target) = ("http", &b"a.test"[..], &b"/v/2"[..]);
        let cookies: &[&[u8]] = &[pair.as_bytes()];
        let request = Signed { service: "www", scheme, authority, target, cookies };
        signing.judge(&request, now_s, &Nonces::default())
    };
    assert!(at(NOW_S + 29).unwrap().cookie.is_some());
    assert_eq!(at(NOW_S + 30).unwrap_err().text, "the token has expired");
}

#[test]
fn a_chain_is_signed_with_the_key_that_is_named_for_it() {
    let (us, them) = (key_file(&[("old", &OLD)]), key_file(&[("theirs", &[9; 32])]));
    let mut document = document(&[("us", &us), ("them", &them)]);
    document.renew_kid = Some("theirs".to_owned());
    let signing = Signing::new(&document).unwrap();
    let claims = json!({"iss": "us", "cdniuc": "regex:.*", "cdnistt": 1, "cdniets": 30});
    let cookie = judge(&signing, &format!("/?T={}", token(&claims)), &[]).unwrap().cookie.unwrap();
    let next = cookie.split(';').next().unwrap();
    assert!(judge(&signing, "/", &[next.as_bytes()]).is_ok());
    document.renew_kid = Some("gone".to_owned());
    assert!(Signing::new(&document).unwrap_err().message.contains("gone"));
}

#[test]
fn settings_that_could_let_nobody_in_are_refused() {
    let file = key_file(&[("old", &OLD)]);
    let good = document(&[("us", &file)]);
    assert!(Signing::new(&SigningDocument { issuers: Vec::new(), ..good.clone() }).is_err());
    for attribute in ["", "a b", "a=b", "a;b", "ä"] {
        let attribute = attribute.to_owned();
        assert!(Signing::new(&SigningDocument { attribute, ..good.clone() }).is_err());
    }
    let nowhere = vec![IssuerDocument { name: "x".to_owned(), key_file: "/nowhere".to_owned() }];
    assert!(Signing::new(&SigningDocument { issuers: nowhere, ..good }).unwrap_err().is_retryable);
}

/// Numbers that look drawn, the same in every run (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }
}

/// Every change of a good token's text, and all that is put together at random, is refused; nothing panics.
#[test]
fn no_other_text_than_the_signed_one_passes() {
    let (signing, good) = (signing(), token(&anything()));
    assert!(judge(&signing, "/", &[format!("T={good}").as_bytes()]).is_ok());
    let pieces: [&[u8]; 12] = [
        b".",
        b"..",
        b"=",
        b"-",
        b"e30",
        b"eyJhbGciOiJub25lIn0",
        b"\xff",
        b"A",
        b"\"",
        b"{}",
        b"null",
        b"%2e",
    ];
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for turn in 0..200_000 {
        let mut text = if turn % 4 == 0 { Vec::new() } else { good.clone().into_bytes() };
        for _ in 0..=numbers.below(3) {
            let at = numbers.below(text.len() + 1);
            match numbers.below(4) {
                0 if at < text.len() => text[at] ^= 1 << numbers.below(8),
                1 => text.truncate(at),
                2 => drop(text.splice(at..at, pieces[numbers.below(pieces.len())].iter().copied())),
                _ if at < text.len() => drop(text.remove(at)),
                _ => text.push(b'A'),
            }
        }
        if text == good.as_bytes() {
            continue;
        }
        let cookie = [&b"T="[..], &text].concat();
        // A cookie ends at a semicolon, and spaces around it do not belong to it: what is read may be the good one.
        let is_read_whole = !text.contains(&b';') && text.trim_ascii() == text;
        let passed = judge(&signing, "/", &[&cookie]).is_ok();
        assert!(!passed || !is_read_whole, "{}", String::from_utf8_lossy(&text));
        let _ = judge(&signing, &String::from_utf8_lossy(&[&b"/?T="[..], &text].concat()), &[]);
    }
}
