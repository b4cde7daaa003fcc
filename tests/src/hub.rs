//! `bellwether-hub serve` as a process.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bellwether_hub::client::Client;
use bellwether_link::tls::Trust;
use tempfile::TempDir;

use crate::files::binary;
use crate::process::Process;

/// A hub in a folder of its own.
#[derive(Debug)]
pub struct Hub {
    home: TempDir,
    data: PathBuf,
    process: Process,
    options: Options,
    /// Its web address.
    pub url: String,
    /// Its broker's address, as devices use it.
    pub broker: String,
    /// The first admin's token.
    pub token: String,
    /// The one-time code of the first login.
    pub code: String,
}

/// How a hub is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// `--broker`.
    pub broker: String,
    /// `--listen`.
    pub listen: String,
    /// The configuration file's text.
    pub config: String,
    /// The authority that its callers trust, where it serves TLS.
    pub ca: Option<PathBuf>,
    /// The crash point at which it ends at its first start.
    pub crash: Option<&'static str>,
    /// What it logs, as `BELLWETHER_LOG` says it; its default if absent.
    pub log: Option<&'static str>,
    /// The name by which it tells devices to reach it, instead of the address it listens on, which
    /// stays that of the test.
    pub host: Option<&'static str>,
}

impl Options {
    /// An address the hub says, as the test reaches it.
    fn direct(&self, said: &str) -> String {
        self.host.map_or_else(|| said.to_owned(), |host| said.replace(host, "127.0.0.1"))
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            broker: "embedded://127.0.0.1:0".to_owned(),
            listen: "127.0.0.1:0".to_owned(),
            config: String::new(),
            ca: None,
            crash: None,
            log: None,
            host: None,
        }
    }
}

impl Hub {
    /// Starts a hub with its embedded broker on free ports.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(Options::default())
    }

    /// Starts a hub.
    #[must_use]
    pub fn start_with(options: Options) -> Self {
        let home = folder();
        Self::start_in(home, options)
    }

    /// Starts a hub whose folder was made before.
    #[must_use]
    pub fn start_in(home: TempDir, options: Options) -> Self {
        let data = home.path().join("data");
        let mut process = serve(home.path(), &data, &options);
        let options = Options { crash: None, ..options };
        let url = options.direct(&process.line("dashboard"));
        let broker = options.direct(&process.line("broker"));
        let token = process.line("export BELLWETHER_TOKEN=");
        let said = process.stdout();
        let code = said.split("/login?code=").nth(1).and_then(|rest| rest.split_whitespace().next());
        let code = code.expect("a first start prints a login code").to_owned();
        Self { home, data, process, options, url, broker, token, code }
    }

    /// Opens a data directory that a hub left, with a token that it knows.
    #[must_use]
    pub fn open(data: &Path, token: &str, options: Options) -> Self {
        let home = folder();
        let mut process = serve(home.path(), data, &options);
        let (url, broker) = (options.direct(&process.line("dashboard")), options.direct(&process.line("broker")));
        let (data, token, code) = (data.to_owned(), token.to_owned(), String::new());
        Self { home, data, process, options, url, broker, token, code }
    }

    /// A client with the first admin's token.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client_as(Some(&self.token))
    }

    /// A client with another token, or none.
    #[must_use]
    pub fn client_as(&self, token: Option<&str>) -> Client {
        let trust = Trust::in_ca(self.options.ca.clone());
        Client::with_trust(&self.url, token.map(str::to_owned), trust).expect("the hub's address is one")
    }

    /// Host and port of its web address.
    #[must_use]
    pub fn address(&self) -> &str {
        self.url.split_once("://").map_or(&self.url, |(_, address)| address)
    }

    /// The authority that its callers trust, where it serves TLS.
    #[must_use]
    pub fn ca(&self) -> Option<&Path> {
        self.options.ca.as_deref()
    }

    /// Its data directory.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The folder it may be given files in.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Its process.
    pub const fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// What it logged since it was last started.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.stderr()
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Waits until it ended at its crash point, and starts it again.
    pub fn restart_after_crash(&mut self) {
        let status = self.process.end(std::time::Duration::from_secs(30));
        assert_eq!(status.signal(), Some(9), "it ends as by kill -9");
        self.restart();
    }

    /// Arms a crash point for the next start.
    pub const fn arm(&mut self, point: &'static str) {
        self.options.crash = Some(point);
    }

    /// Starts it again on the same ports, after it ended.
    pub fn restart(&mut self) {
        let data = self.data.clone();
        self.restart_with(&data, None);
    }

    /// Starts it again on the same ports, with other data and another configuration.
    pub fn restart_with(&mut self, data: &Path, config: Option<&str>) {
        assert!(self.process.ended().is_some(), "stop or kill the hub first");
        data.clone_into(&mut self.data);
        let embedded = self.options.broker.starts_with("embedded://");
        if embedded {
            self.options.broker = self.broker.replace("mqtts://", "embedded://").replace("mqtt://", "embedded://");
        }
        self.address().to_owned().clone_into(&mut self.options.listen);
        if let Some(config) = config {
            config.clone_into(&mut self.options.config);
        }
        self.process = serve(self.home.path(), &self.data, &self.options);
        self.options.crash = None;
        let url = self.options.direct(&self.process.line("dashboard"));
        assert_eq!(url, self.url, "the hub is back at its address");
    }

    /// Runs another command of `bellwether-hub`.
    #[must_use]
    pub fn command(words: &[&str]) -> Output {
        let mut command = Command::new(binary("bellwether-hub"));
        command.args(words).env("NO_COLOR", "1").output().expect("bellwether-hub starts")
    }
}

fn serve(home: &Path, data: &Path, options: &Options) -> Process {
    // For whoever makes an HTTP client by hand afterwards.
    bellwether_link::tls::install();
    let config = home.join("hub.toml");
    let host = options.host.map(|host| format!("host = {host:?}\n")).unwrap_or_default();
    std::fs::write(&config, format!("{host}{}", options.config)).expect("a temporary folder takes a file");
    let mut command = Command::new(binary("bellwether-hub"));
    command
        .args(["serve", "--listen", &options.listen, "--broker", &options.broker])
        .arg("--data")
        .arg(data)
        .arg("--config")
        .arg(&config)
        .current_dir(home)
        .env("NO_COLOR", "1")
        .env_remove("BELLWETHER_LOG");
    if let Some(log) = options.log {
        command.env("BELLWETHER_LOG", log);
    }
    if let Some(point) = options.crash {
        command.env("BELLWETHER_CRASH_AT", point);
    }
    Process::start("hub", &mut command)
}

/// A temporary folder.
#[must_use]
pub fn folder() -> TempDir {
    tempfile::Builder::new().prefix("bellwether-test-").tempdir().expect("a temporary folder")
}
