//! What a process of its own costs a model: time of a call, and memory.

use std::time::Instant;

use bellwether_agent::{Agent, Config};
use bellwether_runtime::{Cpu, Data, Scorer as _, Tensor};
use bellwether_tests::Fleet;
use bellwether_tests::files::data;
use bellwether_tests::hub::folder;
use bellwether_tests::wait::wait_until;

use super::{PAIRS, WARM, median, us};

/// The project's own limit for the median of a single row, in microseconds.
const ADDED_US_MAX: f64 = 60.0;

pub(crate) async fn measure() {
    let fleet = Fleet::start();
    fleet.two_versions();
    let home = folder();
    let config = Config {
        hub: fleet.hub.url.clone(),
        token: Some(fleet.device_token(1)),
        data: home.path().join("agent"),
        name: Some("bench-host".into()),
        serve: false,
        probation_ms: 500,
        ..Config::default()
    };
    let agent = Agent::start(config).await.expect("an agent starts");
    fleet.roll_out("digits:2");
    let model = "digits".parse().unwrap();
    let mut bare = Cpu::load(&std::fs::read(data("digits-cnn.onnx")).expect("the model is there")).expect("it loads");
    println!("scoring in a process of its own, median of {PAIRS} pairs");
    println!("                            in this one     in a child      added");
    for batch in [1, 16] {
        let pixels = (0..batch * 64).map(|index| (index % 17) as f32 / 16.0).collect();
        let rows = [Tensor::new("image".parse().unwrap(), vec![batch, 64], Data::Fp32(pixels)).unwrap()];
        wait_until("the model answers", async || agent.score(&model, &rows).is_ok()).await;
        let (mut alone, mut hosted) = (Vec::new(), Vec::new());
        for round in 0..WARM + PAIRS {
            let start = Instant::now();
            let here = bare.run(&rows).expect("the model scores");
            let spent = start.elapsed();
            let start = Instant::now();
            let there = agent.score(&model, &rows).expect("the model scores");
            let in_child = start.elapsed();
            assert_eq!(here, there.outputs, "they agree");
            if round >= WARM {
                alone.push(spent);
                hosted.push(in_child);
            }
        }
        let (alone, hosted) = (us(median(alone)), us(median(hosted)));
        let added = hosted - alone;
        let verdict = match batch {
            1 if added <= ADDED_US_MAX => "within 60 us",
            1 => "ABOVE 60 us",
            _ => "",
        };
        println!("  {batch:>2} rows               {alone:>10.1} us  {hosted:>10.1} us {added:>7.1} us   {verdict}");
    }
    agent.stop().await;
}
