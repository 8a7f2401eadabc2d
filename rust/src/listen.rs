//! The listening sockets of an engine.

use crate::error::EngineError;
use crate::runtime::EngineConfig;
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, UdpSocket};

const BACKLOG: i32 = 4_096;
/// Room for about 20 000 small queries while a worker is busy with a burst.
const UDP_BUFFER_BYTES: usize = 4 * 1024 * 1024;
const PORT_TRIES: usize = 20;

/// Sockets of one worker, not blocking, each to be given to the worker's runtime.
#[derive(Default)]
pub struct Sockets {
    pub http: Vec<TcpListener>,
    pub https: Vec<TcpListener>,
    pub dns_udp: Vec<UdpSocket>,
    pub dns_tcp: Vec<TcpListener>,
}

/// Addresses as really bound: `http`, `https`, `dns`, `admin`; a kind without any is left out.
pub type Listeners = BTreeMap<&'static str, Vec<String>>;

/// The sockets of every worker. With several workers each has its own of every address (SO_REUSEPORT).
/// Apart from them, the admin listener of the engine as a whole.
pub fn bind_all(
    config: &EngineConfig,
) -> Result<(Vec<Sockets>, Option<TcpListener>, Listeners), EngineError> {
    let mut all: Vec<Sockets> = (0..config.workers).map(|_| Sockets::default()).collect();
    let mut listeners = Listeners::new();
    for (kind, addresses) in [("http", &config.http), ("https", &config.https)] {
        for address in addresses {
            let mut bound = *address;
            for sockets in &mut all {
                let listener = bind_tcp(bound, config.workers > 1)?;
                bound = listener.local_addr().map_err(|error| EngineError::system(address, error))?;
                let list = if kind == "http" { &mut sockets.http } else { &mut sockets.https };
                list.push(listener);
            }
            listeners.entry(kind).or_default().push(bound.to_string());
        }
    }
    for address in &config.dns {
        let bound = bind_dns(*address, &mut all)?;
        listeners.entry("dns").or_default().push(bound.to_string());
    }
    let admin = config.admin.map(|address| bind_tcp(address, false)).transpose()?;
    if let Some(listener) = &admin {
        let bound = listener.local_addr().map_err(|error| EngineError::system("admin", error))?;
        listeners.entry("admin").or_default().push(bound.to_string());
    }
    Ok((all, admin, listeners))
}

/// UDP and TCP on one port for every worker; a free port for one may be taken for the other, hence the tries.
fn bind_dns(address: SocketAddr, all: &mut [Sockets]) -> Result<SocketAddr, EngineError> {
    let mut tries = if address.port() == 0 { PORT_TRIES } else { 1 };
    loop {
        match try_bind_dns(address, all.len()) {
            Ok((bound, pairs)) => {
                for (sockets, (udp, tcp)) in all.iter_mut().zip(pairs) {
                    sockets.dns_udp.push(udp);
                    sockets.dns_tcp.push(tcp);
                }
                return Ok(bound);
            }
            Err(error) if tries <= 1 => return Err(error),
            Err(_) => tries -= 1,
        }
    }
}

type DnsPair = (UdpSocket, TcpListener);

fn try_bind_dns(address: SocketAddr, workers: usize) -> Result<(SocketAddr, Vec<DnsPair>), EngineError> {
    let mut bound = address;
    let mut pairs = Vec::with_capacity(workers);
    for _ in 0..workers {
        let udp = bind_udp(bound, workers > 1)?;
        bound = udp.local_addr().map_err(|error| EngineError::system(address, error))?;
        pairs.push((udp, bind_tcp(bound, workers > 1)?));
    }
    Ok((bound, pairs))
}

fn bind_tcp(address: SocketAddr, is_shared: bool) -> Result<TcpListener, EngineError> {
    let bind = || -> std::io::Result<TcpListener> {
        let socket = new_socket(address, Type::STREAM, Protocol::TCP, is_shared)?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    bind().map_err(|error| EngineError::system(format!("cannot listen on {address} (TCP)"), error))
}

fn bind_udp(address: SocketAddr, is_shared: bool) -> Result<UdpSocket, EngineError> {
    let bind = || -> std::io::Result<UdpSocket> {
        let socket = new_socket(address, Type::DGRAM, Protocol::UDP, is_shared)?;
        // The system may grant less; then a burst loses more, and clients ask again.
        let _ = socket.set_recv_buffer_size(UDP_BUFFER_BYTES);
        socket.bind(&address.into())?;
        Ok(socket.into())
    };
    bind().map_err(|error| EngineError::system(format!("cannot listen on {address} (UDP)"), error))
}

fn new_socket(
    address: SocketAddr,
    kind: Type,
    protocol: Protocol,
    is_shared: bool,
) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if is_shared {
        socket.set_reuse_port(true)?;
    }
    Ok(socket)
}
