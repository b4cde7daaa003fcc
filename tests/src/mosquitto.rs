//! A mosquitto of our own, configured exactly as `docs/brokers.md` says.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::dev_ca::DevCa;
use crate::files::{repository, tool};
use crate::hub::{Hub, Options, folder};
use crate::process::Process;

/// The hub's name at the broker, as in `docs/brokers.md`.
pub const HUB_USER: &str = "bellwether.hub";
const HUB_PASSWORD: &str = "the-hub's-own-secret";

/// A broker in a folder of its own.
#[derive(Debug)]
pub struct Mosquitto {
    home: TempDir,
    process: Process,
    port: u16,
    /// What the hub must be told to get in, beyond the address.
    hub: String,
    tls: Option<PathBuf>,
}

impl Mosquitto {
    /// Starts it with the hub as its only user.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(None, false)
    }

    /// The same by TLS, with a certificate of this authority.
    #[must_use]
    pub fn start_tls(ca: &DevCa) -> Self {
        Self::start_with(Some(ca), false)
    }

    /// The same where clients are who their certificates say.
    #[must_use]
    pub fn start_mutual(ca: &DevCa) -> Self {
        Self::start_with(Some(ca), true)
    }

    fn start_with(ca: Option<&DevCa>, is_mutual: bool) -> Self {
        let home = folder();
        let port = free_port();
        let path = |name: &str| home.path().join(name);
        std::fs::write(path("bellwether.acl"), block("bellwether.acl")).expect("written");
        let mut config = block("mosquitto.conf");
        let mut hub = String::new();
        if let Some(ca) = ca {
            let issued = ca.server("broker", &[]);
            std::fs::copy(issued.cert, path("broker.pem")).expect("copied");
            std::fs::copy(issued.key, path("broker.key")).expect("copied");
            std::fs::copy(ca.file(), path("ca.pem")).expect("copied");
            config = config.replace("listener 1883 127.0.0.1\n", &block("mosquitto-tls.conf"));
            hub = format!("broker_ca = {:?}\n", ca.file());
        }
        if let Some(ca) = ca.filter(|_| is_mutual) {
            config.push_str(&block("mosquitto-mutual.conf"));
            let own = ca.client(HUB_USER);
            writeln!(hub, "broker_cert = {:?}\nbroker_key = {:?}", own.cert, own.key).expect("text takes text");
        }
        let config = config
            .replace("/etc/mosquitto", &home.path().to_string_lossy())
            .replace("listener 1883 127.0.0.1", &format!("listener {port} 127.0.0.1"))
            .replace("listener 8883\n", &format!("listener {port} 127.0.0.1\n"));
        // Started by root it would become another user, who may not read this folder.
        std::fs::write(path("mosquitto.conf"), format!("{config}\nuser root\n")).expect("written");
        write_passwords(home.path(), &format!("{HUB_USER}:{HUB_PASSWORD}\n"));
        let process = serve(home.path(), port);
        Self { home, process, port, hub, tls: ca.map(DevCa::file) }
    }

    /// Where it listens, on loopback.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Its process.
    pub const fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again where it was, after it ended.
    pub fn restart(&mut self) {
        assert!(self.process.ended().is_some(), "stop or kill the broker first");
        self.process = serve(self.home.path(), self.port);
    }

    /// How a hub is told to use it. Where it speaks TLS, devices trust its authority.
    #[must_use]
    pub fn options(&self) -> Options {
        let scheme = if self.tls.is_some() { "mqtts" } else { "mqtt" };
        let broker = format!("{scheme}://{HUB_USER}:{HUB_PASSWORD}@127.0.0.1:{}", self.port);
        Options { broker, config: self.hub.clone(), ca: self.tls.clone(), ..Options::default() }
    }

    /// Lets devices of this hub in, as `docs/brokers.md` tells an operator to.
    pub fn admit(&self, hub: &Hub, devices: &[&str]) {
        let data = hub.data().to_string_lossy().into_owned();
        let mut words = vec!["broker-users", "--data", &data];
        words.extend(devices);
        let said = Hub::command(&words);
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        let mut users = format!("{HUB_USER}:{HUB_PASSWORD}\n");
        write!(users, "{}", String::from_utf8_lossy(&said.stdout)).expect("text takes text");
        write_passwords(self.home.path(), &users);
        self.process.signal("HUP");
        // It reads its files anew between two packets; nothing says when.
        std::thread::sleep(std::time::Duration::from_millis(300));
    }
}

/// Starts it in its folder and waits until it listens.
fn serve(home: &Path, port: u16) -> Process {
    let mut command = Command::new(tool("mosquitto", "mosquitto"));
    let mut process = Process::start("mosquitto", command.arg("-c").arg(home.join("mosquitto.conf")));
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        let ended = process.ended();
        assert!(ended.is_none(), "mosquitto ended: {ended:?}\n{process}");
        assert!(std::time::Instant::now() < until, "mosquitto does not listen\n{process}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    process
}

/// Writes users with their passwords, hashed by mosquitto's own tool.
fn write_passwords(home: &Path, users: &str) {
    let path = home.join("bellwether.passwords");
    std::fs::write(&path, users).expect("written");
    let hashed = Command::new(tool("mosquitto_passwd", "mosquitto")).arg("-U").arg(&path).output();
    let hashed = hashed.expect("mosquitto_passwd starts");
    assert!(hashed.status.success(), "{}", String::from_utf8_lossy(&hashed.stderr));
}

/// A block of `docs/brokers.md`, found by the name behind its fence.
fn block(name: &str) -> String {
    let path = repository().join("docs/brokers.md");
    let text = std::fs::read_to_string(&path).expect("docs/brokers.md is there");
    let begin = format!("```conf {name}\n");
    let found = text.split_once(&begin).and_then(|(_, rest)| rest.split_once("```"));
    found.unwrap_or_else(|| panic!("docs/brokers.md has no block `{begin}`")).0.to_owned()
}

/// A port that was free a moment ago, below those that the system gives to outgoing connections: it
/// stays free while whoever listened there is away.
#[must_use]
pub fn free_port() -> u16 {
    const FIRST: u64 = 10_000;
    const COUNT: u64 = 20_000;
    let mut tries = std::iter::repeat_with(crate::files::fresh).take(1000);
    let free = tries.find_map(|number| {
        let port = u16::try_from(FIRST + (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16) % COUNT).ok()?;
        std::net::TcpListener::bind(("127.0.0.1", port)).is_ok().then_some(port)
    });
    free.expect("a free port")
}
