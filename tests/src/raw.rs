//! Clients without our libraries behind them: a device that is only a key and mosquitto's own
//! tools, and HTTP as bytes.

use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bellwether_hub::api::types::{EnrolBroker, EnrolRequest};
use bellwether_protocol::SigningKey;
use bellwether_protocol::digest::Digest;
use bellwether_protocol::frame;
use bellwether_protocol::id::DeviceId;
use bellwether_protocol::limit::STATEMENT_BYTES_MAX;
use bellwether_protocol::message::{Hello, Up};
use bellwether_protocol::trust::{Connect, Enrol, FleetId, PublicKey, Signed, Statement, seal};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::dev_ca::Issued;
use crate::files::tool;
use crate::fleet::Fleet;
use crate::process::Process;

/// A device that enrolled and says only what a test lets it say.
#[derive(Debug)]
pub struct RawDevice {
    /// Its name.
    pub id: DeviceId,
    /// The fleet it enrolled with.
    pub fleet: FleetId,
    key: SigningKey,
    broker: String,
    password: Option<String>,
    /// Arguments of mosquitto's clients that make it TLS.
    tls: Vec<String>,
    connects: std::sync::atomic::AtomicU64,
}

impl RawDevice {
    /// Makes a key and enrols with it.
    pub async fn enrol(fleet: &Fleet, name: &str) -> Self {
        let token = fleet.device_token(1);
        let mut parts = token.split('.').skip(1);
        let id: FleetId = parts.next().and_then(|text| text.parse().ok()).expect("a token names the fleet");
        let secret = parts.next().expect("a token has a secret").to_owned();
        let (request, key) = enrolment(id, name, &secret);
        let view = fleet.api().enrol(&request).await.expect("the hub enrols it");
        let connects = std::sync::atomic::AtomicU64::new(0);
        let EnrolBroker { url: broker, password } = view.broker;
        let tls = match fleet.hub.ca() {
            Some(ca) if broker.starts_with("mqtts://") => vec!["--cafile".to_owned(), ca.display().to_string()],
            Some(_) | None => Vec::new(),
        };
        Self { id: DeviceId::parse(name).expect("a device id"), fleet: id, key, broker, password, tls, connects }
    }

    /// Shows a certificate at every connection from now on.
    pub fn show(&mut self, certificate: &Issued) {
        let path = |path: &std::path::Path| path.display().to_string();
        let more = ["--cert".to_owned(), path(&certificate.cert), "--key".to_owned(), path(&certificate.key)];
        self.tls.extend(more);
    }

    /// A password for one connection.
    #[must_use]
    pub fn password(&self) -> String {
        if let Some(password) = &self.password {
            return password.clone();
        }
        let counter = self.connects.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        hex::encode(signed_frame(&Connect { device: self.id.clone(), counter }, self.fleet, &self.key))
    }

