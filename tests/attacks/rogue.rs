//! A hub that was taken over: it has every key that a hub has, the broker and the API, and says what
//! it likes. Only the people's keys are honest, and sign only what a test lets them sign.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bellwether_hub::broker::{Broker as _, Embedded, Gatekeeper};
use bellwether_link::{Arrival, Greeting, Link, Options, Qos};
use bellwether_protocol::SigningKey;
use bellwether_protocol::digest::Digest;
use bellwether_protocol::frame;
use bellwether_protocol::heapless::String as Text;
use bellwether_protocol::id::{DeviceId, TransferId};
use bellwether_protocol::limit::{CHUNK_BYTES, FRAME_BYTES_MAX, STATEMENT_BYTES_MAX};
use bellwether_protocol::message::{Chunk, Down, Need, Table, Up};
use bellwether_protocol::package::chunk_digests;
use bellwether_protocol::topic::{DownTopic, HUB_FILTER, Part, Topic, UpTopic};
use bellwether_protocol::trust::{
    Enrol, FleetId, KeyClass, KeyEntry, KeyStatus, Known, PublicKey, Report, RoleSet, Root, Signature, Signed,
    Statement, Thresholds, TrustedRoot, open_by, sign,
};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Ada publishes; her second key approves, and must not help her own releases.
pub(crate) const ADA: u8 = 1;
pub(crate) const ADA_APPROVES: u8 = 2;
/// Bo and Cy approve, grant and keep the root; Bo has two keys. Dee approves and keeps the root.
pub(crate) const BO: u8 = 3;
pub(crate) const BO_AGAIN: u8 = 4;
pub(crate) const CY: u8 = 5;
pub(crate) const DEE: u8 = 6;
/// Approves models whose name begins with `other`.
pub(crate) const OTHER: u8 = 7;
/// Left; lost the key.
pub(crate) const RETIRED: u8 = 8;
pub(crate) const REVOKED: u8 = 9;
/// Approvers whose keys live in browsers.
pub(crate) const BROWSER: u8 = 10;
pub(crate) const BROWSER_TOO: u8 = 11;
/// The hub's keys: all of them are the attacker's.
pub(crate) const DIRECTOR: u8 = 20;
pub(crate) const REGISTRY: u8 = 21;
pub(crate) const TIME: u8 = 22;
/// In no root.
pub(crate) const STRANGER: u8 = 99;

/// The private key with this seed.
pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

/// Its public half.
pub(crate) fn public(seed: u8) -> PublicKey {
    PublicKey(key(seed).verifying_key().to_bytes())
}

/// The root that the people made before the hub was taken over.
pub(crate) fn root() -> Root {
    let entry = |seed: u8, person: &str, roles: RoleSet, class: KeyClass| KeyEntry {
        public: public(seed),
        person: person.parse().unwrap(),
        roles,
        class,
        prefix: Text::new(),
        status: KeyStatus::Active,
    };
    let decides = RoleSet::ROOT.with(RoleSet::APPROVE).with(RoleSet::GRANT);
    let (file, browser) = (KeyClass::File, KeyClass::Browser);
    let mut other = entry(OTHER, "Otto", RoleSet::APPROVE.with(RoleSet::GRANT), file);
    other.prefix = Text::try_from("other").unwrap();
    let mut retired = entry(RETIRED, "Rea", RoleSet::APPROVE, file);
    retired.status = KeyStatus::Retired;
    let mut revoked = entry(REVOKED, "Rex", RoleSet::APPROVE, file);
    revoked.status = KeyStatus::Revoked;
    let keys = [
        entry(ADA, "Ada", RoleSet::PUBLISH, file),
        entry(ADA_APPROVES, "Ada", RoleSet::APPROVE, file),
        entry(BO, "Bo", decides, file),
        entry(BO_AGAIN, "Bo", decides, file),
        entry(CY, "Cy", decides, file),
        entry(DEE, "Dee", decides, file),
        other,
        retired,
        revoked,
        entry(BROWSER, "Web", RoleSet::APPROVE, browser),
        entry(BROWSER_TOO, "Wim", RoleSet::APPROVE, browser),
        entry(DIRECTOR, "hub", RoleSet::DIRECTOR, KeyClass::Hub),
        entry(REGISTRY, "hub", RoleSet::REGISTRY, KeyClass::Hub),
        entry(TIME, "hub", RoleSet::TIME, KeyClass::Hub),
    ];
    Root {
        version: 1,
        nonce: [1; 16],
        keys: keys.into_iter().collect(),
        thresholds: Thresholds { root: 2, approve: 2, grant: 1 },
        offline_approval: false,
        director_generation: 1,
        time_generation: 1,
    }
}

