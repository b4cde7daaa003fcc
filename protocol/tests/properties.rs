//! What must hold for every input: decoding never panics, what is accepted is exact, topics read
//! back, chunks behave like a plain set, and a package with one byte changed does not open.
#![expect(
    clippy::unwrap_used,
    unreachable_pub,
    dead_code,
    reason = "a test that fails says where; the fleet serves other tests as well"
)]

mod fleet;

use std::collections::BTreeSet;
use std::fmt::Debug;

use bellwether_protocol::chunk::{Chunks, chunk_count};
use bellwether_protocol::digest::Digest;
use bellwether_protocol::error::Reject;
use bellwether_protocol::frame;
use bellwether_protocol::id::{DeviceId, FileName, ModelName, ModelRef, TransferId};
use bellwether_protocol::limit::{CHUNK_BYTES, CHUNKS_MAX, PACKAGE_BYTES_MAX};
use bellwether_protocol::manifest::{File, FileRole, Kind, Manifest, TensorSignature};
use bellwether_protocol::message::{Chunk, Desired, Down, Evidence, Gone, Hello, Need, Table, Up};
use bellwether_protocol::package::{Package, chunk_digests, encode_head};
use bellwether_protocol::time::Millis;
use bellwether_protocol::topic::{DownTopic, Part, Topic, UpTopic};
use bellwether_protocol::trust::{
    Ack, Assignment, Attestation, Batch, Cohort, Command, Connect, Enrol, Event, Exit, Failure, Log, LogWhy, Mode,
    Order, OutboxId, Phase, Profile, Reason, Record, RecordBody, Release, Report, Root, Sample, Scores, Signed,
    StageGrant, Wanted, open_by, sign,
};
use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof};
use proptest::sample::Index;
use proptest::{prop_assert, prop_assert_eq, proptest};
use serde::{Deserialize, Serialize};

use fleet::{ADA, BO, CY, DEVICE, DIRECTOR, body, by, key, root, trusted};

/// Reads bytes as every type there is; what is accepted must be exactly what would be written.
fn read_as_everything(bytes: &[u8]) {
    exact::<Up<'_>>(bytes);
    exact::<Down<'_>>(bytes);
    exact::<Signed<'_>>(bytes);
    exact::<Manifest>(bytes);
    exact::<Root>(bytes);
    exact::<Release>(bytes);
    exact::<StageGrant>(bytes);
    exact::<Assignment>(bytes);
    exact::<Command>(bytes);
    exact::<Ack>(bytes);
    exact::<Report>(bytes);
    exact::<Batch>(bytes);
    exact::<Connect>(bytes);
    exact::<Enrol>(bytes);
    exact::<Attestation>(bytes);
    drop(Package::open(bytes));
    if let Ok(text) = std::str::from_utf8(bytes) {
        drop(Topic::parse(text));
        drop(text.parse::<ModelRef>());
        if let Ok(digest) = text.parse::<Digest>() {
            assert_eq!(digest.to_string(), text);
        }
        drop(text.parse::<FileName>());
    }
}

fn exact<'b, T: Serialize + Deserialize<'b> + PartialEq + Debug>(bytes: &'b [u8]) {
    if let Ok(value) = frame::decode::<T>(bytes) {
        let mut buffer = vec![0; bytes.len()];
        assert_eq!(frame::encode(&value, &mut buffer).map(|written| &*written), Ok(bytes), "{value:?}");
    }
}

