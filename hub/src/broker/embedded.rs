//! The broker inside the hub: crate `mqtt5`, told where to listen, what to keep, and whom to ask.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bellwether_protocol::id::DeviceId;
use bellwether_protocol::limit::FRAME_BYTES_MAX;
use bellwether_protocol::topic::{HUB_FILTER, Topic, device_filter};
use mqtt5::broker::MqttBroker;
use mqtt5::broker::auth::{AuthProvider, AuthResult};
use mqtt5::broker::config::{BrokerConfig, StorageBackend, StorageConfig};
use mqtt5::broker::server::BrokerShutdownHandle;
use mqtt5::packet::connect::ConnectPacket;
use mqtt5::protocol::v5::reason_codes::ReasonCode;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::{Access, Broker, BrokerError};
use crate::keys;

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

/// The running broker.
pub struct Embedded {
    url: String,
    password: String,
    shutdown: BrokerShutdownHandle,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedded").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Embedded {
    /// Starts the broker on exactly this address.
    ///
    /// # Errors
    ///
    /// [`BrokerError::Embedded`], also when the port is taken.
    pub async fn start(address: SocketAddr, gatekeeper: Arc<dyn Gatekeeper>) -> Result<Self, BrokerError> {
        let failed = |error: String| BrokerError::Embedded { address: address.to_string(), error };
        let password = hex::encode(keys::random::<32>());
        let broker = MqttBroker::with_config(config(address)).await.map_err(|error| failed(error.to_string()))?;
        let mut broker = broker.with_auth_provider(Arc::new(Rules { gatekeeper, password: password.clone() }));
        let bound = broker.local_addr().unwrap_or(address);
        let shutdown = broker.shutdown_handle();
        let mut ready = broker.ready_receiver();
        let task = tokio::spawn(async move {
            if let Err(error) = broker.run().await {
                tracing::error!(%error, "embedded broker ended");
            }
        });
        ready.wait_for(|ready| *ready).await.map_err(|_| failed("it ended at once".to_owned()))?;
        Ok(Self { url: format!("mqtt://{bound}"), password, shutdown, task: Mutex::new(Some(task)) })
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
        Access { url: self.url.clone(), username: HUB_USER.to_owned(), password: self.password.clone() }
    }

    fn device_password(&self, _device: &DeviceId) -> Option<String> {
        None
    }

    fn stop(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            self.shutdown.shutdown();
            if let Some(task) = self.task.lock().await.take() {
                let _ended = tokio::time::timeout(Duration::from_secs(5), task).await;
            }
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
}

impl Rules {
    fn admits(&self, connect: &ConnectPacket) -> bool {
        let (Some(user), Some(password)) = (&connect.username, &connect.password) else {
            return false;
        };
        if *user != connect.client_id {
            return false;
        }
        if user == HUB_USER {
            return constant_time_eq(password, self.password.as_bytes());
        }
        DeviceId::parse(user).is_ok_and(|device| self.gatekeeper.admits(&device, password))
    }
}

impl AuthProvider for Rules {
    fn authenticate<'a>(
        &'a self,
        connect: &'a ConnectPacket,
        _from: SocketAddr,
    ) -> Pin<Box<dyn Future<Output = mqtt5::error::Result<AuthResult>> + Send + 'a>> {
        let user = connect.username.clone().unwrap_or_default();
        let result = if self.admits(connect) {
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
