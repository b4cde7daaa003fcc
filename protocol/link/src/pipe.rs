//! TLS beside rumqttc: a socket of this process that rumqttc takes for the broker, and a task that
//! carries its bytes through TLS.
//!
//! ```text
//!   rumqttc ──unix socket──> carry ══TLS══> broker
//!             in a folder of our own (0700), gone as soon as rumqttc is through it
//! ```
//!
//! Either side's end ends the other: what was written before still goes out.

use std::fs::{DirBuilder, remove_dir_all};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::options::Address;
use crate::tls::{self, Trust};

/// How long connecting may take, and the handshake again: a slow radio link needs a few seconds.
const OPEN: Duration = Duration::from_secs(15);
/// How long rumqttc, which runs in this process, may take to come through the door.
const ENTER: Duration = Duration::from_secs(10);

/// A connection that speaks TLS for somebody who does not.
#[derive(Debug)]
pub(crate) struct Pipe {
    path: String,
    task: JoinHandle<Result<(), String>>,
}

impl Pipe {
    /// Connects, shakes hands, and opens the door for one caller.
    ///
    /// # Errors
    ///
    /// Why not, for people.
    pub(crate) async fn open(address: &Address, trust: &Trust) -> Result<Self, String> {
        let reading = trust.clone();
        let config = spawn_blocking(move || reading.config()).await.map_err(|why| why.to_string())?;
        let config = config.map_err(|why| why.to_string())?;
        let host = address.host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host.clone()).map_err(|_| format!("`{host}` is no name of a machine"))?;
        let slow = |_| format!("{address} does not answer within {} s", OPEN.as_secs());
        let tcp = timeout(OPEN, TcpStream::connect((host.as_str(), address.port))).await.map_err(slow)?;
        let tcp = tcp.map_err(|why| format!("{address}: {why}"))?;
        tcp.set_nodelay(true).map_err(|why| why.to_string())?;
        let explain = {
            let (trust, who) = (trust.clone(), format!("the broker at {address}"));
            move |why: &io::Error| tls::reason(why, &trust, &who).unwrap_or_else(|| format!("{who}: {why}"))
        };
        let far = timeout(OPEN, TlsConnector::from(Arc::new(config)).connect(name, tcp)).await.map_err(slow)?;
        let far = far.map_err(|why| explain(&why))?;
        let door = Door::open().map_err(|why| {
            format!(
                "no socket can be made in {}: {why}; set TMPDIR to a folder that can",
                std::env::temp_dir().display()
            )
        })?;
        let path = door.path().ok_or("the folder for temporary files has no readable name: set TMPDIR")?;
        let task = tokio::spawn(async move { carry(door, far).await.map_err(|why| explain(&why)) });
        Ok(Self { path, task })
    }

    /// Where rumqttc finds the broker.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Waits for what is under way, at most `patience`; why the far side broke, if it did.
    pub(crate) async fn end(mut self, patience: Duration) -> Option<String> {
        if let Ok(ended) = timeout(patience, &mut self.task).await {
            return ended.ok().and_then(Result::err);
        }
        self.task.abort();
        None
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(door: Door, mut far: TlsStream<TcpStream>) -> io::Result<()> {
    let mut near = timeout(ENTER, door.caller()).await.map_err(io::Error::other)??;
    drop(door);
    copy_bidirectional(&mut near, &mut far).await.map(drop)
}

/// A socket in a folder that only this user may enter.
struct Door {
    folder: PathBuf,
    listener: UnixListener,
}

impl Door {
    fn open() -> io::Result<Self> {
        let name = format!("bellwether-{:016x}", getrandom::u64().map_err(io::Error::other)?);
        let folder = std::env::temp_dir().join(name);
        DirBuilder::new().mode(0o700).create(&folder)?;
        match UnixListener::bind(folder.join("mqtt")) {
            Ok(listener) => Ok(Self { folder, listener }),
            Err(why) => {
                let _gone = remove_dir_all(&folder);
                Err(why)
            }
        }
    }

    fn path(&self) -> Option<String> {
        self.folder.join("mqtt").to_str().map(str::to_owned)
    }

    /// The first caller that is this very process; another one has no business here.
    async fn caller(&self) -> io::Result<UnixStream> {
        let this = i32::try_from(std::process::id()).ok();
        loop {
            let (caller, _) = self.listener.accept().await?;
            if caller.peer_cred()?.pid() == this {
                return Ok(caller);
            }
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let _gone = remove_dir_all(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn a_door_is_private_lets_this_process_in_and_leaves_nothing() {
        let door = Door::open().unwrap();
        let (path, folder) = (door.path().unwrap(), door.folder.clone());
        assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        let (near, called) = tokio::join!(door.caller(), UnixStream::connect(&path));
        near.unwrap();
        called.unwrap();
        drop(door);
        assert!(!folder.exists());
    }

    #[tokio::test]
    async fn a_port_that_speaks_no_tls_is_named() {
        use tokio::io::AsyncWriteExt as _;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let plain = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        });
        let address = Address { host: "127.0.0.1".into(), port, tls: true };
        let folder = std::env::temp_dir().join(format!("bellwether-no-ca-{port}"));
        let missing = Trust { ca: Some(folder), ..Trust::default() };
        assert!(Pipe::open(&address, &missing).await.unwrap_err().contains("bellwether-no-ca"));
        let why = Pipe::open(&address, &Trust::default()).await.unwrap_err();
        assert!(why.contains("does not speak TLS"), "{why}");
        plain.await.unwrap();
    }
}
