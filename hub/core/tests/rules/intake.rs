//! What batches bring: rows once, profiles merged, failures with their logs.

use std::collections::BTreeMap;

use bellwether_hub_core::Change;
use bellwether_hub_core::drift::verdict::State;
use bellwether_hub_core::drift::{Group, Key, Policy};
use bellwether_hub_core::event::What;
use bellwether_hub_core::registry::Candidate;
use bellwether_protocol::error::Reject;
use bellwether_protocol::heapless::String as Text;
use bellwether_protocol::id::{DeviceId, ModelRef};
use bellwether_protocol::manifest::{DataType, TensorSignature, TensorSpec};
use bellwether_protocol::profile::{Bins, Column, Counter, Counts, Of, Side, Source, append};
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::{
    Batch, Exit, Failure, Log, LogWhy, OutboxId, Profile, Reason, Record, RecordBody, Sample,
};

use crate::world::{World, candidate};

const OUTBOX: OutboxId = OutboxId([3; 16]);
const ROWS: u32 = 320;

fn bins() -> Bins {
    let sample: Vec<f32> = (0..64u8).map(f32::from).collect();
    Bins::of_sorted(&sample).unwrap()
}

fn counts(shift: f32) -> Counts {
    let bins = bins();
    let mut counts = Counter::new(&bins);
    for row in 0..ROWS {
        counts.take(&bins, f32::from(u8::try_from(row % 64).unwrap()) + shift);
    }
    counts.into()
}

/// A model of one input `x` [N, 2] with a baseline of both elements.
fn with_baseline() -> Candidate {
    let spec = |name: &str, width| TensorSpec {
        name: name.parse().unwrap(),
        datatype: DataType::Fp32,
        shape: [None, Some(width)].into_iter().collect(),
    };
    let column = |element: u32| Column {
        name: Text::try_from(if element == 0 { "left" } else { "right" }).unwrap(),
        source: Source { side: Side::Input, tensor: 0, of: Of::Element(element) },
        bins: bins(),
        counts: counts(0.0),
    };
    let mut candidate = candidate("digits");
    candidate.manifest.tensors = TensorSignature {
        inputs: std::iter::once(spec("x", 2)).collect(),
        outputs: std::iter::once(spec("y", 1)).collect(),
    };
    candidate.baseline = vec![column(0), column(1)];
    candidate
}

struct Fleet {
    world: World,
    model: ModelRef,
    next: BTreeMap<DeviceId, u64>,
}

impl Fleet {
    /// Two devices in each of two sites.
    fn new() -> Self {
        let mut world = World::new();
        world.rules.judge_drift(Policy { window: Millis(1000), ..Policy::default() });
        let model = world.register_as(with_baseline());
        for (n, site) in [(0, "lyon"), (1, "lyon"), (2, "oslo"), (3, "oslo")] {
            let id = world.enrol(n);
            let tags = BTreeMap::from([("site".to_owned(), site.to_owned())]);
            world.take(world.rules.tag(&id, tags, "Olga", world.now));
        }
        Self { world, model, next: BTreeMap::new() }
    }

    fn send(&mut self, n: u8, body: RecordBody<'_>) -> u64 {
        let device = crate::world::device(n);
        let next = self.next.entry(device.clone()).or_insert(1);
        let record = Record { at: Millis(5), body };
        let (outbox, records) = (OUTBOX, std::iter::once(record).collect());
        let batch = Batch { device, outbox, oldest: *next, first: *next, records };
        *next += 1;
        // Twice, as when an acknowledgement was lost.
        for _ in 0..2 {
            let taken = self.world.rules.batch(&batch, self.world.now).unwrap();
            self.world.take(Ok(taken.0));
        }
        *next - 1
    }

