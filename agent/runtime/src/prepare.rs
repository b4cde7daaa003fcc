//! From files to a package, and back: what the publisher does, and what everybody repeats.

use std::borrow::Cow;

use bellwether_fpga::board::Image;
use bellwether_protocol::digest::{Digest, Hasher};
use bellwether_protocol::error::Reject;
use bellwether_protocol::frame;
use bellwether_protocol::heapless;
use bellwether_protocol::id::{FileName, ModelName};
use bellwether_protocol::limit::{FILES_MAX, PACKAGE_BYTES_MAX, STATEMENT_BYTES_MAX};
use bellwether_protocol::manifest::{File, FileRole, Kind, Manifest, TensorSignature};
use bellwether_protocol::package::{self, Package};
use bellwether_protocol::policy::{POLICY_BYTES_MAX, Policy};
use bellwether_protocol::profile::Column;
use bellwether_protocol::trust::PackageRef;

use crate::baseline::{self, Samples};
use crate::check::{Verdict, check};
use crate::cpu::{Cpu, LoadError};
use crate::fpga::{Offload, OffloadError, Offloads};
use crate::inspect::{self, ModelFacts};
use crate::lower;
use crate::vectors::{Vectors, VectorsError};
use crate::{ScoreError, Scorer};

/// A file that travels beside the model, such as labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extra {
    /// Its name in the package.
    pub name: FileName,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// What goes into a package beside the model.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beside<'b> {
    /// Golden vectors.
    pub vectors: Option<&'b [u8]>,
    /// What a baseline is made from.
    pub samples: Option<&'b Samples>,
    /// A baseline that was made before, whose samples are not here.
    pub baseline: Option<&'b [u8]>,
    /// Sizes of the model that vary, and get a number here.
    pub sizes: &'b [lower::Bound],
    /// What is asked of devices.
    pub policy: Policy,
    /// What is loaded into the FPGA of devices that have one.
    pub bitstream: Option<&'b [u8]>,
    /// Anything else.
    pub extras: &'b [Extra],
}

/// A package, ready to be registered and signed. The same files give the same bytes everywhere. The model
/// in it is rewritten where devices lack something ([`lower`]).
#[derive(Clone, Debug, PartialEq)]
pub struct Prepared {
    /// The package.
    pub package: Vec<u8>,
    /// What it contains.
    pub manifest: Manifest,
    /// Its digests, as a release names them.
    pub package_ref: PackageRef,
    /// Digest of the model file it was made from.
    pub source: Digest,
    /// What the model says about itself; `None` if it is not deployable.
    pub facts: Option<ModelFacts>,
    /// How the golden vectors went; `None` without vectors ("unchecked") or if not deployable.
    pub golden: Option<Verdict>,
    /// Whether devices can run it; if not, how to convert it.
    pub deployable: Result<(), String>,
    /// What of the model was rewritten for devices, in words.
    pub rewritten: Vec<String>,
    /// What an engine does of it, if there is a bitstream.
    pub offload: Option<Offloads>,
}

