//! One connection, plain or TLS, with what was read of it and not used yet.
//!
//! All methods take `&self`: a connection is read and written at the same time by different halves of one task. The
//! borrows inside never cross a wait.

use crate::edge::patience::{Patience, within};
use bytes::{Buf, BytesMut};
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{client, server};

/// Room made for one read, and for one of a body of which much is still to come.
const READ_BYTES: usize = 16 * 1024;
const READ_BYTES_MAX: usize = 64 * 1024;

/// Buffers for reading that a thread keeps when nobody uses them; more is what only a burst needs.
const SPARE_MAX: usize = 64;
const SPARE_BYTES_MAX: usize = 4 * READ_BYTES;

thread_local! {
    /// An idle connection has no buffer. The one used last is the next to be used: it is still in the processor's cache.
    static SPARE: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

/// How long, and for how many bytes, a client may go on sending after its answer, before the connection is dropped.
pub const LINGER: Duration = Duration::from_millis(500);
pub const LINGER_BYTES: usize = 256 * 1024;

pub enum Stream {
    Plain(TcpStream),
    Server(Box<server::TlsStream<TcpStream>>),
    Client(Box<client::TlsStream<TcpStream>>),
}

/// Calls the same method on whichever stream it is.
macro_rules! each {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Stream::Plain($stream) => $call,
            Stream::Server($stream) => $call,
            Stream::Client($stream) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        each!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        each!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        each!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

impl Stream {
    /// Whether a read would find nothing; then the task is woken when that changes.
    fn is_empty(&self, cx: &mut Context<'_>) -> bool {
        let has_decrypted = match self {
            Self::Plain(_) => false,
            Self::Server(stream) => !stream.get_ref().1.wants_read(),
            Self::Client(stream) => !stream.get_ref().1.wants_read(),
        };
        !has_decrypted && self.tcp().poll_read_ready(cx).is_pending()
    }

    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Server(stream) => stream.get_ref().0,
            Self::Client(stream) => stream.get_ref().0,
        }
    }
}

pub struct Wire {
    stream: RefCell<Stream>,
    unread: RefCell<BytesMut>,
    patience: RefCell<Patience>,
    /// Bytes that the other side's kernel, or TLS, has taken so far.
    written: Cell<u64>,
    /// Room made for the next read.
    room_bytes: Cell<usize>,
}

impl Wire {
    pub fn new(stream: Stream) -> Self {
        Self {
            stream: RefCell::new(stream),
            unread: RefCell::default(),
            patience: RefCell::default(),
            written: Cell::new(0),
            room_bytes: Cell::new(READ_BYTES),
        }
    }

    /// The connection and what was read of it, for another protocol.
    pub fn into_parts(self) -> (Stream, BytesMut) {
        (self.stream.into_inner(), self.unread.into_inner())
    }

    /// What `look` finds in, or takes from, the bytes read and not used yet.
    pub fn with_unread<T>(&self, look: impl FnOnce(&mut BytesMut) -> T) -> T {
        look(&mut self.unread.borrow_mut())
    }

    /// So many bytes of one body are still to come: of much, more is read at once.
    pub fn expect(&self, bytes: u64) {
        let room_bytes = usize::try_from(bytes).unwrap_or(usize::MAX).clamp(READ_BYTES, READ_BYTES_MAX);
        self.room_bytes.set(room_bytes);
    }

    /// What `future` gives; None if it has nothing after `limit`. For waits on this connection.
    pub fn within<T>(
        &self,
        limit: Duration,
        future: impl Future<Output = T> + Unpin,
    ) -> impl Future<Output = Option<T>> {
        within(limit, future, |cx, until| self.patience.borrow_mut().poll(cx, until))
    }

    /// Reads once; how many bytes came, 0 at the end. Cancelling loses nothing.
    pub async fn fill(&self) -> Result<usize> {
        poll_fn(|cx| self.poll_fill(cx)).await
    }

    /// A connection on which nothing has come holds no memory while it waits.
    pub fn poll_fill(&self, cx: &mut Context<'_>) -> Poll<Result<usize>> {
        let (mut stream, mut unread) = (self.stream.borrow_mut(), self.unread.borrow_mut());
        if unread.is_empty() && stream.is_empty(cx) {
            lay_by(&mut unread);
            return Poll::Pending;
        }
        if unread.capacity() == 0 {
            *unread = spare();
        }
        let room_bytes = if unread.is_empty() { self.room_bytes.get() } else { READ_BYTES / 4 };
        if unread.is_empty() && unread.capacity() < room_bytes && !unread.try_reclaim(room_bytes) {
            // Growing would copy what nobody needs.
            *unread = BytesMut::with_capacity(room_bytes);
        }
        unread.reserve(room_bytes);
        tokio_util::io::poll_read_buf(Pin::new(&mut *stream), cx, &mut *unread)
    }

