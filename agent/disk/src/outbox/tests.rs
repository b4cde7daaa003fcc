//! The outbox on a store in memory: what goes, when, and what is said of it.

use std::collections::BTreeMap;

use bellwether_protocol::trust::{Event, Phase};
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, Strategy};
use proptest::{prop_oneof, proptest};

use super::*;

const AGE_MAX: Millis = Millis(64_000);
/// A part of the bound by which a record may be older.
const SPAN: u64 = 1_000;
const FOREVER: Millis = Millis(u64::MAX);
const ROOM: Bounds = Bounds { bytes_max: 1 << 20, age_max: AGE_MAX };

#[derive(Clone, Debug, Default)]
struct Memory {
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    is_full: bool,
}

impl Rows for Memory {
    type Fault = &'static str;

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Self::Fault> {
        Ok(self.rows.get(key).cloned())
    }

    fn from(&self, key: Vec<u8>) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
        self.rows.range(key..).map(|(key, value)| (key.clone(), value.clone()))
    }

    fn apply(&mut self, changes: Changes) -> Result<(), Self::Fault> {
        if self.is_full {
            return Err("no space left");
        }
        for (key, value) in changes {
            match value {
                Some(value) => drop(self.rows.insert(key, value)),
                None => drop(self.rows.remove(&key)),
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Self::Fault> {
        Ok(())
    }
}

fn open(rows: Memory, bounds: Bounds) -> Outbox<Memory> {
    Outbox::open(rows, bounds, || OutboxId([7; 16])).unwrap()
}

fn record(at: u64) -> Record<'static> {
    let (name, version) = ("digits".parse().unwrap(), "1".parse().unwrap());
    Record { at: Millis(at), body: RecordBody::Event(Event { name, version, phase: Phase::Committed, reject: None }) }
}

/// What waits: the number of each record, and for how many it stands if it is a gap.
fn waiting(outbox: &Outbox<Memory>) -> Vec<(u64, Option<u64>)> {
    let all: Vec<Kept> = kept_rows(&outbox.rows).map(kept).collect();
    assert_eq!(outbox.held.records, all.len() as u64);
    assert_eq!(outbox.held.bytes, all.iter().map(|kept| kept.bytes).sum::<u64>());
    all.into_iter().map(|kept| (kept.number, kept.gap)).collect()
}

fn passes(outbox: &mut Outbox<Memory>, from: u64, to: u64) {
    for now in (from..=to).step_by(500) {
        outbox.tick(Millis(now), Millis(0)).unwrap();
    }
}

#[test]
fn what_is_too_old_goes_and_a_gap_says_how_many() {
    let mut outbox = open(Memory::default(), ROOM);
    outbox.tick(Millis(5_000_000), Millis(0)).unwrap();
    for _ in 0..3 {
        outbox.push(&record(0)).unwrap();
    }
    passes(&mut outbox, 5_000_000, 5_030_000);
    outbox.push(&record(0)).unwrap();
    let under_way = outbox.due(Millis(5_030_000)).unwrap();
    assert_eq!(outbox.due(Millis(5_030_000)), None);
    passes(&mut outbox, 5_030_000, 5_064_500);
    assert_eq!(waiting(&outbox).len(), 4, "not yet");
    passes(&mut outbox, 5_064_500, 5_065_000);
    assert_eq!(waiting(&outbox), [(3, Some(3)), (4, None)]);
    let due = outbox.due(Millis(5_065_000)).expect("what was under way is made anew");
    assert_ne!(due, under_way);
    assert_eq!((due.oldest, due.first, due.rows.len()), (3, 3, 2));
    passes(&mut outbox, 5_065_000, 5_100_000);
    assert_eq!(waiting(&outbox), [(4, Some(4))], "the gap stays until the hub has it");
    passes(&mut outbox, 5_100_000, 5_500_000);
    assert_eq!(waiting(&outbox), [(4, Some(4))]);
    outbox.acknowledged(4).unwrap();
    assert_eq!(waiting(&outbox), []);
    assert!(outbox.rows.rows.keys().all(|key| key.starts_with(b"m")), "no mark is left: {:?}", outbox.rows.rows);
}

#[test]
fn no_wall_clock_and_no_time_without_power_makes_a_record_old() {
    let mut outbox = open(Memory::default(), ROOM);
    for run in 0..10 {
        // The wall clock is decades ahead in one run and at its beginning in the next.
        let wall = if run % 2 == 0 { 0 } else { 4_000_000_000_000 };
        for now in (0..=5_000).step_by(500) {
            outbox.tick(Millis(now + run * 10_000_000_000), Millis(wall)).unwrap();
        }
        outbox.push(&record(wall)).unwrap();
        outbox = open(outbox.rows, ROOM);
    }
    assert_eq!(waiting(&outbox).len(), 10, "fifty seconds");
    passes(&mut outbox, 0, 40_000);
    let gap = waiting(&outbox)[0];
    assert!((4..=6).contains(&gap.0) && gap.1 == Some(gap.0), "time goes on from run to run: {gap:?}");
}

#[test]
fn records_from_before_ages_were_counted_are_as_old_as_the_first_start() {
    let mut outbox = open(Memory::default(), ROOM);
    for _ in 0..5 {
        outbox.push(&record(0)).unwrap();
    }
    let mut before = outbox.rows;
    before.rows.retain(|key, _| !key.starts_with(b"a") && key != b"mran");
    let mut outbox = open(before, ROOM);
    passes(&mut outbox, 0, 64_500);
    assert_eq!(waiting(&outbox).len(), 5);
    passes(&mut outbox, 64_500, 65_000);
    assert_eq!(waiting(&outbox), [(5, Some(5))]);
}

#[test]
fn a_shorter_bound_counts_from_when_the_records_were_put_in() {
    let mut outbox = open(Memory::default(), Bounds { age_max: Millis(6_400_000), ..ROOM });
    passes(&mut outbox, 0, 50_000);
    outbox.push(&record(0)).unwrap();
    passes(&mut outbox, 50_000, 90_000);
    outbox.push(&record(0)).unwrap();
    passes(&mut outbox, 90_000, 150_000);
    outbox.push(&record(0)).unwrap();
    let mut outbox = open(outbox.rows, ROOM);
    // The first two share a mark that ends at 150 s.
    passes(&mut outbox, 0, 60_000);
    assert_eq!(waiting(&outbox).len(), 3);
    passes(&mut outbox, 60_000, 66_000);
    assert_eq!(waiting(&outbox), [(2, Some(2)), (3, None)]);
}

#[test]
fn a_record_that_cannot_be_read_is_a_gap_and_not_the_end() {
    let mut outbox = open(Memory::default(), ROOM);
    for _ in 0..5 {
        outbox.push(&record(0)).unwrap();
    }
    let mut rows = outbox.rows;
    // As a newer agent may have written it.
    rows.rows.insert(key(3), vec![1, 9, 200, 3]);
    let mut outbox = open(rows, ROOM);
    assert_eq!(waiting(&outbox)[2], (3, Some(1)));
    let due = outbox.due(Millis(0)).unwrap();
    let device = "gw-1".parse().unwrap();
    assert_eq!((due.first, due.batch(&device).records.len()), (1, 5), "every number is there");
}

#[test]
fn a_number_that_was_sent_is_never_given_again() {
    let mut outbox = open(Memory::default(), ROOM);
    for _ in 0..5 {
        outbox.push(&record(0)).unwrap();
    }
    // Nothing was flushed by sending, and every record is gone.
    outbox.acknowledged(5).unwrap();
    let mut outbox = open(outbox.rows, ROOM);
    assert_eq!(outbox.newest().1, 5);
    outbox.push(&record(0)).unwrap();
    let mut outbox = open(outbox.rows, ROOM);
    assert_eq!((outbox.newest().1, outbox.due(Millis(0)).map(|due| due.first)), (6, Some(6)));
    // As an agent that wrote it at every push left it.
    outbox.rows.rows.insert(NEXT.to_vec(), 9u64.to_be_bytes().to_vec());
    assert_eq!(open(outbox.rows, ROOM).newest().1, 8);
}

#[test]
fn a_full_disk_costs_the_records_that_come_and_none_that_wait() {
    let mut outbox = open(Memory::default(), Bounds { bytes_max: 4096, age_max: AGE_MAX });
    for _ in 0..10 {
        outbox.push(&record(0)).unwrap();
    }
    outbox.rows.is_full = true;
    for _ in 0..1000 {
        outbox.push(&record(0)).unwrap_err();
    }
    outbox.rows.is_full = false;
    assert_eq!(outbox.waiting(), 10);
    outbox.push(&record(0)).unwrap();
    assert_eq!(waiting(&outbox).len(), 11, "none gave way to what was never written");
    let numbers = (outbox.due(Millis(0)).unwrap(), outbox.due(Millis(0)).unwrap());
    assert_eq!((numbers.0.first, numbers.0.rows.len(), numbers.1.first), (1, 10, 1011), "the hub sees what is missing");
    outbox.rows.is_full = true;
    passes(&mut outbox, 0, 0);
    outbox.tick(Millis(65_000), Millis(0)).unwrap_err();
    assert_eq!(waiting(&outbox).len(), 11);
    outbox.rows.is_full = false;
    passes(&mut outbox, 65_000, 65_000);
    assert_eq!(waiting(&outbox), [(1011, Some(11))], "what could not go then goes now");
}

#[derive(Clone, Debug)]
enum Step {
    Push(usize),
    Pass(u64),
    Send,
    Acknowledge(u64),
    Restart,
}

fn steps(restarts: u32) -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..200_usize).prop_map(Step::Push),
        6 => (0..9_000_u64).prop_map(Step::Pass),
        2 => proptest::strategy::Just(Step::Send),
        2 => (0..12_u64).prop_map(Step::Acknowledge),
        restarts => proptest::strategy::Just(Step::Restart),
    ]
}

