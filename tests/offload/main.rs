//! Models on the simulated engine, whole: a real hub, a real agent, its model's process, the loader's pins and
//! the Verilog behind them. `fpga/rtl/build sim` makes the engine.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used, reason = "tests may")]

use std::path::{Path, PathBuf};
use std::process::Command;

use bellwether_hub::api::types::{Accelerator, DeviceView, OffloadView, RolloutState, ScoredBy};
use bellwether_tests::Fleet;
use bellwether_tests::agent::{Agent, Settings};
use bellwether_tests::files::{data, repository};
use bellwether_tests::fleet::runs;
use bellwether_tests::hub::folder;
use bellwether_tests::wait::{wait_for, wait_until};
use serde_json::Value;

/// Calls that a device answers before it is asked how it did.
const CALLS: u64 = 20;

/// The program of the simulated engine.
fn program() -> PathBuf {
    let program = repository().join("target/fpga/sim/bw_sim");
    assert!(program.exists(), "no {}: make it with `fpga/rtl/build sim`", program.display());
    program
}

/// The bitstream that is shipped, and the build that it says.
fn shipped() -> (Vec<u8>, String) {
    let bytes = std::fs::read(repository().join("fpga/rtl/up5k/bellwether.bin")).unwrap();
    let at = build_at(&bytes);
    let build = String::from_utf8(bytes[at..at + 8].to_vec()).unwrap();
    (bytes, build)
}

/// Where a bitstream says its build.
fn build_at(bytes: &[u8]) -> usize {
    const KEY: &[u8] = b"build=";
    bytes.windows(KEY.len()).position(|window| window == KEY).expect("it says its build") + KEY.len()
}

/// The shipped bitstream, which says to be another.
fn claiming(build: &str) -> Vec<u8> {
    let (mut bytes, _) = shipped();
    let at = build_at(&bytes);
    bytes[at..at + 8].copy_from_slice(build.as_bytes());
    bytes
}

fn accelerated(fleet: &Fleet, name: &str, program: &Path) -> Agent {
    let config =
        format!("probation_ms = 4000\n[accelerator]\nkind = \"simulated\"\nprogram = \"{}\"\n", program.display());
    fleet.agent_as(name, &Settings { config: &config, ..Settings::default() })
}

fn offload(device: &DeviceView) -> Option<&OffloadView> {
    device.models.iter().find(|model| model.name == "digits")?.offload.as_ref()
}

/// Scores, and expects an answer.
async fn scores(agent: &Agent) -> Value {
    let request = std::fs::read(data("digits-request.json")).unwrap();
    let (status, answer) = agent.post("/v2/models/digits/infer", request).await.unwrap();
    assert_eq!(status, 200, "{answer}");
    answer
}

/// Scores until the hub knows of a state that is as it should be.
async fn scoring_until(fleet: &Fleet, agent: &Agent, what: &str, is: impl Fn(&DeviceView) -> bool) -> DeviceView {
    let name = &agent.name;
    wait_for(&format!("{name} {what}"), async || {
        scores(agent).await;
        Some(fleet.device(name).await).filter(&is)
    })
    .await
}

fn numbers(answer: &Value) -> Vec<f64> {
    answer["outputs"][0]["data"].as_array().unwrap().iter().filter_map(Value::as_f64).collect()
}

