//! A network that fails: a TCP proxy whose connections are cut, slowed, stopped in one direction or
//! both, or robbed of bytes, and whose door refuses or swallows whoever comes.
//!
//! ```text
//!   device ──> door ──> Way ── up ────> service       Stalled: nothing is read, not even an end, so
//!                        └─ <── down ──                that either side may take the other for alive
//! ```

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::timeline::held;

/// Bytes forwarded at once.
const PIECE_BYTES: usize = 16 * 1024;

/// What happens to bytes in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Flows,
    Slow(Duration),
    Stalled,
}

/// What happens to whoever connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    Open,
    Refuses,
    /// Accepts, and forwards nothing.
    Swallows,
}

/// One connection.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    pub(crate) up: Arc<watch::Sender<Fate>>,
    pub(crate) down: Arc<watch::Sender<Fate>>,
    cut: Arc<watch::Sender<bool>>,
    robbed: Arc<AtomicUsize>,
    client: Arc<OnceLock<String>>,
}

impl Way {
    fn new(first: Fate) -> Self {
        Self {
            up: Arc::new(watch::Sender::new(first)),
            down: Arc::new(watch::Sender::new(first)),
            cut: Arc::new(watch::Sender::new(false)),
            robbed: Arc::default(),
            client: Arc::default(),
        }
    }

    /// Who is at its other end, as far as what was sent first says so.
    pub(crate) fn client(&self) -> &str {
        self.client.get().map_or("somebody", String::as_str)
    }

    /// Closes both sides.
    pub(crate) fn cut(&self) {
        self.cut.send_replace(true);
    }

    /// Takes so many bytes out of the middle of what comes down next.
    pub(crate) fn rob(&self, bytes: usize) {
        self.robbed.store(bytes, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        *self.cut.borrow()
    }
}

/// A proxy before one service.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) door: Arc<watch::Sender<Door>>,
    ways: Arc<Mutex<Vec<Way>>>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Listens at `at` for what is to reach `service`.
    pub(crate) async fn start(at: SocketAddr, service: SocketAddr) -> Self {
        let listener = TcpListener::bind(at).await.unwrap_or_else(|why| panic!("no proxy at {at}: {why}"));
        let door = Arc::new(watch::Sender::new(Door::Open));
        let ways: Arc<Mutex<Vec<Way>>> = Arc::default();
        let (door_here, ways_here) = (Arc::clone(&door), Arc::clone(&ways));
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let first = match *door_here.borrow() {
                    Door::Refuses => continue,
                    Door::Open => Fate::Flows,
                    Door::Swallows => Fate::Stalled,
                };
                let way = Way::new(first);
                let mut ways = held(&ways_here);
                ways.retain(|way| !way.is_over());
                ways.push(way.clone());
                drop(ways);
                tokio::spawn(async move {
                    let mut cut = way.cut.subscribe();
                    tokio::select! {
                        () = connect(client, service, &way) => {}
                        _ = cut.wait_for(|cut| *cut) => {}
                    }
                    way.cut();
                });
            }
        });
        Self { door, ways, task }
    }

    /// The connections there are.
    pub(crate) fn ways(&self) -> Vec<Way> {
        held(&self.ways).iter().filter(|way| !way.is_over()).cloned().collect()
    }

    /// Opens the door; whoever was connected must come again.
    pub(crate) fn heal(&self) {
        self.door.send_replace(Door::Open);
        self.ways().iter().for_each(Way::cut);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.ways().iter().for_each(Way::cut);
    }
}

/// Forwards in both directions until either side ends.
async fn connect(client: TcpStream, service: SocketAddr, way: &Way) {
    let Ok(service) = TcpStream::connect(service).await else { return };
    for stream in [&client, &service] {
        let _ = stream.set_nodelay(true);
    }
    let (from_client, to_client) = client.into_split();
    let (from_service, to_service) = service.into_split();
    tokio::join!(up(from_client, to_service, way), down(from_service, to_client, way));
}