/// Beside the outbox: when each record was put in, in running time.
struct Model {
    outbox: Outbox<Memory>,
    bounds: Bounds,
    ran: u64,
    restarts: u64,
    acked: u64,
    put_at: BTreeMap<u64, u64>,
}

impl Model {
    fn new(bounds: Bounds) -> Self {
        let mut outbox = open(Memory::default(), bounds);
        outbox.tick(Millis(0), Millis(0)).unwrap();
        Self { outbox, bounds, ran: 0, restarts: 0, acked: 0, put_at: BTreeMap::new() }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Push(bytes) => {
                let text = vec![b'x'; bytes];
                let log = bellwether_protocol::trust::Log {
                    why: bellwether_protocol::trust::LogWhy::Asked,
                    piece: 0,
                    pieces: 1,
                    text: &text,
                };
                self.outbox.push(&Record { at: Millis(self.ran), body: RecordBody::Log(log) }).unwrap();
                self.put_at.insert(self.outbox.newest().1, self.ran);
            }
            Step::Pass(by) => {
                self.ran += by;
                self.outbox.tick(Millis(self.ran), Millis(0)).unwrap();
            }
            Step::Send => drop(self.outbox.due(Millis(self.ran))),
            Step::Acknowledge(some) => {
                let through = (self.acked + some).min(self.outbox.newest().1);
                self.outbox.acknowledged(through).unwrap();
                self.acked = through;
            }
            Step::Restart => {
                self.outbox = open(self.outbox.rows.clone(), self.bounds);
                self.outbox.tick(Millis(self.ran), Millis(0)).unwrap();
                self.restarts += 1;
            }
        }
        self.every_number_is_accounted_for();
        self.nothing_goes_early_or_stays_late();
    }

    fn every_number_is_accounted_for(&self) {
        let mut next = self.acked + 1;
        for (number, gap) in waiting(&self.outbox) {
            let from = number + 1 - gap.unwrap_or(1);
            assert!(from <= next && next <= number, "{from} ..= {number} does not go on from {next}");
            next = number + 1;
        }
        assert_eq!(next, self.outbox.newest().1 + 1);
        assert!(self.outbox.held.bytes <= self.bounds.bytes_max + 256, "{:?}", self.outbox.held);
    }

    fn nothing_goes_early_or_stays_late(&self) {
        for (number, gap) in waiting(&self.outbox) {
            let from = number + 1 - gap.unwrap_or(1);
            for number in from..=number {
                let age = self.ran - self.put_at[&number];
                let is_old = age >= self.bounds.age_max.0;
                assert!(gap.is_none() || is_old || self.bounds.age_max == FOREVER, "{number} went at {age} ms");
            }
            // A tick is up to 9 s after the one before, and a kill forgets up to a span.
            let latest = self.bounds.age_max.0.saturating_add(SPAN + 9_000 + self.restarts * (SPAN + 9_000));
            assert!(gap.is_some() || self.ran - self.put_at[&number] <= latest, "{number} stays");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_dropped_for_its_age_is_old_and_counted(all in vec(steps(1), 1..150)) {
        let mut model = Model::new(Bounds { bytes_max: 1 << 30, age_max: AGE_MAX });
        all.iter().for_each(|step| model.take(step));
    }

    #[test]
    fn what_is_dropped_for_want_of_room_is_counted(all in vec(steps(1), 1..150)) {
        let mut model = Model::new(Bounds { bytes_max: 4096, age_max: FOREVER });
        all.iter().for_each(|step| model.take(step));
    }
}
