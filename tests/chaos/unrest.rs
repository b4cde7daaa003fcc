//! What is done to the world: processes killed and started again, connections cut, stopped, slowed,
//! robbed of bytes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::chance::Chance;
use crate::proxy::{Door, Fate, Proxy, Way};
use crate::world::{DEVICES, World, blocking};

/// Makes chaos until `until`, and puts everything back.
pub(crate) async fn rage(world: &Arc<World>, chance: &mut Chance, until: Instant) {
    let mut under_way = JoinSet::new();
    let late = chance.millis(1000, 8000);
    let joining = Arc::clone(world);
    under_way.spawn(async move {
        tokio::time::sleep(late).await;
        join(&joining, until).await;
    });
    while Instant::now() < until {
        tokio::time::sleep(chance.millis(150, 900)).await;
        match chance.below(16) {
            0..=5 => kill_agent(world, chance, &mut under_way),
            6 | 7 => kill_hub(world, chance, &mut under_way),
            8 | 9 if world.has_broker() => kill_broker(world, chance, &mut under_way),
            10 => shut(world, chance, &mut under_way),
            11 | 12 => cut(world, chance),
            _ => trouble(world, chance, &mut under_way),
        }
        while under_way.try_join_next().is_some_and(|done| done.is_ok() || failed(done)) {}
    }
    while let Some(done) = under_way.join_next().await {
        assert!(done.is_ok() || failed(done));
    }
    world.to_broker.heal();
    world.to_hub.heal();
    world.timeline.note("chaos is over, and the network is whole");
}

/// Passes on what went wrong in what was under way.
fn failed(done: Result<(), tokio::task::JoinError>) -> bool {
    if let Err(why) = done {
        std::panic::resume_unwind(why.into_panic());
    }
    true
}

