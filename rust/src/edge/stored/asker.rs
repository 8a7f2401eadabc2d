//! Asks the origin in the cache's name: with what may reach it of a client's request, and the cache's own conditions.

use crate::cache::semantics::conditional::Validators;
use crate::cache::semantics::key::{is_kept, reaches_origin, write_target};
use crate::cache::store::Store;
use crate::edge::answer::Answer;
use crate::edge::attempt::Interim;
use crate::edge::forward::{Incoming, forward};
use crate::edge::message::{Field, RequestHead, value_of};
use crate::edge::stored::Shelf;
use crate::edge::stored::entry::Entry;
use crate::edge::worker::{Edge, Site};
use crate::reflex::identity::Rule;
use bytes::Bytes;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

/// Fields of a client's request that concern what it has, not what there is: the cache asks for the whole, and gives the
/// client its part.
const OF_THE_CLIENT: [&str; 6] =
    ["if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "range"];

/// See `OF_THE_CLIENT`.
pub fn is_the_clients(field: &Field) -> bool {
    OF_THE_CLIENT.iter().any(|name| field.is(name))
}

/// A question to the origin that can be asked again: for another block, or with conditions.
pub struct Asker {
    edge: Rc<Edge>,
    site: Rc<Site>,
    shelf: Arc<Shelf>,
    head: RequestHead,
    client: IpAddr,
    scheme: &'static str,
}

/// An answer, and between which moments it came (milliseconds UTC).
pub struct Asked {
    pub answer: Answer,
    /// The part that was asked for.
    pub range: Option<Bytes>,
    pub asked_ms: u64,
    pub arrived_ms: u64,
}

impl Asker {
    /// For a client's GET or HEAD. The question is always a GET.
    pub fn new(
        edge: &Rc<Edge>,
        site: &Rc<Site>,
        shelf: &Arc<Shelf>,
        head: &RequestHead,
        client: IpAddr,
        scheme: &'static str,
    ) -> Self {
        let reaches = |field: &&Field| !is_the_clients(field) && reaches_origin(&field.name, &shelf.rules);
        let head = RequestHead {
            method: Bytes::from_static(b"GET"),
            target: target(&head.target, shelf),
            authority: head.authority.clone(),
            fields: head.fields.iter().filter(reaches).cloned().collect(),
            framing: head.framing,
            version: head.version,
            is_persistent: true,
            expects_continue: false,
            upgrade: None,
        };
        Self { edge: Rc::clone(edge), site: Rc::clone(site), shelf: Arc::clone(shelf), head, client, scheme }
    }

    pub fn edge(&self) -> &Rc<Edge> {
        &self.edge
    }

    pub fn site(&self) -> &Rc<Site> {
        &self.site
    }

    pub fn shelf(&self) -> &Arc<Shelf> {
        &self.shelf
    }

    pub fn store(&self) -> &Arc<Store<Entry>> {
        &self.shelf.store
    }

    pub fn client(&self) -> IpAddr {
        self.client
    }

    pub fn scheme(&self) -> &'static str {
        self.scheme
    }

    pub fn target(&self) -> Bytes {
        self.head.target.clone()
    }

    /// The origin's answer to the question with these fields added.
    pub async fn ask(&self, conditions: Vec<Field>, interim: Interim, is_counted: bool) -> Asked {
        let asked_ms = self.edge.now_ms();
        let range = value_of(&conditions, "range").cloned();
        let mut head = self.head.clone();
        head.fields.extend(conditions);
        let (client, scheme) = (self.client, self.scheme);
        let incoming = Incoming { head, source: None, client, scheme, interim, is_counted };
        // Without a body of the client's own there is nothing of it that can break.
        let answer = forward(&self.edge, incoming).await;
        let answer = answer.unwrap_or_else(|_| Answer::own(502, "the request broke off"));
        Asked { answer, range, asked_ms, arrived_ms: self.edge.now_ms() }
    }

    /// What two upstreams must agree on before bytes of both make one body.
    pub fn rule(&self) -> Rule {
        self.site.service.settings.reflexes.identity
    }

    /// The bytes from `from` up to `to` of the body that these validators name. If-Range only where the ETag is what
    /// counts: under the other rules an upstream with an ETag of its own would send the whole.
    pub async fn ask_range(&self, from: u64, to: Option<u64>, validators: &Validators<'_>) -> Asked {
        let last = to.map_or(String::new(), |to| (to - 1).to_string());
        let mut fields = vec![Field::new("range", format!("bytes={from}-{last}"))];
        let is_strong = |etag: &&[u8]| etag.starts_with(b"\"");
        let validator = validators.etag.filter(is_strong).or(validators.last_modified);
        if let Some(validator) = validator.filter(|_| self.rule() == Rule::Etag) {
            fields.push(Field::new("if-range", Bytes::copy_from_slice(validator)));
        }
        self.ask(fields, Interim::Nowhere, false).await
    }
}

/// The target as the key has it.
fn target(target: &Bytes, shelf: &Shelf) -> Bytes {
    if is_kept(target, &shelf.rules.query) {
        return target.clone();
    }
    let mut written = Vec::with_capacity(target.len());
    write_target(target, &shelf.rules.query, &mut written);
    written.into()
}
