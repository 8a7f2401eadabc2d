//! The admin listener: health, readiness and metrics for anybody who can reach it, purging for who has the token.
//!
//! It runs on the control thread, with the parser of the edge; one request per connection.

use crate::control::Control;
use crate::edge::framing::{Decoder, Framing, Step};
use crate::edge::head::{HeadScan, parse_request, skip_empty_lines};
use crate::edge::message::{RequestHead, phrase, value_of};
use crate::edge::wire::{Stream, Wire};
use crate::error::Refusal;
use crate::gate::secret::is_same;
use crate::metrics::CONTENT_TYPE;
use crate::runtime::Role;
use serde_json::json;
use std::cell::RefCell;
use std::io::IoSlice;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

const HEAD_BYTES_MAX: usize = 16 * 1024;
const BODY_BYTES_MAX: usize = 64 * 1024;

/// A whole exchange may take so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// Requests under way at once; more wait in the listener's queue.
const OPEN_MAX: usize = 64;

const PROBLEM: &str = "application/problem+json";

/// What goes back.
pub struct Reply {
    pub status: u16,
    pub content_type: &'static str,
    pub body: String,
}

impl Reply {
    fn text(status: u16, text: &str) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: format!("{text}\n") }
    }

    /// As RFC 9457 has it.
    fn problem(status: u16, detail: &str) -> Self {
        let body = json!({"title": phrase(status), "status": status, "detail": detail});
        Self { status, content_type: PROBLEM, body: format!("{body}\n") }
    }
}

/// Serves until dropped.
pub async fn serve<R: Role>(control: Rc<RefCell<Control<R>>>, listener: TcpListener) {
    let open = Arc::new(Semaphore::new(OPEN_MAX));
    loop {
        let Ok(permit) = Arc::clone(&open).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let control = Rc::clone(&control);
                tokio::task::spawn_local(async move {
                    let _ = timeout(PATIENCE, exchange(&control, stream)).await;
                    drop(permit);
                });
            }
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn exchange<R: Role>(control: &Rc<RefCell<Control<R>>>, stream: TcpStream) {
    let wire = Wire::new(Stream::Plain(stream));
    let (reply, is_head) = match request(&wire).await {
        Ok((head, body)) => (answer(control, &head, &body), head.is_head()),
        Err(Some(reply)) => (reply, false),
        Err(None) => return,
    };
    let head = format!(
        "HTTP/1.1 {} {}\r\ncontent-type: {}\r\ncontent-length: {}\r\ncache-control: no-store\r\n\
         connection: close\r\n\r\n",
        reply.status,
        phrase(reply.status),
        reply.content_type,
        reply.body.len()
    );
    let body = if is_head { "" } else { &reply.body };
    let mut parts = [IoSlice::new(head.as_bytes()), IoSlice::new(body.as_bytes())];
    if wire.write_all(&mut parts).await.is_ok() {
        wire.close_gently().await;
    }
}

/// A request with its body; the reply to one that is not good, or None for one that did not come.
async fn request(wire: &Wire) -> Result<(RequestHead, Vec<u8>), Option<Reply>> {
    let refuse = |status, why: &str| Some(Reply::problem(status, why));
    let mut scan = HeadScan::default();
    let bytes = loop {
        let end = wire.with_unread(|unread| {
            skip_empty_lines(unread);
            scan.end(unread).map(|end| end.map(|end| unread.split_to(end).freeze()))
        });
        match end.map_err(|broken| refuse(400, broken.0))? {
            Some(bytes) => break bytes,
            None if wire.with_unread(|unread| unread.len()) > HEAD_BYTES_MAX => {
                return Err(refuse(431, "the head is too large"));
            }
            None if matches!(wire.fill().await, Ok(1..)) => {}
            None => return Err(None),
        }
    };
    let head = parse_request(&bytes).map_err(|refused| refuse(refused.status, refused.why))?;
    let mut decoder = Decoder::new(head.framing);
    let mut body = Vec::new();
    if head.expects_continue && head.framing != Framing::None {
        let line = b"HTTP/1.1 100 Continue\r\n\r\n";
        wire.write_all(&mut [IoSlice::new(line)]).await.map_err(|_| None)?;
    }
    loop {
        match wire.with_unread(|unread| decoder.decode(unread)).map_err(|broken| refuse(400, broken.0))? {
            Step::End => return Ok((head, body)),
            Step::Chunk(piece) if body.len() + piece.len() > BODY_BYTES_MAX => {
                return Err(refuse(413, "the body is too large"));
            }
            Step::Chunk(piece) => body.extend_from_slice(&piece),
            Step::NeedMore if matches!(wire.fill().await, Ok(1..)) => {}
            Step::NeedMore => return Err(None),
        }
    }
}

fn answer<R: Role>(control: &Rc<RefCell<Control<R>>>, head: &RequestHead, body: &[u8]) -> Reply {
    let is_read = matches!(&*head.method, b"GET" | b"HEAD");
    match (head.path(), is_read) {
        (b"/healthz", true) => Reply::text(200, "ok"),
        (b"/readyz", true) => match control.borrow().unready() {
            None => Reply::text(200, "ok"),
            Some(why) => Reply::text(503, &why),
        },
        (b"/metrics", true) => {
            Reply { status: 200, content_type: CONTENT_TYPE, body: control.borrow().metrics() }
        }
        (b"/api/v1/purge", _) if &*head.method == b"POST" => purge(control, head, body),
        (b"/healthz" | b"/readyz" | b"/metrics" | b"/api/v1/purge", _) => {
            Reply::problem(405, "this address takes another method")
        }
        _ => Reply::problem(404, "here are /healthz, /readyz, /metrics and POST /api/v1/purge"),
    }
}

fn purge<R: Role>(control: &Rc<RefCell<Control<R>>>, head: &RequestHead, body: &[u8]) -> Reply {
    let control = control.borrow();
    let Some(file) = control.admin_token_file() else {
        return Reply::problem(403, "no admin_token_file is configured, so nobody may purge");
    };
    if !is_allowed(head, file) {
        return Reply::problem(401, "the request has not the token of admin_token_file as its bearer token");
    }
    match control.purge(body) {
        Ok(purged) => Reply {
            status: 200,
            content_type: "application/json",
            body: format!("{}\n", json!({"ok": true, "services": purged.services})),
        },
        Err(Refusal { message, is_retryable }) => {
            Reply::problem(if is_retryable { 503 } else { 422 }, &message)
        }
    }
}

/// Whether the request carries the secret that the file holds at this moment.
fn is_allowed(head: &RequestHead, file: &Path) -> bool {
    let Ok(secret) = std::fs::read(file) else { return false };
    let given = value_of(&head.fields, "authorization").and_then(|value| {
        let (scheme, token) = value.split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
    });
    given.is_some_and(|given| is_same(given, secret.trim_ascii()))
}
