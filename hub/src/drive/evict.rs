//! Ends the session of a device whose key no longer counts.
//!
//! No broker has a common way to close a client's session, but every broker gives it to whoever
//! connects next under the same client id (MQTT 5, section 3.1.4). So the hub connects as the device,
//! which ends the old session, and leaves; the old key is refused when it tries again.

use std::time::Duration;

use bellwether_link::{Arrival, Greeting, Link, Options};
use bellwether_protocol::id::DeviceId;
use tokio::time::timeout;

use super::Hub;

/// How long the broker may take to let the hub in.
const WITHIN: Duration = Duration::from_secs(10);
/// Silence that the broker bears; the session lasts a moment only.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

impl Hub {
    /// Ends the device's session at the broker, beside whatever else goes on.
    pub(super) fn evict(&self, device: &DeviceId) {
        let Some(access) = self.broker().map(|broker| broker.device_access(device)) else { return };
        let login = Some((access.username.clone(), access.password));
        let Ok(address) = access.url.parse() else { return };
        let options = Options {
            address,
            trust: access.trust,
            client_id: access.username,
            subscriptions: Vec::new(),
            keep_alive: KEEP_ALIVE,
            greet: Box::new(move || Ok(Greeting { login: login.clone(), will: None })),
        };
        let device = device.clone();
        tokio::spawn(async move {
            let (link, mut arrivals) = Link::open(options);
            let up = async {
                while let Some(arrival) = arrivals.recv().await {
                    match arrival {
                        Arrival::Up => return true,
                        Arrival::Down { why } => tracing::debug!(%device, why, "not let in yet"),
                        Arrival::Message { .. } => {}
                    }
                }
                false
            };
            match timeout(WITHIN, up).await {
                Ok(true) => tracing::info!(%device, "its session was closed"),
                _ => tracing::warn!(%device, "its session could not be closed; nothing it sends is taken"),
            }
            link.stop();
        });
    }
}
