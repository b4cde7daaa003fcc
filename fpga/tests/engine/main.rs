//! The engine's Verilog, simulated, against its twin and against bad wires.
//!
//! `fpga/rtl/build sim` makes the program; `BELLWETHER_FPGA_SIM` names another, such as the netlist's.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::print_stdout, reason = "tests may")]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    reason = "small numbers out of dice"
)]

mod axi;
mod dice;
mod layers;
mod maker;
mod networks;
mod recovery;
mod requantise;
mod wires;

use std::path::PathBuf;

use bellwether_fpga::bus::SpiBus;
use bellwether_fpga::cosim::Cosim;
use bellwether_fpga::engine::Engine;
use bellwether_fpga::frame::{Place, Space};
use bellwether_fpga::layer::{BANK_WORDS, Kind, Layer, Parameters};

/// A program that `fpga/rtl/build sim` made.
fn simulated(folder: &str) -> PathBuf {
    let program = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/fpga")).join(folder).join("bw_sim");
    assert!(program.exists(), "no {}: make it with `fpga/rtl/build sim`", program.display());
    program
}

/// A simulated engine of its own.
fn cosim() -> Cosim {
    let program = std::env::var_os("BELLWETHER_FPGA_SIM").map_or_else(|| simulated("sim"), PathBuf::from);
    Cosim::start(&program).unwrap()
}

fn engine() -> Engine<SpiBus<Cosim>> {
    let mut engine = Engine::new(SpiBus::new(cosim()));
    engine.identify().unwrap();
    engine
}

/// The last layer: of one place, so many words of it, at the begin of the first bank.
const fn one_place(words: u16) -> Layer {
    Layer {
        kind: Kind::Sums,
        pair: false,
        last: true,
        parameters: Parameters::Inline,
        rows: 1,
        columns: 1,
        kernel_rows: 1,
        kernel_columns: 1,
        rows_apart: 1,
        columns_apart: 1,
        first_row: 0,
        first_column: 0,
        height: 1,
        width: 1,
        pad_word: BANK_WORDS as u16 - 1,
        channels: 1,
        words,
        weights: 0,
        weights_step: 0,
        from: 0,
        row_stride: words,
        column_stride: words,
        out: 0,
        out_stride: 1,
        zero_point: 0,
        lowest: -128,
        highest: 127,
    }
}

fn weights(word: u16) -> Place {
    Place { space: Space::Weights, word }
}

/// A word of a bank of activations.
fn bank(bank: usize, word: u16) -> Place {
    Place { space: Space::Activations, word: bank as u16 * 1024 + word }
}

fn table() -> Place {
    Place { space: Space::Table, word: 0 }
}

/// A number out of the environment.
fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().map_or(otherwise, |text| text.parse().unwrap())
}
