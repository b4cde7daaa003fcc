//! The TLS door of the embedded broker: the broker itself listens on loopback in plain text, and
//! lets in whom this door brings, and the hub.
//!
//! The crate's own TLS shakes hands with one connection at a time and waits for it as long as it
//! likes: a single silent stranger keeps the whole fleet out. Here nobody waits for another.
//!
//! ```text
//!   device ══TLS══> door ──loopback──> broker: is this a connection of the door? ──> rules
//! ```

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncWriteExt as _, copy, split};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::server::TlsStream;

use crate::tls::TlsListener;

/// How long the broker may take to end a session whose device went away.
const AFTERWARDS: Duration = Duration::from_secs(5);

/// The near ends of the connections that the door brought, by which the broker knows them.
#[derive(Clone, Debug, Default)]
pub(super) struct Brought(Arc<Mutex<BTreeSet<SocketAddr>>>);

impl Brought {
    /// Whether the door brought this connection.
    pub(super) fn holds(&self, from: SocketAddr) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&from)
    }

    fn add(&self, near: SocketAddr) -> Guest {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(near);
        Guest { brought: self.clone(), near }
    }
}

/// One of them, for as long as it stands.
struct Guest {
    brought: Brought,
    near: SocketAddr,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.brought.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.near);
    }
}

/// Brings every connection to the broker; ends, and all of them with it, when it is aborted.
pub(super) async fn run(mut listener: TlsListener, broker: SocketAddr, brought: Brought) {
    let mut carried = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.next() => {
                let Some((far, from)) = accepted else { return };
                let brought = brought.clone();
                carried.spawn(async move {
                    if let Err(why) = carry(far, broker, &brought).await {
                        tracing::debug!(%from, %why, "a connection broke");
                    }
                });
            }
            Some(_ended) = carried.join_next() => {}
        }
    }
}

async fn carry(far: TlsStream<TcpStream>, broker: SocketAddr, brought: &Brought) -> io::Result<()> {
    let near = TcpStream::connect(broker).await?;
    near.set_nodelay(true)?;
    let _guest = brought.add(near.local_addr()?);
    let ((mut from_far, mut to_far), (mut from_near, mut to_near)) = (split(far), near.into_split());
    let inward = async {
        let copied = copy(&mut from_far, &mut to_near).await;
        to_near.shutdown().await?;
        copied
    };
    let outward = async {
        let copied = copy(&mut from_near, &mut to_far).await;
        to_far.shutdown().await?;
        copied
    };
    tokio::pin!(outward);
    tokio::select! {
        // The broker ended it: nothing that the device still says is heard.
        done = &mut outward => done.map(drop),
        done = inward => {
            let _answered = tokio::time::timeout(AFTERWARDS, outward).await;
            done.map(drop)
        }
    }
}
