//! The composition root: opens the parts, binds the ports, and runs until told to stop.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::serve::ListenerExt as _;
use bellwether_protocol::trust::PublicKey;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::backup::directories;
use crate::blob::Blobs;
use crate::broker::{Broker, BrokerError, Embedded, External, Place};
use crate::collect;
use crate::config::{BROKER_DEFAULT, Config, LISTEN_DEFAULT};
use crate::drive::{FirstLogin, Hub, Parts};
use crate::keys::{self, HubKeys, Which};
use crate::store::SledStore;
use crate::tls::{Shown, TlsListener, may_serve, url};

/// A hub that serves.
#[derive(Debug)]
pub struct Running {
    hub: Hub,
    url: String,
    first: Option<FirstLogin>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

/// Opens the hub's data without serving.
///
/// # Errors
///
/// If the data directory cannot be made or read, or another hub has it open.
pub fn open(config: Config) -> anyhow::Result<Hub> {
    let [store, packages, key_directory] = directories(&config.data);
    let collected = collect::directory(&config.data);
    for directory in [&store, &packages, &key_directory, &collected] {
        std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    private(&config.data)?;
    let keys = HubKeys::open(&key_directory).context("cannot read the hub's keys")?;
    let in_use = || format!("cannot open the store in {}: is another hub running on it?", store.display());
    let parts = Parts {
        store: Box::new(SledStore::open(&store).with_context(in_use)?),
        blobs: Blobs::in_directory(&packages)?,
        collected: collect::Files::in_directory(&collected)?,
        keys,
        config,
    };
    let hub = Hub::new(parts)?;
    hub.settle_keys();
    Ok(hub)
}

/// The secret behind the passwords of devices at a broker of its own. It touches no store, so a hub
/// may be running on the same data.
///
/// # Errors
///
/// If the directory of keys cannot be made or read.
pub fn broker_secret(config: &Config) -> anyhow::Result<[u8; 32]> {
    Ok(HubKeys::open(&keys_of(config)?).context("cannot read the hub's keys")?.broker_secret)
}

/// Makes the key that is to take another's place, once a root lists it; a hub may be running.
///
/// # Errors
///
/// If no hub has run there yet, or its directory of keys cannot be written.
pub fn new_key(config: &Config, which: Which) -> anyhow::Result<PublicKey> {
    let [_, _, key_directory] = directories(&config.data);
    anyhow::ensure!(
        keys::FILES.iter().any(|name| key_directory.join(name).exists()),
        "no hub has ever run in {}: name its directory with --data",
        config.data.display()
    );
    keys::new_key(&key_directory, which).context("cannot make the key")
}

fn keys_of(config: &Config) -> anyhow::Result<PathBuf> {
    let [_, _, key_directory] = directories(&config.data);
    std::fs::create_dir_all(&key_directory).with_context(|| format!("cannot make {}", key_directory.display()))?;
    private(&config.data)?;
    Ok(key_directory)
}

/// Nobody else on the machine reads the hub's data.
fn private(directory: &std::path::Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700))
        .with_context(|| format!("cannot protect {}", directory.display()))
}

/// Starts a hub: broker, link, HTTP.
///
/// # Errors
///
/// If its data cannot be opened, a port that was asked for is taken, or plain text would leave this
/// machine without anyone having asked for it.
pub async fn start(config: Config) -> anyhow::Result<Running> {
    let shown = Shown::of(&config)?;
    if let Some(listen) = config.listen {
        may_serve("HTTP", listen, &config)?;
    }
    let hub = open(config.clone())?;
    hub.attach(open_broker(&hub, &config, shown.as_ref()).await?);
    let listener = bind(config.listen, LISTEN_DEFAULT).await?;
    let scheme = if shown.is_some() { "https" } else { "http" };
    let url = url(scheme, config.host.as_deref(), listener.local_addr()?);
    let first = hub.first_login()?;
    let (stop, stopped) = watch::channel(false);
    let broker = hub.broker().context("the broker was attached above")?;
    let arrivals = hub.open_link(broker)?;
    let pump = tokio::spawn(hub.clone().pump(arrivals, stopped.clone()));
    let outlet = tokio::spawn(crate::outlet::run(hub.clone(), stopped.clone()));
    let collect = tokio::spawn(hub.clone().collect(stopped.clone()));
    let router = crate::api::router(hub.clone());
    let serve = tokio::spawn(serve(listener, shown, router, stopped));
    Ok(Running { hub, url, first, stop, tasks: vec![pump, outlet, collect, serve] })
}

async fn serve(listener: TcpListener, shown: Option<Shown>, router: Router, mut stopped: watch::Receiver<bool>) {
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let until = async move {
        let _stopped = stopped.wait_for(|stop| *stop).await;
    };
    let ended = match shown {
        None => axum::serve(listener, service).with_graceful_shutdown(until).await,
        Some(shown) => match TlsListener::new(listener, shown.http) {
            // The tap only makes axum tell the caller's address to the handlers.
            Ok(listener) => axum::serve(listener.tap_io(|_| {}), service).with_graceful_shutdown(until).await,
            Err(error) => Err(error),
        },
    };
    if let Err(error) = ended {
        tracing::error!(%error, "HTTP ended");
    }
}

async fn open_broker(hub: &Hub, config: &Config, shown: Option<&Shown>) -> anyhow::Result<Box<dyn Broker>> {
    let gatekeeper = Arc::new(hub.clone());
    let at = |address| Place { address, host: config.host.clone(), tls: shown.map(|shown| shown.mqtt.clone()) };
    let Some(address) = config.broker.as_deref() else {
        // Without an address the default port is only a wish.
        let wish: SocketAddr = BROKER_DEFAULT.parse()?;
        let free = SocketAddr::new(wish.ip(), 0);
        return match Embedded::start(at(wish), gatekeeper.clone()).await {
            Ok(broker) => Ok(Box::new(broker)),
            Err(error) => {
                tracing::info!(%error, "taking a free port");
                Ok(Box::new(Embedded::start(at(free), gatekeeper).await?))
            }
        };
    };
    if let Some(place) = address.strip_prefix("embedded://") {
        let place: SocketAddr = place.parse().map_err(|_| BrokerError::BadAddress(address.to_owned()))?;
        may_serve("MQTT", place, config)?;
        return Ok(Box::new(Embedded::start(at(place), gatekeeper).await?));
    }
    Ok(Box::new(External::new(address, hub.broker_secret(), config.broker_trust()?)?))
}

async fn bind(asked: Option<SocketAddr>, default: &str) -> anyhow::Result<TcpListener> {
    if let Some(address) = asked {
        return TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"));
    }
    let wish: SocketAddr = default.parse()?;
    match TcpListener::bind(wish).await {
        Ok(listener) => Ok(listener),
        Err(_) => Ok(TcpListener::bind(SocketAddr::new(wish.ip(), 0)).await?),
    }
}

impl Running {
    /// The hub.
    #[must_use]
    pub const fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Its web address.
    #[must_use]
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// The first login, at a hub's first start only.
    #[must_use]
    pub const fn first_login(&self) -> Option<&FirstLogin> {
        self.first.as_ref()
    }

    /// Ends everything in good order: no new requests, link, broker, store.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        self.hub.close();
        for task in self.tasks {
            let _ended = tokio::time::timeout(std::time::Duration::from_secs(3), task).await;
        }
        if let Some(broker) = self.hub.broker() {
            broker.stop().await;
        }
        if let Err(error) = self.hub.flush() {
            tracing::error!(%error, "the store may lack the last seconds");
        }
    }
}
