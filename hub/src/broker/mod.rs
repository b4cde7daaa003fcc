//! Where the fleet connects: a broker inside the hub, or one of its own behind an address. Nothing
//! outside this room knows which.

mod door;
mod embedded;
mod external;

use std::future::Future;
use std::pin::Pin;

use bellwether_link::tls::Trust;
use bellwether_protocol::id::DeviceId;

pub use embedded::{Embedded, Gatekeeper, Place};
pub use external::{External, device_password};

/// How a client opens a session.
#[derive(Clone, PartialEq, Eq)]
pub struct Access {
    /// `mqtt://HOST:PORT` or `mqtts://HOST:PORT`.
    pub url: String,
    /// Its user name, which is its client id as well.
    pub username: String,
    /// Its password.
    pub password: String,
    /// Whom to trust where it is `mqtts`, and as whom to appear.
    pub trust: Trust,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("url", &self.url).field("username", &self.username).finish_non_exhaustive()
    }
}

/// A broker.
pub trait Broker: Send + Sync + std::fmt::Debug {
    /// `embedded` or `external`.
    fn kind(&self) -> &'static str;

    /// The address that devices use.
    fn url(&self) -> &str;

    /// How the hub itself opens its session.
    fn hub_access(&self) -> Access;

    /// How the hub opens a session in a device's place, to end the one there is.
    fn device_access(&self, device: &DeviceId) -> Access;

    /// The password that the hub hands a device at enrolment; `None` where the broker checks the
    /// device's own signature.
    fn device_password(&self, device: &DeviceId) -> Option<String>;

    /// Ends the broker, if it is ours.
    fn stop(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// Why there is no broker.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The address is not one.
    #[error(
        "{0} is no broker address: embedded://ADDRESS:PORT, mqtt://USER:PASSWORD@HOST:PORT or mqtts://USER:PASSWORD@HOST:PORT"
    )]
    BadAddress(String),
    /// The embedded broker cannot run.
    #[error("the embedded broker cannot listen on {address}: {error}")]
    Embedded {
        /// Where it should listen.
        address: String,
        /// Why not.
        error: String,
    },
}
