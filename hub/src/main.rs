//! `bellwether-hub`: arguments, tracing, exit code; nothing else.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use bellwether_hub::api::types::Role;
use bellwether_hub::broker::device_password;
use bellwether_hub::config::Config;
use bellwether_hub::drive::TOKEN_DAYS;
use bellwether_hub::keys::Which;
use bellwether_hub::{backup, exec, run};
use bellwether_protocol::id::DeviceId;
use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// The Bellwether hub: registry, approvals, rollouts and dashboard for a fleet of edge devices.
#[derive(Parser)]
#[command(
    name = "bellwether-hub",
    version,
    after_help = "Examples:\n  bellwether-hub serve\n  bellwether-hub serve --data /var/lib/bellwether --listen 127.0.0.1:8080\n  \
                  bellwether-hub serve --broker mqtt://hub:PASSWORD@127.0.0.1:1883\n  \
                  bellwether-hub serve --listen 0.0.0.0:8443 --broker embedded://0.0.0.0:8883 --host hub.example \\\n      \
                  --tls-cert hub.example.pem --tls-key hub.example.key\n  \
                  bellwether-hub restore fleet.backup --data new-data\n\nExit codes: 0 ended in good order, 1 error, 2 usage."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
struct Common {
    /// Configuration file (TOML); flags come before it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory of everything the hub keeps [default: bellwether-data].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

#[derive(Args)]
struct Tls {
    /// The name by which devices and browsers reach this hub; certificates are checked against it.
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Certificate (PEM) that makes HTTP into HTTPS and the embedded broker's MQTT into MQTTS.
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// Its private key (PEM).
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Authorities (PEM) of which devices must show a certificate at the embedded broker.
    #[arg(long, value_name = "FILE")]
    tls_client_ca: Option<PathBuf>,
    /// Authorities (PEM) to trust at a broker of its own, instead of this machine's.
    #[arg(long, value_name = "FILE")]
    broker_ca: Option<PathBuf>,
    /// Certificate (PEM) for a broker that wants one.
    #[arg(long, value_name = "FILE")]
    broker_cert: Option<PathBuf>,
    /// Its private key (PEM).
    #[arg(long, value_name = "FILE")]
    broker_key: Option<PathBuf>,
    /// Serve plain text beyond this machine: only where something else protects the way.
    #[arg(long)]
    insecure_listen: bool,
}

impl Tls {
    /// What is said here comes before what the file says.
    fn over(self, config: &mut Config) {
        let choose = |flag: Option<PathBuf>, setting: &mut Option<PathBuf>| *setting = flag.or(setting.take());
        config.host = self.host.or(config.host.take());
        choose(self.tls_cert, &mut config.tls_cert);
        choose(self.tls_key, &mut config.tls_key);
        choose(self.tls_client_ca, &mut config.tls_client_ca);
        choose(self.broker_ca, &mut config.broker_ca);
        choose(self.broker_cert, &mut config.broker_cert);
        choose(self.broker_key, &mut config.broker_key);
        config.insecure_listen |= self.insecure_listen;
    }
}

#[expect(clippy::large_enum_variant, reason = "one is made, once")]
#[derive(Subcommand)]
enum Command {
    /// Serve until Ctrl-C. At its first start it prints a login and a token, once.
    Serve {
        #[command(flatten)]
        common: Common,
        /// Where to serve HTTP [default: 127.0.0.1:8080, or a free port].
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen: Option<SocketAddr>,
        /// `embedded://ADDRESS:PORT` or `mqtt[s]://USER:PASSWORD@HOST:PORT` [default: embedded on 127.0.0.1:1883, or a free port].
        #[arg(long, value_name = "URL")]
        broker: Option<String>,
        #[command(flatten)]
        tls: Tls,
    },
    /// Make an API token while the hub is stopped: the way back in when every token was lost.
    Token {
        #[command(flatten)]
        common: Common,
        /// Whose token it is.
        #[arg(long, default_value = "recovered admin")]
        name: String,
    },
    /// Write the whole state of a stopped hub into one file (of a running one: bellwether backup).
    Backup {
        #[command(flatten)]
        common: Common,
        /// The file; it must not exist. It holds the hub's secret keys.
        file: PathBuf,
    },
    /// Make a new data directory from a backup.
    Restore {
        /// The backup.
        file: PathBuf,
        /// The new directory; it must not exist or be empty.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
    },
    /// Make a key that is to take another's place, and print its public half; a hub may be running.
    ///
    /// The hub goes on with the old key until people sign a root that lists the new one:
    /// `bellwether root rotate --new-director PUBLIC`, then `sign` and `submit`. Asked again before
    /// that, it prints the same key.
    NewKey {
        #[command(flatten)]
        common: Common,
        /// Which one.
        which: Which,
    },
    /// Print DEVICE:PASSWORD for a broker that cannot check device signatures (mosquitto_passwd -U).
    BrokerUsers {
        #[command(flatten)]
        common: Common,
        /// The devices.
        #[arg(required = true)]
        devices: Vec<DeviceId>,
    },
}

impl Common {
    fn config(&self) -> anyhow::Result<Config> {
        let mut config = match &self.config {
            Some(path) => Config::read(path)?,
            None => Config::default(),
        };
        if let Some(data) = &self.data {
            config.data.clone_from(data);
        }
        Ok(config)
    }
}

fn main() -> ExitCode {
    if let Some(code) = exec::run_if_child() {
        return code;
    }
    let filter =
        EnvFilter::try_from_env("BELLWETHER_LOG").unwrap_or_else(|_| EnvFilter::new("info,mqtt5=error,sled=warn"));
    tracing_subscriber::fmt()
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .init();
    match carry_out(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "a command's answer goes to standard output")]
fn carry_out(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve { common, listen, broker, tls } => {
            let mut config = common.config()?;
            config.listen = listen.or(config.listen);
            config.broker = broker.or(config.broker);
            tls.over(&mut config);
            tokio::runtime::Runtime::new()?.block_on(serve(config))
        }
        Command::Token { common, name } => {
            println!("{}", run::open(common.config()?)?.make_token(&name, Role::Admin, Some(TOKEN_DAYS))?);
            Ok(())
        }
        Command::Backup { common, file } => {
            let config = common.config()?;
            let hub = run::open(config)?;
            hub.backup_to(&file).with_context(|| format!("cannot write {}", file.display()))
        }
        Command::Restore { file, data } => {
            let archive = std::fs::File::open(&file).with_context(|| format!("cannot read {}", file.display()))?;
            backup::restore(std::io::BufReader::new(archive), &data)?;
            println!("restored into {}; start it: bellwether-hub serve --data {}", data.display(), data.display());
            Ok(())
        }
        Command::NewKey { common, which } => {
            println!("{}", run::new_key(&common.config()?, which)?);
            Ok(())
        }
        Command::BrokerUsers { common, devices } => {
            let secret = run::broker_secret(&common.config()?)?;
            for device in devices {
                println!("{device}:{}", device_password(&secret, &device));
            }
            Ok(())
        }
    }
}

#[expect(clippy::print_stdout, reason = "where it serves and how to get in goes to standard output")]
async fn serve(config: Config) -> anyhow::Result<()> {
    let data = config.data.display().to_string();
    let running = run::start(config).await?;
    let broker = running.hub().broker().map(|broker| broker.url().to_owned()).unwrap_or_default();
    println!("dashboard  {}\nbroker     {broker}\ndata       {data}", running.url());
    if let Some(first) = running.first_login() {
        println!("\nFirst login, shown once and valid for an hour:\n  {}/login?code={}", running.url(), first.code);
        println!(
            "Admin's API token, shown once and valid for {TOKEN_DAYS} days:\n  export BELLWETHER_HUB={}\n  export BELLWETHER_TOKEN={}",
            running.url(),
            first.token
        );
    }
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        ended = tokio::signal::ctrl_c() => ended?,
        _ = terminate.recv() => {}
    }
    tracing::info!("stopping");
    running.stop().await;
    Ok(())
}
