//! What is checked from outside at each look, while everything goes on: by each device's own service
//! and disk, and by the hub's API.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bellwether_hub::api::types::{DeviceQuery, DeviceView, ReportView};
use bellwether_protocol::digest::Digest;
use bellwether_protocol::frame;
use bellwether_protocol::trust::{Order, Report, Signed};

use crate::device::Device;
use crate::world::World;

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// How long the hub may have something in memory before it is on disk: its store goes there twice a
/// second.
const SETTLED_AFTER: Duration = Duration::from_secs(3);
/// Longest that a hub which is alive may leave a question of the watchers open.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// Looks at one device until the world is settled.
pub(crate) async fn device(world: Arc<World>, device: Arc<Device>) {
    let (mut looks, mut high) = (0_u32, 0);
    while !world.is_settled.load(Ordering::Relaxed) {
        let (life, floor) = (device.life(), world.floor.load(Ordering::SeqCst));
        let seen = device.active().await;
        let lived = life % 2 == 1 && device.life() == life;
        match seen {
            Ok(Some(version)) => {
                world.timeline.count("looks at devices");
                if !world.may_have(&device.name, version) {
                    world
                        .timeline
                        .violation(format!("{}: version {version} answers, and no grant reaches it", device.name));
                }
                // What answered at two looks is past its probation, or as good as the floor.
                if version < high {
                    world.timeline.violation(format!("{}: {version} answers below the floor {high}", device.name));
                }
                if floor > 0 && version >= floor && has_committed(&world, &device.name, version).await {
                    high = high.max(floor);
                }
            }
            Ok(None) => {}
            Err(why) if lived => {
                world.timeline.violation(format!(
                    "{} does not say what answers: {why} {:?}",
                    device.name,
                    device.ended()
                ));
            }
            Err(_) => {}
        }
        looks += 1;
        if looks % 4 == 0 {
            slot(&world, &device);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Whether the hub heard that a device committed this version.
async fn has_committed(world: &World, device: &str, version: u32) -> bool {
    let Ok(view) = world.client.device(device).await else { return false };
    view.models.iter().any(|model| {
        model.phase == "committed" && model.active.as_ref().is_some_and(|active| active.version == version)
    })
}

/// The slot that the device points at holds a package that people approved, byte for byte.
fn slot(world: &World, device: &Device) {
    let current = device.data.join("models/digits/current");
    let read = |current: &Path| {
        let to = std::fs::read_link(current).ok()?;
        let bytes = std::fs::read(current.with_file_name(&to)).ok()?;
        Some((to, Digest::of(&bytes)))
    };
    // The pointer may move between the two.
    let (Some(before), Some(after)) = (read(&current), read(&current)) else { return };
    if before == after && !world.packages.contains(&after.1) {
        world.timeline.violation(format!("{}: nobody approved {} in {:?}", device.name, after.1, after.0));
    }
}

/// Looks at the hub until the world is settled.
pub(crate) async fn hub(world: Arc<World>) {
    let mut kept = Kept::default();
    while !world.is_settled.load(Ordering::Relaxed) {
        let (life, begun) = (world.hub_life(), Instant::now());
        let all = DeviceQuery::default();
        let (devices, reports) = (world.client.devices(&all).await, world.client.reports(&all).await);
        let head = world.client.audit_head().await;
        let lived = life % 2 == 1 && world.hub_life() == life;
        match (devices, reports, head) {
            (Ok(devices), Ok(reports), Ok(head)) => {
                world.timeline.count("looks at the hub");
                // Read across a restart it may be of either life.
                kept.lives(if lived { life } else { u64::MAX });
                kept.chain(&world, head.sequence);
                devices.items.iter().for_each(|device| kept.device(&world, device));
                reports.items.iter().for_each(|report| kept.report(&world, report));
            }
            (devices, reports, _) if lived => {
                let why = devices.err().or(reports.err()).map(|why| why.to_string());
                let ended = world.hub_ended();
                world.timeline.violation(format!("the hub lives ({ended:?}) and does not answer: {why:?}"));
            }
            _ => {}
        }
        if lived && begun.elapsed() > ANSWER_MAX {
            world.timeline.violation(format!("the hub took {:?} to answer", begun.elapsed()));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What must never go back. What the hub tells of devices may be in memory only for as long as
/// [`SETTLED_AFTER`]: that binds it for as long as it lives, the rest for ever.
#[derive(Debug, Default)]
struct Kept {
    life: u64,
    numbers: BTreeMap<(String, &'static str), Number>,
    /// Of each device, the order in its newest report and that one's number.
    orders: BTreeMap<String, (u64, Order)>,
}

/// A number that rises.
#[derive(Debug, Default)]
struct Number {
    settled: u64,
    recent: VecDeque<(Instant, u64)>,
}

impl Kept {
    /// The hub is in this life.
    fn lives(&mut self, life: u64) {
        if life != self.life {
            self.numbers.values_mut().for_each(|number| number.recent.clear());
        }
        self.life = life;
        for number in self.numbers.values_mut() {
            while let Some((_, value)) = number.recent.front().filter(|(at, _)| at.elapsed() >= SETTLED_AFTER) {
                number.settled = number.settled.max(*value);
                number.recent.pop_front();
            }
        }
    }

    fn goes_on(&mut self, world: &World, who: &str, what: &'static str, now: u64) {
        let number = self.numbers.entry((who.to_owned(), what)).or_default();
        let before = number.recent.back().map_or(number.settled, |(_, value)| *value);
        if now < before {
            world.timeline.violation(format!("{who}: its {what} went from {before} to {now}"));
        }
        if now > before {
            number.recent.push_back((Instant::now(), now));
        }
    }

    /// The chain of events: a head that was told must be there for ever.
    fn chain(&mut self, world: &World, sequence: u64) {
        let number = self.numbers.entry(("the hub".to_owned(), "chain of events")).or_default();
        if sequence < number.settled {
            world.timeline.violation(format!("the chain of events went from {} to {sequence}", number.settled));
        }
        number.settled = sequence;
    }

    fn device(&mut self, world: &World, device: &DeviceView) {
        let name = &device.id;
        self.goes_on(world, name, "rows scored", device.rows_scored);
        self.goes_on(world, name, "rows collected", device.rows_collected);
        if device.gaps > 0 {
            world.timeline.violation(format!("{name}: the hub misses {} records of it", device.gaps));
        }
        for model in &device.models {
            if let Some(version) = model.desired_version.filter(|version| !world.may_have(name, *version)) {
                world.timeline.violation(format!("{name} was told to have {version}, and no grant reaches it"));
            }
            for running in [&model.active, &model.target].into_iter().flatten() {
                if world.releases.get(&running.version) != Some(&running.release) {
                    world.timeline.violation(format!("{name} has {running:?}, which nobody approved"));
                }
            }
        }
    }

    /// What the device itself signed.
    fn report(&mut self, world: &World, view: &ReportView) {
        let Some(statement) = &view.statement else { return };
        let name = &view.device;
        let bytes = STANDARD.decode(statement).unwrap_or_default();
        let report = frame::decode::<Signed<'_>>(&bytes).and_then(|signed| signed.peek::<Report>());
        let report = match report {
            Ok(report) => report,
            Err(why) => return world.timeline.violation(format!("{name}: its report does not read: {why}")),
        };
        self.goes_on(world, name, "report number", report.sequence);
        let (newest, seen) = self.orders.entry(name.clone()).or_default();
        if report.sequence > *newest {
            if report.seen < *seen {
                world.timeline.violation(format!("{name}: its order went from {seen:?} to {:?}", report.seen));
            }
            (*newest, *seen) = (report.sequence, report.seen);
        }
    }
}
