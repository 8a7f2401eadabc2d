//! The listening sockets of an engine, on their way to the process that takes its place.
//!
//! Closing a listener of several on one address (SO_REUSEPORT) resets what waits in its queue. So none is closed: file
//! descriptors go over the control socket (SCM_RIGHTS), both processes accept for a moment, then the old one stops.
//!
//! | the new process says | the old one |
//! |---|---|
//! | `handover`, until there are no more | gives its sockets and its lock, and refuses orders meanwhile |
//! | `taken` | lets go of what only one may hold, accepts nothing more, finishes what is under way |
//! | `purge`, later | forgets that, too |
//! | nothing, and leaves | goes on as if nothing had been |

use crate::error::EngineError;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use socket2::SockRef;
use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::UnixStream;

/// File descriptors that go with one line; the kernel takes 253 at most.
pub const BATCH: usize = 64;

/// More than any engine has: 256 workers with a few addresses each.
const SOCKETS_MAX: usize = 65_536;

const LINE_BYTES_MAX: usize = 1024 * 1024;

/// How long the old process may take for an answer; for the last one it may have to wait for a disk.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long a purge waits for it.
const PURGE_PATIENCE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Http,
    Https,
    DnsUdp,
    DnsTcp,
    Admin,
    /// Of the engine's folder.
    Lock,
}

/// What a file descriptor is: its kind, and the address that the config asked for.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    pub kind: Kind,
    pub address: Option<SocketAddr>,
}

/// A file descriptor with its label.
#[derive(Debug)]
pub struct Handed {
    pub label: Label,
    pub fd: OwnedFd,
}

impl Handed {
    /// A second descriptor of the same socket.
    pub fn of(kind: Kind, asked: SocketAddr, socket: &impl AsFd) -> io::Result<Self> {
        let fd = socket.as_fd().try_clone_to_owned()?;
        Ok(Self { label: Label { kind, address: Some(asked) }, fd })
    }

    /// The lock of the engine's folder.
    pub fn of_lock(fd: OwnedFd) -> Self {
        Self { label: Label { kind: Kind::Lock, address: None }, fd }
    }

    /// Where it is really bound.
    fn bound(&self) -> Option<SocketAddr> {
        SockRef::from(&self.fd).local_addr().ok()?.as_socket()
    }
}

/// The answer to one `handover`; the descriptors come with it in the same order.
#[derive(Debug, Deserialize, Serialize)]
pub struct Batch {
    pub sockets: Vec<Label>,
    pub more: bool,
}

/// Sockets that were taken over, until each has found its place.
#[derive(Debug, Default)]
pub struct Inherited(Vec<Handed>);

impl Inherited {
    /// All sockets of one address that the config names: the same text, or where it was bound. Empty if there is none.
    pub fn take(&mut self, kind: Kind, address: SocketAddr) -> Vec<OwnedFd> {
        let is_it = |one: &Handed| {
            one.label.kind == kind && (one.label.address == Some(address) || one.bound() == Some(address))
        };
        let Some(bound) = self.0.iter().find(|one| is_it(one)).and_then(Handed::bound) else {
            return Vec::new();
        };
        let is_wanted = |one: &Handed| one.label.kind == kind && one.bound() == Some(bound);
        let (wanted, others) = std::mem::take(&mut self.0).into_iter().partition(is_wanted);
        self.0 = others;
        let wanted: Vec<Handed> = wanted;
        wanted.into_iter().map(|one| one.fd).collect()
    }

    /// The lock of the engine's folder, if it came along.
    pub fn take_lock(&mut self) -> Option<File> {
        let place = self.0.iter().position(|one| one.label.kind == Kind::Lock)?;
        Some(self.0.swap_remove(place).fd.into())
    }
}

/// The conversation with the process whose place is taken.
pub struct Predecessor {
    stream: StdUnixStream,
    path: String,
}

impl Predecessor {
    /// Who answers on that control socket, with its sockets; None if nobody does.
    pub fn ask(path: &Path) -> Result<Option<(Self, Inherited)>, EngineError> {
        let stream = match StdUnixStream::connect(path) {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(error) => return Err(EngineError::system(path.display(), error)),
        };
        let patient =
            stream.set_read_timeout(Some(PATIENCE)).and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
        patient.map_err(|error| EngineError::system(path.display(), error))?;
        let old = Self { stream, path: path.display().to_string() };
        let inherited = old.sockets()?;
        Ok(Some((old, inherited)))
    }

    fn sockets(&self) -> Result<Inherited, EngineError> {
        let mut all = Vec::new();
        while all.len() < SOCKETS_MAX {
            let mut fds = Vec::new();
            let line = self.say(&json!({"op": "handover", "from": all.len()}), &mut fds)?;
            let batch: Batch = serde_json::from_slice(&line).map_err(|error| self.failed(error))?;
            if batch.sockets.len() != fds.len() || fds.is_empty() && batch.more {
                let found = format!("{} sockets were told, {} came", batch.sockets.len(), fds.len());
                return Err(self.failed(found));
            }
            all.extend(batch.sockets.into_iter().zip(fds).map(|(label, fd)| Handed { label, fd }));
            if !batch.more {
                break;
            }
        }
        Ok(Inherited(all))
    }

