//! A small disk of its own for a device, which somebody fills to the last byte: the device says so,
//! goes on answering, keeps what it had, and goes on where it was once there is room.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bellwether_hub::api::types::{Presence, RolloutState};
use bellwether_tests::Fleet;
use bellwether_tests::files::{noise, repository, tool};
use bellwether_tests::fleet::runs;
use bellwether_tests::hub::folder;
use bellwether_tests::wait::wait_within;
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::device::{Device, Plan, number_of};
use crate::timeline::{Timeline, held};
use crate::world::blocking;
use crate::{CALL_EVERY, ONE};

/// Size of the disk: the agent's own things take a third of it.
const DISK_BYTES: u64 = 24 * 1024 * 1024;
/// Bytes beside the second version's model: more than the device has once its disk is full, less than
/// it has before.
const EXTRA_BYTES: usize = 4 * 1024 * 1024;
/// `no room on the device`.
const DISK_FULL: u64 = 90;
/// How long anything may take here.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the disk stays full with nothing else going on.
const FULL: Duration = Duration::from_secs(5);
/// Time between two looks at the rows.
const LOOK_EVERY: Duration = Duration::from_millis(300);
const AGENT: &str = "probation_ms = 500\nscores_window_ms = 500\nheartbeat_ms = 2000\n\
                     collect_rows_per_minute_max = 600\n";

/// A file system that is as small as it says.
#[derive(Debug)]
struct SmallDisk {
    home: TempDir,
}