/// A device that enrols in the middle of it, as often as that takes.
async fn join(world: &Arc<World>, until: Instant) {
    let Some(device) = world.devices.get(DEVICES).cloned() else { return };
    let patience = until + Duration::from_secs(30);
    loop {
        let starting = Arc::clone(&device);
        match blocking(move || starting.start()).await {
            Ok(()) => return world.timeline.note(format!("{} enrolled and serves", device.name)),
            Err(why) => {
                let said = why.lines().last().unwrap_or_default();
                world.timeline.note(format!("{} cannot enrol yet: {said}", device.name));
                world.timeline.count("enrolments tried in vain");
            }
        }
        if Instant::now() > patience {
            return world.timeline.violation(format!("{} cannot enrol where everything works", device.name));
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

fn kill_agent(world: &Arc<World>, chance: &mut Chance, under_way: &mut JoinSet<()>) {
    let (which, pause) = (1 + chance.below(DEVICES), chance.millis(0, 2500));
    // Some die again while they start, once or more.
    let mut again: Vec<Duration> = (0..chance.below(4).saturating_sub(1)).map(|_| chance.millis(1, 250)).collect();
    let Some(device) = world.devices.get(which).filter(|device| device.is_alive()).cloned() else { return };
    let Some(more) = device.kills_left().checked_sub(1) else { return };
    again.truncate(more);
    let and_again = again.iter().map(|after| format!(", killed {} ms after a start", after.as_millis()));
    let and_again: String = and_again.collect();
    world.timeline.note(format!("kill -9 {}, back in {} ms{and_again}", device.name, pause.as_millis()));
    world.timeline.count("kill agent");
    // Before anything else is done, or another kill could come between.
    device.kill();
    let timeline = Arc::clone(&world.timeline);
    under_way.spawn(async move {
        tokio::time::sleep(pause).await;
        let begun = Instant::now();
        let name = device.name.clone();
        let started = blocking(move || {
            again.iter().for_each(|after| device.start_and_kill(*after));
            device.start()
        })
        .await;
        match started {
            Ok(()) => {
                timeline.note(format!("{name} serves again, {} ms after it was started", begun.elapsed().as_millis()))
            }
            Err(why) => timeline.violation(format!("{name} does not come back: {why}")),
        }
    });
}

fn kill_hub(world: &Arc<World>, chance: &mut Chance, under_way: &mut JoinSet<()>) {
    let pause = chance.millis(0, 3000);
    if !world.hub_is_alive() {
        return;
    }
    world.timeline.note(format!("kill -9 hub, back in {} ms", pause.as_millis()));
    world.timeline.count("kill hub");
    world.kill_hub();
    let world = Arc::clone(world);
    under_way.spawn(async move {
        tokio::time::sleep(pause).await;
        let here = Arc::clone(&world);
        blocking(move || here.restart_hub()).await;
        world.timeline.note("the hub serves again");
    });
}

fn kill_broker(world: &Arc<World>, chance: &mut Chance, under_way: &mut JoinSet<()>) {
    let pause = chance.millis(0, 3000);
    if world.broker_is_down.swap(true, Ordering::SeqCst) {
        return;
    }
    world.timeline.note(format!("kill -9 mosquitto, back in {} ms", pause.as_millis()));
    world.timeline.count("kill broker");
    world.kill_broker();
    let world = Arc::clone(world);
    under_way.spawn(async move {
        tokio::time::sleep(pause).await;
        let here = Arc::clone(&world);
        blocking(move || here.restart_broker()).await;
        world.broker_is_down.store(false, Ordering::SeqCst);
        world.timeline.note("mosquitto serves again");
    });
}

fn proxy<'w>(world: &'w World, chance: &mut Chance) -> (&'static str, &'w Proxy) {
    // Devices come to the hub itself only to enrol.
    if chance.below(4) == 0 { ("the hub", &world.to_hub) } else { ("the broker", &world.to_broker) }
}

/// Nobody gets in for a while.
fn shut(world: &Arc<World>, chance: &mut Chance, under_way: &mut JoinSet<()>) {
    let (name, proxy) = proxy(world, chance);
    let door = if chance.below(2) == 0 { Door::Refuses } else { Door::Swallows };
    let pause = chance.millis(500, 4000);
    world.timeline.note(format!("the door of {name}: {door:?} for {} ms", pause.as_millis()));
    world.timeline.count("net doors shut");
    proxy.door.send_replace(door);
    let door = Arc::clone(&proxy.door);
    under_way.spawn(async move {
        tokio::time::sleep(pause).await;
        door.send_replace(Door::Open);
    });
}

fn cut(world: &World, chance: &mut Chance) {
    let ways = world.to_broker.ways();
    let count = if chance.below(6) == 0 { ways.len() } else { 1 + chance.below(2) };
    for _ in 0..count {
        if let Some(way) = chance.pick(&ways) {
            world.timeline.note(format!("cut the connection of {}", way.client()));
            world.timeline.count("net cuts");
            way.cut();
        }
    }
}

/// Does something to one connection, and ends it where nothing good can come of it.
fn trouble(world: &World, chance: &mut Chance, under_way: &mut JoinSet<()>) {
    let ways = world.to_broker.ways();
    let Some(way) = chance.pick(&ways).cloned() else { return };
    let (kind, pause, is_cut) = (chance.below(6), chance.millis(300, 5000), chance.below(2) == 0);
    let what = begin(&way, kind, chance);
    let end = if is_cut || kind == 5 { "then cut" } else { "then well" };
    world.timeline.note(format!("the connection of {}: {what} for {} ms, {end}", way.client(), pause.as_millis()));
    world.timeline.count(if kind == 5 { "net robberies" } else { "net stalls" });
    under_way.spawn(async move {
        tokio::time::sleep(pause).await;
        if is_cut || kind == 5 {
            way.cut();
        }
        way.up.send_replace(Fate::Flows);
        way.down.send_replace(Fate::Flows);
    });
}

fn begin(way: &Way, kind: usize, chance: &mut Chance) -> String {
    let set = |directions: &[&watch::Sender<Fate>], fate| {
        for direction in directions {
            direction.send_replace(fate);
        }
    };
    match kind {
        0 | 1 => set(&[&way.up, &way.down], Fate::Stalled),
        2 => set(&[&way.up], Fate::Stalled),
        3 => set(&[&way.down], Fate::Stalled),
        4 => {
            let pause = chance.millis(20, 400);
            set(&[&way.up, &way.down], Fate::Slow(pause));
            return format!("{} ms late", pause.as_millis());
        }
        _ => {
            let bytes = 1 + chance.below(40);
            way.rob(bytes);
            return format!("{bytes} bytes lost on the way down");
        }
    }
    ["black hole", "black hole", "nothing up", "nothing down"].get(kind).copied().unwrap_or_default().to_owned()
}
