//! URI Signing (RFC 9246): only who has a token for a URI gets what lies there.
//!
//! | file | holds |
//! |---|---|
//! | `place` | where a request carries its token, and the request without it |
//! | `token`, `base64url` | a token as it is written |
//! | `jwk` | keys: ES256, RS256, EdDSA, HS256; each is of one algorithm |
//! | `claims`, `container` | what a token says: until when, for whom, for which URIs |
//! | `nonces` | tokens that may be used once |
//! | `renew` | the next token of a chain |
//!
//! A signature comes first: nothing that a token says is looked at before somebody is known to have said it. The key is
//! chosen by issuer and `kid`, the algorithm by the key; what the token says of its algorithm has to agree.

pub mod base64url;
pub mod claims;
pub mod container;
pub mod jwk;
pub mod nonces;
pub mod place;
pub mod renew;
pub mod token;

use crate::document::{IssuerDocument, SigningDocument};
use crate::error::Refusal;
use crate::gate::access::read;
use crate::gate::why::{Denial, Why};
use claims::Claims;
use jwk::{Key, read_set};
use nonces::Nonces;
use place::{in_cookie, in_target};
use token::{Token, parse};

/// Tokens of one request that are looked at; cookies of several paths may be there at once.
const TOKENS_MAX: usize = 4;

const UNSIGNED: Denial = Denial::new(Why::Unsigned, 403, "this URI needs a token, and the request has none");

const NO_KEY: &str = "the token is to be renewed, but there is no key here to sign the next one with";

#[derive(Debug)]
struct Issuer {
    name: String,
    keys: Vec<Key>,
}

/// How the signed URIs of one service are judged.
#[derive(Debug)]
pub struct Signing {
    issuers: Vec<Issuer>,
    audience: Vec<String>,
    pub attribute: String,
    leeway_s: u64,
    renew_kid: Option<String>,
}

/// A request that has to be signed.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'r> {
    /// Of the service, whose tokens for one use are its own.
    pub service: &'r str,
    pub scheme: &'r str,
    pub authority: &'r [u8],
    pub target: &'r [u8],
    /// Values of its Cookie fields.
    pub cookies: &'r [&'r [u8]],
}

/// A request that may pass.
#[derive(Debug, PartialEq, Eq)]
pub struct Pass {
    /// Its target without the token.
    pub target: Vec<u8>,
    /// Value of the Set-Cookie field that its answer gets.
    pub cookie: Option<String>,
}

impl Signing {
    /// Reads the files of keys.
    pub fn new(document: &SigningDocument) -> Result<Self, Refusal> {
        if document.issuers.is_empty() {
            return Err(Refusal::never("signing without issuers: nobody could sign"));
        }
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if document.attribute.is_empty() || !document.attribute.bytes().all(is_plain) {
            return Err(Refusal::never(format!(
                "signing.attribute {:?}: letters, digits, -, ., _ and ~",
                document.attribute
            )));
        }
        let issuers: Vec<Issuer> = document.issuers.iter().map(issuer).collect::<Result<_, _>>()?;
        let signing = Self {
            issuers,
            audience: document.audience.clone(),
            attribute: document.attribute.clone(),
            leeway_s: document.leeway_s,
            renew_kid: document.renew_kid.clone(),
        };
        match &signing.renew_kid {
            Some(kid) if !signing.renewing().is_some_and(|(_, key)| key.can_sign()) => {
                Err(Refusal::later(format!("signing.renew_kid {kid:?} is no key that can sign")))
            }
            _ => Ok(signing),
        }
    }

    fn all_keys(&self) -> impl Iterator<Item = (&Issuer, &Key)> {
        self.issuers.iter().flat_map(|issuer| issuer.keys.iter().map(move |key| (issuer, key)))
    }

    /// The key that signs the next tokens of chains, if one is named.
    fn renewing(&self) -> Option<(&Issuer, &Key)> {
        let kid = self.renew_kid.as_ref()?;
        self.all_keys().find(|(_, key)| key.kid.as_ref() == Some(kid))
    }

    /// Lets a request pass that has a token for its URI. A token in the URI comes before one in a cookie; the first one
    /// that holds is enough.
    pub fn judge(&self, request: &Signed<'_>, now_s: u64, nonces: &Nonces) -> Result<Pass, Denial> {
        let denied = |text| Denial::new(Why::Token, 403, text);
        let found = in_target(request.target, &self.attribute).map_err(denied)?;
        let (in_target, target) = match found {
            Some(found) => (Some(found.token), found.rest),
            None => (None, request.target.to_vec()),
        };
        let in_cookies = request.cookies.iter().flat_map(|cookie| in_cookie(cookie, &self.attribute));
        let mut first = None;
        for text in in_target.into_iter().chain(in_cookies).take(TOKENS_MAX) {
            match self.judge_token(text, request, &target, now_s, nonces) {
                Ok(cookie) => return Ok(Pass { target, cookie }),
                Err(why) => first = first.or(Some(denied(why))),
            }
        }
        Err(first.unwrap_or(UNSIGNED))
    }

    fn judge_token(
        &self,
        text: &[u8],
        request: &Signed<'_>,
        target: &[u8],
        now_s: u64,
        nonces: &Nonces,
    ) -> Result<Option<String>, &'static str> {
        let token = parse(text)?;
        let (issuer, key) = self.signer(&token).ok_or("nobody who is known here has signed the token")?;
        let claims = Claims::read(&token.claims)?;
        if claims.iss.as_ref().is_some_and(|name| *name != issuer.name) {
            return Err("the token was signed by another than its issuer");
        }
        claims.check(now_s, self.leeway_s, &self.audience)?;
        let container = claims.cdniuc.as_deref().ok_or("the token does not say for which URIs it is")?;
        let uri = container::normal_uri(request.scheme, request.authority, target);
        container::check(container, &uri)?;
        let cookie = match claims.renewed_for_s() {
            None => None,
            Some(for_s) => {
                let (issuer, key) = self.renewing().unwrap_or((issuer, key));
                let next = renew::renewed(&token.claims, key, &issuer.name, now_s, for_s).ok_or(NO_KEY)?;
                let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
                let scope = renew::scope(path, claims.cdnistd.unwrap_or(0));
                let is_secure = request.scheme == "https";
                Some(renew::cookie(&self.attribute, &next, &scope, for_s, is_secure))
            }
        };
        if let Some(jti) = &claims.jti {
            // Fractions of a second count as whole ones, and so does the leeway: it holds for as long.
            let end_s = claims.exp.map_or(now_s, |exp| exp.max(0.0) as u64);
            let until_s = end_s.saturating_add(1).saturating_add(self.leeway_s);
            nonces.take(&(request.service, jti, &uri), until_s, now_s)?;
        }
        Ok(cookie)
    }

    /// Who has signed a token, and with which key. One that names no key may be of any of the algorithm.
    fn signer(&self, token: &Token<'_>) -> Option<(&Issuer, &Key)> {
        let fits = |key: &Key| key.alg() == token.alg && (token.kid.is_none() || key.kid == token.kid);
        self.all_keys()
            .filter(|(_, key)| fits(key))
            .find(|(_, key)| key.has_signed(token.signed, &token.signature))
    }
}

fn issuer(document: &IssuerDocument) -> Result<Issuer, Refusal> {
    let text = read(&document.key_file)?;
    let keys = read_set(&text).map_err(|why| Refusal::later(format!("{}: {why}", document.key_file)))?;
    Ok(Issuer { name: document.name.clone(), keys })
}

#[cfg(test)]
mod tests;
