//! What must hold whatever bytes come in: for every reader of bytes from outside one entry, which reads them and claims
//! more than that nothing broke. `fuzz/` drives the entries with libFuzzer; `mutate` drives the same entries with
//! mutations of the same corpus, the same ones every time, within `cargo test`.

mod blocks;
mod directives;
mod dns;
mod document;
mod http;
mod keys;
mod range;
mod record;

#[cfg(test)]
mod mutate;

/// Panics where a claim does not hold.
pub type Entry = fn(&[u8]);

/// Each has a folder of its name in `fuzz/corpus` and a file of its name in `fuzz/targets`.
pub const ENTRIES: [(&str, Entry); 11] = [
    ("answer_head", http::answer_head),
    ("blocks", blocks::blocks),
    ("chunked", http::chunked),
    ("directives", directives::directives),
    ("dns_message", dns::dns_message),
    ("document", document::document),
    ("keys", keys::keys),
    ("range", range::range),
    ("record", record::record),
    ("request_head", http::request_head),
    ("variant", keys::variant),
];

/// Runs the entry of that name.
pub fn run(name: &str, bytes: &[u8]) {
    let entry = ENTRIES.iter().find(|(known, _)| *known == name);
    assert!(entry.is_some(), "no entry is called {name}");
    entry.iter().for_each(|(_, entry)| entry(bytes));
}

/// Takes numbers and pieces off the front of the bytes; what is missing is 0, or empty.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    fn word(&mut self) -> u64 {
        self.take(8).iter().fold(0, |word, byte| word << 8 | u64::from(*byte))
    }

    fn below(&mut self, end: u64) -> u64 {
        u64::from(self.byte()) % end.max(1)
    }

    fn take(&mut self, bytes: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(bytes.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Up to the next line feed, which goes too.
    fn line(&mut self) -> &'a [u8] {
        let line = self.0.split(|byte| *byte == b'\n').next().unwrap_or_default();
        self.take(line.len() + 1);
        line
    }

    /// The rest as field lines, as a parser would give them: nothing in them that ends a line.
    fn fields(&self) -> Vec<(&'a [u8], &'a [u8])> {
        let is_field = |byte: &u8| *byte == b'\t' || *byte >= b' ' && *byte != 0x7f;
        let lines = self.0.split(|byte| *byte == b'\n').filter(|line| line.iter().all(is_field));
        lines.take(24).filter_map(|line| split_field(line)).collect()
    }
}

fn split_field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = (line.get(..colon)?, line.get(colon + 1..)?);
    crate::cache::semantics::fields::is_token(name).then_some((name, value.trim_ascii()))
}
