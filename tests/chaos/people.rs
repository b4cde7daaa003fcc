//! What people do meanwhile: they roll out version after version, in stages, and try again when the
//! hub does not answer.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bellwether_hub::api::types::{RolloutAction, RolloutPhase, RolloutState, RolloutView};
use bellwether_tests::Ran;

use crate::world::{BAD, FIRST_STAGE, FLOOR, VERSIONS, World, blocking};

/// How long people try one command: longer than any outage here.
const TRIED_MAX: Duration = Duration::from_secs(60);

/// Rolls out all versions there are until chaos is over, and the first ones in any case; the last one
/// is brought to its end.
pub(crate) async fn work(world: &Arc<World>) {
    for version in 2..=VERSIONS {
        if world.is_over.load(Ordering::Relaxed) && version > BAD.max(FLOOR) {
            break;
        }
        roll_out(world, version).await;
        if version == FLOOR {
            let floor = format!("digits:{FLOOR}");
            persist(world, &["checkpoint", "--floor", &floor, "--key", "bo", "--key", "cy"]).await;
            world.floor.store(FLOOR, Ordering::SeqCst);
            world.timeline.note(format!("people signed the floor {FLOOR}"));
        }
        // The chain of events is read, and its head kept, while all this goes on.
        persist(world, &["audit", "verify"]).await;
    }
    world.timeline.note("people start no more rollouts");
    world.is_rolled_out.store(true, Ordering::SeqCst);
}

/// Tries a command until the hub does it.
async fn persist(world: &Arc<World>, words: &[&str]) {
    persist_until(world, words, None).await;
}

/// Tries a command until the hub does it, or has the rollout that a try which seemed to fail began.
async fn persist_until(world: &Arc<World>, words: &[&str], rollout: Option<u32>) {
    let begun = Instant::now();
    loop {
        let ran = run(world, words).await;
        if ran.code == 0 {
            return;
        }
        if let Some(version) = rollout
            && rollout_of(world, version).await.is_some()
        {
            return;
        }
        world.timeline.count("commands tried in vain");
        let why = ran.stderr.lines().find(|line| !line.is_empty()).unwrap_or_default();
        world.timeline.note(format!("`{}` failed with {}: {why}", ran.words, ran.code));
        if begun.elapsed() > TRIED_MAX {
            return world.timeline.violation(format!("people tried {TRIED_MAX:?} in vain: {ran}"));
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

async fn run(world: &Arc<World>, words: &[&str]) -> Ran {
    let (cli, words) = (world.cli.clone(), words.iter().map(ToString::to_string).collect::<Vec<_>>());
    blocking(move || cli.run(&words)).await
}

/// The rollout of a version, if the hub answers and has one.
async fn rollout_of(world: &World, version: u32) -> Option<RolloutView> {
    world.client.rollouts().await.ok()?.items.into_iter().find(|rollout| rollout.version == version)
}

async fn roll_out(world: &Arc<World>, version: u32) {
    let model = format!("digits:{version}");
    let first = format!("device={}", FIRST_STAGE.join(","));
    world.grant(version, Some(FIRST_STAGE.map(str::to_owned).into_iter().collect::<BTreeSet<_>>()));
    let mut words = vec!["rollout", "start", &model, "--stage", &first, "--stage", "100%", "--soak-seconds", "1"];
    words.extend(["--key", "bo", "--max-failures", "0"]);
    if version == BAD {
        words.extend(["--on-failure", "rollback"]);
    }
    persist_until(world, &words, Some(version)).await;
    let mut is_granted = false;
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        if world.is_settled.load(Ordering::Relaxed) {
            return;
        }
        let Some(rollout) = rollout_of(world, version).await else { continue };
        if rollout.state.ended() {
            let expected = if version == BAD { RolloutState::RolledBack } else { RolloutState::Completed };
            let what = format!("the rollout of version {version} is {}", rollout.state.label());
            world.timeline.note(&what);
            if rollout.state != expected {
                world.timeline.violation(format!("{what}: {:?} {:?}", rollout.stopped_because, rollout.failures));
            }
            return;
        }
        if rollout.state == RolloutState::Paused {
            let why = rollout.stopped_because.unwrap_or_default();
            world.timeline.note(format!("the rollout of version {version} is paused: {why}; people resume it"));
            world.timeline.count("rollouts resumed");
            let _hub_may_be_dead = world.client.act_on_rollout(&rollout.id, RolloutAction::Resume, None).await;
        }
        let waits = rollout.phase == Some(RolloutPhase::WaitingForGrant) && rollout.stage == 1;
        if waits && !is_granted {
            if version == BAD {
                world.timeline.violation("the bad version passed its first stage");
            }
            world.grant(version, None);
            persist(world, &["grant", &model, "--percent", "100", "--key", "bo"]).await;
            is_granted = true;
        }
    }
}
