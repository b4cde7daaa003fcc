//! Real processes under chaos: hub, broker and agents killed with -9 at random, a network that fails
//! between them, a disk that is full. What the simulator proves in virtual time is checked here from
//! outside: by each device's own service and disk, and by the hub's API.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a test fails by panicking, and says where; numbers of calls are small"
)]

mod chance;
mod device;
mod disk;
mod people;
mod proxy;
mod settle;
mod timeline;
mod unrest;
mod watch;
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bellwether_tests::files::repository;
use chance::Chance;
use tokio::task::JoinSet;
use world::{World, blocking};

/// Time between two calls of one device.
const CALL_EVERY: Duration = Duration::from_millis(300);

/// Chaos of one scenario at a time: two would starve each other, not themselves.
static ONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_on_the_embedded_broker_survives_chaos() {
    survives("embedded", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_on_mosquitto_survives_chaos() {
    survives("mosquitto", true).await;
}

async fn survives(scenario: &'static str, is_external: bool) {
    let _one = ONE.lock().await;
    let seed = chance::seed();
    eprintln!("chaos on the {scenario} broker: BELLWETHER_CHAOS_SEED={seed}");
    let logs = repository().join(format!("target/test-run/chaos-{seed}-{scenario}"));
    let timeline = Arc::new(timeline::Timeline::new(&logs));
    let world = Arc::new(World::start(Arc::clone(&timeline), is_external).await);
    let begun = Instant::now();
    let stop_calls = Arc::new(AtomicBool::new(false));
    let (mut callers, mut watchers) = (JoinSet::new(), JoinSet::new());
    for device in &world.devices {
        let (device, stop) = (Arc::clone(device), Arc::clone(&stop_calls));
        watchers.spawn(watch::device(Arc::clone(&world), Arc::clone(&device)));
        callers.spawn(async move { device.be_called(CALL_EVERY, &stop).await });
    }
    watchers.spawn(watch::hub(Arc::clone(&world)));
    let people = Arc::clone(&world);
    watchers.spawn(async move { people::work(&people).await });

    let rage_until = begun + chance::duration() / 2;
    unrest::rage(&world, &mut Chance::new(seed), rage_until).await;
    world.is_over.store(true, Ordering::SeqCst);
    let until = Instant::now() + settle::SETTLED_MAX;
    settle::converge(&world, until, settle::unsettled).await;
    timeline.note("everything has converged");
    stop_calls.store(true, Ordering::Relaxed);
    callers.join_all().await;
    settle::converge(&world, until, settle::rows_missing).await;
    settle::settled(&world);
    watchers.join_all().await;
    let rows = settle::check(&world).await;
    let stopping = Arc::clone(&world);
    blocking(move || stopping.stop()).await;

    eprintln!(
        "chaos on the {scenario} broker: seed {seed}, {} s, kills: {}; network: {}; {} calls (failed: {}); installs \
         {}; rollouts {}; {rows} rows collected; {} looks at devices, {} at the hub; {} violations",
        begun.elapsed().as_secs(),
        timeline.counts("kill "),
        timeline.counts("net "),
        timeline.counted("calls"),
        timeline.counts("failed, "),
        timeline.counts("installs "),
        timeline.counts("rollouts "),
        timeline.counted("looks at devices"),
        timeline.counted("looks at the hub"),
        timeline.violations(),
    );
    timeline.finish(seed, scenario);
}
