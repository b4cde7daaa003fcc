//! Files that are not quite protobuf.

use super::{Kinds, dense};
use crate::onnx::Message;

pub(crate) fn add(kinds: &mut Kinds) {
    let whole = dense().bytes();
    for length in [0, 1, 2, 3, 4, 5, 8, 16, 32, 64, 100, whole.len() - 1] {
        kinds.raw(format!("bytes/first {length}"), whole[..length].to_vec());
    }
    for depth in [10, 99, 101, 1000, 100_000] {
        for (name, field) in [("unknown", 999), ("graph", 7), ("metadata", 14), ("function", 25)] {
            let mut inner = Message::default();
            for _ in 0..depth.min(2000) {
                let mut outer = Message::default();
                outer.bytes(field, &inner.0);
                inner = outer;
            }
            kinds.raw(format!("bytes/{name} {depth} deep"), [whole.clone(), inner.0].concat());
        }
        let mut groups = Message::default();
        (0..depth).for_each(|_| groups.key(999, 3));
        (0..depth).for_each(|_| groups.key(999, 4));
        kinds.raw(format!("bytes/groups {depth} deep"), [whole.clone(), groups.0].concat());
        let mut open = Message::default();
        (0..depth).for_each(|_| open.key(999, 3));
        kinds.raw(format!("bytes/open groups {depth} deep"), [whole.clone(), open.0].concat());
    }
    for wire in 0..8 {
        for field in [1, 7, 8, 999] {
            let mut message = Message::default();
            message.key(field, wire);
            kinds.raw(format!("bytes/field {field} of wire type {wire}"), [whole.clone(), message.0.clone()].concat());
            message.0.extend([0xff; 10]);
            kinds.raw(
                format!("bytes/field {field} of wire type {wire} with a long number"),
                [message.0, whole.clone()].concat(),
            );
        }
    }
    for (name, bytes) in [
        ("zeros", vec![0; 1000]),
        ("ones", vec![0xff; 1000]),
        ("version and zeros", [&[8, 8][..], &[0; 1000]].concat()),
        ("the same twice", [whole.clone(), whole.clone()].concat()),
        ("a length of everything", [&[8, 8, 0x3a][..], &[0xff, 0xff, 0xff, 0xff, 0x0f]].concat()),
        (
            "a length beyond all",
            [&[8, 8, 0x3a][..], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]].concat(),
        ),
        ("a million empty nodes", {
            let mut graph = Message::default();
            (0..1_000_000).for_each(|_| graph.bytes(1, &[]));
            let mut model = Message::default();
            model.int(1, 8);
            model.bytes(7, &graph.0);
            model.0
        }),
        ("a million empty imports", {
            let mut model = Message(whole.clone());
            (0..1_000_000).for_each(|_| model.bytes(8, &[]));
            model.0
        }),
        ("a million notes", {
            let mut model = Message(whole.clone());
            (0..1_000_000).for_each(|_| model.bytes(14, &[]));
            model.0
        }),
        ("a name that is no text", {
            let mut model = Message(whole.clone());
            model.bytes(2, &[0xff, 0xfe]);
            model.0
        }),
        ("an IR version of nothing", {
            let mut model = Message(whole);
            model.int(1, -1);
            model.0
        }),
    ] {
        kinds.raw(format!("bytes/{name}"), bytes);
    }
}
