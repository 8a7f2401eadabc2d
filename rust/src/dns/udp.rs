//! Queries over UDP, taken from the kernel in batches.
//!
//! A reply leaves from the address that the query came to, also on a socket that listens on all of them.

use super::Dns;
use super::answer::Transport;
use crate::error::EngineError;
use crate::runtime::Worker;
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use std::io::{self, IoSliceMut};
use std::net::UdpSocket as StdUdpSocket;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// The kernel may join datagrams of one client into one buffer of at most this size.
const BUFFER_BYTES: usize = 65_536;
/// How much of what lies in the socket at the end is still answered.
const LAST_BATCHES: usize = 256;
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(10);

/// Answers until the engine drains.
pub async fn serve(worker: Rc<Worker<Dns>>, socket: StdUdpSocket) -> Result<(), EngineError> {
    let failed = |error: io::Error| EngineError::system("UDP socket", error);
    let state = UdpSocketState::new(UdpSockRef::from(&socket)).map_err(failed)?;
    let socket = UdpSocket::from_std(socket).map_err(failed)?;
    let mut memory = vec![0_u8; BUFFER_BYTES * BATCH_SIZE];
    let mut reply = Vec::with_capacity(BUFFER_BYTES);
    let draining = worker.draining();
    tokio::pin!(draining);
    loop {
        tokio::select! {
            biased;
            () = &mut draining => break,
            _ = socket.readable() => {}
        }
        match serve_batch(&worker, &socket, &state, &mut memory, &mut reply) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            }
            _ => {}
        }
    }
    for _ in 0..LAST_BATCHES {
        if serve_batch(&worker, &socket, &state, &mut memory, &mut reply).is_err() {
            break;
        }
    }
    Ok(())
}

fn serve_batch(
    worker: &Worker<Dns>,
    socket: &UdpSocket,
    state: &UdpSocketState,
    memory: &mut [u8],
    reply: &mut Vec<u8>,
) -> io::Result<()> {
    let mut metas = [RecvMeta::default(); BATCH_SIZE];
    let received = {
        let mut buffers = split(memory);
        socket.try_io(Interest::READABLE, || state.recv(socket.into(), &mut buffers, &mut metas))?
    };
    for (buffer, meta) in memory.chunks(BUFFER_BYTES).zip(&metas).take(received) {
        let datagrams = buffer.get(..meta.len).unwrap_or_default().chunks(meta.stride.max(1));
        for datagram in datagrams {
            if worker.reply(datagram, meta.addr.ip(), Transport::Udp, reply) {
                send(socket, state, meta, reply);
            }
        }
    }
    Ok(())
}

/// A reply that the kernel does not take is lost, as any datagram may be: the client asks again.
fn send(socket: &UdpSocket, state: &UdpSocketState, meta: &RecvMeta, reply: &[u8]) {
    let transmit = Transmit {
        destination: meta.addr,
        ecn: None,
        contents: reply,
        segment_size: None,
        src_ip: meta.dst_ip,
    };
    let _ = state.send(socket.into(), &transmit);
}

fn split(memory: &mut [u8]) -> [IoSliceMut<'_>; BATCH_SIZE] {
    let mut parts = memory.chunks_mut(BUFFER_BYTES);
    std::array::from_fn(|_| IoSliceMut::new(parts.next().unwrap_or_default()))
}
