//! What a token says (RFC 7519 §4.1, RFC 9246 §2.1), read strictly, and whether it holds at this moment.

use crate::gate::signing::token::object;
use serde::{Deserialize, Deserializer};

/// The only version of the claim set that there is.
const VERSION: u64 = 1;

/// Renewal by cookie; the only transport that there is (RFC 9246 §2.1.13).
const BY_COOKIE: u64 = 1;

/// The claims that mean something here; others are passed over. A claim that is there twice, or is `null`, is a fault.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Claims {
    #[serde(deserialize_with = "present")]
    pub iss: Option<String>,
    /// Encrypted; nothing here needs to know it.
    #[serde(deserialize_with = "present")]
    pub sub: Option<String>,
    #[serde(deserialize_with = "present")]
    pub aud: Option<Audience>,
    #[serde(deserialize_with = "present")]
    pub exp: Option<f64>,
    #[serde(deserialize_with = "present")]
    pub nbf: Option<f64>,
    #[serde(deserialize_with = "present")]
    pub iat: Option<f64>,
    #[serde(deserialize_with = "present")]
    pub jti: Option<String>,
    #[serde(deserialize_with = "present")]
    pub cdniv: Option<u64>,
    #[serde(deserialize_with = "present")]
    pub cdnicrit: Option<String>,
    #[serde(deserialize_with = "present")]
    pub cdniip: Option<String>,
    #[serde(deserialize_with = "present")]
    pub cdniuc: Option<String>,
    #[serde(deserialize_with = "present")]
    pub cdniets: Option<u64>,
    #[serde(deserialize_with = "present")]
    pub cdnistt: Option<u64>,
    #[serde(deserialize_with = "present")]
    pub cdnistd: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    One(String),
    Several(Vec<String>),
}

/// Refuses `null`, which would look like a claim that is not there.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(value: D) -> Result<Option<T>, D::Error> {
    T::deserialize(value).map(Some)
}

impl Claims {
    pub fn read(json: &[u8]) -> Result<Self, &'static str> {
        object(json).ok_or("the token's claims cannot be read")
    }

    /// Whether it holds now, for one of these names of ours.
    pub fn check(&self, now_s: u64, leeway_s: u64, audience: &[String]) -> Result<(), &'static str> {
        let (now_s, leeway_s) = (now_s as f64, leeway_s as f64);
        if self.exp.is_some_and(|exp| now_s >= exp + leeway_s) {
            return Err("the token has expired");
        }
        if self.nbf.is_some_and(|nbf| now_s + leeway_s < nbf) {
            return Err("the token is not valid yet");
        }
        if self.aud.as_ref().is_some_and(|aud| !aud.names_one_of(audience)) {
            return Err("the token is meant for somebody else");
        }
        if self.cdniv.is_some_and(|version| version != VERSION) {
            return Err("the token's claims are of another version than 1");
        }
        if self.cdnicrit.is_some() {
            return Err("the token wants extensions that are not known here");
        }
        if self.cdniip.is_some() {
            return Err("the token is bound to an encrypted client address, which is not supported here");
        }
        if self.jti.is_some() && self.exp.is_none() {
            return Err("a token for one use needs an end");
        }
        match (self.cdnistt, self.cdniets) {
            (None | Some(0), _) | (Some(BY_COOKIE), Some(1..)) => Ok(()),
            (Some(BY_COOKIE), _) => Err("the token is to be renewed, but does not say for how long"),
            _ => Err("the token is to be renewed in a way that is not known here"),
        }
    }

    /// For how long the next token is to hold; None: there is to be none.
    pub fn renewed_for_s(&self) -> Option<u64> {
        self.cdniets.filter(|_| self.cdnistt == Some(BY_COOKIE))
    }
}

impl Audience {
    fn names_one_of(&self, ours: &[String]) -> bool {
        match self {
            Self::One(name) => ours.contains(name),
            Self::Several(names) => names.iter().any(|name| ours.contains(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str) -> Result<(), &'static str> {
        Claims::read(json.as_bytes())?.check(1_000, 0, &["edge.test".to_owned()])
    }

    #[test]
    fn time_is_judged_to_the_second() {
        assert_eq!(check(r#"{"exp":1001,"nbf":1000,"iat":5000}"#), Ok(()));
        assert_eq!(check(r#"{"exp":1000}"#), Err("the token has expired"));
        assert_eq!(check(r#"{"exp":1000.5}"#), Ok(()));
        assert_eq!(check(r#"{"exp":-1}"#), Err("the token has expired"));
        assert_eq!(check(r#"{"nbf":1001}"#), Err("the token is not valid yet"));
        let claims = Claims::read(br#"{"exp":990,"nbf":1010}"#).unwrap();
        assert_eq!(claims.check(1_000, 11, &[]), Ok(()));
    }

    #[test]
    fn a_token_for_others_is_none_for_us() {
        assert_eq!(check(r#"{"aud":"edge.test"}"#), Ok(()));
        assert_eq!(check(r#"{"aud":["a","edge.test"]}"#), Ok(()));
        for wrong in [r#"{"aud":"other"}"#, r#"{"aud":[]}"#] {
            assert_eq!(check(wrong), Err("the token is meant for somebody else"));
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        assert_eq!(check(r#"{"cdniv":1,"unknown":{"a":[1]},"sub":"jwe"}"#), Ok(()));
        for wrong in [
            r#"{"cdniv":2}"#,
            r#"{"cdnicrit":"x"}"#,
            r#"{"cdnicrit":""}"#,
            r#"{"cdniip":"a.b.c.d.e"}"#,
            r#"{"cdnistt":2,"cdniets":9}"#,
            r#"{"cdnistt":1}"#,
            r#"{"cdnistt":1,"cdniets":0}"#,
            r#"{"jti":"once"}"#,
        ] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
        assert_eq!(check(r#"{"cdnistt":0,"cdniets":9}"#), Ok(()));
    }

    #[test]
    fn claims_of_another_type_are_faults() {
        for wrong in [
            "[]",
            "1",
            r#"{"exp":null}"#,
            r#"{"exp":"1"}"#,
            r#"{"exp":5,"exp":9999}"#,
            r#"{"cdniv":1.5}"#,
            r#"{"cdnistd":-1}"#,
            r#"{"cdniuc":["regex:.*"]}"#,
            r#"{"iss":null}"#,
        ] {
            assert!(Claims::read(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_a_cookie_renews() {
        let renewed = |json: &str| Claims::read(json.as_bytes()).unwrap().renewed_for_s();
        assert_eq!(renewed(r#"{"cdnistt":1,"cdniets":30}"#), Some(30));
        assert_eq!(renewed(r#"{"cdnistt":0,"cdniets":30}"#), None);
        assert_eq!(renewed(r#"{"cdniets":30}"#), None);
    }
}
