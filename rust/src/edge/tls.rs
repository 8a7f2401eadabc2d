//! TLS on both sides: rustls with ring. Files are read when a plan is applied, never while a request waits.

use crate::count::Reason;
use crate::document::{Certificate, Endpoint};
use crate::edge::role::EdgeRole;
use crate::error::Refusal;
use crate::runtime::Engine;
use rustls::client::{Resumption, verify_server_name};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ProducesTickets, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ClientConfig, RootCertStore, ServerConfig};
use std::fmt;
use std::sync::{Arc, LazyLock};

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(ring::default_provider()));

/// One for all workers, whatever certificates are read meanwhile: a client resumes with whichever it meets.
static TICKETER: LazyLock<Option<Arc<dyn ProducesTickets>>> = LazyLock::new(|| ring::Ticketer::new().ok());

/// Sessions that one worker remembers per upstream.
const UPSTREAM_SESSIONS: usize = 64;

/// What is needed to speak TLS with an upstream.
#[derive(Clone, Debug)]
pub struct UpstreamTls {
    pub config: Arc<ClientConfig>,
    pub name: ServerName<'static>,
}

impl UpstreamTls {
    /// None for an endpoint without TLS. Trust: `ca_file` alone if given, else the web's roots (Mozilla's list).
    pub fn new(endpoint: &Endpoint) -> Result<Option<Self>, Refusal> {
        if !endpoint.tls {
            return Ok(None);
        }
        let name = ServerName::try_from(endpoint.host.clone())
            .map_err(|_| Refusal::never(format!("{:?} cannot be verified by TLS", endpoint.host)))?;
        let builder = ClientConfig::builder_with_provider(Arc::clone(&PROVIDER))
            .with_safe_default_protocol_versions()
            .map_err(|error| Refusal::never(error.to_string()))?;
        let mut config =
            builder.with_root_certificates(roots(endpoint.ca_file.as_deref())?).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Some(Self { config: Arc::new(config), name }))
    }

    /// The same with session memory of its own, so that workers do not share a lock.
    pub fn for_worker(&self) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.resumption = Resumption::in_memory_sessions(UPSTREAM_SESSIONS);
        Self { config: Arc::new(config), name: self.name.clone() }
    }
}

fn roots(ca_file: Option<&str>) -> Result<RootCertStore, Refusal> {
    let mut roots = RootCertStore::empty();
    let Some(path) = ca_file else {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        return Ok(roots);
    };
    for certificate in read_certificates(path)? {
        roots.add(certificate).map_err(|error| Refusal::later(format!("{path}: {error}")))?;
    }
    Ok(roots)
}

fn read_certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, Refusal> {
    let refusal = |error: rustls::pki_types::pem::Error| Refusal::later(format!("{path}: {error}"));
    let list: Vec<_> =
        CertificateDer::pem_file_iter(path).map_err(refusal)?.collect::<Result<_, _>>().map_err(refusal)?;
    if list.is_empty() { Err(Refusal::later(format!("{path}: no certificate in it"))) } else { Ok(list) }
}

/// A service's certificate with its key, from the files that the settings name.
pub fn read_key_pair(files: &Certificate) -> Result<Arc<CertifiedKey>, Refusal> {
    let chain = read_certificates(&files.cert_file)?;
    let key = PrivateKeyDer::from_pem_file(&files.key_file)
        .map_err(|error| Refusal::later(format!("{}: {error}", files.key_file)))?;
    let pair = CertifiedKey::from_der(chain, key, &PROVIDER)
        .map_err(|error| Refusal::later(format!("{} with {}: {error}", files.cert_file, files.key_file)))?;
    Ok(Arc::new(pair))
}

/// Picks the certificate by the name that the client asks for: of its service, the first that is for that name.
///
/// A name that is no service's, or no name at all, gets the first certificate of the first service that has one: old
/// clients and health checks then fail by the name, with an error that says so. Without any, the handshake fails.
struct ByName(Arc<Engine<EdgeRole>>);

impl fmt::Debug for ByName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("ByName")
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let snapshot = self.0.table.load();
        let named = hello.server_name().and_then(|name| snapshot.host(name.as_bytes()));
        let owner = named
            .filter(|served| !served.prepared.certificates.is_empty())
            .or_else(|| snapshot.served.iter().find(|served| !served.prepared.certificates.is_empty()))?;
        let pairs = &owner.prepared.certificates;
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let is_usable =
            |pair: &&Arc<CertifiedKey>| pair.key.choose_scheme(hello.signature_schemes()).is_some();
        let mut usable = pairs.iter().filter(is_usable);
        let fitting = match (name, pairs.len()) {
            (Some(name), 2..) => usable.clone().find(|pair| is_for(pair, &name)),
            _ => None,
        };
        fitting.or_else(|| usable.next()).or_else(|| pairs.first()).cloned()
    }
}

/// Whether a certificate is for this name, by its subject alternative names.
fn is_for(pair: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let Ok(certificate) = pair.end_entity_cert() else { return false };
    ParsedCertificate::try_from(certificate)
        .is_ok_and(|certificate| verify_server_name(&certificate, name).is_ok())
}

/// How the edge answers TLS: 1.2 and 1.3, HTTP/2 preferred, sessions resumed by tickets.
pub fn server_config(engine: Arc<Engine<EdgeRole>>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::clone(&PROVIDER))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(ByName(engine)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = TICKETER.clone().ok_or(rustls::Error::FailedToGetRandomBytes)?;
    Ok(Arc::new(config))
}

/// Why a handshake with an upstream failed.
pub fn reason_of(error: &std::io::Error) -> Reason {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) => Reason::CertExpired,
        Some(_) => Reason::Tls,
        None => match error.kind() {
            std::io::ErrorKind::ConnectionReset => Reason::Reset,
            std::io::ErrorKind::TimedOut => Reason::Timeout,
            _ => Reason::Tls,
        },
    }
}
