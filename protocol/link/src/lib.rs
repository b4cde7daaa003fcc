//! The one room that knows rumqttc: an MQTT 5 client that carries topics and bytes.
//!
//! ```text
//!            open                     connected, subscribed
//!  (start) ───────> Connecting ─────────────────────────────> Up ──> arrivals
//!                     ^   │ refused, unreachable              │
//!                     │   v                                   │ any error, or stop
//!                   Waiting (doubling, jittered) <────────────┘
//! ```
//!
//! A session never resumes: every connection is a new client with a clean start, because rumqttc
//! drops its queue silently when the broker has forgotten the session (measured: 0 of 30 arrived).
//! What was queued when a connection ended is gone; whoever needs it keeps it until the other side
//! says that it took it (the outbox), and sends it again after [`Arrival::Up`].
//!
//! TLS is done here, by [`tls`] and `pipe`, because rumqttc's own certificate code has open
//! advisories: rumqttc speaks to a private socket of this process, and we speak TLS behind it.
//!
//! Deliberately absent: frames, signatures, and any queue that grows.

mod drive;
mod options;
mod pipe;
pub mod tls;

use std::sync::Arc;

use bellwether_protocol::limit::FRAME_BYTES_MAX;
use bytes::Bytes;
use rumqttc::v5::AsyncClient;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

pub use options::{Address, BadAddress, Greeting, Options, Will};

/// Largest MQTT packet in either direction: a frame, its topic and its properties.
pub const PACKET_BYTES_MAX: usize = FRAME_BYTES_MAX + 1024;
/// Publications queued towards the broker; [`Link::publish`] waits when they are that many.
pub const REQUESTS_MAX: usize = 64;
/// Publications of QoS 1 that the broker has not acknowledged.
pub const IN_FLIGHT_MAX: u16 = 128;
/// Arrivals that the owner has not taken yet. Beyond this messages are dropped, as if the network
/// had lost them: waiting would stop the keep-alive, and every exchange of Bellwether repeats.
pub const ARRIVALS_MAX: usize = 1024;

/// How surely a message should arrive, hop by hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qos {
    /// QoS 0.
    AtMostOnce,
    /// QoS 1.
    AtLeastOnce,
}

/// What comes from a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Connected and subscribed.
    Up,
    /// The connection ended or could not be made; the link tries again by itself.
    Down {
        /// Why, for people.
        why: String,
    },
    /// A message.
    Message {
        /// Its topic.
        topic: String,
        /// Its bytes.
        payload: Bytes,
    },
}

/// Why a message was not handed to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// There is no connection now; send again after [`Arrival::Up`].
    #[error("not connected to the broker")]
    Down,
    /// The queue is full ([`REQUESTS_MAX`]).
    #[error("too many messages wait for the broker")]
    Full,
    /// The message is larger than [`PACKET_BYTES_MAX`].
    #[error("{0} bytes are too many for a message")]
    TooLarge(usize),
}

/// A connection that keeps itself up. Clones share it; it ends with [`Link::stop`] or when the
/// last clone is dropped.
#[derive(Clone, Debug)]
pub struct Link {
    client: watch::Receiver<Option<AsyncClient>>,
    stop: Arc<watch::Sender<bool>>,
}

impl Link {
    /// Starts connecting, and tells what comes.
    #[must_use]
    pub fn open(options: Options) -> (Self, mpsc::Receiver<Arrival>) {
        let (link, arrivals, _) = Self::open_with_handle(options);
        (link, arrivals)
    }

    fn open_with_handle(options: Options) -> (Self, mpsc::Receiver<Arrival>, JoinHandle<()>) {
        let (arrived, arrivals) = mpsc::channel(ARRIVALS_MAX);
        let (client_is, client) = watch::channel(None);
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(drive::run(options, arrived, client_is, stopped));
        (Self { client, stop: Arc::new(stop) }, arrivals, task)
    }

    /// Hands a message to the broker's queue; waits while the queue is full.
    ///
    /// # Errors
    ///
    /// [`LinkError::Down`] without a connection, or when it ends meanwhile; [`LinkError::TooLarge`].
    pub async fn publish(&self, topic: &str, payload: Bytes, qos: Qos, retain: bool) -> Result<(), LinkError> {
        let client = self.client_for(&payload)?;
        client.publish(topic, qos.into(), retain, payload).await.map_err(|_| LinkError::Down)
    }

    /// As [`Link::publish`], but never waits.
    ///
    /// # Errors
    ///
    /// As [`Link::publish`], and [`LinkError::Full`].
    pub fn try_publish(&self, topic: &str, payload: Bytes, qos: Qos, retain: bool) -> Result<(), LinkError> {
        let client = self.client_for(&payload)?;
        client.try_publish(topic, qos.into(), retain, payload).map_err(|_| LinkError::Full)
    }

    /// Whether there is a connection now.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.client.borrow().is_some()
    }

    /// Disconnects in good order (no last will) after what is queued went out, and stays so.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    fn client_for(&self, payload: &Bytes) -> Result<AsyncClient, LinkError> {
        if payload.len() > PACKET_BYTES_MAX - 512 {
            return Err(LinkError::TooLarge(payload.len()));
        }
        self.client.borrow().clone().ok_or(LinkError::Down)
    }
}

impl From<Qos> for rumqttc::v5::mqttbytes::QoS {
    fn from(qos: Qos) -> Self {
        match qos {
            Qos::AtMostOnce => Self::AtMostOnce,
            Qos::AtLeastOnce => Self::AtLeastOnce,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(port: u16) -> Options {
        Options {
            address: Address { host: "127.0.0.1".into(), port, tls: false },
            trust: tls::Trust::default(),
            client_id: "gw-1".into(),
            subscriptions: vec!["bw/v1/d/gw-1/down/#".into()],
            keep_alive: std::time::Duration::from_secs(30),
            greet: Box::new(|| Ok(Greeting::default())),
        }
    }

    #[tokio::test]
    async fn an_unreachable_broker_is_told_and_nothing_is_taken() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let (link, mut arrivals, task) = Link::open_with_handle(options(port));
        assert!(matches!(arrivals.recv().await, Some(Arrival::Down { .. })));
        let payload = Bytes::from_static(b"x");
        assert_eq!(link.publish("t", payload.clone(), Qos::AtLeastOnce, false).await, Err(LinkError::Down));
        assert_eq!(link.try_publish("t", payload, Qos::AtMostOnce, false), Err(LinkError::Down));
        link.stop();
        task.await.unwrap();
    }

    #[tokio::test]
    async fn a_dropped_link_ends_its_task() {
        let (link, arrivals, task) = Link::open_with_handle(options(1));
        drop((link, arrivals));
        task.await.unwrap();
    }

    #[tokio::test]
    async fn a_message_beyond_the_limit_is_refused_here() {
        let (link, _arrivals) = Link::open(options(1));
        let payload = Bytes::from(vec![0; PACKET_BYTES_MAX]);
        assert_eq!(link.try_publish("t", payload, Qos::AtMostOnce, false), Err(LinkError::TooLarge(PACKET_BYTES_MAX)));
    }
}