/// Processes of the simulated engine below a model's process.
fn engines(agent: &Agent) -> Vec<u32> {
    let hosts = agent.hosts();
    let is_engine = |process: &u32| {
        let read = |file| std::fs::read_to_string(format!("/proc/{process}/{file}")).unwrap_or_default();
        let parent = read("status").lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok());
        parent.is_some_and(|parent: u32| hosts.contains(&parent)) && read("comm").starts_with("bw_sim")
    };
    let all = std::fs::read_dir("/proc").unwrap();
    all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).filter(is_engine).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_goes_to_the_engine_and_survives_it() {
    let fleet = Fleet::start();
    fleet.release("digits", 1, "digits-cnn-eight", &["--bitstream", "up5k"]);
    let (agent, plain) = (accelerated(&fleet, "fpga-1", &program()), fleet.agent("plain-1"));
    fleet.roll_out("digits:1");
    let is_busy = |device: &DeviceView| {
        offload(device).is_some_and(|offload| offload.by == ScoredBy::Engine && offload.engine_rows >= CALLS)
    };
    let device = scoring_until(&fleet, &agent, "scores by its engine", is_busy).await;
    let told = offload(&device).unwrap();
    assert_eq!((told.accelerator, told.build.as_deref()), (Accelerator::Simulated, Some(shipped().1.as_str())));
    assert_eq!((told.recovered, told.cause.as_ref()), (0, None));
    assert_eq!(device.tags.get("accelerator").map(String::as_str), Some("simulated"));
    assert!(told.cycles_per_row.is_some_and(|cycles| (5_000..30_000).contains(&cycles)), "{told:?}");
    // What the whole network takes on a CPU it takes here, to the last bit but those of the float ends.
    let (ours, whole) = (numbers(&scores(&agent).await), numbers(&scores(&plain).await));
    assert_eq!(ours.len(), 10);
    assert!(ours.iter().zip(&whole).all(|(ours, whole)| (ours - whole).abs() <= 1e-6), "{ours:?} {whole:?}");
    assert!(offload(&fleet.device("plain-1").await).is_none());

    // The part loses its design: the next call gets it back, and is answered.
    let [engine] = engines(&agent)[..] else { panic!("one engine: {:?}", engines(&agent)) };
    assert!(Command::new("kill").args(["-KILL", &engine.to_string()]).status().unwrap().success());
    let device = scoring_until(&fleet, &agent, "tells of its recovery", |device| {
        offload(device).is_some_and(|offload| offload.recovered == 1 && offload.by == ScoredBy::Engine)
    })
    .await;
    assert!(offload(&device).unwrap().cause.is_some());
    assert_eq!(engines(&agent).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_that_the_engine_denies_goes_back_without_a_lost_call() {
    let fleet = Fleet::start();
    fleet.release("digits", 1, "digits-cnn-eight", &["--bitstream", "up5k"]);
    let agent = accelerated(&fleet, "fpga-1", &program());
    fleet.roll_out("digits:1");
    let by_engine = |device: &DeviceView| offload(device).is_some_and(|offload| offload.by == ScoredBy::Engine);
    scoring_until(&fleet, &agent, "scores by its engine", by_engine).await;

    // The bitstream says that its engine is another than the part then has.
    let home = folder();
    let other = home.path().join("other.bin");
    std::fs::write(&other, claiming("0badc0de")).unwrap();
    fleet.release("digits", 2, "digits-cnn-eight", &["--bitstream", other.to_str().unwrap()]);
    let id = fleet.start_rollout("digits:2", 1);
    let ended = wait_for("the rollout to end", async || {
        scores(&agent).await;
        fleet.api().rollout(&id).await.ok().filter(|rollout| rollout.state.ended())
    })
    .await;
    assert_eq!(ended.state, RolloutState::RolledBack);
    scoring_until(&fleet, &agent, "is back at version 1, by its engine", |device| {
        runs(device) == Some(1) && by_engine(device)
    })
    .await;
    let diagnosis = fleet.cli.json(&["device", "diagnose", "fpga-1"]);
    let failure = &diagnosis["troubles"]["failures"][0];
    assert_eq!((&failure["version"], &failure["reject"]["code"]), (&Value::from(2), &Value::from(86)));
    assert!(failure["cause"].as_str().unwrap().contains("its bitstream says 0badc0de"), "{failure}");

    // What is no pair at all does not get that far.
    let damaged = home.path().join("damaged.bin");
    let (mut bytes, _) = shipped();
    bytes[5000] ^= 1;
    std::fs::write(&damaged, bytes).unwrap();
    let model = data("digits-cnn-eight.onnx");
    let words = ["model", "register", "digits", model.to_str().unwrap(), "--bitstream", damaged.to_str().unwrap()];
    let ran = fleet.cli.run(&words);
    assert!(ran.code != 0 && ran.stderr.contains("the bitstream is refused"), "{ran}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_bitstream_is_a_release_like_any_other() {
    let home = folder();
    let programs = home.path().join("bw_sim");
    std::fs::copy(program(), &programs).unwrap();
    let build = "c0ffee00";
    let made = repository().join(format!("target/fpga/sim-{build}/bw_sim"));
    assert!(made.exists(), "no {}: make it with `BELLWETHER_FPGA_BUILD={build} fpga/rtl/build sim`", made.display());
    std::fs::copy(made, home.path().join(format!("bw_sim.{build}"))).unwrap();
    let fleet = Fleet::start();
    fleet.release("digits", 1, "digits-cnn-eight", &["--bitstream", "up5k"]);
    let agent = accelerated(&fleet, "fpga-1", &programs);
    fleet.roll_out("digits:1");
    let has = |build: String| {
        move |device: &DeviceView| {
            offload(device)
                .is_some_and(|offload| offload.by == ScoredBy::Engine && offload.build.as_ref() == Some(&build))
        }
    };
    scoring_until(&fleet, &agent, "scores by the shipped engine", has(shipped().1)).await;
    let other = home.path().join("other.bin");
    std::fs::write(&other, claiming(build)).unwrap();
    fleet.release("digits", 2, "digits-cnn-eight", &["--bitstream", other.to_str().unwrap()]);
    let id = fleet.start_rollout("digits:2", 1);
    let device = scoring_until(&fleet, &agent, "scores by the other engine", has(build.to_owned())).await;
    assert_eq!(runs(&device), Some(2));
    fleet.rollout_until(&id, "completed", |rollout| rollout.state == RolloutState::Completed).await;
    wait_until("nothing waits", async || fleet.device("fpga-1").await.in_sync).await;
    assert!(offload(&fleet.device("fpga-1").await).unwrap().cause.is_none());
}

#[test]
fn the_demo_scores_one_site_by_the_simulated_engine() {
    let _engine = program();
    let sim = bellwether_tests::files::binary("bellwether-sim");
    let ran =
        Command::new(sim).args(["demo", "--once", "--devices", "12", "--fpga", "rtl", "-o", "json"]).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{err}");
    let outcome: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!(outcome["offloaded_to"], "simulated gateware");
    assert!(outcome["engine_rows"].as_u64().unwrap() > 50, "{outcome}");
}