    fn profile(&mut self, n: u8, shift: f32) {
        let mut buffer = [0; 512];
        let first = append(&counts(shift), &mut buffer).unwrap();
        let (_, rest) = buffer.split_at_mut(first);
        let length = first + append(&counts(0.0), rest).unwrap();
        let (name, version) = (self.model.name.clone(), self.model.version);
        let (columns, _) = buffer.split_at(length);
        self.send(n, RecordBody::Profile(Profile { name, version, span: Millis(1), rows: ROWS, first: 0, columns }));
    }

    fn key(&self, site: Option<&str>) -> Key {
        Key { model: self.model.clone(), group: site.map_or(Group::Fleet, |site| Group::Site(site.to_owned())) }
    }

    fn state(&self, site: Option<&str>) -> Option<State> {
        self.world.rules.monitor(&self.key(site)).map(|monitor| monitor.verdict.state)
    }
}

#[test]
fn profiles_sent_twice_count_once_and_sites_are_apart() {
    let mut fleet = Fleet::new();
    for n in 0..4 {
        fleet.profile(n, 0.0);
    }
    let rows = |fleet: &Fleet, site| {
        let key = fleet.key(site);
        fleet.world.rules.windows().find(|window| window.key == key).map(|window| window.rows)
    };
    assert_eq!(rows(&fleet, None), Some(u64::from(ROWS) * 4));
    assert_eq!(rows(&fleet, Some("lyon")), Some(u64::from(ROWS) * 2));
    fleet.world.tick(999);
    assert_eq!(fleet.state(None), None, "the window is not over");
    fleet.world.tick(1);
    assert_eq!(fleet.state(None), Some(State::Calm));
    let monitor = fleet.world.rules.monitor(&fleet.key(Some("oslo"))).unwrap();
    assert_eq!(monitor.latest.columns[0].bins, vec![20; 32]);
    assert!((monitor.latest.columns[0].mean - 31.5).abs() < 0.01);
}

#[test]
fn one_site_that_shifts_raises_one_alert_that_names_the_column_and_ends_it() {
    let mut fleet = Fleet::new();
    let windows = |fleet: &mut Fleet, count: u32, shift| {
        for _ in 0..count {
            for n in 0..4 {
                fleet.profile(n, if n < 2 { shift } else { 0.0 });
            }
            fleet.world.tick(1000);
        }
    };
    windows(&mut fleet, 2, 0.0);
    assert_eq!(fleet.state(Some("lyon")), Some(State::Calm));
    windows(&mut fleet, 1, 30.0);
    assert_eq!(fleet.state(Some("lyon")), Some(State::Watch));
    windows(&mut fleet, 2, 30.0);
    assert_eq!((fleet.state(Some("lyon")), fleet.state(Some("oslo"))), (Some(State::Alarm), Some(State::Calm)));
    let raised: Vec<&What> = fleet.world.events().filter(|what| what.kind() == "drift_alert_raised").collect();
    let of_lyon = raised.iter().find(|what| what.to_string().contains("site lyon")).unwrap();
    assert!(of_lyon.to_string().starts_with("left of digits:1 shifted at site lyon"), "{of_lyon}");
    assert!(!raised.iter().any(|what| what.to_string().contains("oslo")));
    windows(&mut fleet, 3, 0.0);
    assert_eq!(fleet.state(Some("lyon")), Some(State::Calm));
    assert!(fleet.world.events().any(|what| what.kind() == "drift_alert_cleared"));
}

