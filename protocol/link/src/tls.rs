//! TLS for connections out, by rustls on ring: whom to trust, as whom to appear, and what a failed
//! handshake means for people. The command line and enrolment use it for HTTPS as well.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};

const DAY_SECONDS: u64 = 86_400;

/// Whom a connection trusts, and as whom it appears.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// File with the certificates of the only authorities to trust (PEM); without it those that this
    /// machine trusts.
    pub ca: Option<PathBuf>,
    /// A certificate of our own, for who asks for one.
    pub identity: Option<Identity>,
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// File with the certificate, and those between it and its authority (PEM).
    pub cert: PathBuf,
    /// File with its private key (PEM).
    pub key: PathBuf,
}

/// Why there can be no TLS.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{}: {why}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A file without what it should hold.
    #[error("{}: it holds no {what} (PEM)", path.display())]
    Lacks {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// A certificate or key that cannot be used.
    #[error("{}: {why}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A machine that trusts nobody.
    #[error("this machine has no root certificates: install ca-certificates, or name the authority's file")]
    NoRoots,
    /// The TLS library refuses what we ask of it.
    #[error("TLS: {0}")]
    Library(String),
}

impl Trust {
    /// Trust in the authorities of this file only; in those of this machine without one.
    #[must_use]
    pub fn in_ca(ca: Option<PathBuf>) -> Self {
        Self { ca, identity: None }
    }

    /// Reads the files.
    ///
    /// # Errors
    ///
    /// [`TlsError`], naming the file.
    pub fn config(&self) -> Result<ClientConfig, TlsError> {
        let mut roots = RootCertStore::empty();
        match &self.ca {
            Some(path) => {
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(|why| unusable(path, &why))?;
                }
            }
            // A bad certificate among many of the machine's is no reason to trust none of them.
            None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
        }
        if roots.is_empty() {
            return Err(TlsError::NoRoots);
        }
        let builder = builder()?.with_root_certificates(roots);
        let Some(Identity { cert, key }) = &self.identity else { return Ok(builder.with_no_client_auth()) };
        let fit = builder.with_client_auth_cert(certificates(cert)?, private_key(key)?);
        fit.map_err(|why| unusable(cert, &why))
    }

    /// What an HTTP client needs for this address; one that is not `https` reads no certificates.
    ///
    /// # Errors
    ///
    /// As [`Trust::config`].
    pub fn config_for(&self, url: &str) -> Result<ClientConfig, TlsError> {
        if url.starts_with("https:") {
            return self.config();
        }
        Ok(builder()?.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
    }

    fn authority(&self) -> String {
        match &self.ca {
            Some(path) => format!("the authority in {}", path.display()),
            None => "an authority that this machine trusts".to_owned(),
        }
    }
}

fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    builder.map_err(|why| TlsError::Library(why.to_string()))
}

/// The cryptography of every TLS connection of this process.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    install();
    CryptoProvider::get_default().cloned().unwrap_or_else(|| Arc::new(ring::default_provider()))
}

/// Makes ring the cryptography of this process, for libraries that ask for one by themselves.
pub fn install() {
    // Somebody else was first: that is ring as well, since nothing else is built in.
    let _first = ring::default_provider().install_default();
}

/// The certificates in a file.
///
/// # Errors
///
/// [`TlsError`], naming the file.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.map_err(|why| TlsError::Unusable { path: path.to_owned(), why: why.to_string() })?;
    if found.is_empty() {
        return Err(TlsError::Lacks { path: path.to_owned(), what: "certificate" });
    }
    Ok(found)
}

/// The private key in a file.
///
/// # Errors
///
/// [`TlsError`], naming the file.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(path)?)
        .map_err(|_| TlsError::Lacks { path: path.to_owned(), what: "private key" })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|why| TlsError::Unreadable { path: path.to_owned(), why: why.to_string() })
}

/// What a library says against a file's content.
#[must_use]
pub fn unusable(path: &Path, why: &rustls::Error) -> TlsError {
    TlsError::Unusable { path: path.to_owned(), why: why.to_string() }
}

