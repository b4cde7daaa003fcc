//! What is registered: packages of noise, each with a behaviour that devices find out about.

use std::collections::BTreeMap;

use bellwether_hub_core::registry::{Candidate, Checks, Lineage};
use bellwether_protocol::digest::Digest;
use bellwether_protocol::frame;
use bellwether_protocol::id::ModelName;
use bellwether_protocol::manifest::{DataType, File, FileRole, Kind, Manifest, TensorSignature, TensorSpec};
use bellwether_protocol::package::chunk_digests;
use bellwether_protocol::trust::PackageRef;

use crate::chance::Chance;
use crate::people::noise;

/// How a model is on devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// It does what it should.
    Good,
    /// It does not reproduce its golden vectors.
    FailsGolden,
    /// Trying it ends the process that tries it.
    CrashesInTest,
    /// It takes the whole agent down, some while after it began to answer.
    TakesDown,
    /// Its calls fail.
    Errs,
    /// Its calls take too long.
    Slow,
}

impl Behaviour {
    pub(crate) fn draw(chance: &mut Chance) -> Self {
        match chance.within(0, 11) {
            0 => Self::FailsGolden,
            1 => Self::CrashesInTest,
            2 => Self::TakesDown,
            3 => Self::Errs,
            4 => Self::Slow,
            _ => Self::Good,
        }
    }
}

/// A package, and how it behaves.
#[derive(Clone, Debug)]
pub(crate) struct Package {
    pub(crate) bytes: Vec<u8>,
    pub(crate) table: Vec<u8>,
    pub(crate) reference: PackageRef,
    pub(crate) behaviour: Behaviour,
}

impl Package {
    /// A package of so many bytes of noise.
    pub(crate) fn new(seed: u64, length: usize, behaviour: Behaviour) -> Self {
        Self::of(noise(seed, length), behaviour)
    }

    /// A package of these bytes.
    pub(crate) fn of(bytes: Vec<u8>, behaviour: Behaviour) -> Self {
        let table: Vec<u8> = chunk_digests(&bytes).flat_map(|digest| digest.0).collect();
        let reference = PackageRef { digest: Digest::of(&bytes), size: bytes.len() as u64, chunks: Digest::of(&table) };
        Self { bytes, table, reference, behaviour }
    }
}

/// One input of two numbers, so that a row holds eight bytes: the number by which it is known again.
fn tensors() -> Option<TensorSignature> {
    let spec =
        TensorSpec { name: "x".parse().ok()?, datatype: DataType::Fp32, shape: [None, Some(2)].into_iter().collect() };
    Some(TensorSignature { inputs: std::iter::once(spec).collect(), ..TensorSignature::default() })
}

/// Digest of the frame with the tensors, as releases hold it.
pub(crate) fn tensors_digest() -> Option<Digest> {
    let mut buffer = [0; 1024];
    frame::encode(&tensors()?, &mut buffer).map(|frame| Digest::of(frame)).ok()
}

/// What the registry is told of a package.
pub(crate) fn candidate(name: &ModelName, package: &Package) -> Option<Candidate> {
    let file = File {
        name: "model.onnx".parse().ok()?,
        role: FileRole::Model,
        size: u32::try_from(package.bytes.len()).unwrap_or(u32::MAX),
        digest: package.reference.digest,
    };
    Some(Candidate {
        manifest: Manifest {
            kind: Kind::Model,
            name: name.clone(),
            files: std::iter::once(file).collect(),
            tensors: tensors()?,
        },
        package: package.reference,
        policy: bellwether_protocol::policy::Policy::default(),
        baseline: Vec::new(),
        source: package.reference.digest,
        lineage: Lineage::default(),
        checks: Checks {
            advice: None,
            golden: None,
            operators: BTreeMap::new(),
            opset: 17,
            parameters: 1,
            memory_kib: 8,
        },
    })
}
