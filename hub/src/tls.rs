//! TLS for connections in: what the hub shows, who may connect without it, and a listener whose
//! handshakes neither wait for each other nor for ever.
//!
//! ```text
//!   accept ──> handshake (at most HANDSHAKES_MAX at once, HANDSHAKE each) ──> taken by its server
//!                   └── plain text, silence, a wrong certificate: closed, nobody else waits
//! ```

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bellwether_link::tls::{TlsError, certificates, private_key, provider, unusable};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::config::Config;

/// Handshakes under way: a fleet that comes back at once waits in turn, and what strangers hold
/// open is bounded.
const HANDSHAKES_MAX: usize = 512;
/// How long one may take: a slow radio link needs a few seconds.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Connections that stand and were not taken yet.
const READY_MAX: usize = 64;
/// Pause after a failed accept: most likely there are too many open files.
const AFTER_FAILURE: Duration = Duration::from_millis(500);

/// Why the hub does not serve as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// A certificate needs its key and a key its certificate.
    #[error("{has} is given without {lacks}: TLS needs both")]
    Half {
        /// What is there.
        has: &'static str,
        /// What is missing.
        lacks: &'static str,
    },
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] TlsError),
    /// Everyone on the way would read along.
    #[error(
        "{what} on {at} would travel in plain text: give --tls-cert FILE and --tls-key FILE (`bellwether dev-ca` \
         makes a pair for trying), listen on 127.0.0.1, or say --insecure-listen where something else protects the way"
    )]
    Open {
        /// What is served.
        what: &'static str,
        /// Where.
        at: SocketAddr,
    },
    /// Nobody can connect to "every address".
    #[error("{at} is every address of this machine: say by which name devices and browsers reach it, with --host NAME")]
    Nameless {
        /// Where it should listen.
        at: SocketAddr,
    },
}

/// What the hub shows to those who connect.
#[derive(Clone, Debug)]
pub struct Shown {
    /// To browsers, command lines, and devices that enrol.
    pub http: Arc<ServerConfig>,
    /// To devices at the embedded broker; they show a certificate of their own if `tls_client_ca` is set.
    pub mqtt: Arc<ServerConfig>,
}

impl Shown {
    /// Reads the configured files; nothing if there are none.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    pub fn of(config: &Config) -> Result<Option<Self>, Refused> {
        let half = |has, lacks| Err(Refused::Half { has, lacks });
        let client_ca = config.tls_client_ca.as_deref();
        match (&config.tls_cert, &config.tls_key) {
            (Some(cert), Some(key)) => {
                Ok(Some(Self { http: server(cert, key, None)?, mqtt: server(cert, key, client_ca)? }))
            }
            (Some(_), None) => half("tls_cert", "tls_key"),
            (None, Some(_)) => half("tls_key", "tls_cert"),
            (None, None) if client_ca.is_some() => half("tls_client_ca", "tls_cert"),
            (None, None) => Ok(None),
        }
    }
}

fn server(cert: &Path, key: &Path, client_ca: Option<&Path>) -> Result<Arc<ServerConfig>, TlsError> {
    let library = |why: rustls::Error| TlsError::Library(why.to_string());
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.map_err(library)?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|why| unusable(path, &why))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build();
            builder.with_client_cert_verifier(verifier.map_err(|why| TlsError::Library(why.to_string()))?)
        }
    };
    let config = builder.with_single_cert(certificates(cert)?, private_key(key)?);
    Ok(Arc::new(config.map_err(|why| unusable(cert, &why))?))
}

/// Whether it may be served there: in plain text on loopback only, unless that was asked for.
///
/// # Errors
///
/// [`Refused::Open`], [`Refused::Nameless`].
pub fn may_serve(what: &'static str, at: SocketAddr, config: &Config) -> Result<(), Refused> {
    let is_protected = config.tls_cert.is_some() || config.insecure_listen || at.ip().is_loopback();
    if !is_protected {
        return Err(Refused::Open { what, at });
    }
    if at.ip().is_unspecified() && config.host.is_none() {
        return Err(Refused::Nameless { at });
    }
    Ok(())
}

/// An address as others use it: by the hub's name if it has one.
#[must_use]
pub fn url(scheme: &str, host: Option<&str>, bound: SocketAddr) -> String {
    match host {
        Some(host) => format!("{scheme}://{host}:{}", bound.port()),
        None => format!("{scheme}://{bound}"),
    }
}

/// Connections whose handshake succeeded.
#[derive(Debug)]
pub struct TlsListener {
    address: SocketAddr,
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
}

impl TlsListener {
    /// Takes connections until it is dropped.
    ///
    /// # Errors
    ///
    /// If the listener has no address.
    pub fn new(listener: TcpListener, config: Arc<ServerConfig>) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (done, ready) = mpsc::channel(READY_MAX);
        tokio::spawn(accept(listener, TlsAcceptor::from(config), done));
        Ok(Self { address, ready })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection.
    pub async fn next(&mut self) -> Option<(TlsStream<TcpStream>, SocketAddr)> {
        self.ready.recv().await
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, done: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>) {
    let hands = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    loop {
        let next = async {
            let hand = Arc::clone(&hands).acquire_owned().await;
            (hand, listener.accept().await)
        };
        let (hand, accepted) = tokio::select! {
            next = next => next,
            () = done.closed() => return,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be taken");
                tokio::time::sleep(AFTER_FAILURE).await;
                continue;
            }
        };
        let (acceptor, done) = (acceptor.clone(), done.clone());
        tokio::spawn(async move {
            let _hand = hand;
            match shake(&acceptor, stream).await {
                // A server that is gone takes nothing more.
                Ok(stream) => drop(done.send((stream, from)).await),
                Err(why) => tracing::debug!(%from, %why, "no TLS"),
            }
        });
    }
}

async fn shake(acceptor: &TlsAcceptor, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    stream.set_nodelay(true)?;
    tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await?
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.next().await {
            Some(accepted) => accepted,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_stays_on_loopback_unless_asked_for() {
        let says =
            |at: &str, config: &Config| may_serve("HTTP", at.parse().unwrap(), config).map_err(|no| no.to_string());
        let plain = Config::default();
        assert_eq!(says("127.0.0.1:8080", &plain), Ok(()));
        assert_eq!(says("[::1]:8080", &plain), Ok(()));
        assert!(says("192.0.2.1:8080", &plain).unwrap_err().contains("--tls-cert"));
        assert!(says("0.0.0.0:8080", &plain).unwrap_err().contains("--insecure-listen"));
        let asked = Config { insecure_listen: true, ..Config::default() };
        assert_eq!(says("192.0.2.1:8080", &asked), Ok(()));
        assert!(says("0.0.0.0:8080", &asked).unwrap_err().contains("--host"));
        let named = Config { host: Some("hub.example".to_owned()), tls_cert: Some("c".into()), ..Config::default() };
        assert_eq!(says("[::]:8080", &named), Ok(()));
    }

    #[test]
    fn half_a_pair_is_no_pair() {
        let said = |config: Config| Shown::of(&config).unwrap_err().to_string();
        assert!(said(Config { tls_cert: Some("a".into()), ..Config::default() }).contains("without tls_key"));
        assert!(said(Config { tls_key: Some("a".into()), ..Config::default() }).contains("without tls_cert"));
        assert!(said(Config { tls_client_ca: Some("a".into()), ..Config::default() }).contains("without tls_cert"));
        assert!(Shown::of(&Config::default()).unwrap().is_none());
    }
}
