//! A package made without the publisher's own checks: what somebody would upload who does not use
//! the command line, or changed it.

use anyhow::Context as _;
use bellwether_protocol::digest::Digest;
use bellwether_protocol::heapless::Vec as Few;
use bellwether_protocol::id::ModelName;
use bellwether_protocol::limit::STATEMENT_BYTES_MAX;
use bellwether_protocol::manifest::{File, FileRole, Kind, Manifest};
use bellwether_protocol::package::{HEADER_BYTES, encode_head};
use bellwether_runtime::inspect;

/// Packs a model and its vectors as they are.
pub(super) fn package(name: &ModelName, model: &[u8], vectors: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut files = Few::new();
    for (file_name, role, bytes) in
        [("model.onnx", FileRole::Model, model), ("vectors.npz", FileRole::Vectors, vectors)]
    {
        let size = u32::try_from(bytes.len())?;
        let file = File { name: file_name.parse()?, role, size, digest: Digest::of(bytes) };
        files.push(file).ok().context("two files fit")?;
    }
    let tensors = inspect(model)?.signature;
    let manifest = Manifest { kind: Kind::Model, name: name.clone(), files, tensors };
    let mut buffer = vec![0; STATEMENT_BYTES_MAX + HEADER_BYTES];
    let mut package = encode_head(&manifest, &mut buffer)?.to_vec();
    package.extend_from_slice(model);
    package.extend_from_slice(vectors);
    Ok(package)
}