    /// Has it stop accepting. When it has ended meanwhile, there is nobody to be told.
    pub fn dismiss(&self) -> Result<(), EngineError> {
        match self.exchange(&json!({"op": "taken"}), &mut Vec::new()) {
            Ok(line) => self.granted(line).map(|_| ()),
            Err(error) if is_gone(&error) => Ok(()),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Has it forget, too, what is purged here; it still answers on the connections that it has. False once it is gone.
    pub fn purge(&self, order: &[u8]) -> bool {
        let Ok(order) = serde_json::from_slice::<serde_json::Value>(order) else { return true };
        let is_timed = self.stream.set_read_timeout(Some(PURGE_PATIENCE)).is_ok();
        is_timed && self.exchange(&json!({"op": "purge", "order": order}), &mut Vec::new()).is_ok()
    }

    /// The answer to one word, `ok` checked.
    fn say(&self, word: &serde_json::Value, fds: &mut Vec<OwnedFd>) -> Result<Vec<u8>, EngineError> {
        self.granted(self.exchange(word, fds).map_err(|error| self.failed(error))?)
    }

    fn exchange(&self, word: &serde_json::Value, fds: &mut Vec<OwnedFd>) -> io::Result<Vec<u8>> {
        (&self.stream).write_all(format!("{word}\n").as_bytes())?;
        read_line(&self.stream, fds)
    }

    fn granted(&self, line: Vec<u8>) -> Result<Vec<u8>, EngineError> {
        let granted: Granted = serde_json::from_slice(&line).map_err(|error| self.failed(error))?;
        if granted.ok { Ok(line) } else { Err(self.failed(granted.error)) }
    }

    fn failed(&self, error: impl std::fmt::Display) -> EngineError {
        EngineError::System(format!("taking over from the engine at {}: {error}", self.path))
    }
}

#[derive(Deserialize)]
struct Granted {
    ok: bool,
    #[serde(default)]
    error: String,
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

/// One line, and the file descriptors that came with it.
fn read_line(stream: &StdUnixStream, fds: &mut Vec<OwnedFd>) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        let mut bytes = [0_u8; 4_096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut buffers = [IoSliceMut::new(&mut bytes)];
        let got = recvmsg(stream, &mut buffers, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(found) = message {
                fds.extend(found);
            }
        }
        if got.flags.contains(ReturnFlags::CTRUNC) {
            return Err(io::Error::other("no room for its file descriptors (see RLIMIT_NOFILE)"));
        }
        line.extend_from_slice(bytes.get(..got.bytes).unwrap_or_default());
        if got.bytes == 0 || line.len() > LINE_BYTES_MAX {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(line)
}

/// Writes the beginning of a line with file descriptors, at most `BATCH`; how many bytes were written.
pub async fn send(stream: &UnixStream, line: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    stream
        .async_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
                return Err(ErrorKind::InvalidInput.into());
            }
            Ok(sendmsg(stream, &[IoSlice::new(line)], &mut ancillary, SendFlags::NOSIGNAL)?)
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn handed(kind: Kind, asked: &str) -> (Handed, SocketAddr) {
        let listener = TcpListener::bind(asked).unwrap();
        let bound = listener.local_addr().unwrap();
        (Handed::of(kind, asked.parse().unwrap(), &listener).unwrap(), bound)
    }

    #[test]
    fn a_socket_is_found_by_the_address_that_was_asked_for_or_bound_and_only_once() {
        let free: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let (first, bound) = handed(Kind::Http, "127.0.0.1:0");
        let twin = Handed { label: first.label, fd: first.fd.try_clone().unwrap() };
        let (second, other) = handed(Kind::Http, "127.0.0.1:0");
        let mut inherited = Inherited(vec![first, second, twin]);
        assert!(inherited.take(Kind::Https, bound).is_empty());
        assert_eq!(inherited.take(Kind::Http, free).len(), 2, "both of the first address");
        assert!(inherited.take(Kind::Http, bound).is_empty());
        assert_eq!(inherited.take(Kind::Http, other).len(), 1);
        assert!(inherited.take(Kind::Http, free).is_empty());
    }

    #[tokio::test]
    async fn descriptors_arrive_with_their_line_however_long_it_is() {
        let (near, far) = StdUnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let near = UnixStream::from_std(near).unwrap();
        let (one, bound) = handed(Kind::Http, "127.0.0.1:0");
        let line = [vec![b'x'; 10_000], b"\n".to_vec()].concat();
        let fds = vec![one.fd.as_fd(); BATCH];
        let reading = std::thread::spawn(move || {
            let mut fds = Vec::new();
            read_line(&far, &mut fds).map(|line| (line.len(), fds))
        });
        let sent = send(&near, &line, &fds).await.unwrap();
        near.writable().await.unwrap();
        assert_eq!(near.try_write(&line[sent..]).unwrap_or(0), line.len() - sent);
        let (length, fds) = reading.join().unwrap().unwrap();
        assert_eq!((length, fds.len()), (line.len(), BATCH));
        let all_bound = fds.into_iter().all(|fd| TcpListener::from(fd).local_addr().unwrap() == bound);
        assert!(all_bound);
    }

    #[test]
    fn nobody_to_take_over_from_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        assert!(Predecessor::ask(&path).unwrap().is_none());
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(Predecessor::ask(&path).unwrap().is_none(), "left by a process that is gone");
    }
}
