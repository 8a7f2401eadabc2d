//! Digests of bodies: as an answer's fields carry them (RFC 9530), and as a service pins them.

use crate::edge::message::AnswerHead;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{Context, SHA256, SHA512};
use std::sync::Arc;

/// A digest and its algorithm; the two of RFC 9530 §5 that are not broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Digest {
    Sha256([u8; 32]),
    Sha512([u8; 64]),
}

impl Digest {
    pub fn context(&self) -> Context {
        Context::new(match self {
            Self::Sha256(_) => &SHA256,
            Self::Sha512(_) => &SHA512,
        })
    }

    pub fn is(&self, context: Context) -> bool {
        let wanted: &[u8] = match self {
            Self::Sha256(octets) => octets,
            Self::Sha512(octets) => octets,
        };
        context.finish().as_ref() == wanted
    }
}

/// What a service's settings say of one object's body, as it is without any coding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pinned {
    pub bytes: Option<u64>,
    pub whole: Option<[u8; 32]>,
    /// Digests of consecutive blocks of `block_bytes`, the last one shorter; empty when there are none.
    pub blocks: Arc<[[u8; 32]]>,
    pub block_bytes: u64,
}

/// The digest that an answer carries of the bytes in it: Content-Digest, or Repr-Digest where the content is the whole
/// representation. A field that cannot be read is as none: it is no reason to refuse an answer.
pub fn told(head: &AnswerHead) -> Option<Digest> {
    of_field(head, "content-digest").or_else(|| {
        let is_whole = head.status == 200;
        if is_whole { of_field(head, "repr-digest") } else { None }
    })
}

fn of_field(head: &AnswerHead, name: &str) -> Option<Digest> {
    let lines = head.fields.iter().filter(|field| field.is(name));
    let members = lines.flat_map(|field| field.value.split(|byte| *byte == b','));
    let digests: Vec<Digest> = members.filter_map(|member| of_member(member.trim_ascii())).collect();
    let is_longer = |digest: &&Digest| matches!(digest, Digest::Sha512(_));
    digests.iter().find(is_longer).or(digests.first()).copied()
}

/// `sha-256=:BASE64:` (a member of a structured dictionary, RFC 8941 §3.3.5); parameters are not used by anybody.
fn of_member(member: &[u8]) -> Option<Digest> {
    let (algorithm, value) = member.split_at_checked(member.iter().position(|byte| *byte == b'=')?)?;
    let value = value.strip_prefix(b"=:")?;
    let end = value.iter().position(|byte| *byte == b':')?;
    let octets = STANDARD.decode(value.get(..end)?).ok()?;
    match algorithm {
        b"sha-256" => octets.try_into().ok().map(Digest::Sha256),
        b"sha-512" => octets.try_into().ok().map(Digest::Sha512),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::framing::Framing;
    use crate::edge::message::Field;

    const OF_HELLO: &str = "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:";

    fn head(status: u16, name: &'static str, value: &str) -> AnswerHead {
        let fields = vec![Field::new(name, value.to_owned())];
        let framing = Framing::Length(5);
        AnswerHead { status, fields, framing, length: Some(5), is_persistent: true, upgrade: None }
    }

    fn fits(digest: Option<Digest>, bytes: &[u8]) -> bool {
        let digest = digest.unwrap();
        let mut context = digest.context();
        context.update(bytes);
        digest.is(context)
    }

    #[test]
    fn a_digest_of_the_body_is_read_from_either_field() {
        assert!(fits(told(&head(200, "repr-digest", OF_HELLO)), b"hello"));
        assert!(!fits(told(&head(200, "repr-digest", OF_HELLO)), b"hellO"));
        assert!(fits(told(&head(206, "content-digest", &format!("md5=:AA==:, {OF_HELLO}"))), b"hello"));
    }

    #[test]
    fn the_digest_of_the_whole_says_nothing_of_a_part() {
        assert_eq!(told(&head(206, "repr-digest", OF_HELLO)), None);
    }

    #[test]
    fn the_longer_of_two_counts() {
        let sha512 = STANDARD.encode(ring::digest::digest(&SHA512, b"hello"));
        let both = head(200, "repr-digest", &format!("{OF_HELLO}, sha-512=:{sha512}:"));
        assert!(matches!(told(&both), Some(Digest::Sha512(_))));
        assert!(fits(told(&both), b"hello"));
    }

    #[test]
    fn what_cannot_be_read_is_as_none() {
        for value in [
            "",
            "sha-256",
            "sha-256=",
            "sha-256=::",
            "sha-256=:AAAA:",
            "sha-256=:%%%%:",
            "=::",
            "sha-1=:AA==:",
        ] {
            assert_eq!(told(&head(200, "repr-digest", value)), None, "{value}");
        }
    }
}
