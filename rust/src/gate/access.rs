//! Which client addresses are let in: the longest prefix that matches an address rules.

use crate::document::AccessDocument;
use crate::error::Refusal;
use crate::region::Locator;
use std::fs::File;
use std::io::Read;
use std::net::IpAddr;

/// The largest file of prefixes that is read; about a million of them.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Places of the lists in the locator; 0 stands for addresses that no prefix holds.
const ALLOWED: u16 = 1;
const DENIED: u16 = 2;

#[derive(Debug)]
pub struct Access {
    prefixes: Locator,
    /// Whether an address that no prefix holds is let in.
    is_open: bool,
}

impl Access {
    /// From lists and files. Who matches nothing is let in, unless prefixes are allowed and none denied.
    pub fn new(document: &AccessDocument) -> Result<Self, Refusal> {
        let allowed = all(&document.allow, document.allow_file.as_deref())?;
        let denied = all(&document.deny, document.deny_file.as_deref())?;
        let is_open = allowed.is_empty() || !denied.is_empty();
        if let Some(both) = denied.iter().find(|prefix| allowed.contains(prefix)) {
            return Err(Refusal::never(format!("prefix {both:?} is both allowed and denied")));
        }
        let lists = [Vec::new(), allowed, denied];
        Ok(Self { prefixes: Locator::new(lists.iter().map(Vec::as_slice))?, is_open })
    }

    pub fn lets_in(&self, client: IpAddr) -> bool {
        match self.prefixes.region_of(client) {
            ALLOWED => true,
            DENIED => false,
            _ => self.is_open,
        }
    }
}

fn all(listed: &[String], file: Option<&str>) -> Result<Vec<String>, Refusal> {
    let mut prefixes = listed.to_vec();
    let Some(path) = file else { return Ok(prefixes) };
    let text = read(path)?;
    // A prefix a line; what follows a # is for people.
    let lines = text.lines().filter_map(|line| line.split('#').next()).map(str::trim);
    let found = lines.filter(|line| !line.is_empty()).map(str::to_owned);
    prefixes.extend(found);
    // Looked at alone for its name in the message.
    Locator::new([prefixes.as_slice()].into_iter()).map_err(|refusal| refusal.at(path))?;
    Ok(prefixes)
}

/// A file's text; refused without reading more than may be in it.
pub fn read(path: &str) -> Result<String, Refusal> {
    let later = |error: std::io::Error| Refusal::later(format!("{path}: {error}"));
    let mut text = String::new();
    let file = File::open(path).map_err(later)?;
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(later)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(Refusal::never(format!("{path}: more than {FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    fn access(allow: &[&str], deny: &[&str]) -> Access {
        let (allow, deny) = (texts(allow), texts(deny));
        Access::new(&AccessDocument { allow, deny, ..AccessDocument::default() }).unwrap()
    }

    fn lets_in(access: &Access, client: &str) -> bool {
        access.lets_in(client.parse().unwrap())
    }

    #[test]
    fn the_longest_prefix_rules() {
        let found = access(&["10.1.0.0/16", "2001:db8:1::/48"], &["10.0.0.0/8", "10.1.2.3", "2001:db8::/32"]);
        for client in ["10.1.9.9", "2001:db8:1::1", "192.0.2.1", "2001:db9::1", "::ffff:10.1.0.1"] {
            assert!(lets_in(&found, client), "{client}");
        }
        for client in ["10.0.0.1", "10.1.2.3", "2001:db8:2::1", "::ffff:10.2.0.1"] {
            assert!(!lets_in(&found, client), "{client}");
        }
    }

    #[test]
    fn only_those_allowed_come_in_where_nobody_is_denied() {
        let found = access(&["192.0.2.0/24"], &[]);
        assert!(lets_in(&found, "192.0.2.7"));
        assert!(!lets_in(&found, "192.0.3.7") && !lets_in(&found, "::1"));
        assert!(lets_in(&access(&[], &["192.0.2.0/24"]), "::1"));
    }

    #[test]
    fn a_file_adds_to_the_list() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "# ours\n10.0.0.0/8  # offices\n\n 2001:db8::/32").unwrap();
        let deny_file = Some(file.path().to_str().unwrap().to_owned());
        let document = AccessDocument { deny: texts(&["192.0.2.1"]), deny_file, ..AccessDocument::default() };
        let found = Access::new(&document).unwrap();
        for client in ["10.2.3.4", "2001:db8::1", "192.0.2.1"] {
            assert!(!lets_in(&found, client), "{client}");
        }
    }

    #[test]
    fn what_is_wrong_is_refused_with_its_place() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "10.0.0.0/8\nnobody").unwrap();
        let path = file.path().to_str().unwrap().to_owned();
        let document = AccessDocument { allow_file: Some(path.clone()), ..AccessDocument::default() };
        let refusal = Access::new(&document).unwrap_err();
        assert!(refusal.message.starts_with(&path) && refusal.message.contains("nobody"), "{refusal}");
        let both = AccessDocument { allow: texts(&["::/0"]), deny: texts(&["::/0"]), ..Default::default() };
        assert!(Access::new(&both).unwrap_err().message.contains("both allowed and denied"));
        let absent = AccessDocument { deny_file: Some("/nowhere".to_owned()), ..Default::default() };
        assert!(Access::new(&absent).unwrap_err().is_retryable);
    }
}