/// Why no package is made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum PrepareError {
    #[error("the model file is empty")]
    Empty,
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Bind(#[from] lower::BindError),
    #[error("the golden vectors cannot be read: {0}")]
    Vectors(#[from] VectorsError),
    #[error("the model does not take its golden vectors: {0}")]
    Score(#[from] ScoreError),
    #[error("the golden vectors are not reproduced: {0}")]
    Golden(Verdict),
    #[error("{got} files: a package holds at most {FILES_MAX}")]
    TooManyFiles { got: usize },
    #[error("two files are named `{0}`")]
    SameName(FileName),
    #[error("{got} bytes: a package holds at most {PACKAGE_BYTES_MAX}")]
    TooLarge { got: u64 },
    #[error("the manifest does not fit: {0}")]
    Manifest(Reject),
    #[error("the model does not take the held-out rows: {0}")]
    Sample(ScoreError),
    #[error("the baseline does not read: {0}")]
    Baseline(Reject),
    #[error("the policy does not read: {0}")]
    Policy(Reject),
    #[error("{0}")]
    Offload(#[from] OffloadError),
    #[error("the engine does not reproduce the golden vectors: {0}")]
    GoldenOffload(Verdict),
    #[error("a bitstream is for a model in ONNX")]
    NoModelForBitstream,
}

/// Checks a model against its golden vectors and packs it.
///
/// A file that is not ONNX is packed all the same, to be kept and shown; `deployable` then says how
/// to convert it.
///
/// # Errors
///
/// [`PrepareError`]; a model that is ONNX must load and reproduce its vectors.
pub fn prepare(
    name: &ModelName,
    model_file_name: &str,
    model: &[u8],
    beside: &Beside<'_>,
) -> Result<Prepared, PrepareError> {
    let Beside { vectors, samples, baseline: made, sizes, policy, bitstream, extras } = *beside;
    if model.is_empty() {
        return Err(PrepareError::Empty);
    }
    let advice = inspect::advice(model_file_name, model);
    let source = lower::source(model);
    let (bound, mut rewritten) = lower::bind(model, sizes)?;
    let (mut model, mut baseline) = (Cow::Borrowed(model), None);
    let (facts, golden) = if advice.is_none() {
        let made_for = for_devices(&bound, vectors)?;
        model = made_for.model;
        rewritten.extend(made_for.rewritten);
        let (mut scorer, mut facts, golden) = made_for.loaded;
        if !rewritten.is_empty() {
            model = Cow::Owned(lower::marked(&model, source, sizes));
            // Whoever receives it counts the marks as well.
            facts = inspect::read(&model).map_err(LoadError::from)?.1;
        }
        if let Some(samples) = samples.filter(|samples| !samples.is_empty()) {
            baseline = Some(baseline::make(&mut scorer, samples).map_err(PrepareError::Sample)?);
        } else if let Some(made) = made {
            baseline::read(made, &facts.signature).map_err(PrepareError::Baseline)?;
            baseline = Some(made.to_vec());
        }
        (Some(facts), golden)
    } else {
        (None, None)
    };
    let offload = match bitstream {
        Some(_) if advice.is_some() => return Err(PrepareError::NoModelForBitstream),
        Some(bitstream) => Some(offload(&model, bitstream, vectors)?),
        None => None,
    };
    let mut policy_file = [0; POLICY_BYTES_MAX];
    let policy_file: &[u8] = frame::encode(&policy, &mut policy_file).map_err(PrepareError::Manifest)?;
    if let Some(verdict) = golden.as_ref().filter(|verdict| !verdict.passed) {
        return Err(PrepareError::Golden(verdict.clone()));
    }
    let model_name = if advice.is_none() { fixed_name("model.onnx") } else { plain_name(model_file_name) };
    let mut files = vec![(model_name, FileRole::Model, &*model)];
    files.extend(vectors.map(|bytes| (fixed_name("vectors.npz"), FileRole::Vectors, bytes)));
    files.extend(baseline.as_deref().map(|bytes| (fixed_name("baseline.bin"), FileRole::Baseline, bytes)));
    if policy != Policy::default() {
        files.push((fixed_name("policy.bin"), FileRole::Policy, policy_file));
    }
    files.extend(bitstream.map(|bytes| (fixed_name("engine.bin"), FileRole::Bitstream, bytes)));
    let mut sorted: Vec<_> = extras.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    files.extend(sorted.into_iter().map(|extra| (extra.name.clone(), FileRole::Extra, extra.bytes.as_slice())));
    let tensors = facts.as_ref().map_or_else(TensorSignature::default, |facts| facts.signature.clone());
    let (package, manifest) = pack(name, &files, tensors)?;
    Ok(Prepared {
        package_ref: package_ref(&package),
        package,
        manifest,
        source,
        facts,
        golden,
        deployable: advice.map_or(Ok(()), |advice| Err(advice.to_owned())),
        rewritten,
        offload,
    })
}

/// What an engine of this bitstream does of a model, once its twin has reproduced the golden vectors.
fn offload(model: &[u8], bitstream: &[u8], vectors: Option<&[u8]>) -> Result<Offloads, PrepareError> {
    let image = Image::read(bitstream.to_vec()).map_err(OffloadError::from)?;
    let offload = Offload::new(model)?;
    let offloads = offload.offloads(&image)?;
    let verdict = vectors.map(|bytes| Ok::<_, PrepareError>(check(&mut offload.by_twin(), &Vectors::read(bytes)?)?));
    match verdict.transpose()?.filter(|verdict| !verdict.passed) {
        Some(verdict) => Err(PrepareError::GoldenOffload(verdict)),
        None => Ok(offloads),
    }
}

/// A loaded model, what it says of itself, and how its golden vectors went.
type Loaded = (Cpu, ModelFacts, Option<Verdict>);

/// The model as devices get it.
struct ForDevices<'m> {
    model: Cow<'m, [u8]>,
    /// What was rewritten, in words.
    rewritten: Vec<String>,
    loaded: Loaded,
}

fn for_devices<'m>(model: &'m [u8], vectors: Option<&[u8]>) -> Result<ForDevices<'m>, PrepareError> {
    let (model, mut rewritten) = lower::lowered(model).map_err(LoadError::from)?;
    let loaded = load(&model, vectors)?;
    match loaded.0.outputs().and_then(|outputs| lower::shapes::declared(&model, &outputs)) {
        Some((bytes, said)) => {
            rewritten.extend(said);
            let loaded = load(&bytes, vectors)?;
            Ok(ForDevices { model: Cow::Owned(bytes), rewritten, loaded })
        }
        None => Ok(ForDevices { model, rewritten, loaded }),
    }
}

