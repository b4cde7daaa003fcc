//! `rtl/registers.toml` is what Verilog, Rust and the README say of the registers.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may")]

use std::fmt::Write as _;
use std::path::Path;

use serde::Deserialize;

const HERE: &str = env!("CARGO_MANIFEST_DIR");
const BEGIN: &str = "<!-- registers: made from rtl/registers.toml -->\n";
const END: &str = "<!-- end of registers -->\n";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Map {
    id: u32,
    clk_max: u32,
    space: Vec<Space>,
    register: Vec<Register>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Space {
    name: String,
    number: u8,
    words: u32,
    access: String,
    doc: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Register {
    name: String,
    number: u8,
    access: String,
    doc: String,
    #[serde(default)]
    bits: Vec<Bit>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bit {
    name: String,
    bit: u8,
    doc: String,
}

fn verilog(map: &Map) -> String {
    let mut text = format!(
        "// The engine as its host sees it: made from registers.toml; change that.\n\n\
         localparam [31:0] ENGINE_ID = 32'h{:08x};\n\n",
        map.id
    );
    for space in &map.space {
        let name = format!("SPACE_{}", space.name.to_uppercase());
        writeln!(text, "localparam [1:0] {name:<18} = 2'd{};", space.number).unwrap();
    }
    text.push('\n');
    for register in map.register.iter() {
        let name = format!("REGISTER_{}", register.name.to_uppercase());
        writeln!(text, "localparam [2:0] {name:<18} = 3'd{};", register.number).unwrap();
    }
    text
}

fn rust(map: &Map) -> String {
    let mut text = format!(
        "//! The engine as its host sees it: made from `rtl/registers.toml`; change that.\n\n\
         /// What [`Register::Id`] reads.\npub const ID: u32 = {:#x};\n\
         /// Clk that a job takes at most.\npub const CLK_MAX: u32 = {:#x};\n",
        map.id, map.clk_max
    );
    for register in &map.register {
        for bit in &register.bits {
            let name = format!("{}_{}", register.name, bit.name).to_uppercase();
            writeln!(
                text,
                "/// Of [`Register::{}`]: {}.\npub const {name}: u32 = 1 << {};",
                camel(&register.name),
                bit.doc,
                bit.bit
            )
            .unwrap();
        }
    }
    text.push_str("\n/// A memory of the engine.\n");
    enumeration(
        &mut text,
        "Space",
        map.space.iter().map(|space| (&space.name, space.number, &space.access, &space.doc)),
    );
    text.push_str("\n/// A word of [`Space::Registers`].\n");
    enumeration(
        &mut text,
        "Register",
        map.register.iter().map(|register| (&register.name, register.number, &register.access, &register.doc)),
    );
    text
}

fn enumeration<'a>(
    text: &mut String,
    name: &str,
    rows: impl Iterator<Item = (&'a String, u8, &'a String, &'a String)>,
) {
    writeln!(text, "#[derive(Clone, Copy, Debug, PartialEq, Eq)]\npub enum {name} {{").unwrap();
    for (name, number, access, doc) in rows {
        writeln!(text, "    /// ({access}) {doc}.\n    {} = {number},", camel(name)).unwrap();
    }
    text.push_str("}\n");
}

fn camel(name: &str) -> String {
    let (first, rest) = name.split_at(1);
    first.to_uppercase() + rest
}

fn tables(map: &Map) -> String {
    let mut text = String::from("| space | | words | | |\n|---|---|---|---|---|\n");
    for space in &map.space {
        let Space { name, number, words, access, doc } = space;
        writeln!(text, "| {number} | {name} | {words} | {access} | {doc} |").unwrap();
    }
    text.push_str("\n| register | | | |\n|---|---|---|---|\n");
    for Register { name, number, access, doc, bits } in &map.register {
        writeln!(text, "| {number} | {name} | {access} | {doc} |").unwrap();
        for Bit { name, bit, doc } in bits {
            writeln!(text, "| | bit {bit}, {name} | | {doc} |").unwrap();
        }
    }
    text
}

fn held(path: &Path, made: &str) {
    let there = std::fs::read_to_string(path).unwrap();
    if there == made {
        return;
    }
    assert!(
        std::env::var_os("BELLWETHER_WRITE").is_some(),
        "{} says something else than rtl/registers.toml: run with BELLWETHER_WRITE=1",
        path.display()
    );
    std::fs::write(path, made).unwrap();
}

#[test]
fn registers_are_written_once() {
    let here = Path::new(HERE);
    let map: Map = toml::from_str(&std::fs::read_to_string(here.join("rtl/registers.toml")).unwrap()).unwrap();
    held(&here.join("rtl/bw_registers.vh"), &verilog(&map));
    held(&here.join("src/registers.rs"), &rust(&map));

    let readme = std::fs::read_to_string(here.join("README.md")).unwrap();
    let (before, rest) = readme.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    held(&here.join("README.md"), &format!("{before}{BEGIN}{}{END}{after}", tables(&map)));
}
