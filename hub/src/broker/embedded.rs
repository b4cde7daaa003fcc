//! The broker inside the hub: crate `mqtt5`, told where to listen, what to keep, and whom to ask.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bellwether_link::tls::Trust;
use bellwether_protocol::id::DeviceId;
use bellwether_protocol::limit::FRAME_BYTES_MAX;
use bellwether_protocol::topic::{HUB_FILTER, Topic, device_filter};
use mqtt5::broker::MqttBroker;
use mqtt5::broker::auth::{AuthProvider, AuthResult};
use mqtt5::broker::config::{BrokerConfig, StorageBackend, StorageConfig};
use mqtt5::broker::server::BrokerShutdownHandle;
use mqtt5::packet::connect::ConnectPacket;
use mqtt5::protocol::v5::reason_codes::ReasonCode;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::door::{self, Brought};
use super::{Access, Broker, BrokerError};
use crate::keys;
use crate::tls::{TlsListener, url};

/// The hub's user name; no device id can begin with a dollar sign.
const HUB_USER: &str = "$hub";
/// Sessions at once: what the crate was measured to bear.
const CLIENTS_MAX: usize = 12_000;
/// Messages waiting for one client; a device has at most a few, a chunk counts as one.
const QUEUE_MESSAGES_MAX: usize = 1_000;
/// Bytes waiting for one client.
const QUEUE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longest a session may outlive its connection.
const SESSION_SECONDS_MAX: u64 = 3_600;

/// Decides whether a device may open a session.
pub trait Gatekeeper: Send + Sync {
    /// Whether `password` is the one this device may use now, and only now.
    fn admits(&self, device: &DeviceId, password: &[u8]) -> bool;
}

/// Where the broker is reached, and how.
#[derive(Clone, Debug)]
pub struct Place {
    /// Exactly this address is listened on; port 0 is any free one.
    pub address: SocketAddr,
    /// The name that devices are told, if it is another than the address.
    pub host: Option<String>,
    /// What is shown to devices; without it they speak plain text.
    pub tls: Option<Arc<ServerConfig>>,
}

impl From<SocketAddr> for Place {
    fn from(address: SocketAddr) -> Self {
        Self { address, host: None, tls: None }
    }
}

/// The running broker.
pub struct Embedded {
    url: String,
    /// Where the hub itself connects: behind the door, if there is one.
    near: String,
    password: String,
    shutdown: BrokerShutdownHandle,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedded").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Embedded {
    /// Starts the broker there.
    ///
    /// # Errors
    ///
    /// [`BrokerError::Embedded`], also when the port is taken.
    pub async fn start(place: impl Into<Place>, gatekeeper: Arc<dyn Gatekeeper>) -> Result<Self, BrokerError> {
        let Place { address, host, tls } = place.into();
        let failed = |error: String| BrokerError::Embedded { address: address.to_string(), error };
        let door = match tls {
            None => None,
            Some(config) => {
                let listener = TcpListener::bind(address).await.map_err(|error| failed(error.to_string()))?;
                let listener = TlsListener::new(listener, config).map_err(|error| failed(error.to_string()))?;
                Some((listener, Brought::default()))
            }
        };
        let inside = if door.is_some() { SocketAddr::from(([127, 0, 0, 1], 0)) } else { address };
        let password = hex::encode(keys::random::<32>());
        let rules = Rules {
            gatekeeper,
            password: password.clone(),
            brought: door.as_ref().map(|(_, brought)| brought.clone()),
        };
        let broker = MqttBroker::with_config(config(inside)).await.map_err(|error| failed(error.to_string()))?;
        let mut broker = broker.with_auth_provider(Arc::new(rules));
        let bound = broker.local_addr().unwrap_or(inside);
        let shutdown = broker.shutdown_handle();
        let mut ready = broker.ready_receiver();
        let mut tasks = vec![tokio::spawn(async move {
            if let Err(error) = broker.run().await {
                tracing::error!(%error, "embedded broker ended");
            }
        })];
        ready.wait_for(|ready| *ready).await.map_err(|_| failed("it ended at once".to_owned()))?;
        let near = format!("mqtt://{bound}");
        let mut shown = url("mqtt", host.as_deref(), bound);
        if let Some((listener, brought)) = door {
            shown = url("mqtts", host.as_deref(), listener.address());
            tasks.insert(0, tokio::spawn(door::run(listener, bound, brought)));
        }
        Ok(Self { url: shown, near, password, shutdown, tasks: Mutex::new(tasks) })
    }
}

