//! What trust costs: bytes of what proves a release to a device, against a TUF repository in JSON
//! with the same keys and thresholds, and the time to verify each statement.

mod native;
mod tuf;

use std::hint::black_box;
use std::time::{Duration, Instant};

use bellwether_protocol::frame;
use bellwether_protocol::trust::{Assignment, Epoch, Report, RoleSet, Signed, open_by};

use crate::{median, us};
use native::{DEVICE, Native, public};

/// Verifications of one statement; the median counts.
const ROUNDS: usize = 2000;

pub(crate) fn measure() {
    let native = Native::new();
    let repository = tuf::Repository::new(&native);
    bytes(&native, &repository);
    println!();
    times(&native);
}

fn bytes(native: &Native, repository: &tuf::Repository) {
    let desired = native.desired.len();
    let first = desired + native.root.len();
    println!("what proves one model, 2 approvers      ours   TUF, JSON   ratio");
    let line = |what: &str, ours: usize, theirs: usize| {
        println!("  {what:<34} {ours:>6} B {theirs:>8} B   {:>4.1}x", theirs as f64 / ours as f64);
    };
    line("an update, the root known", desired, repository.update());
    line("from nothing, with the root", first, repository.update() + repository.root.len());
    println!(
        "  ours: release {} B, grant {} B, assignment {} B, framing {} B; root {} B",
        native.release.len(),
        native.grant.len(),
        native.assignment.len(),
        desired - native.release.len() - native.grant.len() - native.assignment.len(),
        native.root.len()
    );
    println!(
        "  TUF: timestamp {} B, snapshot {} B, targets {} B, delegated targets {} B; root {} B",
        repository.timestamp.len(),
        repository.snapshot.len(),
        repository.targets.len(),
        repository.delegated.len(),
        repository.root.len()
    );
    println!("  TUF's says neither whom a stage may reach nor what one device should have; ours does");
}

fn times(native: &Native) {
    println!("verifying, median of {ROUNDS}         signatures    bytes        time");
    let root = &native.trusted;
    let fleet = root.fleet();
    let approved = root.approve(&opened(&native.release)).expect("the release holds");
    let device = public(DEVICE);
    let line = |what: &str, statement: &[u8], verify: &dyn Fn(&Signed<'_>) -> bool| {
        let signatures = opened(statement).signatures.len();
        let time = us(verified(statement, verify));
        println!("  {what:<30} {signatures:>6} {:>8} B {time:>8.1} us", statement.len());
    };
    line("root step", &native.next_root, &|signed| root.next(signed).is_ok());
    line("release", &native.release, &|signed| root.approve(signed).is_ok());
    line("grant", &native.grant, &|signed| root.grant(&approved, signed).is_ok());
    line("assignment", &native.assignment, &|signed| root.hub::<Assignment>(signed, RoleSet::DIRECTOR).is_ok());
    line("recall", &native.recall, &|signed| root.recall(signed).is_ok());
    line("checkpoint with a floor", &native.checkpoint, &|signed| root.checkpoint(signed).is_ok());
    line("epoch", &native.epoch, &|signed| root.hub::<Epoch>(signed, RoleSet::TIME).is_ok());
    line("report", &native.report, &|signed| open_by::<Report>(fleet, signed, &device).is_ok());
}

/// The median time from the bytes of a statement to the verdict, which must be yes.
fn verified(statement: &[u8], verify: &dyn Fn(&Signed<'_>) -> bool) -> Duration {
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let is_good = verify(&opened(black_box(statement)));
        times.push(begun.elapsed());
        assert!(black_box(is_good), "a statement of the benchmark does not hold");
    }
    median(times)
}

fn opened(statement: &[u8]) -> Signed<'_> {
    frame::decode(statement).expect("a frame of the benchmark decodes")
}