/// Frames of every message, made of random parts: what a mutation begins with.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let hello = (any::<u64>(), any::<u32>()).prop_map(|(boot, session)| encoded(&Up::Hello(Hello { boot, session })));
    let gone = (any::<u64>(), any::<u32>()).prop_map(|(boot, session)| encoded(&Up::Gone(Gone { boot, session })));
    let need = (any::<bool>(), any::<u16>(), any::<u64>())
        .prop_map(|(table, base, mask)| encoded(&Up::Need(Need { table, base, mask })));
    let batch = batches().prop_map(|batch| {
        let body = body(&batch);
        encoded(&Up::Batch(by::<Batch>(trusted(&root()).fleet(), &body, &[DEVICE])))
    });
    let chunk = vec(any::<u8>(), 0..300).prop_map(|bytes| encoded(&Down::Chunk(Chunk { bytes: &bytes })));
    let table = vec(any::<u8>(), 0..300).prop_map(|digests| encoded(&Down::Table(Table { digests: &digests })));
    prop_oneof![hello, gone, need, batch, chunk, table, Just(desired())]
}

fn encoded<T: Serialize>(value: &T) -> Vec<u8> {
    let mut buffer = vec![0; 16 * 1024];
    frame::encode(value, &mut buffer).unwrap().to_vec()
}

fn desired() -> Vec<u8> {
    let fleet = trusted(&root()).fleet();
    let release = body(&fleet::release());
    let grant = body(&fleet::grant(&release, Cohort::Buckets(250)));
    let wanted = Wanted { name: fleet::release().name, release: Digest::of(&release), mode: Mode::Active };
    let evidence = Evidence {
        release: by::<Release>(fleet, &release, &[ADA, BO, CY]),
        grant: Some(by::<StageGrant>(fleet, &grant, &[BO])),
    };
    let assignment = body(&Assignment {
        device: "cam-1".parse().unwrap(),
        order: Order { generation: 1, sequence: 300 },
        models: std::iter::once(wanted).collect(),
        audit: Digest::of(b"audit"),
    });
    let assignment = by::<Assignment>(fleet, &assignment, &[DIRECTOR]);
    encoded(&Down::Desired(Desired { assignment, evidence: std::iter::once(evidence).collect() }))
}