impl Broker for Embedded {
    fn kind(&self) -> &'static str {
        "embedded"
    }

    fn url(&self) -> &str {
        &self.url
    }

    fn hub_access(&self) -> Access {
        Access {
            url: self.near.clone(),
            username: HUB_USER.to_owned(),
            password: self.password.clone(),
            trust: Trust::default(),
        }
    }

    fn device_access(&self, device: &DeviceId) -> Access {
        Access { username: device.to_string(), ..self.hub_access() }
    }

    fn device_password(&self, _device: &DeviceId) -> Option<String> {
        None
    }

    fn stop(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            self.shutdown.shutdown();
            // The broker is the last of them: it ends by itself, a door does not.
            let mut tasks = std::mem::take(&mut *self.tasks.lock().await);
            if let Some(broker) = tasks.pop() {
                let _ended = tokio::time::timeout(Duration::from_secs(5), broker).await;
            }
            tasks.iter().for_each(JoinHandle::abort);
        })
    }
}

/// Everything that the crate would otherwise choose too widely for us.
fn config(address: SocketAddr) -> BrokerConfig {
    let storage = StorageConfig {
        backend: StorageBackend::Memory,
        enable_persistence: false,
        max_queued_messages_per_client: QUEUE_MESSAGES_MAX,
        max_queued_bytes_per_client: QUEUE_BYTES_MAX,
        ..StorageConfig::default()
    };
    BrokerConfig {
        bind_addresses: vec![address],
        max_clients: CLIENTS_MAX,
        session_expiry_interval: Duration::from_secs(SESSION_SECONDS_MAX),
        max_packet_size: FRAME_BYTES_MAX + 1024,
        maximum_qos: 1,
        max_subscriptions_per_client: 16,
        max_retained_messages: CLIENTS_MAX * 2,
        max_retained_message_size: FRAME_BYTES_MAX,
        client_channel_capacity: QUEUE_MESSAGES_MAX,
        sys_topics_enabled: false,
        storage_config: storage,
        ..BrokerConfig::default()
    }
}

/// Who may do what: a device what its own topics allow, the hub what the fleet needs, nobody else
/// anything.
struct Rules {
    gatekeeper: Arc<dyn Gatekeeper>,
    password: String,
    /// Where there is a door, devices come through it only.
    brought: Option<Brought>,
}

impl Rules {
    fn admits(&self, connect: &ConnectPacket, from: SocketAddr) -> bool {
        let (Some(user), Some(password)) = (&connect.username, &connect.password) else {
            return false;
        };
        if *user != connect.client_id {
            return false;
        }
        if user == HUB_USER {
            return constant_time_eq(password, self.password.as_bytes());
        }
        if constant_time_eq(password, self.password.as_bytes()) {
            // The hub itself, in the place of a device whose session it ends.
            return DeviceId::parse(user).is_ok();
        }
        if self.brought.as_ref().is_some_and(|brought| !brought.holds(from)) {
            return false;
        }
        DeviceId::parse(user).is_ok_and(|device| self.gatekeeper.admits(&device, password))
    }
}

impl AuthProvider for Rules {
    fn authenticate<'a>(
        &'a self,
        connect: &'a ConnectPacket,
        from: SocketAddr,
    ) -> Pin<Box<dyn Future<Output = mqtt5::error::Result<AuthResult>> + Send + 'a>> {
        let user = connect.username.clone().unwrap_or_default();
        let result = if self.admits(connect, from) {
            AuthResult::success_with_user(user)
        } else {
            AuthResult::fail(ReasonCode::NotAuthorized)
        };
        Box::pin(std::future::ready(Ok(result)))
    }

    fn authorize_publish<'a>(
        &'a self,
        _client_id: &str,
        user: Option<&'a str>,
        topic: &'a str,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        let may = match (user, Topic::parse(topic)) {
            (Some(HUB_USER), Some(Topic::Down(..) | Topic::Hub)) => true,
            (Some(user), Some(Topic::Up(device, _))) => device.as_str() == user,
            _ => false,
        };
        Box::pin(std::future::ready(may))
    }

    fn authorize_subscribe<'a>(
        &'a self,
        _client_id: &str,
        user: Option<&'a str>,
        filter: &'a str,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        let own = |user: &str| DeviceId::parse(user).is_ok_and(|device| device_filter(&device).as_str() == filter);
        let may = match user {
            Some(HUB_USER) => filter == HUB_FILTER,
            Some(user) => own(user) || Topic::parse(filter) == Some(Topic::Hub),
            None => false,
        };
        Box::pin(std::future::ready(may))
    }
}

/// Compares secrets without telling by its time where they differ.
#[must_use]
pub(crate) fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}
