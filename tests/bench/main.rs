//! The benchmark: ratios and sizes against a limit or a peer, all from one run of the real programs.
//!
//! Scoring over HTTP is paired with the bare runtime in this process, call by call, so that a noisy
//! machine disturbs both alike; medians are quoted.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark prints, and stops where it cannot measure"
)]

mod collect;
mod footprint;
mod host;
mod live;
mod offload;
mod profile;
mod trust;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use bellwether_runtime::{Cpu, Data, Scorer as _, Tensor};
use bellwether_tests::files::{binary, data};
use bellwether_tests::{Agent, Fleet};
use serde_json::json;

/// Pairs of calls for one figure.
const PAIRS: usize = 3000;
/// Calls before that are not counted.
const WARM: usize = 300;
/// What HTTP may add to the median call, by the project's own limit.
const OVERHEAD_MAX: Duration = Duration::from_micros(250);

fn main() -> ExitCode {
    // Devices of this program try and host their models in children of it.
    if let Some(code) = bellwether_agent::run_if_child() {
        return code;
    }
    // It needs no fleet, so it can be had alone.
    if std::env::args().nth(1).as_deref() == Some("trust") {
        trust::measure();
        return ExitCode::SUCCESS;
    }
    if std::env::args().nth(1).as_deref() == Some("offload") {
        offload::measure();
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    if std::env::args().nth(1).as_deref() == Some("host") {
        runtime.block_on(async {
            resident().await;
            host::measure().await;
        });
        return ExitCode::SUCCESS;
    }
    // Of another agent than the rest.
    if std::env::args().nth(1).as_deref() == Some("footprint") {
        runtime.block_on(footprint::measure());
        return ExitCode::SUCCESS;
    }
    runtime.block_on(measure());
    ExitCode::SUCCESS
}

async fn measure() {
    scoring(resident().await).await;
    println!();
    host::measure().await;
    println!();
    profile::measure();
    println!();
    live::measure().await;
    println!();
    collect::measure().await;
    println!();
    trust::measure();
    println!();
    offload::measure();
}

/// What an agent and its model take; the agent, at version 2 of `digits`.
async fn resident() -> (Fleet, Agent) {
    let fleet = Fleet::start();
    fleet.two_versions();
    let mut agent = fleet.agent("bench-1");
    let idle = resident_kib(agent.process().id());
    println!("agent, resident, no model           {:>8.1} MiB", mib(idle));
    fleet.roll_out("digits:2");
    let loaded = resident_kib(agent.process().id());
    println!("agent, resident, digits 2 answers   {:>8.1} MiB   (+{:.1})", mib(loaded), mib(loaded) - mib(idle));
    for host in agent.hosts() {
        println!("its model's process, resident       {:>8.1} MiB", mib(resident_kib(host)));
    }
    let size = std::fs::metadata(binary("bellwether-agent")).expect("the agent is built").len();
    println!("agent, size of the program          {:>8.1} MiB", size as f64 / (1024.0 * 1024.0));
    println!();
    (fleet, agent)
}

async fn scoring((_fleet, agent): (Fleet, Agent)) {
    println!("scoring, median of {PAIRS} pairs   bare tract   over HTTP      added   ratio");
    for (batch, form) in [(1, Form::Json), (1, Form::Binary), (16, Form::Json), (16, Form::Binary)] {
        let (bare, http) = pairs(&agent, batch, form).await;
        let added = http.saturating_sub(bare);
        let verdict = match batch {
            1 if added <= OVERHEAD_MAX => "within 250 us",
            1 => "ABOVE 250 us",
            _ => "",
        };
        let ratio = http.as_secs_f64() / bare.as_secs_f64();
        println!(
            "  {batch:>2} rows, {:<7}             {:>7.1} us  {:>7.1} us {:>7.1} us   {ratio:>4.1}x  {verdict}",
            format!("{form:?}"),
            us(bare),
            us(http),
            us(added)
        );
    }
}

/// How tensors travel.
#[derive(Clone, Copy, Debug)]
enum Form {
    Json,
    Binary,
}

/// The medians of the bare runtime and of the agent over HTTP, measured in turn.
async fn pairs(agent: &Agent, batch: usize, form: Form) -> (Duration, Duration) {
    let model = std::fs::read(data("digits-cnn.onnx")).expect("the model is there");
    let mut bare = Cpu::load(&model).expect("the model loads");
    let pixels: Vec<f32> = (0..batch * 64).map(|index| (index % 17) as f32 / 16.0).collect();
    let tensor = Tensor::new("image".parse().unwrap(), vec![batch, 64], Data::Fp32(pixels.clone())).unwrap();
    let (body, header) = body(&pixels, batch, form);
    let client = bellwether_tests::http::client();
    let url = format!("{}/v2/models/digits/infer", agent.url);
    let (mut alone, mut served) = (Vec::new(), Vec::new());
    for round in 0..WARM + PAIRS {
        let start = Instant::now();
        bare.run(std::slice::from_ref(&tensor)).expect("the model scores");
        let spent = start.elapsed();
        let mut request = client.post(&url).body(body.clone());
        if let Some(length) = header {
            request = request.header("Inference-Header-Content-Length", length);
        }
        let start = Instant::now();
        let response = request.send().await.expect("the agent answers");
        let ok = response.status().is_success();
        response.bytes().await.expect("the answer is whole");
        let over_http = start.elapsed();
        assert!(ok, "the agent scores");
        if round >= WARM {
            alone.push(spent);
            served.push(over_http);
        }
    }
    (median(alone), median(served))
}

/// A request's body, and the length of its JSON part if bytes follow it.
fn body(pixels: &[f32], batch: usize, form: Form) -> (Vec<u8>, Option<usize>) {
    let input = |rest: serde_json::Value| {
        let mut input = json!({ "name": "image", "shape": [batch, 64], "datatype": "FP32" });
        input.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        input
    };
    match form {
        Form::Json => (json!({ "inputs": [input(json!({ "data": pixels }))] }).to_string().into_bytes(), None),
        Form::Binary => {
            let bytes: Vec<u8> = pixels.iter().flat_map(|pixel| pixel.to_le_bytes()).collect();
            let inputs = [input(json!({ "parameters": { "binary_data_size": bytes.len() } }))];
            let outputs = [json!({ "name": "probabilities", "parameters": { "binary_data": true } })];
            let head = json!({ "inputs": inputs, "outputs": outputs }).to_string().into_bytes();
            let length = head.len();
            ([head, bytes].concat(), Some(length))
        }
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn resident_kib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("the agent runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("Linux says what is resident");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number of KiB")
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

fn us(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