    /// Lets go of the memory for reading, if nothing lies in it.
    pub fn rest(&self) {
        let mut unread = self.unread.borrow_mut();
        if unread.is_empty() {
            lay_by(&mut unread);
        }
    }

    /// How many bytes were taken so far: how somebody who waits for a write sees that it goes on.
    pub fn written_bytes(&self) -> u64 {
        self.written.get()
    }

    fn took(&self, bytes: usize) {
        self.written.set(self.written.get().wrapping_add(bytes as u64));
    }

    /// Writes all of the slices, in order, as few calls as possible, and flushes.
    pub async fn write_all(&self, slices: &mut [IoSlice<'_>]) -> Result<()> {
        let mut rest = slices;
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let written = poll_fn(|cx| {
                let mut stream = self.stream.borrow_mut();
                match &*rest {
                    // The kernel has less to do for one.
                    [one] => Pin::new(&mut *stream).poll_write(cx, one),
                    several => Pin::new(&mut *stream).poll_write_vectored(cx, several),
                }
            })
            .await?;
            if written == 0 {
                return Err(Error::from(ErrorKind::WriteZero));
            }
            IoSlice::advance_slices(&mut rest, written);
            self.took(written);
        }
        poll_fn(|cx| Pin::new(&mut *self.stream.borrow_mut()).poll_flush(cx)).await
    }

    /// Writes what goes without waiting; how many bytes that was.
    pub async fn write_now(&self, slices: &[IoSlice<'_>]) -> Result<usize> {
        poll_fn(|cx| match Pin::new(&mut *self.stream.borrow_mut()).poll_write_vectored(cx, slices) {
            Poll::Ready(written) => Poll::Ready(written),
            Poll::Pending => Poll::Ready(Ok(0)),
        })
        .await
    }

    /// Returns when something can be written again; with TLS, when all that was written is with the kernel.
    pub async fn writable(&self) -> Result<()> {
        poll_fn(|cx| match &mut *self.stream.borrow_mut() {
            Stream::Plain(tcp) => tcp.poll_write_ready(cx),
            stream => Pin::new(stream).poll_flush(cx),
        })
        .await
    }

    /// Writes some of `pending` and takes it off its front. Cancelling loses nothing and repeats nothing.
    pub async fn write_some(&self, pending: &mut impl Buf) -> Result<()> {
        let written =
            poll_fn(|cx| Pin::new(&mut *self.stream.borrow_mut()).poll_write(cx, pending.chunk())).await?;
        if written == 0 {
            return Err(Error::from(ErrorKind::WriteZero));
        }
        pending.advance(written);
        Ok(())
    }

    pub async fn flush(&self) -> Result<()> {
        poll_fn(|cx| Pin::new(&mut *self.stream.borrow_mut()).poll_flush(cx)).await
    }

    pub async fn shutdown(&self) -> Result<()> {
        poll_fn(|cx| Pin::new(&mut *self.stream.borrow_mut()).poll_shutdown(cx)).await
    }

    /// Whether an idle connection can be used: nothing has come unasked, and it has not ended.
    pub fn is_quiet(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        if !self.unread.borrow().is_empty() {
            return false;
        }
        self.poll_fill(&mut cx).is_pending()
    }

    /// Whether the kernel has bytes that no read has asked for: it may know of them before the task is woken.
    pub fn has_arrived(&self) -> bool {
        let mut first = [MaybeUninit::uninit(); 1];
        let stream = self.stream.borrow();
        matches!(socket2::SockRef::from(stream.tcp()).peek(&mut first), Ok(1..))
    }

    /// Ends the connection so that the last answer arrives: what the client still sends is read and dropped for a
    /// moment, since the kernel would reset the connection, and the answer with it, otherwise (RFC 9112 §9.6).
    pub async fn close_gently(&self) {
        let drop_the_rest = async {
            self.shutdown().await?;
            let mut dropped = 0;
            loop {
                self.unread.borrow_mut().clear();
                match self.fill().await? {
                    0 => return Ok::<(), Error>(()),
                    bytes => dropped += bytes,
                }
                if dropped > LINGER_BYTES {
                    return Ok(());
                }
            }
        };
        let _ = timeout(LINGER, drop_the_rest).await;
    }

    /// Makes dropping the connection a reset, for where an orderly end would look like the end of a body.
    pub fn reset_when_dropped(&self) {
        let stream = self.stream.borrow();
        let _ = socket2::SockRef::from(stream.tcp()).set_linger(Some(Duration::ZERO));
    }
}

/// An empty buffer, mostly one that was used before.
pub fn spare() -> BytesMut {
    SPARE.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// Keeps an empty buffer for another connection, unless something that was cut out of it is still in use.
pub fn lay_by(unread: &mut BytesMut) {
    let mut empty = std::mem::take(unread);
    if empty.capacity() > 0 && empty.try_reclaim(READ_BYTES) && empty.capacity() <= SPARE_BYTES_MAX {
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < SPARE_MAX {
                spare.push(empty);
            }
        });
    }
}