/// What a failure means if TLS is behind it. `who` is the other side, such as `the hub`.
#[must_use]
#[expect(clippy::wildcard_enum_match_arm, reason = "the library has many more, and says them itself")]
pub fn reason(error: &(dyn Error + 'static), trust: &Trust, who: &str) -> Option<String> {
    let error = behind(error)?;
    let text = match error {
        rustls::Error::InvalidCertificate(why) => certificate(why, trust, who),
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            format!("{who} wants a client certificate: name one, with its key")
        }
        rustls::Error::AlertReceived(alert) => {
            format!("{who} refuses the connection ({alert:?}): it may not trust our client certificate, or wants one")
        }
        rustls::Error::InvalidMessage(_) => format!("{who} does not speak TLS: is the port right?"),
        other => format!("{who}: {other}"),
    };
    Some(text)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the library has many more, and says them itself")]
fn certificate(why: &CertificateError, trust: &Trust, who: &str) -> String {
    let days = |from: &UnixTime, to: &UnixTime| to.as_secs().saturating_sub(from.as_secs()) / DAY_SECONDS;
    match why {
        CertificateError::UnknownIssuer => {
            format!(
                "the certificate of {who} is not signed by {}: do not trust it, or name its own authority",
                trust.authority()
            )
        }
        CertificateError::Expired => format!("the certificate of {who} has expired: it must be renewed there"),
        CertificateError::ExpiredContext { time, not_after } => format!(
            "the certificate of {who} has expired {} days ago by this machine's clock: it must be renewed there",
            days(not_after, time)
        ),
        CertificateError::NotValidYet => format!("the certificate of {who} is not valid yet: is the clock here right?"),
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "the certificate of {who} becomes valid in {} days by this machine's clock: is the clock right?",
            days(time, not_before)
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("{why}: the certificate of {who} is not made for the name in the address")
        }
        other => format!("the certificate of {who} cannot be used: {other}"),
    }
}

/// The TLS library's own error, wherever wrappers put it.
fn behind<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        // An io::Error does not name what is in it as its source, but that one's source.
        if let Some(inner) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            return behind(inner);
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(error: rustls::Error) -> String {
        let wrapped = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, error));
        reason(&wrapped, &Trust::in_ca(Some("ca.pem".into())), "the broker").unwrap()
    }

    #[test]
    fn a_failed_handshake_is_told_for_people() {
        let certificate = |why| said(rustls::Error::InvalidCertificate(why));
        let unknown = certificate(CertificateError::UnknownIssuer);
        assert!(
            unknown.contains("the certificate of the broker is not signed by the authority in ca.pem"),
            "{unknown}"
        );
        let at = |days: u64| UnixTime::since_unix_epoch(std::time::Duration::from_secs(days * DAY_SECONDS));
        let expired = CertificateError::ExpiredContext { time: at(30), not_after: at(20) };
        assert!(certificate(expired).contains("expired 10 days ago"));
        let early = CertificateError::NotValidYetContext { time: at(1), not_before: at(20) };
        assert!(certificate(early).contains("valid in 19 days by this machine's clock"));
        let alert = |alert| said(rustls::Error::AlertReceived(alert));
        assert!(alert(AlertDescription::CertificateRequired).contains("wants a client certificate"));
        assert!(alert(AlertDescription::UnknownCA).contains("UnknownCA"));
        assert_eq!(reason(&io::Error::other("gone"), &Trust::default(), "the broker"), None);
    }

    #[test]
    fn files_without_what_they_should_hold_are_named() {
        let path = std::env::temp_dir().join(format!("bellwether-empty-{}.pem", std::process::id()));
        std::fs::write(&path, "nothing\n").unwrap();
        let said = |trust: Trust| trust.config().unwrap_err().to_string();
        assert!(said(Trust::in_ca(Some(path.clone()))).ends_with("it holds no certificate (PEM)"));
        assert_eq!(private_key(&path).unwrap_err(), TlsError::Lacks { path: path.clone(), what: "private key" });
        std::fs::remove_file(&path).unwrap();
        assert!(said(Trust::in_ca(Some(path.clone()))).contains("No such file"));
    }

    #[test]
    fn a_plain_address_needs_no_certificates() {
        let trust = Trust::in_ca(Some("missing.pem".into()));
        assert!(trust.config_for("http://127.0.0.1:1").is_ok());
        assert!(trust.config_for("https://127.0.0.1:1").is_err());
    }
}
