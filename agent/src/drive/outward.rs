//! What goes up: hello, report, batch, need, and the greeting of a connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bellwether_link::{Greeting, LinkError, Qos, Will};
use bellwether_protocol::SigningKey;
use bellwether_protocol::error::Reject;
use bellwether_protocol::frame;
use bellwether_protocol::id::{DeviceId, TransferId};
use bellwether_protocol::limit::STATEMENT_BYTES_MAX;
use bellwether_protocol::message::{Gone, Hello, Need, Up};
use bellwether_protocol::topic::{Topic, UpTopic};
use bellwether_protocol::trust::{Connect, FleetId, Signed, Statement, seal};
use bellwether_runtime::crash;
use bytes::Bytes;

use super::Driver;
use crate::store::Store;

/// A signed statement and what a frame adds to it.
const UP_BYTES_MAX: usize = STATEMENT_BYTES_MAX + 256;

fn frame_of(up: &Up<'_>) -> Result<Bytes, Reject> {
    let mut buffer = vec![0; UP_BYTES_MAX];
    frame::encode(up, &mut buffer).map(|bytes| Bytes::copy_from_slice(bytes))
}

/// A frame with a signed statement, as `wrap` puts it.
fn sealed<T: Statement>(
    value: &T,
    (fleet, key): (FleetId, &SigningKey),
    wrap: impl for<'s> FnOnce(Signed<'s>) -> Up<'s>,
) -> Result<Bytes, Reject> {
    let mut body = vec![0; STATEMENT_BYTES_MAX];
    let signed = seal(value, fleet, key, &mut body)?;
    frame_of(&wrap(signed))
}

fn state(report: Signed<'_>) -> Up<'_> {
    Up::State(report)
}

fn known_of(known: Signed<'_>) -> Up<'_> {
    Up::Known(known)
}

fn batch_of(batch: Signed<'_>) -> Up<'_> {
    Up::Batch(batch)
}

impl Driver {
    /// Hands a message to the link; false if it was not taken, to be tried again later.
    fn publish(&self, topic: UpTopic, payload: Result<Bytes, Reject>) -> bool {
        let topic = Topic::Up(self.brain.config().device.clone(), topic).text();
        let payload = match payload {
            Ok(payload) => payload,
            Err(why) => {
                tracing::error!(topic = topic.as_str(), %why, "a message does not fit: it is left out");
                return true;
            }
        };
        match self.link.try_publish(&topic, payload, Qos::AtLeastOnce, false) {
            Ok(()) => true,
            Err(LinkError::Down | LinkError::Full) => false,
            Err(why @ LinkError::TooLarge(_)) => {
                tracing::error!(%why, "a message is left out");
                true
            }
        }
    }

    /// Says hello for connection `session`.
    pub(super) fn greet(&self, session: u32) -> bool {
        let hello = Hello { boot: self.brain.config().boot, session };
        self.publish(UpTopic::Hello, frame_of(&Up::Hello(hello)))
    }

    /// Says farewell: what the last will would say.
    pub(super) fn leave(&self) {
        let session = self.session.load(Ordering::Acquire);
        let gone = Gone { boot: self.brain.config().boot, session };
        self.publish(UpTopic::Gone, frame_of(&Up::Gone(gone)));
    }

    /// Reports the device's state.
    pub(super) fn report(&self) -> bool {
        let report = self.brain.report();
        self.publish(UpTopic::State, sealed(&report, (self.fleet, &self.key), state))
    }

    /// Says what it knows of roots, recalls and checkpoints, and asks for the time.
    pub(super) fn tell_known(&self) -> bool {
        let known = self.brain.known();
        self.publish(UpTopic::Known, sealed(&known, (self.fleet, &self.key), known_of))
    }

    /// Asks for parts of a transfer.
    pub(super) fn ask(&self, transfer: TransferId, need: Need) -> bool {
        self.publish(UpTopic::Need(transfer), frame_of(&Up::Need(need)))
    }

    /// Sends the batches that are due.
    pub(super) fn send_batch(&mut self) {
        if !self.link.is_up() {
            return;
        }
        let device = self.brain.config().device.clone();
        while let Some(batch) = self.outbox.due(self.clock.now()) {
            // Not taken now means sent again at its deadline.
            if !self.publish(UpTopic::Batch, sealed(&batch.batch(&device), (self.fleet, &self.key), batch_of)) {
                break;
            }
            crash::point("agent.batch.sent");
        }
    }
}

/// Who greets the broker, and as what.
pub(crate) struct Greeter {
    pub(crate) device: DeviceId,
    pub(crate) key: SigningKey,
    pub(crate) fleet: FleetId,
    pub(crate) boot: u64,
    pub(crate) store: Store,
    /// A password of the broker's own, where it cannot check signatures.
    pub(crate) password: Option<String>,
    pub(crate) session: Arc<AtomicU32>,
}

impl Greeter {
    /// A greeting for the next connection: a signature over a number never used before, and a last
    /// will that names this connection.
    pub(crate) fn greet(&self) -> Result<Greeting, String> {
        let session = self.session.fetch_add(1, Ordering::AcqRel).saturating_add(1);
        let password = match &self.password {
            Some(password) => password.clone(),
            None => self.signed().map_err(|why| why.to_string())?,
        };
        let gone = frame_of(&Up::Gone(Gone { boot: self.boot, session })).map_err(|why| why.to_string())?;
        let topic = Topic::Up(self.device.clone(), UpTopic::Gone).text();
        Ok(Greeting {
            login: Some((self.device.to_string(), password)),
            will: Some(Will { topic: topic.as_str().to_owned(), payload: gone.to_vec() }),
        })
    }

    fn signed(&self) -> Result<String, crate::AgentError> {
        let counter = self.store.next_connect()?;
        let connect = Connect { device: self.device.clone(), counter };
        let fault = |why: Reject| crate::AgentError::Storage(why.to_string());
        let mut body = [0; STATEMENT_BYTES_MAX];
        let signed = seal(&connect, self.fleet, &self.key, &mut body).map_err(fault)?;
        let mut buffer = [0; 512];
        frame::encode(&signed, &mut buffer).map(hex::encode).map_err(fault)
    }
}
