//! Arguments, tracing, exit code; nothing else.

use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use bellwether_agent::{Agent, AgentError, Config, Running, journal, run_if_child};
use clap::{Args, Parser, Subcommand};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

const EXAMPLES: &str = "Examples:
  bellwether-agent --hub http://127.0.0.1:8080 --token bw1.… --name gw-1 --tag site=lyon
  bellwether-agent --hub https://hub.example:8443 --ca ca.pem --token bw1.… --name gw-1
  bellwether-agent                        (enrolled before: everything is in its directory)
  bellwether-agent run --config /etc/bellwether-agent.toml

Exit codes: 0 stopped by a signal · 2 wrong arguments or configuration · 3 the hub refuses ·
4 the hub cannot be reached · 5 this device's disk fails · 1 anything else";

/// Runs models that people approved: enrols with a hub, installs what it is told to, scores.
#[derive(Debug, Parser)]
#[command(name = "bellwether-agent", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Run,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent (also without this word).
    #[command(after_help = EXAMPLES)]
    Run(Box<Run>),
    /// Print this device's public key, making the key if there is none: what `bellwether device
    /// import` takes.
    Key {
        /// Directory for everything the agent keeps [default: ./bellwether-agent].
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
struct Run {
    /// A TOML file; what is said here comes before what it says.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address of the hub [default: http://127.0.0.1:8080].
    #[arg(long, value_name = "URL", env = "BELLWETHER_HUB")]
    hub: Option<String>,
    /// Authorities to trust at an https hub and an mqtts broker (PEM) [default: this machine's].
    #[arg(long, value_name = "FILE", env = "BELLWETHER_CA")]
    ca: Option<PathBuf>,
    /// Certificate for a broker that wants one (PEM).
    #[arg(long, value_name = "FILE")]
    client_cert: Option<PathBuf>,
    /// Its private key (PEM).
    #[arg(long, value_name = "FILE")]
    client_key: Option<PathBuf>,
    /// Enrolment token; needed once.
    #[arg(long, env = "BELLWETHER_ENROL_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Name of this device [default: the host's name].
    #[arg(long)]
    name: Option<String>,
    /// Directory for everything the agent keeps [default: ./bellwether-agent].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where to serve scores [default: 127.0.0.1:8600, or a free port].
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// A tag to enrol with, such as site=lyon; may be repeated.
    #[arg(long = "tag", value_name = "TAG=VALUE", value_parser = tag)]
    tags: Vec<(String, String)>,
}

fn tag(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected TAG=VALUE, such as site=lyon".to_owned()),
    }
}

impl Run {
    fn config(self) -> Result<Config, AgentError> {
        let mut config = match &self.config {
            Some(path) => Config::read(path)?,
            None => Config::default(),
        };
        config.hub = self.hub.unwrap_or(config.hub);
        config.data = self.data.unwrap_or(config.data);
        config.ca = self.ca.or(config.ca);
        config.client_cert = self.client_cert.or(config.client_cert);
        config.client_key = self.client_key.or(config.client_key);
        config.token = self.token.or(config.token);
        config.name = self.name.or(config.name);
        config.listen = self.listen.or(config.listen);
        config.tags.extend(self.tags);
        Ok(config)
    }
}

fn main() -> ExitCode {
    if let Some(code) = run_if_child() {
        return code;
    }
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_env("BELLWETHER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let shown = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .with_filter(filter);
    tracing_subscriber::registry().with(shown).with(journal::layer()).init();
    let run = match cli.command {
        Some(Command::Run(run)) => *run,
        Some(Command::Key { data }) => return exit(print_key(data)),
        None => cli.run,
    };
    exit(start(run))
}

fn print_key(data: Option<PathBuf>) -> Result<(), AgentError> {
    let key = bellwether_agent::device_key(&data.unwrap_or_else(|| Config::default().data))?;
    let _ = writeln!(std::io::stdout(), "{key}");
    Ok(())
}

fn exit(done: Result<(), AgentError>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            let _ = writeln!(std::io::stderr(), "bellwether-agent: {why}");
            ExitCode::from(why.exit_code())
        }
    }
}

fn start(run: Run) -> Result<(), AgentError> {
    let config = run.config()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(fault)?;
    let result = started(&runtime, config).and_then(|agent| {
        say(&agent);
        runtime.block_on(stopped(agent))
    });
    // A self-test that never ends must not keep the program alive.
    runtime.shutdown_background();
    result
}

/// Starts the agent from a thread of its own: what starting takes of stack and heap is given back
/// with it, instead of staying resident for as long as the agent runs.
fn started(runtime: &Runtime, config: Config) -> Result<Running, AgentError> {
    let start = || runtime.block_on(Agent::start(config));
    std::thread::scope(|scope| scope.spawn(start).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Runs until somebody ends this program, and stops the agent.
async fn stopped(agent: Running) -> Result<(), AgentError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(fault)?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    tracing::info!("stopping");
    agent.stop().await;
    Ok(())
}

#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
fn fault(why: std::io::Error) -> AgentError {
    AgentError::Storage(why.to_string())
}

fn say(agent: &Running) {
    let mut out = std::io::stdout().lock();
    let device = agent.device();
    let _ = match agent.listen() {
        Some(at) => writeln!(
            out,
            "{device} scores at http://{at} (Open Inference Protocol v2). When a model runs, try:\n  curl http://{at}/"
        ),
        None => writeln!(out, "{device} runs; scoring over HTTP is off (serve = false)"),
    };
}