fn load(model: &[u8], vectors: Option<&[u8]>) -> Result<Loaded, PrepareError> {
    let (_, facts) = inspect::read(model).map_err(LoadError::from)?;
    let mut scorer = Cpu::load(model)?;
    let golden = match vectors {
        Some(bytes) => Some(check(&mut scorer, &Vectors::read(bytes)?)?),
        None => None,
    };
    Ok((scorer, facts, golden))
}

fn pack(
    name: &ModelName,
    files: &[(FileName, FileRole, &[u8])],
    tensors: TensorSignature,
) -> Result<(Vec<u8>, Manifest), PrepareError> {
    let total: u64 = files.iter().map(|(_, _, bytes)| bytes.len() as u64).sum();
    if total > PACKAGE_BYTES_MAX - STATEMENT_BYTES_MAX as u64 {
        return Err(PrepareError::TooLarge { got: total });
    }
    let mut list: heapless::Vec<File, FILES_MAX> = heapless::Vec::new();
    for (name, role, bytes) in files {
        if list.iter().any(|before| before.name == *name) {
            return Err(PrepareError::SameName(name.clone()));
        }
        let size = u32::try_from(bytes.len()).map_err(|_| PrepareError::TooLarge { got: total })?;
        let file = File { name: name.clone(), role: *role, size, digest: Digest::of(bytes) };
        list.push(file).map_err(|_| PrepareError::TooManyFiles { got: files.len() })?;
    }
    let manifest = Manifest { kind: Kind::Model, name: name.clone(), files: list, tensors };
    let mut buffer = vec![0; STATEMENT_BYTES_MAX + package::HEADER_BYTES];
    let head = package::encode_head(&manifest, &mut buffer).map_err(PrepareError::Manifest)?;
    let mut package = head.to_vec();
    for (_, _, bytes) in files {
        package.extend_from_slice(bytes);
    }
    Ok((package, manifest))
}

/// The digests of a package.
#[must_use]
pub fn package_ref(package: &[u8]) -> PackageRef {
    let mut table = Hasher::default();
    for digest in package::chunk_digests(package) {
        table.update(&digest.0);
    }
    PackageRef { digest: Digest::of(package), size: package.len() as u64, chunks: table.finish() }
}

/// Digest of the frame with a tensor signature: what a release says of it.
///
/// # Errors
///
/// [`Reject::TooLarge`] if it does not fit a statement.
pub fn tensors_digest(tensors: &TensorSignature) -> Result<Digest, Reject> {
    let mut buffer = [0; STATEMENT_BYTES_MAX];
    frame::encode(tensors, &mut buffer).map(|frame| Digest::of(frame))
}

fn fixed_name(name: &'static str) -> FileName {
    plain_name(name)
}

/// The last part of a path with everything else than letters, digits, `.`, `_` and `-` replaced.
fn plain_name(path: &str) -> FileName {
    let last = path.rsplit(['/', '\\']).next().unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let tail: Vec<char> = last.chars().rev().take(40).map(plain).collect();
    let text: String = tail.into_iter().rev().collect();
    let text = text.trim_start_matches('.');
    let name = FileName::parse(text).or_else(|_| FileName::parse("model"));
    assert!(name.is_ok(), "`model` is a plain name");
    name.unwrap_or_else(|_| unreachable!("asserted above"))
}

