//! After chaos: everything that can be reached converges in a bounded time, and what must be there at
//! the end is there, once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bellwether_hub::api::types::{EventQuery, Presence, RolloutState};
use bellwether_tests::fleet::runs;
use serde_json::Value;

use crate::device::number_of;
use crate::timeline::held;
use crate::world::{BAD, FIRST_STAGE, World, blocking};

/// How long everything may take to converge.
pub(crate) const SETTLED_MAX: Duration = Duration::from_secs(90);
/// A row that was answered so long before its device died is on disk, and must arrive. The device
/// takes rows from memory every second, and its store goes to disk every second.
const KEPT_AFTER: Duration = Duration::from_secs(8);
/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// Waits until nothing is missing; what is missing in the end is a violation.
pub(crate) async fn converge(world: &Arc<World>, until: Instant, missing: impl AsyncFn(&World) -> Option<String>) {
    loop {
        let Some(missing) = missing(world).await else { return };
        if Instant::now() >= until {
            return world.timeline.violation(format!("not converged in time: {missing}"));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What of rollouts and devices is not as it should be in the end.
pub(crate) async fn unsettled(world: &World) -> Option<String> {
    if !world.is_rolled_out.load(Ordering::SeqCst) {
        return Some("people are still rolling out".to_owned());
    }
    let Ok(rollouts) = world.client.rollouts().await else { return Some("the hub does not answer".to_owned()) };
    if let Some(rollout) = rollouts.items.iter().find(|rollout| !rollout.state.ended()) {
        return Some(format!(
            "rollout of version {}: {}, {}",
            rollout.version,
            rollout.state.label(),
            rollout.waiting_on
        ));
    }
    for device in &world.devices {
        let name = &device.name;
        let Ok(view) = world.client.device(name).await else { return Some(format!("the hub does not tell of {name}")) };
        if view.presence != Presence::Online || !view.in_sync {
            return Some(format!("{name}: {}, {:?}", view.presence.label(), view.models));
        }
        match device.active().await {
            Ok(active) if active == runs(&view) => {}
            other => return Some(format!("{name}: {other:?} answers, the hub heard of {:?}", runs(&view))),
        }
    }
    None
}

/// What of the collected rows has not arrived.
pub(crate) async fn rows_missing(world: &World) -> Option<String> {
    let Some(exported) = exported(world).await else { return Some("the hub exports nothing".to_owned()) };
    for device in &world.devices {
        let Ok(view) = world.client.device(&device.name).await else {
            return Some("the hub does not answer".to_owned());
        };
        let rows = exported.get(&device.name).map_or(0, BTreeMap::len) as u64;
        if rows != view.rows_collected {
            return Some(format!("{}: {rows} rows, and {} are counted", device.name, view.rows_collected));
        }
        let kills = held(&device.kills).clone();
        let calls = held(&device.calls);
        let may_be_lost = |at: &Instant| kills.iter().any(|kill| *kill >= *at && kill.duration_since(*at) < KEPT_AFTER);
        let arrived = exported.get(&device.name);
        let lost: Vec<u64> = (calls.answered.iter())
            .filter(|(number, at)| !may_be_lost(at) && !arrived.is_some_and(|rows| rows.contains_key(*number)))
            .map(|(number, _)| *number)
            .collect();
        if let Some(first) = lost.first() {
            return Some(format!("{}: {} rows did not arrive, the first is {first}", device.name, lost.len()));
        }
    }
    None
}

/// Rows by device and number, with how often each came; nothing if the hub does not answer.
async fn exported(world: &World) -> Option<BTreeMap<String, BTreeMap<u64, u32>>> {
    let cli = world.cli.clone();
    let ran = blocking(move || cli.run(&["data", "export", "--format", "ndjson", "--to", "-"])).await;
    if ran.code != 0 {
        return None;
    }
    let mut rows: BTreeMap<String, BTreeMap<u64, u32>> = BTreeMap::new();
    for line in ran.stdout.lines() {
        let row: Value = serde_json::from_str(line).expect("a row is JSON");
        let device = row["device"].as_str().expect("a row has a device").to_owned();
        let number = number_of(&row).expect("a row has its number");
        *rows.entry(device).or_default().entry(number).or_default() += 1;
    }
    Some(rows)
}

/// What must hold in the end, whatever happened.
pub(crate) async fn check(world: &Arc<World>) -> usize {
    let mut count = 0;
    let exported = exported(world).await.unwrap_or_default();
    for (name, rows) in &exported {
        let device = world.devices.iter().find(|device| device.name == *name);
        for (number, times) in rows {
            count += 1;
            if *times != 1 {
                world.timeline.violation(format!("{name}: row {number} came {times} times"));
            }
            if !device.is_some_and(|device| device.was_asked(*number)) {
                world.timeline.violation(format!("{name}: row {number} was never asked"));
            }
        }
    }
    rollouts(world).await;
    chain(world).await;
    count
}

/// Failures never exceed what the gate allows and what was in flight.
async fn rollouts(world: &World) {
    let rollouts = world.client.rollouts().await.map(|page| page.items).unwrap_or_default();
    if !rollouts.iter().any(|rollout| rollout.version == BAD) {
        world.timeline.violation("the bad version was never rolled out");
    }
    for rollout in rollouts {
        let failed: Vec<&String> = rollout.failures.iter().flat_map(|failure| &failure.devices).collect();
        let is_within = rollout.version == BAD && failed.iter().all(|name| FIRST_STAGE.contains(&name.as_str()));
        if !failed.is_empty() && !is_within {
            let said: Vec<String> = failed.iter().flat_map(|name| errors(world, name)).collect();
            let (version, failures) = (rollout.version, &rollout.failures);
            world
                .timeline
                .violation(format!("version {version} failed on {failed:?}: {failures:?}\n{}", said.join("\n")));
        }
        match rollout.state {
            RolloutState::Completed => world.timeline.count("rollouts completed"),
            RolloutState::RolledBack => world.timeline.count("rollouts rolled back"),
            other @ (RolloutState::Running
            | RolloutState::Paused
            | RolloutState::Aborted
            | RolloutState::RollingBack) => world.timeline.violation(format!(
                "the rollout of version {} ended as {}",
                rollout.version,
                other.label()
            )),
        }
    }
}

/// What a device called an error in all its lives, the newest last.
fn errors(world: &World, name: &str) -> Vec<String> {
    let before = std::fs::read_to_string(world.timeline.logs.join(format!("{name}.log"))).unwrap_or_default();
    let now = world.devices.iter().find(|device| device.name == name).map(|device| device.log()).unwrap_or_default();
    let is_told = |line: &&str| line.contains("ERROR") || line.contains("WARN");
    before.lines().chain(now.lines()).filter(is_told).map(|line| format!("{name}: {line}")).collect()
}

/// Events follow each other, and the chain of them verifies against every head that was kept.
async fn chain(world: &Arc<World>) {
    let (mut after, mut before) = (0, None);
    loop {
        let query = EventQuery { after: Some(after), limit: Some(500), ..EventQuery::default() };
        let Ok(page) = world.client.events(&query).await else {
            return world.timeline.violation("the hub does not list its events");
        };
        for event in &page.items {
            if before.is_some_and(|before| event.seq != before + 1) {
                world.timeline.violation(format!("event {} follows {before:?}", event.seq));
            }
            before = Some(event.seq);
            let ends = ["committed", "rolled back", "rejected"];
            let end = ends.iter().position(|end| event.kind == "install" && event.text.contains(end));
            let counted = ["installs committed", "installs rolled back", "installs rejected"];
            end.and_then(|end| counted.get(end)).into_iter().for_each(|end| world.timeline.count(end));
        }
        match page.items.last() {
            Some(last) if last.seq > after => after = last.seq,
            _ => break,
        }
    }
    let cli = world.cli.clone();
    let ran = blocking(move || cli.run(&["audit", "verify"])).await;
    if ran.code != 0 {
        world.timeline.violation(format!("the chain of events does not verify: {ran}"));
    }
}

/// Marks that nobody needs to look any more.
pub(crate) fn settled(world: &World) {
    world.is_settled.store(true, Ordering::SeqCst);
}
