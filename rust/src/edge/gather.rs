//! An HTTP/2 connection's bytes: what is written in one turn goes out together.
//!
//! The `h2` crate writes and flushes after every DATA frame. Ten small answers would be ten TLS records and ten system
//! calls; here they are one of each. Its flush therefore does nothing, and whoever drives the connection calls `send` when
//! the crate has nothing more to do.

use crate::edge::vigil::Vigil;
use crate::edge::wire::{LINGER, LINGER_BYTES, Stream, lay_by, spare};
use bytes::{Buf, BytesMut};
use std::cell::RefCell;
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;

/// What is gathered: a TLS record at most. What does not fit goes out at once, with what was gathered and uncopied.
const GATHERED_BYTES_MAX: usize = 16 * 1024;

/// Slices that go out in one call: what was gathered, and a frame's head and body.
const SLICES_MAX: usize = 4;

struct Gathered {
    /// What was read before HTTP/2 began.
    first: BytesMut,
    out: BytesMut,
    stream: Stream,
    vigil: Rc<Vigil>,
}

/// One side of it is the `h2` crate's, the other is its driver's.
#[derive(Clone)]
pub struct Gather(Rc<RefCell<Gathered>>);

impl Gather {
    pub fn new(stream: Stream, first: BytesMut, vigil: Rc<Vigil>) -> Self {
        Self(Rc::new(RefCell::new(Gathered { first, out: BytesMut::new(), stream, vigil })))
    }

    /// Ready once all that was written is with the kernel.
    pub fn poll_send(&self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.0.borrow_mut().poll_send(cx)
    }

    /// Reads over what the client still sends after the end, for a moment: the kernel would reset the connection, and the
    /// last answers with it, if it were left unread.
    pub async fn linger(mut self) {
        let _ = timeout(LINGER, async {
            self.shutdown().await?;
            let (mut dropped, mut piece) = (0, [0; 1024]);
            while dropped <= LINGER_BYTES {
                match self.read(&mut piece).await? {
                    0 => break,
                    bytes => dropped += bytes,
                }
            }
            Ok::<(), Error>(())
        })
        .await;
    }
}

impl Gathered {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        while !self.out.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.out))?;
            self.take_off(written)?;
        }
        // An idle connection holds no memory for what it might send.
        lay_by(&mut self.out);
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Takes `written` bytes off what was gathered; how many were not of it.
    fn take_off(&mut self, written: usize) -> Result<usize> {
        if written == 0 {
            return Err(Error::from(ErrorKind::WriteZero));
        }
        let own = written.min(self.out.len());
        self.out.advance(own);
        Ok(written - own)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<Result<usize>> {
        let bytes = parts.iter().map(|part| part.len()).sum::<usize>();
        if self.out.len() + bytes <= GATHERED_BYTES_MAX {
            if self.out.capacity() == 0 {
                self.out = spare();
                self.out.reserve(GATHERED_BYTES_MAX);
            }
            parts.iter().for_each(|part| self.out.extend_from_slice(part));
            return Poll::Ready(Ok(bytes));
        }
        loop {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let all = std::iter::once(&*self.out).chain(parts.iter().map(|part| &**part));
            let all = all.filter(|part| !part.is_empty());
            let used = slices.iter_mut().zip(all).map(|(slice, part)| *slice = IoSlice::new(part)).count();
            let slices = slices.get(..used).unwrap_or_default();
            let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices))?;
            match self.take_off(written)? {
                0 => {}
                others => return Poll::Ready(Ok(others)),
            }
        }
    }
}

impl AsyncRead for Gather {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let mut this = self.0.borrow_mut();
        if this.vigil.caught().is_some() {
            return Poll::Pending;
        }
        if this.first.is_empty() {
            let before = buf.filled().len();
            let read = Pin::new(&mut this.stream).poll_read(cx, buf);
            this.vigil.see(&buf.filled()[before..]);
            return read;
        }
        let bytes = this.first.len().min(buf.remaining());
        this.vigil.see(&this.first[..bytes]);
        buf.put_slice(&this.first[..bytes]);
        this.first.advance(bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Gather {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
        self.0.borrow_mut().poll_write(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        self.0.borrow_mut().poll_write(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let mut this = self.0.borrow_mut();
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}