fn batches() -> impl Strategy<Value = Batch<'static>> {
    let record = (any::<u64>(), any::<u64>(), 0..7u8).prop_map(|(at, number, which)| {
        let ModelRef { name, version } = "digits:7".parse().unwrap();
        let body = match which {
            0 => RecordBody::Gap(number),
            1 => RecordBody::Event(Event {
                name,
                version,
                phase: Phase::Rejected,
                reject: Reject::ALL.get(usize::try_from(number % 64).unwrap()).copied(),
            }),
            2 => RecordBody::Profile(Profile {
                name,
                version,
                span: Millis(number),
                rows: 7,
                first: 3,
                columns: b"columns",
            }),
            3 => RecordBody::Sample(Sample {
                name,
                version,
                reason: Reason::Turn,
                inputs: b"inputs",
                outputs: b"outputs",
            }),
            4 => RecordBody::Failure(Failure {
                name,
                version,
                reject: Reject::Crashed,
                cause: "it crashed",
                exit: Some(Exit::Signal(i32::from(u8::try_from(number % 64).unwrap()))),
                peak_kib: 9,
            }),
            5 => RecordBody::Log(Log { why: LogWhy::Failure, piece: 0, pieces: 2, text: b"log" }),
            _ => RecordBody::Scores(Scores {
                name,
                version,
                rows: u32::try_from(number >> 32).unwrap(),
                errors: 0,
                p50_us: 1,
                p95_us: 2,
            }),
        };
        Record { at: Millis(at), body }
    });
    (any::<[u8; 16]>(), any::<u64>(), any::<u64>(), vec(record, 0..32)).prop_map(|(outbox, oldest, first, records)| {
        Batch {
            device: "cam-1".parse().unwrap(),
            outbox: OutboxId(outbox),
            oldest,
            first,
            records: records.into_iter().collect(),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn reading_arbitrary_bytes_never_panics(bytes in vec(any::<u8>(), 0..600)) {
        read_as_everything(&bytes);
        let mut framed = vec![frame::FORMAT];
        framed.extend_from_slice(&bytes);
        read_as_everything(&framed);
    }

    #[test]
    fn reading_a_damaged_frame_never_panics_and_what_is_accepted_is_exact(
        frame in frames(), at in any::<Index>(), byte in any::<u8>(), cut in any::<Index>(),
    ) {
        let mut frame = frame;
        *at.get_mut(&mut frame) = byte;
        read_as_everything(&frame);
        frame.truncate(cut.index(frame.len() + 1));
        read_as_everything(&frame);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_frame_cut_short_or_made_longer_is_refused(frame in frames(), more in vec(any::<u8>(), 1..9)) {
        // What is cut from a message up may be a message down: a topic carries only one of them.
        let up = frame::decode::<Up<'_>>(&frame).is_ok();
        let read = |bytes: &[u8]| match up {
            true => frame::decode::<Up<'_>>(bytes).map(drop),
            false => frame::decode::<Down<'_>>(bytes).map(drop),
        };
        prop_assert_eq!(read(&frame), Ok(()));
        for length in 0..frame.len() {
            prop_assert_eq!(read(&frame[..length]), Err(Reject::Malformed));
        }
        let mut longer = frame.clone();
        longer.extend_from_slice(&more);
        prop_assert_eq!(read(&longer), Err(Reject::TrailingBytes));
    }

    #[test]
    fn a_signed_batch_reads_back_and_its_signature_holds_for_it_alone(
        one in batches(), other in batches(),
    ) {
        let fleet = trusted(&root()).fleet();
        let (first, second) = (body(&one), body(&other));
        let signature = sign::<Batch>(fleet, &first, &key(DEVICE)).unwrap();
        let claimed = |body| Signed { body, signatures: std::iter::once(signature).collect() };
        prop_assert_eq!(open_by::<Batch>(fleet, &claimed(&first), &fleet::public(DEVICE)), Ok(one.clone()));
        if one != other {
            let open = open_by::<Batch>(fleet, &claimed(&second), &fleet::public(DEVICE));
            prop_assert_eq!(open, Err(Reject::BadSignature));
        }
    }

    #[test]
    fn every_topic_reads_back_and_no_other_text_is_one(
        device in "[A-Za-z0-9_-]{1,64}", transfer in any::<u64>(), n in any::<u16>(), text in ".{0,60}",
    ) {
        let device: DeviceId = device.parse().unwrap();
        let transfer = TransferId(transfer);
        let ups = [UpTopic::Hello, UpTopic::Gone, UpTopic::State, UpTopic::Batch, UpTopic::Need(transfer)];
        let downs = [
            DownTopic::Desired,
            DownTopic::Ack,
            DownTopic::Command,
            DownTopic::Part(transfer, Part::Table),
            DownTopic::Part(transfer, Part::Chunk(n)),
        ];
        let ups = ups.map(|up| Topic::Up(device.clone(), up));
        let downs = downs.map(|down| Topic::Down(device.clone(), down));
        let mut seen = BTreeSet::new();
        for topic in ups.into_iter().chain(downs).chain([Topic::Hub]) {
            let spelled = topic.text();
            prop_assert!(seen.insert(spelled.to_string()), "{} is two topics", spelled);
            prop_assert_eq!(Topic::parse(&spelled), Some(topic));
        }
        let hub = Topic::Hub.text();
        let root = hub.trim_end_matches("b/hub");
        for almost in [text.clone(), format!("{root}{text}"), format!("{root}d/{device}/{text}")] {
            if let Some(topic) = Topic::parse(&almost) {
                let spelled = topic.text();
                prop_assert_eq!(spelled.as_str(), almost);
            }
        }
    }

    #[test]
    fn names_read_back_or_are_refused(text in ".{0,70}") {
        if let Ok(name) = text.parse::<ModelName>() {
            prop_assert_eq!(name.as_str(), &text);
        }
        if let Ok(name) = text.parse::<FileName>() {
            prop_assert!(!name.as_str().contains(['/', '\\', '\0']) && !name.as_str().starts_with('.'));
        }
    }

    #[test]
    fn chunks_behave_like_a_plain_set(
        size in 0..=PACKAGE_BYTES_MAX, arriving in vec(any::<u16>(), 0..400), limit in 1..65u32,
    ) {
        let mut chunks = Chunks::none_of(size).unwrap();
        let mut model = BTreeSet::new();
        let count = u16::try_from(size.div_ceil(CHUNK_BYTES as u64)).unwrap();
        prop_assert_eq!(chunks.count(), count);
        for n in arriving {
            let n = n % 2200; // some beyond the last, some twice
            chunks.insert(n);
            if n < count {
                model.insert(n);
            }
        }
        prop_assert_eq!(usize::from(chunks.present()), model.len());
        prop_assert_eq!(chunks.is_complete(), model.len() == usize::from(count));
        for n in [0, 1, 63, 64, 65, 2047, 2048, u16::MAX] {
            prop_assert_eq!(chunks.contains(n), model.contains(&n), "{}", n);
        }
        let lacks: Vec<u16> = (0..count).filter(|n| !model.contains(n)).collect();
        let asked: Vec<u16> = chunks.need(limit).map_or(Vec::new(), |need| need.chunks(limit).collect());
        let reach = lacks.first().map_or(0, |first| u32::from(*first) + 64);
        let expected: Vec<u16> =
            lacks.iter().copied().filter(|n| u32::from(*n) < reach).take(limit as usize).collect();
        prop_assert_eq!(asked, expected);
    }

    /// Asking, answering and losing some of the answers ends, and asks for nothing twice that came.
    #[test]
    fn a_lossy_download_ends(count in 1..300u64, losses in vec(any::<bool>(), 1..64)) {
        let mut chunks = Chunks::none_of(count * CHUNK_BYTES as u64).unwrap();
        let mut lost = losses.iter().cycle();
        for round in 0.. {
            prop_assert!(round < 300 * 64, "the download does not end");
            let Some(need) = chunks.need(8) else { break };
            for (answer, n) in need.chunks(8).enumerate() {
                prop_assert!(!chunks.contains(n));
                // One answer a round always arrives, or no protocol could end.
                if answer == 0 || !lost.next().unwrap() {
                    chunks.insert(n);
                }
            }
        }
        prop_assert!(chunks.is_complete());
        prop_assert_eq!(u64::from(chunks.count()), count);
    }

    #[test]
    fn a_need_names_no_chunk_beyond_the_last(base in any::<u16>(), mask in any::<u64>(), limit in 0..70u32) {
        let need = Need { table: false, base, mask };
        let chunks: Vec<u16> = need.chunks(limit).collect();
        prop_assert!(chunks.len() <= limit as usize);
        prop_assert!(chunks.is_sorted());
        prop_assert!(chunks.iter().all(|n| *n >= base && mask >> (n - base) & 1 == 1));
    }

    #[test]
    fn a_package_opens_to_the_files_it_was_made_of(files in vec(vec(any::<u8>(), 0..400), 1..8)) {
        let package = package(&files);
        let opened = Package::open(&package).unwrap();
        let read: Vec<&[u8]> = opened.files().map(|(_, bytes)| bytes).collect();
        prop_assert_eq!(&read, &files);
        prop_assert_eq!(opened.file(FileRole::Model), Some(files[0].as_slice()));
        prop_assert_eq!(chunk_digests(&package).count(), package.len().div_ceil(CHUNK_BYTES));
    }
}

/// Row 32 of the attack table, and 34.
#[test]
fn a_package_with_any_byte_changed_does_not_open_as_the_approved_one() {
    let files = [b"model".to_vec(), b"vectors".to_vec(), Vec::new()];
    let good = package(&files);
    let approved = Digest::of(&good);
    let manifest = Package::open(&good).unwrap().manifest().clone();
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            assert_ne!(Digest::of(&bad), approved);
            // A manifest of other words is a lawful package, but it is not the approved one.
            if let Ok(opened) = Package::open(&bad) {
                assert_ne!(*opened.manifest(), manifest, "byte {at} bit {bit}");
            }
        }
    }
    for length in 0..good.len() {
        assert!(Package::open(&good[..length]).is_err(), "{length} bytes");
    }
    let longer = [good.as_slice(), &[0]].concat();
    assert_eq!(Package::open(&longer).err(), Some(Reject::SizeMismatch));
}

/// The bytes of the files themselves: there, any change is refused by its digest.
#[test]
fn a_flipped_bit_in_a_file_of_a_package_is_refused() {
    let files = [b"model".to_vec(), b"vectors".to_vec()];
    let good = package(&files);
    let head = good.len() - files.concat().len();
    for at in head..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            assert_eq!(Package::open(&bad).err(), Some(Reject::DigestMismatch), "byte {at} bit {bit}");
        }
    }
}