impl SmallDisk {
    /// An ext4 image mounted by a loop device, or memory of that size where there is no loop device.
    fn mount() -> Self {
        let disk = Self { home: folder() };
        let (image, at) = (disk.home.path().join("image"), disk.at());
        std::fs::create_dir(&at).expect("a temporary folder takes a folder");
        let file = std::fs::File::create(&image).expect("a temporary folder takes a file");
        file.set_len(DISK_BYTES).expect("an image can be sparse");
        let now = "lazy_itable_init=0,lazy_journal_init=0";
        let mut made = Command::new(tool("mkfs.ext4", "e2fsprogs"));
        made.args(["-q", "-F", "-m", "0", "-E", now]).arg(&image);
        ran(&mut made).expect("mkfs.ext4 makes a file system in a file");
        let by_loop = ran(as_root("mount").args(["-o", "loop"]).args([&image, &at]));
        let what = match by_loop {
            Ok(()) => "an ext4 image on a loop device".to_owned(),
            Err(why) => {
                let size = format!("size={DISK_BYTES}");
                let by_memory = ran(as_root("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&at));
                by_memory.unwrap_or_else(|also| panic!("no small disk can be mounted here: {why}; {also}"));
                format!("a tmpfs, as no loop device can be mounted ({why})")
            }
        };
        let owner = std::fs::metadata(disk.home.path()).expect("the folder is there");
        let owner = std::os::unix::fs::MetadataExt::uid(&owner).to_string();
        ran(as_root("chown").arg(owner).arg(&at)).expect("the disk can be given to this user");
        eprintln!("the small disk is {what}");
        disk
    }

    fn at(&self) -> PathBuf {
        self.home.path().join("disk")
    }

    fn filler(&self) -> PathBuf {
        self.at().join("filler")
    }

    /// Fills it to the last byte, as often as there is something to fill.
    fn fill(&self) {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(self.filler());
        let mut file = file.expect("a name costs nothing on a disk with room for names");
        for piece in [64 * 1024, 4096, 512, 1] {
            let piece = noise(piece);
            while file.write(&piece).is_ok_and(|written| written > 0) {}
        }
        let _full = file.sync_all();
    }

    fn free(&self) {
        std::fs::remove_file(self.filler()).expect("the filler can be removed");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let begun = Instant::now();
        // A process that was killed may hold it for a moment longer.
        while let Err(why) = ran(as_root("umount").arg(self.at())) {
            if begun.elapsed() > Duration::from_secs(10) {
                eprintln!("the small disk is still in use, and goes when nobody uses it: {why}");
                let _ = ran(as_root("umount").arg("-l").arg(self.at()));
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A program of the system, run as root where this user is somebody else.
fn as_root(name: &str) -> Command {
    let program = tool(name, "mount util-linux coreutils");
    let own = std::fs::metadata("/proc/self").expect("the process is listed");
    if std::os::unix::fs::MetadataExt::uid(&own) == 0 {
        return Command::new(program);
    }
    let mut command = Command::new(tool("sudo", "sudo"));
    command.arg("-n").arg(program);
    command
}

fn ran(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|why| format!("{command:?} does not start: {why}"))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{command:?}: {said}")) }
}

/// Registers and approves a version of `digits` of this size, every row of which is collected.
fn release(fleet: &Fleet, version: u32, file: &str, bytes: usize) {
    let extra = fleet.hub.home().join("labels.bin");
    std::fs::write(&extra, noise(bytes)).expect("a temporary folder takes a file");
    let extra = extra.to_string_lossy().into_owned();
    let more = ["--extra", &extra, "--collect-one-in", "1", "--collect-per-minute", "600"];
    fleet.release("digits", version, file, &more);
}

/// The numbers that have arrived at the hub.
fn arrived(fleet: &Fleet) -> Vec<u64> {
    let text = fleet.cli.ok(&["data", "export", "--format", "ndjson", "--to", "-"]).stdout;
    let row = |line: &str| serde_json::from_str::<Value>(line).expect("a row is JSON");
    text.lines().map(|line| number_of(&row(line)).expect("a row has its number")).collect()
}

/// Waits until all of these have arrived, each once.
async fn all_arrive(fleet: &Fleet, numbers: &[u64]) {
    wait_within(PATIENCE, "every row from before has arrived", async || {
        tokio::time::sleep(LOOK_EVERY).await;
        let arrived = arrived(fleet);
        let mut once = arrived.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), arrived.len(), "a row came twice");
        numbers.iter().all(|number| once.binary_search(number).is_ok())
    })
    .await;
}

/// What the hub heard of the device's latest install: its phase and the code of its refusal.
async fn install(fleet: &Fleet) -> Option<(u32, String, Option<u16>)> {
    let device = fleet.api().device("gw-1").await.ok()?;
    let digits = device.models.into_iter().find(|model| model.name == "digits")?;
    Some((digits.target?.version, digits.phase, digits.reject.map(|reject| reject.code)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_whose_disk_is_full_says_so_and_goes_on_answering() {
    let _one = ONE.lock().await;
    let logs = repository().join(format!("target/test-run/chaos-disk-{}", std::process::id()));
    let timeline = Arc::new(Timeline::new(&logs));
    let disk = SmallDisk::mount();
    let mut fleet = blocking(Fleet::start).await;
    release(&fleet, 1, "digits-linear", 64 * 1024);
    release(&fleet, 2, "digits-cnn", EXTRA_BYTES);
    let (token, on_disk) = (fleet.device_token(1), disk.at().join("agent"));
    let plan = Plan { name: "gw-1", hub: &fleet.hub.url, token: &token, config: AGENT, data: Some(&on_disk) };
    let device = Arc::new(Device::new(1, plan, Arc::clone(&timeline)));
    device.start().unwrap();
    fleet.roll_out("digits:1");
    let stop = Arc::new(AtomicBool::new(false));
    let (caller, until) = (Arc::clone(&device), Arc::clone(&stop));
    let mut calls = JoinSet::new();
    calls.spawn(async move { caller.be_called(CALL_EVERY, &until).await });

    // Rows wait for a hub that is away while the disk becomes full.
    tokio::time::sleep(Duration::from_secs(2)).await;
    fleet.hub.kill();
    tokio::time::sleep(Duration::from_secs(4)).await;
    let kept: Vec<u64> = held(&device.calls).answered.keys().copied().collect();
    tokio::time::sleep(Duration::from_secs(3)).await;
    disk.fill();
    timeline.note("the disk is full");
    tokio::time::sleep(FULL).await;
    fleet.hub.restart();
    assert!(kept.len() > 10, "{} rows wait", kept.len());
    all_arrive(&fleet, &kept).await;
    timeline.note("all rows from before have arrived");

    // What does not fit is refused by its name, and the version that answers stays.
    let rollout = fleet.start_rollout("digits:2", 1);
    wait_within(PATIENCE, "the hub hears that the disk is full", async || {
        install(&fleet).await == Some((2, "rejected".to_owned(), u16::try_from(DISK_FULL).ok()))
    })
    .await;
    assert!(device.log().contains("no room on the device"), "{}", device.log());
    assert_eq!(device.active().await, Ok(Some(1)));
    timeline.note("the device said that its disk is full");

    // It starts and answers on a full disk, and again when somebody has taken what little it gave up.
    for _ in 0..2 {
        device.kill();
        device.start().unwrap();
        assert_eq!(device.active().await, Ok(Some(1)));
        fleet.device_until("gw-1", "online again", |device| device.presence == Presence::Online).await;
        disk.fill();
        timeline.note("the disk is full to the last byte");
        tokio::time::sleep(FULL).await;
        assert_eq!(device.active().await, Ok(Some(1)));
        assert!(device.ended().is_none(), "{:?}", device.ended());
    }

    // With room again it collects, and installs what people still want.
    disk.free();
    timeline.note("there is room again");
    let before = fleet.device("gw-1").await.rows_collected;
    fleet.device_until("gw-1", "collected from again", |device| device.rows_collected > before + 5).await;
    let ended = fleet.rollout_until(&rollout, "over", |rollout| rollout.state.ended()).await;
    assert_eq!(ended.state, RolloutState::RolledBack, "a failed gate takes it back");
    fleet.roll_out("digits:2");
    wait_within(PATIENCE, "the second version answers", async || device.active().await == Ok(Some(2))).await;
    fleet.device_until("gw-1", "in sync at version 2", |device| runs(device) == Some(2) && device.in_sync).await;

    stop.store(true, Ordering::Relaxed);
    calls.join_all().await;
    let rows = arrived(&fleet);
    assert!(rows.iter().all(|number| device.was_asked(*number)));
    let stopping = Arc::clone(&device);
    blocking(move || stopping.stop()).await;
    eprintln!(
        "a full disk: {} calls ({}), {} rows collected, {} violations",
        timeline.counted("calls"),
        timeline.counts("failed, "),
        rows.len(),
        timeline.violations()
    );
    timeline.finish(0, "a full disk");
}

/// Nothing of the disk is left where nobody holds it any more.
#[test]
fn a_small_disk_is_small_and_leaves_nothing() {
    let _one = ONE.blocking_lock();
    let disk = SmallDisk::mount();
    let at = disk.at();
    disk.fill();
    let taken = std::fs::metadata(disk.filler()).unwrap().len();
    assert!((DISK_BYTES / 3..=DISK_BYTES).contains(&taken), "{taken}");
    drop(disk);
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(&*at.to_string_lossy()) && !Path::new(&at).exists(), "{mounts}");
}
