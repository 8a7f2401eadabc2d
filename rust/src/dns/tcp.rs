//! Queries over TCP (RFC 7766): many to a connection, each with its length in front, answered in order.

use super::Dns;
use super::answer::Transport;
use super::wire::HEADER_BYTES;
use crate::error::EngineError;
use crate::runtime::Worker;
use std::io;
use std::net::{IpAddr, TcpListener as StdTcpListener};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Between two queries, and for the rest of one that has begun (RFC 7766 §6.2.3).
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Much more than any query for one name needs.
const QUERY_BYTES_MAX: usize = 4_096;
/// Of one worker; further ones are closed at once, so that idle ones cannot eat the memory.
const CONNECTIONS_MAX: usize = 1_024;
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(50);

/// Answers until the engine drains; then every connection ends between two queries: clients expect it (RFC 7766 §6.2.4).
pub async fn serve(worker: Rc<Worker<Dns>>, listener: StdTcpListener) -> Result<(), EngineError> {
    let listener =
        TcpListener::from_std(listener).map_err(|error| EngineError::system("TCP socket", error))?;
    let mut connections = JoinSet::new();
    let draining = worker.draining();
    tokio::pin!(draining);
    loop {
        tokio::select! {
            biased;
            () = &mut draining => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) if connections.len() < CONNECTIONS_MAX => {
                    connections.spawn_local(serve_connection(Rc::clone(&worker), stream, address.ip()));
                }
                Ok(_) => {}
                Err(_) => tokio::time::sleep(PAUSE_AFTER_ERROR).await,
            },
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
    Ok(())
}

/// How a connection ends is the client's matter; nothing is reported.
async fn serve_connection(worker: Rc<Worker<Dns>>, stream: TcpStream, client: IpAddr) {
    // Without it the reply would wait for more to send.
    let _ = stream.set_nodelay(true);
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::with_capacity(QUERY_BYTES_MAX, reader);
    let mut query = Vec::new();
    let (mut reply, mut framed) = (Vec::new(), Vec::new());
    let mut closing = pin!(worker.closing_idle());
    loop {
        let read = tokio::select! {
            biased;
            read = timeout(IDLE_TIMEOUT, read_query(&mut reader, &mut query)) => read,
            () = &mut closing => return,
        };
        if !matches!(read, Ok(Ok(()))) {
            return;
        }
        if !worker.reply(&query, client, Transport::Tcp, &mut reply) {
            return;
        }
        framed.clear();
        framed.extend_from_slice(&u16::try_from(reply.len()).unwrap_or(u16::MAX).to_be_bytes());
        framed.extend_from_slice(&reply);
        if !matches!(timeout(WRITE_TIMEOUT, writer.write_all(&framed)).await, Ok(Ok(()))) {
            return;
        }
    }
}

async fn read_query(reader: &mut (impl AsyncReadExt + Unpin), query: &mut Vec<u8>) -> io::Result<()> {
    let length = usize::from(reader.read_u16().await?);
    if !(HEADER_BYTES..=QUERY_BYTES_MAX).contains(&length) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    query.resize(length, 0);
    reader.read_exact(query).await.map(|_| ())
}
