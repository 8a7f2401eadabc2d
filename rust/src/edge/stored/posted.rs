//! The answer to a POST that names its own target: it stands for what a GET gets from now on (RFC 9110 §9.3.3).

use crate::cache::semantics::fields::Fields;
use crate::cache::semantics::invalidate::resolve;
use crate::cache::semantics::key::write_key;
use crate::cache::semantics::reason::Reason;
use crate::cache::semantics::request::Request;
use crate::cache::semantics::status::Outcome;
use crate::cache::semantics::storable::{Storing, store_decision};
use crate::cache::store::Begin;
use crate::edge::answer::Answer;
use crate::edge::message::RequestHead;
use crate::edge::stored::asker::{Asked, Asker, is_the_clients};
use crate::edge::stored::keep::told;
use crate::edge::stored::{Question, Shelf};
use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

/// Whether an answer to that request may be stored for GET.
pub(super) fn is_for_get(shelf: &Shelf, head: &RequestHead, scheme: &str, asked: &Asked) -> bool {
    if asked.answer.is_ours || &head.method[..] != b"POST" {
        return false;
    }
    let mut named = Vec::new();
    let location = asked.answer.fields.as_slice().single("content-location");
    let is_ours = |text: &[u8]| resolve(scheme, &head.authority, &head.target, text, &mut named);
    let names_target = location.is_some_and(is_ours) && named == head.target;
    let request = Request::read(&head.method, head.fields.as_slice(), false, shelf.rules.obeys_clients);
    let told = told(&asked.answer, asked.asked_ms, asked.arrived_ms);
    matches!(store_decision(&request, &told, names_target, &shelf.rules), Storing::Store(_))
}

/// The client's answer, on its way into the store too.
pub(super) async fn keep(
    shelf: &Arc<Shelf>,
    head: &RequestHead,
    asker: Rc<Asker>,
    client: IpAddr,
    asked: Asked,
) -> Answer {
    // Its conditions were about what it changed, and were the origin's to judge.
    let fields = head.fields.iter().filter(|field| !is_the_clients(field)).cloned().collect();
    let head = RequestHead { fields, ..head.clone() };
    let request = Request::read(&head.method, head.fields.as_slice(), false, shelf.rules.obeys_clients);
    let mut key = Vec::with_capacity(128);
    write_key(asker.scheme(), &head.authority, &head.target, head.fields.as_slice(), &shelf.rules, &mut key);
    let interim = Cell::default();
    let question =
        Question { shelf, head: &head, request, key, asker, client, interim, seat: Cell::default() };
    let guard = match shelf.store.begin(shelf.store.key(&question.key), 0) {
        Begin::Mine(guard) => Some(guard),
        Begin::Theirs(_) => None,
    };
    question.keep(guard, asked, Outcome::Bypass(Reason::Method)).await
}
