//! What the store keeps of an answer for the rules, and how the rules read fields.

use crate::cache::semantics::fields::Fields;
use crate::cache::semantics::meta::{ENCODED_LEN, StoredMeta};
use crate::cache::semantics::vary;
use crate::cache::store::{Meta, Select};
use crate::edge::message::Field;
use crate::edge::stored::pace::Pace;
use bytes::Bytes;
use std::sync::Arc;

/// A stored answer as far as the rules are concerned. Its fields lie beside it, as lines (`Lines`).
#[derive(Debug)]
pub struct Entry {
    pub terms: StoredMeta,
    /// What it varies by, with the values of the request that brought it (`semantics::vary`).
    pub variant: Box<[u8]>,
    pub pace: Arc<Pace>,
}

impl Meta for Entry {
    fn heap_bytes(&self) -> usize {
        self.variant.len() + size_of::<Pace>()
    }

    fn is_same_variant(&self, other: &Self) -> bool {
        self.variant == other.variant
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.terms.encode(out);
        out.extend_from_slice(&self.variant);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (terms, variant) = bytes.split_at_checked(ENCODED_LEN)?;
        Some(Self { terms: StoredMeta::decode(terms)?, variant: variant.into(), pace: Arc::default() })
    }
}

impl Fields for [Field] {
    fn lines(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.iter().map(|field| (&*field.name, &*field.value))
    }
}

/// Stored fields, as they are sent: `name: value` and a line end, each.
#[derive(Clone, Copy, Debug)]
pub struct Lines<'a>(pub &'a [u8]);

impl Fields for Lines<'_> {
    fn lines(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        split_lines(self.0)
    }
}

fn split_lines(mut rest: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    std::iter::from_fn(move || {
        let end = memchr::memchr(b'\r', rest)?;
        let line = rest.get(..end)?;
        rest = rest.get(end + 2..).unwrap_or_default();
        let colon = memchr::memchr(b':', line)?;
        Some((line.get(..colon)?, line.get(colon + 2..).unwrap_or_default()))
    })
}

/// The stored lines as fields that share their memory.
pub fn fields_of(wire: &Bytes) -> Vec<Field> {
    let field =
        |(name, value): (&[u8], &[u8])| Field { name: wire.slice_ref(name), value: wire.slice_ref(value) };
    split_lines(wire).map(field).collect()
}

/// Appends one line.
pub fn put_line(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    [name, b": ", value, b"\r\n"].iter().for_each(|part| out.extend_from_slice(part));
}

/// Picks the variant that a request asks for.
pub struct Choice<'a, F: ?Sized>(pub &'a F);

impl<F: Fields + ?Sized> Select<Entry> for Choice<'_, F> {
    fn matches(&mut self, entry: &Entry) -> bool {
        entry.variant.is_empty() || vary::matches(&entry.variant, self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_fields_again() {
        let mut wire = Vec::new();
        put_line(b"A", b"b: c", &mut wire);
        put_line(b"empty", b"", &mut wire);
        let wire = Bytes::from(wire);
        let read: Vec<_> =
            Lines(&wire).lines().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
        assert_eq!(read, [(b"A".to_vec(), b"b: c".to_vec()), (b"empty".to_vec(), Vec::new())]);
        assert_eq!(fields_of(&wire).len(), 2);
    }
}