#[test]
fn a_package_of_the_wrong_files_does_not_open() {
    let open = |roles: &[FileRole], kind| {
        let mut manifest = manifest(&vec![Vec::new(); roles.len()]);
        for (file, role) in manifest.files.iter_mut().zip(roles) {
            file.role = *role;
        }
        manifest.kind = kind;
        let mut buffer = [0; 4096];
        Package::open(encode_head(&manifest, &mut buffer).unwrap()).map(drop)
    };
    use FileRole::{Extra, Model, Vectors};
    assert_eq!(open(&[Model], Kind::Model), Ok(()));
    assert_eq!(open(&[Extra], Kind::Firmware), Ok(()));
    for (roles, kind) in [
        (&[][..], Kind::Model),
        (&[Extra], Kind::Model),
        (&[Model, Model], Kind::Model),
        (&[Model, Vectors, Vectors], Kind::Model),
        (&[Model], Kind::Agent),
    ] {
        assert_eq!(open(roles, kind), Err(Reject::ManifestMismatch), "{roles:?} {kind:?}");
    }
    let mut twice = manifest(&[Vec::new(), Vec::new()]);
    twice.files[1].name = twice.files[0].name.clone();
    let mut buffer = [0; 4096];
    let refused = Package::open(encode_head(&twice, &mut buffer).unwrap()).err();
    assert_eq!(refused, Some(Reject::ManifestMismatch));
    let mut endless = manifest(&[Vec::new(), Vec::new()]);
    endless.files[0].size = u32::MAX;
    endless.files[1].size = u32::MAX;
    let refused = Package::open(encode_head(&endless, &mut buffer).unwrap()).err();
    assert_eq!(refused, Some(Reject::SizeMismatch));
}

#[test]
fn chunks_end_where_packages_do() {
    assert_eq!(chunk_count(0), Some(0));
    assert_eq!(chunk_count(1), Some(1));
    assert_eq!(chunk_count(PACKAGE_BYTES_MAX).map(usize::from), Some(CHUNKS_MAX));
    assert!(Chunks::none_of(0).unwrap().is_complete());
}

fn manifest(files: &[Vec<u8>]) -> Manifest {
    let role = |index| match index {
        0 => FileRole::Model,
        1 => FileRole::Vectors,
        _ => FileRole::Extra,
    };
    let file = |(index, bytes): (usize, &Vec<u8>)| File {
        name: format!("file-{index}").parse().unwrap(),
        role: role(index),
        size: u32::try_from(bytes.len()).unwrap(),
        digest: Digest::of(bytes),
    };
    Manifest {
        kind: Kind::Model,
        name: "digits".parse().unwrap(),
        files: files.iter().enumerate().map(file).collect(),
        tensors: TensorSignature::default(),
    }
}

fn package(files: &[Vec<u8>]) -> Vec<u8> {
    let mut buffer = [0; 4096];
    let head = encode_head(&manifest(files), &mut buffer).unwrap();
    [head, &files.concat()].concat()
}
