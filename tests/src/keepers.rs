//! What keeps private keys outside files: a real ssh-agent and a real token, each with a folder of
//! its own, so that those of whoever runs the tests are not touched.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::cli::Cli;
use crate::files::tool;
use crate::hub::folder;
use crate::process::Process;

/// An ssh-agent with its own socket; it ends with the test.
#[derive(Debug)]
pub struct SshAgent {
    home: TempDir,
    _process: Process,
}

impl SshAgent {
    /// Starts one without keys.
    #[must_use]
    pub fn start() -> Self {
        let home = folder();
        let socket = home.path().join("socket");
        let mut command = Command::new(tool("ssh-agent", "openssh-client"));
        let process = Process::start("ssh-agent", command.arg("-D").arg("-a").arg(&socket));
        let begun = std::time::Instant::now();
        while !socket.exists() {
            assert!(begun.elapsed().as_secs() < 20, "the ssh-agent never listens\n{process}");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        Self { home, _process: process }
    }

    /// Makes an Ed25519 key with this comment and adds it; only the agent has it afterwards.
    pub fn add_key(&self, comment: &str) {
        let file = self.home.path().join("key");
        let mut made = Command::new(tool("ssh-keygen", "openssh-client"));
        made.args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"]).arg(&file);
        ran(&mut made);
        ran(Command::new(tool("ssh-add", "openssh-client")).arg(&file).env("SSH_AUTH_SOCK", self.socket()));
        for left in [file.clone(), file.with_extension("pub")] {
            std::fs::remove_file(left).expect("ssh-keygen wrote it");
        }
    }

    /// The command line in this agent's session.
    #[must_use]
    pub fn session(&self, cli: &Cli) -> Cli {
        cli.with("SSH_AUTH_SOCK", self.socket())
    }

    fn socket(&self) -> PathBuf {
        self.home.path().join("socket")
    }
}

/// The PIN of a [`SoftToken`].
pub const PIN: &str = "4711";

/// A token in software: SoftHSM with its own folder.
#[derive(Debug)]
pub struct SoftToken {
    home: TempDir,
    /// Its label.
    pub label: String,
}

impl SoftToken {
    /// Makes an empty token.
    #[must_use]
    pub fn make(label: &str) -> Self {
        let home = folder();
        let tokens = home.path().join("tokens");
        std::fs::create_dir(&tokens).expect("a temporary folder takes a folder");
        let text = format!("directories.tokendir = {}\nobjectstore.backend = file\n", tokens.display());
        std::fs::write(home.path().join("softhsm2.conf"), text).expect("a temporary folder takes a file");
        let token = Self { home, label: label.to_owned() };
        let mut made = Command::new(tool("softhsm2-util", "softhsm2"));
        made.args(["--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", "47114711"]);
        ran(made.env("SOFTHSM2_CONF", token.configuration()));
        token
    }

    /// The library that speaks to it.
    #[must_use]
    pub fn module(&self) -> String {
        let places = ["/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/softhsm/libsofthsm2.so"];
        let found = places.into_iter().find(|place| Path::new(place).exists());
        found.expect("softhsm2 brings libsofthsm2.so").to_owned()
    }

    /// The command line of somebody who has this token and knows its PIN.
    #[must_use]
    pub fn session(&self, cli: &Cli) -> Cli {
        self.plugged(cli).with("BELLWETHER_PIN", PIN)
    }

    /// The command line of somebody who has this token.
    #[must_use]
    pub fn plugged(&self, cli: &Cli) -> Cli {
        cli.with("SOFTHSM2_CONF", self.configuration())
    }

    fn configuration(&self) -> PathBuf {
        self.home.path().join("softhsm2.conf")
    }
}

fn ran(command: &mut Command) {
    let output = command.output().unwrap_or_else(|why| panic!("{command:?} does not start: {why}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
