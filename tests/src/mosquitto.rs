//! A mosquitto of our own, configured exactly as `docs/brokers.md` says.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

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
}

impl Mosquitto {
    /// Starts it with the hub as its only user.
    #[must_use]
    pub fn start() -> Self {
        let home = folder();
        let port = free_port();
        let path = |name: &str| home.path().join(name);
        std::fs::write(path("bellwether.acl"), block("bellwether.acl")).expect("written");
        let config = block("mosquitto.conf")
            .replace("/etc/mosquitto", &home.path().to_string_lossy())
            .replace("listener 1883 127.0.0.1", &format!("listener {port} 127.0.0.1"));
        // Started by root it would become another user, who may not read this folder.
        std::fs::write(path("mosquitto.conf"), format!("{config}\nuser root\n")).expect("written");
        write_passwords(home.path(), &format!("{HUB_USER}:{HUB_PASSWORD}\n"));
        let mut command = Command::new(tool("mosquitto", "mosquitto"));
        let mut process = Process::start("mosquitto", command.arg("-c").arg(path("mosquitto.conf")));
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = process.ended();
            assert!(ended.is_none(), "mosquitto ended: {ended:?}\n{process}");
            assert!(std::time::Instant::now() < until, "mosquitto does not listen\n{process}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Self { home, process, port }
    }

    /// How a hub is told to use it.
    #[must_use]
    pub fn options(&self) -> Options {
        let broker = format!("mqtt://{HUB_USER}:{HUB_PASSWORD}@127.0.0.1:{}", self.port);
        Options { broker, ..Options::default() }
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

/// A port that was free a moment ago.
#[must_use]
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound port").port()
}
