//! What a rewritten model remembers of the file it was made from, in its own metadata: that file's
//! digest, and the sizes that were bound. Whoever has the file can repeat the way from it.

use bellwether_protocol::digest::Digest;
use prost::Message as _;
use tract_onnx::pb::{ModelProto, StringStringEntryProto};

use super::Bound;

/// Key of the digest of the file that was given, in hexadecimal.
const SOURCE_KEY: &str = "bellwether.source";
/// Key of the sizes that were bound: `height=96 width=96`.
const SIZES_KEY: &str = "bellwether.sizes";

/// The model with marks of where it comes from; one that does not read is given back.
#[must_use]
pub(crate) fn marked(bytes: &[u8], source: Digest, bound: &[Bound]) -> Vec<u8> {
    let Ok(mut model) = ModelProto::decode(bytes) else { return bytes.to_vec() };
    let before = sizes(bytes);
    let all: Vec<String> = before.iter().chain(bound).map(|Bound { name, size }| format!("{name}={size}")).collect();
    mark(&mut model, SOURCE_KEY, source.to_string());
    if !all.is_empty() {
        mark(&mut model, SIZES_KEY, all.join(" "));
    }
    model.encode_to_vec()
}

/// Digest of the file that a model says it was made from; its own if it says nothing.
#[must_use]
pub fn source(bytes: &[u8]) -> Digest {
    said(bytes, SOURCE_KEY).and_then(|text| text.parse().ok()).unwrap_or_else(|| Digest::of(bytes))
}

/// The sizes that a model says were bound.
#[must_use]
pub fn sizes(bytes: &[u8]) -> Vec<Bound> {
    let text = said(bytes, SIZES_KEY).unwrap_or_default();
    text.split_whitespace().filter_map(|bound| bound.parse().ok()).collect()
}

fn said(bytes: &[u8], key: &str) -> Option<String> {
    let model = ModelProto::decode(bytes).ok()?;
    model.metadata_props.into_iter().find(|entry| entry.key == key).map(|entry| entry.value)
}

fn mark(model: &mut ModelProto, key: &str, value: String) {
    model.metadata_props.retain(|entry| entry.key != key);
    model.metadata_props.push(StringStringEntryProto { key: key.to_owned(), value });
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINEAR: &[u8] = include_bytes!("../../../../tests/data/digits-linear.onnx");

    #[test]
    fn a_marked_model_says_what_it_was_made_from() {
        assert_eq!((source(LINEAR), sizes(LINEAR)), (Digest::of(LINEAR), vec![]));
        let rows: Bound = "image.0=4".parse().unwrap();
        let made = marked(LINEAR, source(LINEAR), std::slice::from_ref(&rows));
        assert_eq!((source(&made), sizes(&made)), (Digest::of(LINEAR), vec![rows]));
        assert_eq!(marked(&made, source(&made), &[]), made);
    }
}