async fn up(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, way: &Way) {
    let mut fate = way.up.subscribe();
    let mut buffer = vec![0; PIECE_BYTES];
    while let Some(bytes) = piece(&mut from, &mut fate, &mut buffer).await {
        if way.client.get().is_none() {
            way.client.get_or_init(|| named(bytes));
        }
        if to.write_all(bytes).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}

async fn down(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, way: &Way) {
    let mut fate = way.down.subscribe();
    let mut buffer = vec![0; PIECE_BYTES];
    while let Some(bytes) = piece(&mut from, &mut fate, &mut buffer).await {
        let robbed = way.robbed.swap(0, Ordering::Relaxed).min(bytes.len());
        let (before, rest) = bytes.split_at((bytes.len() - robbed) / 2);
        let after = rest.get(robbed..).unwrap_or_default();
        if to.write_all(before).await.is_err() || to.write_all(after).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}

/// The next bytes, once their fate lets them pass.
async fn piece<'b>(
    from: &mut OwnedReadHalf,
    fate: &mut watch::Receiver<Fate>,
    buffer: &'b mut [u8],
) -> Option<&'b [u8]> {
    fate.wait_for(|fate| *fate != Fate::Stalled).await.ok()?;
    let length = from.read(buffer).await.ok().filter(|length| *length > 0)?;
    let passes = *fate.wait_for(|fate| *fate != Fate::Stalled).await.ok()?;
    if let Fate::Slow(pause) = passes {
        tokio::time::sleep(pause).await;
    }
    buffer.get(..length)
}

/// Who says hello: the device or hub whose name is in it.
fn named(first: &[u8]) -> String {
    let text = String::from_utf8_lossy(first);
    let word = |start: &str| {
        let rest = text.get(text.find(start)?..)?;
        Some(rest.chars().take_while(|c| c.is_ascii_alphanumeric() || "-.".contains(*c)).take(16).collect())
    };
    word("gw-").or_else(|| word("bellwether.hub")).unwrap_or_else(|| "somebody".to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_forwards_stalls_loses_bytes_and_is_cut() {
    let service = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = SocketAddr::from(([127, 0, 0, 1], bellwether_tests::mosquitto::free_port()));
    let proxy = Proxy::start(at, service.local_addr().unwrap()).await;
    let mut client = TcpStream::connect(at).await.unwrap();
    let (mut server, _) = service.accept().await.unwrap();
    let mut buffer = [0; 16];
    let read = async |stream: &mut TcpStream, buffer: &mut [u8; 16]| {
        let length = stream.read(buffer).await.unwrap_or(0);
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    client.write_all(b"I am gw-7!").await.unwrap();
    assert_eq!(read(&mut server, &mut buffer).await, "I am gw-7!");
    let way = proxy.ways().remove(0);
    assert_eq!(way.client(), "gw-7");
    way.rob(2);
    server.write_all(b"123456").await.unwrap();
    let mut got = String::new();
    while got.len() < 4 {
        got += &read(&mut client, &mut buffer).await;
    }
    assert_eq!(got, "1256");
    way.up.send_replace(Fate::Stalled);
    client.write_all(b"late").await.unwrap();
    let waited = tokio::time::timeout(Duration::from_millis(100), server.read(&mut buffer)).await;
    assert!(waited.is_err(), "{waited:?}");
    way.up.send_replace(Fate::Slow(Duration::from_millis(1)));
    assert_eq!(read(&mut server, &mut buffer).await, "late");
    proxy.heal();
    assert_eq!((read(&mut client, &mut buffer).await, read(&mut server, &mut buffer).await), Default::default());
    assert!(proxy.ways().is_empty());
    proxy.door.send_replace(Door::Refuses);
    let mut refused = TcpStream::connect(at).await.unwrap();
    assert_eq!(read(&mut refused, &mut buffer).await, "");
}