    /// A frame with a statement signed by this device.
    #[must_use]
    pub fn up<T: Statement>(&self, value: &T, wrap: impl for<'s> FnOnce(Signed<'s>) -> Up<'s>) -> Vec<u8> {
        let mut body = vec![0; STATEMENT_BYTES_MAX];
        let signed = seal(value, self.fleet, &self.key, &mut body).expect("it is sealed");
        let mut buffer = vec![0; 2 * STATEMENT_BYTES_MAX];
        frame::encode(&wrap(signed), &mut buffer).expect("it fits").to_vec()
    }

    /// The frame of a hello.
    #[must_use]
    pub fn up_hello(&self) -> Vec<u8> {
        let mut buffer = [0; 64];
        let hello = Hello { boot: 1, session: 1 };
        frame::encode(&Up::Hello(hello), &mut buffer).expect("it fits").to_vec()
    }

    /// Publishes once, at QoS 1, by a connection of its own; whether the broker said yes.
    #[must_use]
    pub fn publish(&self, topic: &str, payload: &[u8], more: &[&str]) -> bool {
        self.publish_as(self.id.as_str(), self.id.as_str(), &self.password(), (topic, payload), more)
    }

    /// As [`RawDevice::publish`], with another client id, user or password.
    #[must_use]
    pub fn publish_as(
        &self,
        client: &str,
        user: &str,
        password: &str,
        (topic, payload): (&str, &[u8]),
        more: &[&str],
    ) -> bool {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), payload).expect("written");
        let mut command = Command::new(tool("timeout", "coreutils"));
        command.arg("10").arg(tool("mosquitto_pub", "mosquitto-clients"));
        command
            .args(self.login(client, user, password))
            .args(["-q", "1", "-t", topic, "-f"])
            .arg(file.path())
            .args(more);
        command.output().expect("mosquitto_pub starts").status.success()
    }

    /// Listens to filters; each message is a line `TOPIC PAYLOAD-IN-HEX`, written as it comes.
    #[must_use]
    pub fn subscribe(&self, filters: &[&str], seconds: u32, more: &[&str]) -> Process {
        self.subscribe_as(self.id.as_str(), filters, seconds, more)
    }

    /// As [`RawDevice::subscribe`], under another client id.
    #[must_use]
    pub fn subscribe_as(&self, client: &str, filters: &[&str], seconds: u32, more: &[&str]) -> Process {
        let (id, password) = (self.id.as_str(), self.password());
        let mut command = Command::new(tool("stdbuf", "coreutils"));
        command.arg("-oL").arg(tool("mosquitto_sub", "mosquitto-clients"));
        command.args(self.login(client, id, &password)).args(["-q", "1", "-F", "%t %x", "-W", &seconds.to_string()]);
        for filter in filters {
            command.args(["-t", filter]);
        }
        Process::start(&format!("{id} listening"), command.args(more))
    }

    fn login(&self, client: &str, user: &str, password: &str) -> Vec<String> {
        let port = self.broker.rsplit(':').next().expect("a broker has a port");
        let words = ["-V", "5", "-h", "127.0.0.1", "-p", port, "-i", client, "-u", user, "-P", password];
        words.map(str::to_owned).into_iter().chain(self.tls.iter().cloned()).collect()
    }
}

/// Tries to enrol with this secret; the answer as it came.
pub async fn enrol_with(fleet: &Fleet, id: &str, name: &str, secret: &str) -> Answer {
    let (request, _) = enrolment(id.parse().expect("a fleet id"), name, secret);
    let body = serde_json::to_vec(&request).expect("it is JSON");
    let bytes = self::request("POST", "/api/v1/enrol", None, "Content-Type: application/json\r\n", &body);
    exchange(fleet.hub.address(), &bytes).await
}

/// What a device with a new key sends to enrol, and the key.
fn enrolment(fleet: FleetId, name: &str, secret: &str) -> (EnrolRequest, SigningKey) {
    let key = SigningKey::from_bytes(&Digest::of(format!("{name} {}", crate::files::fresh()).as_bytes()).0);
    let device = DeviceId::parse(name).expect("a device id");
    let public = PublicKey(key.verifying_key().to_bytes());
    let enrol = Enrol { device, key: public, token: Digest::of(secret.as_bytes()) };
    let statement = STANDARD.encode(signed_frame(&enrol, fleet, &key));
    let request = EnrolRequest { device: name.to_owned(), secret: secret.to_owned(), statement, tags: [].into() };
    (request, key)
}

fn signed_frame<T: Statement>(value: &T, fleet: FleetId, key: &SigningKey) -> Vec<u8> {
    let mut body = vec![0; STATEMENT_BYTES_MAX];
    let signed = seal(value, fleet, key, &mut body).expect("it is sealed");
    let mut buffer = vec![0; 2 * STATEMENT_BYTES_MAX];
    frame::encode(&signed, &mut buffer).expect("it fits").to_vec()
}

/// An HTTP answer as it came.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status; 0 if the connection ended without one.
    pub status: u16,
    /// Head and body as text.
    pub text: String,
}

impl Answer {
    /// The body read as JSON.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        let body = self.text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        serde_json::from_str(body.trim()).unwrap_or_default()
    }
}

/// Sends bytes and reads what comes until the other side closes, at most ten seconds.
pub async fn exchange(address: &str, request: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).await.expect("the service listens");
    // Whoever is refused early may find the door closed while still sending.
    let _ = stream.write_all(request).await;
    let mut bytes = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut bytes)).await;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Answer { status, text }
}

/// A request as bytes: the path goes out exactly as it is written here.
#[must_use]
pub fn request(method: &str, path: &str, token: Option<&str>, headers: &str, body: &[u8]) -> Vec<u8> {
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n{token}{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}