/// What examining a package found.
#[derive(Clone, Debug, PartialEq)]
pub struct Examined {
    /// What it contains.
    pub manifest: Manifest,
    /// Its digests.
    pub package_ref: PackageRef,
    /// Digest of the file that the model in it was made from, as the model says.
    pub source: Digest,
    /// What the model says about itself; `None` if it is not deployable.
    pub facts: Option<ModelFacts>,
    /// How the golden vectors went; `None` without vectors or if not deployable.
    pub golden: Option<Verdict>,
    /// Whether devices can run it; if not, how to convert it.
    pub deployable: Result<(), String>,
    /// What it asks of devices.
    pub policy: Policy,
    /// What its values looked like where it was made; empty if it came without a baseline.
    pub baseline: Vec<Column>,
    /// What an engine does of it, if it has a bitstream.
    pub offload: Option<Offloads>,
}

/// Why a package is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ExamineError {
    #[error("the package is damaged: {0}")]
    Package(Reject),
    #[error("not a package with a model")]
    NoModel,
    #[error("the manifest's tensor signature is not the model's")]
    Tensors,
    #[error("devices cannot run it: {0}")]
    NotDeployable(String),
    #[error(transparent)]
    Model(#[from] PrepareError),
}

impl ExamineError {
    /// The refusal on the wire.
    #[must_use]
    pub const fn reject(&self) -> Reject {
        match self {
            Self::Package(reject) => *reject,
            Self::NoModel => Reject::WrongKind,
            Self::Tensors => Reject::TensorMismatch,
            Self::Model(PrepareError::Load(LoadError::Crashed(_)) | PrepareError::Score(ScoreError::Crashed(_))) => {
                Reject::Crashed
            }
            Self::Model(
                PrepareError::Golden(_)
                | PrepareError::GoldenOffload(_)
                | PrepareError::Vectors(_)
                | PrepareError::Score(_),
            ) => Reject::GoldenMismatch,
            Self::Model(PrepareError::Offload(_) | PrepareError::NoModelForBitstream) => Reject::BitstreamMismatch,
            Self::Model(_) | Self::NotDeployable(_) => Reject::ModelDoesNotLoad,
        }
    }
}

/// Repeats every check on a package: its bytes, its model, its golden vectors.
///
/// # Errors
///
/// [`ExamineError`]; a package whose file is not ONNX is no error, `deployable` says so.
pub fn examine(package: &[u8]) -> Result<Examined, ExamineError> {
    look(package).map(|(examined, _)| examined)
}

/// As [`examine`], and gives the loaded model: what a device does.
///
/// # Errors
///
/// [`ExamineError`].
pub fn open(package: &[u8]) -> Result<(Examined, Box<dyn Scorer>), ExamineError> {
    match look(package)? {
        (examined, Some(scorer)) => Ok((examined, Box::new(scorer))),
        (examined, None) => Err(ExamineError::NotDeployable(examined.deployable.err().unwrap_or_default())),
    }
}

/// The model of a package divided between CPU and engine, and the bitstream for that; `None` if it has none.
/// For whoever has opened it before: golden vectors are not looked at again.
///
/// # Errors
///
/// [`ExamineError`].
pub fn open_offload(package: &[u8]) -> Result<Option<(Offload, Image)>, ExamineError> {
    let package = Package::open(package).map_err(ExamineError::Package)?;
    let Some(bitstream) = package.file(FileRole::Bitstream) else { return Ok(None) };
    let model = package.file(FileRole::Model).ok_or(ExamineError::NoModel)?;
    let image = Image::read(bitstream.to_vec()).map_err(OffloadError::from).map_err(PrepareError::from)?;
    Ok(Some((Offload::new(model).map_err(PrepareError::from)?, image)))
}

/// What a package says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Described {
    /// What it contains.
    pub manifest: Manifest,
    /// What it asks of devices.
    pub policy: Policy,
    /// What its values looked like where it was made; empty if it came without a baseline.
    pub baseline: Vec<Column>,
}

