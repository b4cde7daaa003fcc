//! The rogue hub gets creative: for a bounded time it sends whatever it can make of what it has, with
//! every key that a hub has, to the real agent and to brain and verifier alone.

use std::time::{Duration, Instant};

use bellwether_agent_core::{Brain, Input, Told};
use bellwether_protocol::digest::Digest;
use bellwether_protocol::frame;
use bellwether_protocol::message::{Desired, Down, Evidence};
use bellwether_protocol::time::Millis;
use bellwether_protocol::topic::{DownTopic, Part};
use bellwether_protocol::trust::{Assignment, Cohort, Epoch, Mode, Order, Recall, Release, Root, StageGrant, Wanted};

use crate::rogue::{BO, CY, DIRECTOR, REGISTRY, TIME, body, by, root};
use crate::stage::{ALL, Stage, framed, grant, packed, release};

/// How long the agent is tried.
const SPAN: Duration = Duration::from_secs(15);

/// A generator whose seed a failure names.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        // xorshift64* (Vigna 2016).
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % sides.max(1)
    }

    /// A change somewhere: a bit, a cut, a repeat, a splice of another.
    fn spoil(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let at = self.roll(bytes.len());
        match self.roll(6) {
            0 => bytes[at] ^= 1 << self.roll(8),
            1 => bytes.truncate(at),
            2 => bytes.extend_from_within(at..),
            3 => bytes.splice(at.., other.iter().copied().skip(at)).for_each(drop),
            4 => bytes[at] = 0xff,
            _ => bytes.insert(at, 0x80),
        }
    }
}

/// Everything honest that the rogue has seen: signed by people, and of no use to it as it stands.
struct Loot {
    two: Vec<u8>,
    grant_of_one: Vec<u8>,
    frames: Vec<(DownTopic, Vec<u8>)>,
}

fn loot(stage: &Stage) -> Loot {
    let fleet = stage.rogue.fleet;
    let cnn = packed("digits-cnn");
    stage.rogue.keep(&cnn.bytes);
    let two = body(&release(2, &cnn));
    let grant_of_one = body(&grant(&stage.one, Cohort::Buckets(1000)));
    let mut next = root();
    next.version = 3;
    let next = body(&next);
    let recall = body(&Recall {
        name: "other-1".parse().unwrap(),
        releases: std::iter::once(Digest::of(&two)).collect(),
        otherwise: bellwether_protocol::trust::Otherwise::Keep,
    });
    let epoch = body(&Epoch { generation: 1, epoch: 7, nonce: [1; 16] });
    let frames = vec![
        // Two approvals too few, and the grant of version 1.
        (DownTopic::Desired, stage.offer(&two, &[ALL[0]], Some((Cohort::Buckets(1000), &[BO])))),
        (DownTopic::Desired, stage.offer(&two, &ALL, Some((Cohort::Buckets(0), &[BO])))),
        (DownTopic::Trust, framed(&Down::Root(by::<Root>(fleet, &next, &[BO, CY])))),
        (DownTopic::Trust, framed(&Down::Recall(by::<Recall>(fleet, &recall, &[DIRECTOR])))),
        (DownTopic::Trust, framed(&Down::Epoch(by::<Epoch>(fleet, &epoch, &[TIME])))),
    ];
    Loot { two, grant_of_one, frames }
}

/// An assignment that the rogue signs itself, with evidence put together from the loot.
fn composed(stage: &Stage, loot: &Loot, dice: &mut Dice) -> Vec<u8> {
    let fleet = stage.rogue.fleet;
    let wanted = [&loot.two, &stage.one][dice.roll(2)];
    let assignment = body(&Assignment {
        device: stage.rogue.device.clone(),
        order: Order { generation: 1, sequence: stage.rogue.next() },
        models: std::iter::once(Wanted {
            name: ["digits", "digits2", "other-1"][dice.roll(3)].parse().unwrap(),
            release: Digest::of(wanted),
            mode: [Mode::Active, Mode::Shadow][dice.roll(2)],
        })
        .collect(),
        audit: Digest::default(),
    });
    let mut spoilt = loot.two.clone();
    dice.spoil(&mut spoilt, &stage.one);
    let bodies = [&loot.two, &stage.one, &spoilt];
    let shown = bodies[dice.roll(3)];
    // Signatures over one body under another; and never those of k people over version 2.
    let mut release = by::<Release>(fleet, &stage.one, &ALL);
    release.body = shown;
    let own = body(&StageGrant { release: Digest::of(shown), ..grant(shown, Cohort::Buckets(1000)) });
    let by_hub = by::<StageGrant>(fleet, &own, &[[DIRECTOR, REGISTRY, TIME][dice.roll(3)]]);
    let stolen = by::<StageGrant>(fleet, &loot.grant_of_one, &[BO]);
    let grants = [None, Some(by_hub), Some(stolen)];
    let evidence = Evidence { release, grant: grants[dice.roll(3)].clone() };
    let assignment = by::<Assignment>(fleet, &assignment, &[DIRECTOR]);
    framed(&Down::Desired(Desired { assignment, evidence: std::iter::once(evidence).collect() }))
}