#[test]
fn few_rows_are_not_judged_and_made_up_profiles_are_left_out() {
    let mut fleet = Fleet::new();
    fleet.world.rules.judge_drift(Policy { window: Millis(0), rows_min: 1_000, ..Policy::default() });
    fleet.profile(0, 50.0);
    fleet.world.tick(5000);
    assert_eq!(fleet.state(None), None);
    let (name, version) = (fleet.model.name.clone(), fleet.model.version);
    let mut buffer = [0; 512];
    let length = append(&counts(0.0), &mut buffer).unwrap();
    for (rows, first, columns) in [
        (ROWS + 1, 0, &buffer[..length]),
        (ROWS, 2, &buffer[..length]),
        (ROWS, 0, &buffer[..length - 1]),
        (ROWS, 0, &[][..]),
    ] {
        let (name, span) = (name.clone(), Millis(1));
        fleet.send(1, RecordBody::Profile(Profile { name, version, span, rows, first, columns }));
    }
    let unknown = Profile {
        name: "other".parse().unwrap(),
        version,
        span: Millis(1),
        rows: ROWS,
        first: 0,
        columns: &buffer[..length],
    };
    fleet.send(1, RecordBody::Profile(unknown));
    assert!(fleet.world.rules.windows().all(|window| window.rows == u64::from(ROWS)));
}

#[test]
fn a_row_is_stored_once_under_its_number_and_nonsense_counts_as_missing() {
    let mut fleet = Fleet::new();
    let (name, version) = (fleet.model.name.clone(), fleet.model.version);
    let sample = |inputs| {
        RecordBody::Sample(Sample { name: name.clone(), version, reason: Reason::Turn, inputs, outputs: &[1, 2, 3, 4] })
    };
    let sequence = fleet.send(0, sample(&[0; 8]));
    fleet.send(0, sample(&[0; 7]));
    let device = fleet.world.rules.device(&crate::world::device(0)).unwrap();
    assert_eq!((device.collected, device.missing), (1, 1));
    let row = |change: &Change| {
        let Change::Row(row) = change else { return None };
        Some((row.sequence, row.site.clone(), row.inputs.len()))
    };
    let rows: Vec<_> = fleet.world.log.iter().filter_map(row).collect();
    assert_eq!(rows, [(sequence, Some("lyon".to_owned()), 8)]);
    // One was stored, one was nonsense: of three more the third is too many for this hour.
    fleet.world.rules.limit_rows(3);
    for _ in 0..3 {
        fleet.send(0, sample(&[0; 8]));
    }
    let device = fleet.world.rules.device(&crate::world::device(0)).unwrap();
    assert_eq!((device.collected, device.missing), (3, 2));
}

#[test]
fn a_failure_keeps_its_log_and_old_ones_make_room() {
    let mut fleet = Fleet::new();
    let (name, version) = (fleet.model.name.clone(), fleet.model.version);
    for n in 0..6 {
        let failure = Failure {
            name: name.clone(),
            version,
            reject: Reject::Crashed,
            cause: "out of bounds",
            exit: Some(Exit::Signal(n)),
            peak_kib: 4096,
        };
        fleet.send(0, RecordBody::Failure(failure));
        for (piece, text) in [(0, b"first ".as_slice()), (1, b"second")] {
            fleet.send(0, RecordBody::Log(Log { why: LogWhy::Failure, piece, pieces: 2, text }));
        }
    }
    fleet.send(0, RecordBody::Log(Log { why: LogWhy::Asked, piece: 0, pieces: 2, text: b"asked " }));
    let id = crate::world::device(0);
    let troubles = fleet.world.rules.troubles(&id).unwrap();
    assert_eq!(troubles.failures.len(), 4);
    let last = troubles.failures.back().unwrap();
    assert_eq!((last.exit, last.log.as_slice()), (Some(Exit::Signal(5)), b"first second".as_slice()));
    assert_eq!(troubles.log.as_ref().map(|log| log.awaited), Some(1));
    fleet.send(0, RecordBody::Log(Log { why: LogWhy::Asked, piece: 1, pieces: 2, text: b"for" }));
    let troubles = fleet.world.rules.troubles(&id).unwrap();
    assert_eq!(troubles.log.as_ref().map(|log| (log.awaited, log.text.as_slice())), Some((0, b"asked for".as_slice())));
    fleet.world.take(fleet.world.rules.remove_device(&id, "Olga", fleet.world.now));
    assert!(fleet.world.rules.troubles(&id).is_none());
}
