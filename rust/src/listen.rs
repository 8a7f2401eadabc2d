//! The listening sockets of an engine: bound, or taken over from the process before.

use crate::error::EngineError;
use crate::handover::{Handed, Inherited, Kind};
use crate::runtime::EngineConfig;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

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

/// Everything that an engine listens on.
pub struct Bound {
    /// With several workers each has its own socket of every address (SO_REUSEPORT).
    pub workers: Vec<Sockets>,
    /// Of the engine as a whole.
    pub admin: Option<TcpListener>,
    pub listeners: Listeners,
    /// A second descriptor of every socket, for whoever takes our place.
    pub kept: Vec<Handed>,
}

/// The sockets of every worker: those that were inherited for an address, and new ones where they are too few. Of
/// inherited ones none is left closed, since its queue would be reset: a worker may have several of one address.
pub fn bind_all(config: &EngineConfig, mut inherited: Inherited) -> Result<Bound, EngineError> {
    let workers = (0..config.workers).map(|_| Sockets::default()).collect();
    let mut bound = Bound { workers, admin: None, listeners: Listeners::new(), kept: Vec::new() };
    for (kind, word, addresses) in [(Kind::Http, "http", &config.http), (Kind::Https, "https", &config.https)]
    {
        for address in addresses {
            let sockets = inherited.take(kind, *address);
            let sockets = fill_up(sockets, config.workers, *address, Transport::Tcp)?;
            bound.keep(kind, word, *address, &sockets)?;
            for (place, socket) in sockets.into_iter().enumerate() {
                let worker = &mut bound.workers[place % config.workers];
                let list = if kind == Kind::Http { &mut worker.http } else { &mut worker.https };
                list.push(socket.into());
            }
        }
    }
    for address in &config.dns {
        bind_dns(*address, config.workers, &mut inherited, &mut bound)?;
    }
    if let Some(address) = config.admin {
        let sockets = fill_up(inherited.take(Kind::Admin, address), 1, address, Transport::Tcp)?;
        bound.keep(Kind::Admin, "admin", address, &sockets)?;
        bound.admin = sockets.into_iter().next().map(TcpListener::from);
    }
    Ok(bound)
}

impl Bound {
    /// Notes sockets of one address for `hello` and for a hand-over.
    fn keep(
        &mut self,
        kind: Kind,
        word: &'static str,
        asked: SocketAddr,
        sockets: &[OwnedFd],
    ) -> Result<(), EngineError> {
        let failed = |error: io::Error| EngineError::system(asked, error);
        for socket in sockets {
            self.kept.push(Handed::of(kind, asked, socket).map_err(failed)?);
        }
        if let Some(first) = sockets.first().filter(|_| kind != Kind::DnsTcp) {
            let address = local_address(first).map_err(failed)?;
            self.listeners.entry(word).or_default().push(address.to_string());
        }
        Ok(())
    }
}

/// As many sockets of one address as there are workers, at least; those that are there first.
fn fill_up(
    mut sockets: Vec<OwnedFd>,
    workers: usize,
    address: SocketAddr,
    transport: Transport,
) -> Result<Vec<OwnedFd>, EngineError> {
    let failed = |error: io::Error| {
        EngineError::system(format!("cannot listen on {address} ({})", transport.word()), error)
    };
    let mut bound = sockets.first().map_or(Ok(address), local_address).map_err(failed)?;
    if sockets.is_empty() && address.port() != 0 {
        transport.refuse_taken(address).map_err(failed)?;
    }
    while sockets.len() < workers {
        let socket = transport.bind(bound).map_err(failed)?;
        bound = local_address(&socket).map_err(failed)?;
        sockets.push(socket);
    }
    Ok(sockets)
}

/// UDP and TCP on one port for every worker; a free port for one may be taken for the other, hence the tries.
fn bind_dns(
    address: SocketAddr,
    workers: usize,
    inherited: &mut Inherited,
    bound: &mut Bound,
) -> Result<(), EngineError> {
    let (udp, tcp) = (inherited.take(Kind::DnsUdp, address), inherited.take(Kind::DnsTcp, address));
    let is_free_port = address.port() == 0 && udp.is_empty();
    let mut tries = if is_free_port { PORT_TRIES } else { 1 };
    let mut pair = pair_of(address, workers, udp, tcp);
    while pair.is_err() && tries > 1 {
        tries -= 1;
        pair = pair_of(address, workers, Vec::new(), Vec::new());
    }
    let (udp, tcp) = pair?;
    bound.keep(Kind::DnsUdp, "dns", address, &udp)?;
    bound.keep(Kind::DnsTcp, "dns", address, &tcp)?;
    for (place, socket) in udp.into_iter().enumerate() {
        bound.workers[place % workers].dns_udp.push(socket.into());
    }
    for (place, socket) in tcp.into_iter().enumerate() {
        bound.workers[place % workers].dns_tcp.push(socket.into());
    }
    Ok(())
}

fn pair_of(
    address: SocketAddr,
    workers: usize,
    udp: Vec<OwnedFd>,
    tcp: Vec<OwnedFd>,
) -> Result<(Vec<OwnedFd>, Vec<OwnedFd>), EngineError> {
    let udp = fill_up(udp, workers, address, Transport::Udp)?;
    let failed = |error: io::Error| EngineError::system(address, error);
    let same = udp.first().map_or(Ok(address), local_address).map_err(failed)?;
    Ok((udp, fill_up(tcp, workers, same, Transport::Tcp)?))
}

fn local_address(socket: &OwnedFd) -> io::Result<SocketAddr> {
    let address = SockRef::from(socket).local_addr()?;
    address.as_socket().ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    fn word(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }

    /// A socket that shares its address with others of ours: the next process may want more of them.
    fn bind(self, address: SocketAddr) -> io::Result<OwnedFd> {
        let socket = self.socket(address)?;
        socket.set_reuse_port(true)?;
        if self == Self::Udp {
            // The system may grant less; then a burst loses more, and clients ask again.
            let _ = socket.set_recv_buffer_size(UDP_BUFFER_BYTES);
        }
        socket.bind(&address.into())?;
        if self == Self::Tcp {
            socket.listen(BACKLOG)?;
        }
        Ok(socket.into())
    }

    /// An error if anybody listens there already: the kernel would let two engines of one user share an address.
    fn refuse_taken(self, address: SocketAddr) -> io::Result<()> {
        self.socket(address)?.bind(&address.into())
    }

    fn socket(self, address: SocketAddr) -> io::Result<Socket> {
        let (kind, protocol) = match self {
            Self::Tcp => (Type::STREAM, Protocol::TCP),
            Self::Udp => (Type::DGRAM, Protocol::UDP),
        };
        let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
        socket.set_nonblocking(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        if self == Self::Tcp {
            socket.set_reuse_address(true)?;
        }
        Ok(socket)
    }
}