/// Reads what a package says of itself and leaves its model alone: for whoever has that loaded and
/// checked elsewhere.
///
/// # Errors
///
/// [`ExamineError`], if its files are not those its manifest names or do not read.
pub fn describe(package: &[u8]) -> Result<Described, ExamineError> {
    let package = Package::open(package).map_err(ExamineError::Package)?;
    let manifest = package.manifest().clone();
    let policy = match package.file(FileRole::Policy) {
        Some(file) => Policy::read(file).map_err(PrepareError::Policy)?,
        None => Policy::default(),
    };
    let baseline = match package.file(FileRole::Baseline) {
        Some(file) => baseline::read(file, &manifest.tensors).map_err(PrepareError::Baseline)?,
        None => Vec::new(),
    };
    Ok(Described { manifest, policy, baseline })
}

/// Prepares the package anew from what is in it: model, vectors, policy and extras. Only a baseline
/// is taken as it is, for the rows that it was made from stay with the publisher. Whoever did what
/// [`prepare`] does gave the same bytes.
///
/// # Errors
///
/// [`ExamineError`].
pub fn repeat(package: &[u8]) -> Result<Prepared, ExamineError> {
    again(package, None)
}

/// As [`repeat`], from the file that the model was made from: a model that was rewritten is rewritten
/// here once more.
///
/// # Errors
///
/// [`ExamineError`].
pub fn repeat_from(package: &[u8], source: &[u8]) -> Result<Prepared, ExamineError> {
    again(package, Some(source))
}

fn again(package: &[u8], source: Option<&[u8]>) -> Result<Prepared, ExamineError> {
    let opened = Package::open(package).map_err(ExamineError::Package)?;
    let find = |role| opened.files().find(|(file, _)| file.role == role);
    let (file, model) = find(FileRole::Model).ok_or(ExamineError::NoModel)?;
    let policy = match opened.file(FileRole::Policy) {
        Some(bytes) => Policy::read(bytes).map_err(PrepareError::Policy)?,
        None => Policy::default(),
    };
    let extras: Vec<Extra> = opened
        .files()
        .filter(|(file, _)| file.role == FileRole::Extra)
        .map(|(file, bytes)| Extra { name: file.name.clone(), bytes: bytes.to_vec() })
        .collect();
    let (vectors, baseline) = (opened.file(FileRole::Vectors), opened.file(FileRole::Baseline));
    let bound = source.map(|_| lower::sizes(model)).unwrap_or_default();
    let bitstream = opened.file(FileRole::Bitstream);
    let beside = Beside { vectors, samples: None, baseline, sizes: &bound, policy, bitstream, extras: &extras };
    Ok(prepare(&opened.manifest().name, file.name.as_str(), source.unwrap_or(model), &beside)?)
}

fn look(bytes: &[u8]) -> Result<(Examined, Option<Cpu>), ExamineError> {
    let package = Package::open(bytes).map_err(ExamineError::Package)?;
    let manifest = package.manifest().clone();
    let (file, model) = package.files().find(|(file, _)| file.role == FileRole::Model).ok_or(ExamineError::NoModel)?;
    let mut examined = Examined {
        package_ref: package_ref(bytes),
        source: lower::source(model),
        facts: None,
        golden: None,
        deployable: Ok(()),
        policy: Policy::default(),
        baseline: Vec::new(),
        offload: None,
        manifest,
    };
    if let Some(advice) = inspect::advice(file.name.as_str(), model) {
        examined.deployable = Err(advice.to_owned());
        let is_bare = examined.manifest.tensors == TensorSignature::default();
        return if is_bare { Ok((examined, None)) } else { Err(ExamineError::Tensors) };
    }
    let vectors = package.file(FileRole::Vectors);
    let (scorer, facts, golden) = load(model, vectors)?;
    if facts.signature != examined.manifest.tensors {
        return Err(ExamineError::Tensors);
    }
    if let Some(verdict) = golden.as_ref().filter(|verdict| !verdict.passed) {
        return Err(PrepareError::Golden(verdict.clone()).into());
    }
    if let Some(file) = package.file(FileRole::Policy) {
        examined.policy = Policy::read(file).map_err(PrepareError::Policy)?;
    }
    if let Some(file) = package.file(FileRole::Baseline) {
        examined.baseline = baseline::read(file, &facts.signature).map_err(PrepareError::Baseline)?;
    }
    if let Some(bitstream) = package.file(FileRole::Bitstream) {
        examined.offload = Some(offload(model, bitstream, vectors)?);
    }
    (examined.facts, examined.golden) = (Some(facts), golden);
    Ok((examined, Some(scorer)))
}

#[cfg(test)]
mod tests;
