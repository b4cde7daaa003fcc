//! Certificates from `bellwether dev-ca`, as a developer makes them.

use std::path::{Path, PathBuf};

use bellwether_link::tls::Trust;
use tempfile::TempDir;

use crate::cli::Cli;
use crate::hub::{Options, folder};

/// An authority in a folder of its own.
#[derive(Debug)]
pub struct DevCa {
    home: TempDir,
}

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate's file.
    pub cert: PathBuf,
    /// The key's file.
    pub key: PathBuf,
}

impl DevCa {
    /// Makes one.
    #[must_use]
    pub fn new() -> Self {
        let ca = Self { home: folder() };
        ca.run(&["init"]);
        ca
    }

    /// Its certificate.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.home.path().join("ca.pem")
    }

    /// Trust in nobody else.
    #[must_use]
    pub fn trust(&self) -> Trust {
        Trust::in_ca(Some(self.file()))
    }

    /// A certificate for a server on loopback, with more arguments.
    #[must_use]
    pub fn server(&self, name: &str, more: &[&str]) -> Issued {
        self.issue(name, &[&["--ip", "127.0.0.1", "--dns", "localhost"], more].concat())
    }

    /// A certificate for a client.
    #[must_use]
    pub fn client(&self, name: &str) -> Issued {
        self.issue(name, &["--client"])
    }

    /// How a hub is told to show a certificate, and whom to trust there.
    #[must_use]
    pub fn hub(&self, shown: &Issued, more: &str) -> Options {
        let config = format!("tls_cert = {:?}\ntls_key = {:?}\n{more}", shown.cert, shown.key);
        Options { config, ca: Some(self.file()), ..Options::default() }
    }

    fn issue(&self, name: &str, more: &[&str]) -> Issued {
        self.run(&[&["issue", name], more].concat());
        let path = |extension: &str| self.home.path().join(format!("{name}.{extension}"));
        Issued { cert: path("pem"), key: path("key") }
    }

    fn run(&self, words: &[&str]) {
        let dir = self.home.path().to_string_lossy();
        let cli = Cli::new("http://127.0.0.1:9", None, &self.home.path().join("config"));
        cli.ok(&[&["dev-ca"], words, &["--dir", &dir]].concat());
    }
}

impl Default for DevCa {
    fn default() -> Self {
        Self::new()
    }
}

impl Issued {
    /// An agent's settings to show it.
    #[must_use]
    pub fn agent(&self) -> String {
        format!("client_cert = {:?}\nclient_key = {:?}\n", self.cert, self.key)
    }
}

/// An agent's setting to trust this authority.
#[must_use]
pub fn trusting(ca: &Path) -> String {
    format!("ca = {ca:?}\n")
}