/// The exact bytes of a statement.
pub(crate) fn body<T: Statement>(value: &T) -> Vec<u8> {
    let mut buffer = vec![0; STATEMENT_BYTES_MAX];
    frame::encode(value, &mut buffer).unwrap().to_vec()
}

/// A body with the signatures of these keys.
pub(crate) fn by<'b, T: Statement + Deserialize<'b>>(fleet: FleetId, body: &'b [u8], seeds: &[u8]) -> Signed<'b> {
    let one = |seed: &u8| -> Signature { sign::<T>(fleet, body, &key(*seed)).unwrap() };
    Signed { body, signatures: seeds.iter().map(one).collect() }
}

/// How packages are served.
#[derive(Clone, Debug)]
pub(crate) enum Serve {
    /// As asked for.
    Honest,
    /// Nothing at all.
    Silent,
    /// Another package's bytes.
    Swapped(Vec<u8>),
    /// The table, and then chunk after chunk that was not asked for, full of noise.
    Endless,
    /// The package cut short by so many bytes.
    Cut(usize),
}

#[derive(Default)]
struct Heard {
    report: Option<Report>,
    known: Option<Known>,
    batches: u64,
    key: Option<PublicKey>,
    packages: BTreeMap<TransferId, Vec<u8>>,
}

/// The rogue hub.
pub(crate) struct Rogue {
    pub(crate) fleet: FleetId,
    pub(crate) trusted: TrustedRoot,
    /// Where its API is.
    pub(crate) url: String,
    pub(crate) device: DeviceId,
    link: Link,
    broker: Arc<Embedded>,
    heard: Arc<Mutex<Heard>>,
    serve: Arc<Mutex<Serve>>,
    sequence: AtomicU64,
}

/// It lets everybody in.
struct Open;

impl Gatekeeper for Open {
    fn admits(&self, _device: &DeviceId, _password: &[u8]) -> bool {
        true
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Rogue {
    /// Takes over the hub of the fleet with this root, which knows one device.
    pub(crate) async fn start(root: &Root, device: &str) -> Self {
        let root_body = body(root);
        let fleet = FleetId::of_root(&root_body);
        let first = by::<Root>(fleet, &root_body, &[BO, CY]);
        let trusted = TrustedRoot::first(fleet, &first).unwrap();
        let broker = Embedded::start(std::net::SocketAddr::from(([127, 0, 0, 1], 0)), Arc::new(Open)).await.unwrap();
        let broker = Arc::new(broker);
        let heard = Arc::new(Mutex::new(Heard::default()));
        let serve = Arc::new(Mutex::new(Serve::Honest));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut frame = vec![0; FRAME_BYTES_MAX];
        let statement = STANDARD.encode(frame::encode(&first, &mut frame).unwrap());
        let root_answer = json!({ "fleet": fleet.to_string(), "statement": statement, "version": 1, "later": [] });
        let enrol_answer = json!({ "device": device, "broker": { "url": broker.url(), "password": null } });
        tokio::spawn(api(listener, root_answer, enrol_answer, Arc::clone(&heard)));
        let access = broker.hub_access();
        let login = Some((access.username.clone(), access.password.clone()));
        let (link, mut arrivals) = Link::open(Options {
            address: access.url.parse().unwrap(),
            trust: access.trust.clone(),
            client_id: access.username.clone(),
            subscriptions: vec![HUB_FILTER.to_owned()],
            keep_alive: std::time::Duration::from_secs(30),
            greet: Box::new(move || Ok(Greeting { login: login.clone(), will: None })),
        });
        let rogue = Self {
            fleet,
            trusted,
            url,
            device: device.parse().unwrap(),
            link: link.clone(),
            broker,
            heard: Arc::clone(&heard),
            serve: Arc::clone(&serve),
            sequence: AtomicU64::new(0),
        };
        tokio::spawn(async move {
            while let Some(arrival) = arrivals.recv().await {
                if let Arrival::Message { topic, payload } = arrival {
                    listen(fleet, &topic, &payload, (&heard, &serve), &link).await;
                }
            }
        });
        rogue
    }

    /// A token as honest people hand it out.
    pub(crate) fn token(&self) -> String {
        format!("bw1.{}.00ff", self.fleet)
    }

    /// The next number of the director, in its generation.
    pub(crate) fn next(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Keeps a package to be served.
    pub(crate) fn keep(&self, package: &[u8]) {
        locked(&self.heard).packages.insert(Digest::of(package).transfer(), package.to_vec());
    }

    /// Serves packages so from now on.
    pub(crate) fn serve(&self, how: Serve) {
        *locked(&self.serve) = how;
    }

    /// The device's latest report, checked against its key.
    pub(crate) fn report(&self) -> Option<Report> {
        locked(&self.heard).report.clone()
    }

    /// What the device last said it knows.
    pub(crate) fn known(&self) -> Option<Known> {
        locked(&self.heard).known.clone()
    }

    /// Batches heard so far.
    pub(crate) fn batches(&self) -> u64 {
        locked(&self.heard).batches
    }

    /// The device's key.
    pub(crate) fn key(&self) -> Option<PublicKey> {
        locked(&self.heard).key
    }

    /// Sends a message down.
    pub(crate) async fn send(&self, topic: DownTopic, down: &Down<'_>, retain: bool) {
        let mut buffer = vec![0; FRAME_BYTES_MAX];
        let frame = frame::encode(down, &mut buffer).unwrap().to_vec();
        self.send_bytes(topic, frame, retain).await;
    }

    /// Sends any bytes down.
    pub(crate) async fn send_bytes(&self, topic: DownTopic, bytes: Vec<u8>, retain: bool) {
        let topic = Topic::Down(self.device.clone(), topic).text();
        // A link that is just coming up is tried again.
        for _ in 0..100 {
            if self.link.publish(&topic, Bytes::from(bytes.clone()), Qos::AtLeastOnce, retain).await.is_ok() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("the broker takes nothing");
    }

    /// Ends the device's session: somebody else takes its name for a moment.
    pub(crate) async fn disconnect(&self) {
        let access = self.broker.device_access(&self.device);
        let login = Some((access.username.clone(), access.password));
        let (link, mut arrivals) = Link::open(Options {
            address: access.url.parse().unwrap(),
            trust: access.trust,
            client_id: access.username,
            subscriptions: Vec::new(),
            keep_alive: std::time::Duration::from_secs(30),
            greet: Box::new(move || Ok(Greeting { login: login.clone(), will: None })),
        });
        while !matches!(arrivals.recv().await, Some(Arrival::Up) | None) {}
        link.stop();
    }
}

async fn listen(
    fleet: FleetId,
    topic: &str,
    payload: &[u8],
    (heard, serve): (&Mutex<Heard>, &Mutex<Serve>),
    link: &Link,
) {
    let Some(Topic::Up(device, kind)) = Topic::parse(topic) else { return };
    let key = locked(heard).key;
    match (kind, frame::decode::<Up<'_>>(payload), key) {
        (UpTopic::State, Ok(Up::State(signed)), Some(key)) => {
            locked(heard).report = open_by::<Report>(fleet, &signed, &key).ok();
        }
        (UpTopic::Known, Ok(Up::Known(signed)), Some(key)) => {
            locked(heard).known = open_by::<Known>(fleet, &signed, &key).ok();
        }
        (UpTopic::Batch, Ok(Up::Batch(_)), _) => locked(heard).batches += 1,
        (UpTopic::Need(transfer), Ok(Up::Need(need)), _) => {
            let package = locked(heard).packages.get(&transfer).cloned();
            let how = locked(serve).clone();
            if let Some(package) = package {
                answer(&device, (transfer, need), &package, how, link).await;
            }
        }
        _ => {}
    }
}

/// Answers a device's question for parts of a package.
async fn answer(device: &DeviceId, (transfer, need): (TransferId, Need), package: &[u8], how: Serve, link: &Link) {
    const UNASKED: u16 = 60;
    let send = async |part: Part, down: Down<'_>| {
        let mut buffer = vec![0; FRAME_BYTES_MAX];
        let bytes = Bytes::from(frame::encode(&down, &mut buffer).unwrap().to_vec());
        let topic = Topic::Down(device.clone(), DownTopic::Part(transfer, part)).text();
        // What is lost is asked for again.
        let _ = link.publish(&topic, bytes, Qos::AtMostOnce, false).await;
    };
    let served: &[u8] = match &how {
        Serve::Silent => return,
        Serve::Honest | Serve::Endless => package,
        Serve::Swapped(other) => other,
        Serve::Cut(bytes) => &package[..package.len() - bytes],
    };
    if need.table {
        let digests: Vec<u8> = chunk_digests(package).flat_map(|digest| digest.0).collect();
        send(Part::Table, Down::Table(Table { digests: &digests })).await;
    }
    if matches!(how, Serve::Endless) {
        for n in 0..UNASKED {
            let noise: Vec<u8> = (0..CHUNK_BYTES).map(|at| (at as u8).wrapping_mul(31).wrapping_add(n as u8)).collect();
            send(Part::Chunk(n), Down::Chunk(Chunk { bytes: &noise })).await;
        }
        return;
    }
    for n in need.chunks(8) {
        let start = usize::from(n) * CHUNK_BYTES;
        let bytes = served.get(start..).unwrap_or_default();
        let bytes = bytes.get(..CHUNK_BYTES).unwrap_or(bytes);
        send(Part::Chunk(n), Down::Chunk(Chunk { bytes })).await;
    }
}

/// As much of a hub's API as an agent asks for.
async fn api(listener: TcpListener, root: Value, enrolled: Value, heard: Arc<Mutex<Heard>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (root, enrolled, heard) = (root.clone(), enrolled.clone(), Arc::clone(&heard));
        tokio::spawn(async move {
            let _ = one_call(stream, &root, &enrolled, &heard).await;
        });
    }
}

async fn one_call(mut stream: TcpStream, root: &Value, enrolled: &Value, heard: &Mutex<Heard>) -> Option<()> {
    let mut request = Vec::new();
    let (head, length) = loop {
        let mut part = [0; 4096];
        let count = stream.read(&mut part).await.ok().filter(|count| *count > 0)?;
        request.extend_from_slice(&part[..count]);
        let text = String::from_utf8_lossy(&request).to_lowercase();
        if let Some(end) = text.find("\r\n\r\n") {
            let length = text[..end].lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
            let length: usize = length.unwrap_or(0);
            if request.len() >= end + 4 + length {
                break (end + 4, length);
            }
        }
    };
    let answer = if request.starts_with(b"GET /api/v1/root") {
        root
    } else {
        let sent: Value = serde_json::from_slice(&request[head..head + length]).ok()?;
        let statement = STANDARD.decode(sent["statement"].as_str()?).ok()?;
        let signed: Signed<'_> = frame::decode(&statement).ok()?;
        locked(heard).key = Some(signed.peek::<Enrol>().ok()?.key);
        enrolled
    };
    let text = answer.to_string();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        text.len()
    );
    stream.write_all(format!("{head}{text}").as_bytes()).await.ok()
}
