//! A question to the origin that others wait for: it goes on when the client who asked it leaves.

use crate::cache::semantics::request::Request;
use crate::cache::semantics::status::Outcome;
use crate::cache::store::{FillGuard, Object};
use crate::edge::attempt::Interim;
use crate::edge::door::FillSeat;
use crate::edge::message::{Field, RequestHead};
use crate::edge::stored::Question;
use crate::edge::stored::asker::{Asked, Asker};
use crate::edge::stored::entry::Entry;
use crate::edge::stored::validate::{Freshened, freshen};
use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

/// The fetch of a key, and what its answer is for if the client leaves meanwhile.
struct Shared<'q> {
    asking: Option<Pin<Box<dyn Future<Output = Asked>>>>,
    guard: Option<FillGuard<Entry>>,
    /// What is stored already, if its validity is the question.
    object: Option<&'q Arc<Object<Entry>>>,
    asker: &'q Rc<Asker>,
    head: &'q RequestHead,
}

impl Question<'_> {
    /// The origin's answer, and the guard again; if this is dropped while others wait, the answer is for them.
    pub(super) async fn ask_for_all(
        &self,
        guard: Option<FillGuard<Entry>>,
        object: Option<&Arc<Object<Entry>>>,
        fields: Vec<Field>,
        interim: Interim,
    ) -> (Option<FillGuard<Entry>>, Asked) {
        let asker = Rc::clone(&self.asker);
        let asking = Box::pin(async move { asker.ask(fields, interim, true).await });
        let (asker, head) = (&self.asker, self.head);
        let mut shared = Shared { asking: Some(asking), guard, object, asker, head };
        let asked = match &mut shared.asking {
            Some(asking) => asking.await,
            None => Box::pin(self.asker.ask(Vec::new(), Interim::Nowhere, true)).await,
        };
        shared.asking = None;
        (shared.guard.take(), asked)
    }
}

impl Drop for Shared<'_> {
    fn drop(&mut self) {
        let Some((asking, guard)) = self.asking.take().zip(self.guard.take()) else { return };
        if guard.waiting() == 0 || self.asker.edge().is_draining() {
            return;
        }
        let (asker, head, object) = (Rc::clone(self.asker), self.head.clone(), self.object.cloned());
        tokio::task::spawn_local(async move {
            let seat = FillSeat::take_anyway(asker.site());
            let asked = asking.await;
            settle(&asker, &head, object.as_ref(), guard, asked, seat).await;
        });
    }
}

/// What an answer means where no client waits for it but those who wait for the guard.
pub(super) async fn settle(
    asker: &Rc<Asker>,
    head: &RequestHead,
    object: Option<&Arc<Object<Entry>>>,
    guard: FillGuard<Entry>,
    asked: Asked,
    seat: FillSeat,
) {
    if let Some(object) = object {
        if asked.answer.status == 304 {
            if let Freshened::Head(head) = freshen(asker, object, &asked) {
                guard.refresh(object, *head);
            }
            return;
        }
        // What is stored may still serve: whoever waits decides that when the guard is gone.
        if asked.answer.is_ours || asked.answer.status >= 500 {
            return;
        }
    }
    let request = Request::read(b"GET", head.fields.as_slice(), false, false);
    let (key, client, shelf) = (guard.key().octets.to_vec(), asker.client(), &Arc::clone(asker.shelf()));
    let (asker, interim) = (Rc::clone(asker), Cell::default());
    let seat = Cell::new(Some(seat));
    let question = Question { shelf, head, request, key, asker, client, interim, seat };
    let _ = question.store_answer(Some(guard), asked, Outcome::Miss).await;
}
