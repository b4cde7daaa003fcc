//! What the agent takes of a device: the size of its program, and memory without a model and with one.
//! `tests/run bench` builds it under the profile `small` for this.

use std::path::PathBuf;
use std::process::Command;

use bellwether_tests::files::{binary, repository};
use bellwether_tests::wait::wait_until;
use bellwether_tests::{Agent, Fleet};

use super::{mib, resident_kib};

/// The project's own limits: of the program, in MB; of an agent without a model, and of one with a model
/// of 1 MB, its process included, in MiB.
const PROGRAM_MB_MAX: f64 = 12.0;
const IDLE_MIB_MAX: f64 = 8.0;
const LOADED_MIB_MAX: f64 = 20.0;

/// An autoencoder of a million bytes, which the benchmark of the runtime has made.
const MODEL: &str = "autoencoder";

pub(crate) async fn measure() {
    let fleet = Fleet::start();
    register(&fleet);
    let size = std::fs::metadata(binary("bellwether-agent")).expect("the agent is built").len();
    println!("footprint of {}", binary("bellwether-agent").display());
    told("program", size as f64 / 1e6, "MB", Some(PROGRAM_MB_MAX));
    let mut agent = fleet.agent("bench-small");
    settled(&agent).await;
    told("agent, resident, just enrolled", mib(resident_kib(agent.process().id())), "MiB", None);
    agent.process().stop();
    agent.restart();
    settled(&agent).await;
    told("agent, resident, started again", mib(resident_kib(agent.process().id())), "MiB", Some(IDLE_MIB_MAX));
    fleet.roll_out(&format!("{MODEL}:1"));
    let processes = [vec![agent.process().id()], agent.hosts()].concat();
    let [resident, shared] = ["Rss:", "Pss:"].map(|row| processes.iter().map(|id| kib(*id, row)).collect::<Vec<_>>());
    told("agent, resident, with the model", mib(*resident.first().expect("the agent runs")), "MiB", None);
    told("its model's process, resident", mib(resident.iter().skip(1).sum()), "MiB", None);
    told("the two", mib(resident.iter().sum()), "MiB", Some(LOADED_MIB_MAX));
    told("the two, shared pages once", mib(shared.iter().sum()), "MiB", Some(LOADED_MIB_MAX));
}

/// Registers the model with golden vectors of onnxruntime, approved.
fn register(fleet: &Fleet) {
    let folder = std::env::var_os("BELLWETHER_BENCH_MODELS");
    let folder = folder.map_or_else(|| repository().join("target/bench-models"), PathBuf::from);
    let model = folder.join(format!("{MODEL}.onnx"));
    assert!(model.exists(), "{} is missing: run `tests/run bench`", model.display());
    let vectors = fleet.hub.home().join("vectors.npz");
    let python = std::env::var_os("BELLWETHER_MODELS_PYTHON").unwrap_or_else(|| "python3".into());
    let mut command = Command::new(binary("bellwether"));
    command.args(["model", "vectors"]).arg(&model).arg("--input").arg(folder.join(format!("{MODEL}.64.npz")));
    command.arg("--out").arg(&vectors).arg("--python").arg(python);
    let made = command.output().expect("the command line runs");
    assert!(made.status.success(), "no golden vectors: {}", String::from_utf8_lossy(&made.stderr));
    let (model, vectors) = (model.to_string_lossy(), vectors.to_string_lossy());
    fleet.cli.ok(&["model", "register", MODEL, &model, "--vectors", &vectors, "--key", "ada"]);
    fleet.approve(&format!("{MODEL}:1"));
}

/// Waits until it has heard from its hub.
async fn settled(agent: &Agent) {
    wait_until("the agent is told the time", async || agent.log().contains("taken statement=\"epoch\"")).await;
}

fn told(what: &str, value: f64, unit: &str, goal: Option<f64>) {
    let verdict = match goal {
        Some(goal) if value <= goal => format!("within {goal:.0} {unit}"),
        Some(goal) => format!("ABOVE {goal:.0} {unit}"),
        None => String::new(),
    };
    println!("  {what:<34}{value:>8.1} {unit:<5} {verdict}");
}

/// A row of what the kernel sums up of a process's memory.
fn kib(process: u32, row: &str) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup")).expect("the process runs");
    let line = rollup.lines().find(|line| line.starts_with(row)).expect("Linux sums it up");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number of KiB")
}