/// One attempt: something composed, or something spoilt.
fn attempt(stage: &Stage, loot: &Loot, dice: &mut Dice) -> (DownTopic, Vec<u8>) {
    if dice.roll(2) == 0 {
        return (DownTopic::Desired, composed(stage, loot, dice));
    }
    let (topic, mut bytes) = loot.frames[dice.roll(loot.frames.len())].clone();
    let other = loot.frames[dice.roll(loot.frames.len())].1.clone();
    (0..=dice.roll(3)).for_each(|_| dice.spoil(&mut bytes, &other));
    let transfer = Digest::of(&loot.two).transfer();
    let topics = [topic, DownTopic::Ack, DownTopic::Command, DownTopic::Part(transfer, Part::Table)];
    let elsewhere = dice.roll(10) == 0;
    (if elsewhere { topics[dice.roll(4)] } else { topic }, bytes)
}

/// The brain hears it too; whatever it answers, it wants nothing but version 1.
fn brain_holds(brain: &mut Brain, bytes: &[u8], two: Digest) {
    match frame::decode::<Down<'_>>(bytes) {
        Ok(Down::Desired(desired)) => drop(brain.handle(Millis(0), Input::Desired(&desired))),
        Ok(Down::Root(signed)) => drop(brain.handle(Millis(0), Input::Told(Told::Root(&signed)))),
        Ok(Down::Recall(signed)) => drop(brain.handle(Millis(0), Input::Told(Told::Recall(&signed)))),
        Ok(Down::Checkpoint(signed)) => drop(brain.handle(Millis(0), Input::Told(Told::Checkpoint(&signed)))),
        Ok(Down::Epoch(signed)) => drop(brain.handle(Millis(0), Input::Told(Told::Epoch(&signed)))),
        _ => {}
    }
    for model in &brain.state().models {
        let wanted = model.install.target().is_some_and(|target| target.running.release == two);
        assert!(!wanted && model.answers() != Some(two), "the brain wants what nobody granted: {model:?}");
    }
    assert_eq!(brain.root().root().version, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rogue_hub_with_every_key_of_a_hub_gets_nothing_installed() {
    let seed = bellwether_tests::files::fresh();
    println!("seed {seed}");
    let stage = Stage::running().await;
    let loot = loot(&stage);
    let two = Digest::of(&loot.two);
    let mut dice = Dice(seed | 1);
    let start = Instant::now();
    let mut attempts = 0u32;
    while start.elapsed() < SPAN {
        let (topic, bytes) = attempt(&stage, &loot, &mut dice);
        brain_holds(&mut stage.brain.lock().unwrap(), &bytes, two);
        stage.rogue.send_bytes(topic, bytes, false).await;
        attempts += 1;
        if attempts.is_multiple_of(200) {
            let report = stage.rogue.report().unwrap();
            let has =
                |running: Option<bellwether_protocol::trust::Running>| running.is_some_and(|one| one.release == two);
            assert!(report.models.iter().all(|model| !has(model.active)), "seed {seed}: {report:?}");
        }
    }
    stage.still_runs("1").await;
    // It is still the same agent, and still does what is lawful.
    let signed = by::<Release>(stage.rogue.fleet, &loot.two, &ALL);
    let lawful = body(&grant(signed.body, Cohort::Buckets(1000)));
    let lawful = by::<StageGrant>(stage.rogue.fleet, &lawful, &[CY]);
    let desired = stage.desired(&signed, Some(&lawful), stage.rogue.next());
    stage.rogue.send_bytes(DownTopic::Desired, desired, false).await;
    stage.runs(2).await;
    println!("{attempts} attempts");
}
