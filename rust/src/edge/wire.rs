//! One connection, plain or TLS, with what was read of it and not used yet.
//!
//! All methods take `&self`: a connection is read and written at the same time by different halves of one task. The
//! borrows inside never cross a wait.

use bytes::{Buf, BytesMut};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{client, server};

/// Room made for one read.
const READ_BYTES: usize = 16 * 1024;

/// How long, and for how many bytes, a client may go on sending after its answer, before the connection is dropped.
const LINGER: Duration = Duration::from_millis(500);
const LINGER_BYTES: usize = 256 * 1024;

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
    /// Bytes that the other side's kernel, or TLS, has taken so far.
    written: Cell<u64>,
}

impl Wire {
    pub fn new(stream: Stream) -> Self {
        Self { stream: RefCell::new(stream), unread: RefCell::new(BytesMut::new()), written: Cell::new(0) }
    }

    /// The connection and what was read of it, for another protocol.
    pub fn into_parts(self) -> (Stream, BytesMut) {
        (self.stream.into_inner(), self.unread.into_inner())
    }

    /// What `look` finds in, or takes from, the bytes read and not used yet.
    pub fn with_unread<T>(&self, look: impl FnOnce(&mut BytesMut) -> T) -> T {
        look(&mut self.unread.borrow_mut())
    }

    /// Returns when there may be something to read. An idle connection without TLS holds no memory meanwhile.
    pub async fn readable(&self) {
        poll_fn(|cx| {
            if !self.unread.borrow().is_empty() {
                return Poll::Ready(());
            }
            let Stream::Plain(tcp) = &*self.stream.borrow() else { return Poll::Ready(()) };
            *self.unread.borrow_mut() = BytesMut::new();
            tcp.poll_read_ready(cx).map(drop)
        })
        .await;
    }

    /// Reads once; how many bytes came, 0 at the end. Cancelling loses nothing.
    pub async fn fill(&self) -> Result<usize> {
        poll_fn(|cx| self.poll_fill(cx)).await
    }

    pub fn poll_fill(&self, cx: &mut Context<'_>) -> Poll<Result<usize>> {
        let mut unread = self.unread.borrow_mut();
        unread.reserve(READ_BYTES / 4);
        if unread.capacity() - unread.len() < READ_BYTES && unread.is_empty() {
            unread.reserve(READ_BYTES);
        }
        let mut stream = self.stream.borrow_mut();
        tokio_util::io::poll_read_buf(Pin::new(&mut *stream), cx, &mut *unread)
    }

    /// How many bytes of answers were taken so far: how somebody who waits for a write sees that it goes on.
    pub fn written_bytes(&self) -> u64 {
        self.written.get()
    }

    /// Writes all of the slices, in order, as few calls as possible, and flushes.
    pub async fn write_all(&self, slices: &mut [IoSlice<'_>]) -> Result<()> {
        let mut rest = slices;
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let written = poll_fn(|cx| {
                let mut stream = self.stream.borrow_mut();
                Pin::new(&mut *stream).poll_write_vectored(cx, rest)
            })
            .await?;
            if written == 0 {
                return Err(Error::from(ErrorKind::WriteZero));
            }
            IoSlice::advance_slices(&mut rest, written);
            self.written.set(self.written.get().wrapping_add(written as u64));
        }
        poll_fn(|cx| Pin::new(&mut *self.stream.borrow_mut()).poll_flush(cx)).await
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
        if let Stream::Plain(tcp) = &*self.stream.borrow()
            && tcp.poll_read_ready(&mut cx).is_pending()
        {
            return true;
        }
        self.poll_fill(&mut cx).is_pending()
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
