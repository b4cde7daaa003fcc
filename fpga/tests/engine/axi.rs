//! The engine behind AXI, as `rtl/generic/bw_over_axi.v` has it, driven by the addresses of the mapped bus.

use std::io::{BufWriter, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};

use bellwether_fpga::bus::mapped::offset;
use bellwether_fpga::bus::{Bus, BusFault};
use bellwether_fpga::compile::compile;
use bellwether_fpga::engine::{Engine, EngineFault};
use bellwether_fpga::frame::{Place, Space};
use bellwether_fpga::layer::{Layer, WORD_BYTES};
use bellwether_fpga::registers::Register;
use bellwether_fpga::score::{Loaded, Scores, Twin};

use crate::dice::Dice;
use crate::networks::networks;
use crate::{bank, one_place, simulated, weights};

/// Clk between two looks at the status.
const LOOK_CLK: u32 = 500;

/// What stands where the mapped memory would be: it sees every address and word.
struct Slave {
    child: Child,
    ask: BufWriter<ChildStdin>,
    /// A host of 32 bits, which writes a word in two halves.
    halves: bool,
}

impl Slave {
    fn start(halves: bool, pauses_clk: u32) -> Self {
        let mut child = Command::new(simulated("axi")).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let ask = BufWriter::new(child.stdin.take().unwrap());
        let mut slave = Self { child, ask, halves };
        slave.say(b'p', &pauses_clk.to_le_bytes());
        slave
    }

    fn say(&mut self, what: u8, bytes: &[u8]) {
        self.ask.write_all(&[&[what], bytes].concat()).unwrap();
    }

    fn put(&mut self, place: Place, words: &[u8], run: bool) -> Result<(), BusFault> {
        let last = words.len() / WORD_BYTES - 1;
        for (index, word) in words.chunks_exact(WORD_BYTES).enumerate() {
            let at = u32::try_from(offset(place, index, run && index == last)?).unwrap().to_le_bytes();
            self.say(if self.halves { b'h' } else { b'w' }, &[&at, word].concat());
        }
        Ok(())
    }
}

impl Bus for Slave {
    fn read(&mut self, place: Place, words: &mut [u8]) -> Result<(), BusFault> {
        // Who waits for a job looks now and then.
        if place == (Place { space: Space::Registers, word: Register::Status as u16 }) {
            self.say(b'i', &LOOK_CLK.to_le_bytes());
        }
        for (index, word) in words.chunks_exact_mut(WORD_BYTES).enumerate() {
            let at = u32::try_from(offset(place, index, false)?).unwrap();
            self.say(b'r', &at.to_le_bytes());
            self.ask.flush().unwrap();
            self.child.stdout.as_mut().unwrap().read_exact(word).unwrap();
        }
        Ok(())
    }

    fn write(&mut self, place: Place, words: &[u8]) -> Result<(), BusFault> {
        self.put(place, words, false)
    }

    fn run(&mut self, place: Place, words: &[u8]) -> Result<(), BusFault> {
        self.put(place, words, true)
    }

    fn garbled(&self) -> u32 {
        0
    }
}

impl Drop for Slave {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn networks_score_behind_axi_as_their_twins_do() {
    let mut dice = Dice::new(31);
    // 1.4 million clk a row are enough for one kind of host.
    for (halves, pauses_clk, most_macs) in
        [(false, 0, u64::MAX), (true, 0, 200_000), (false, 5, 200_000), (true, 9, 20_000)]
    {
        let mut networks_seen = 0;
        for (name, network) in networks() {
            let plan = compile(&network).unwrap();
            if plan.costs.iter().map(|cost| cost.macs).sum::<u64>() > most_macs {
                continue;
            }
            let mut engine = Loaded::new(Engine::new(Slave::start(halves, pauses_clk)), plan.clone()).unwrap();
            let mut twin = Twin::new(plan.clone());
            for _ in 0..2 {
                let input: Vec<i8> = (0..plan.input.shape.count()).map(|_| dice.byte(false).cast_signed()).collect();
                assert_eq!(engine.score(&input).unwrap(), twin.score(&input).unwrap(), "{name}");
            }
            networks_seen += 1;
        }
        assert!(networks_seen > 1, "{networks_seen} networks");
    }
}

#[test]
fn every_word_is_where_it_was_written() {
    let mut slave = Slave::start(false, 3);
    let mut dice = Dice::new(32);
    for (place, count) in [(weights(0), 40), (weights(16_344), 40), (bank(0, 0), 768), (bank(1, 0), 768)] {
        let words: Vec<u8> = (0..count * WORD_BYTES).map(|_| dice.byte(false)).collect();
        slave.write(place, &words).unwrap();
        let mut back = vec![0; words.len()];
        slave.read(place, &mut back).unwrap();
        assert!(words == back, "{place:?}");
    }
    // A half is kept until the other comes, and the table tells nothing.
    let at = u32::try_from(offset(weights(3), 0, false).unwrap()).unwrap().to_le_bytes();
    slave.say(b'h', &[&at[..], &[7; WORD_BYTES]].concat());
    let mut word = [0; WORD_BYTES];
    slave.read(weights(3), &mut word).unwrap();
    assert_eq!(word, [7; WORD_BYTES]);
    slave.read(Place { space: Space::Table, word: 0 }, &mut word).unwrap();
    assert_eq!(word, [0; WORD_BYTES]);
}

#[test]
fn a_job_that_runs_is_not_begun_again_and_can_be_stopped() {
    let mut engine = Engine::new(Slave::start(false, 0));
    engine.identify().unwrap();
    // 65,536 rows of one tap.
    let long = Layer { rows: 256, columns: 256, channels: 1, weights: 10, out: 100, ..one_place(1) };
    let image: Vec<u8> = long.encode().iter().flat_map(|word| word.to_le_bytes()).collect();
    engine.load(weights(0), &image).unwrap();
    engine.load(weights(10), &[1; 16]).unwrap();
    engine.choose(0, 0x00ff_ffff).unwrap();
    engine.begin(bank(0, 0), &[2; WORD_BYTES]).unwrap();
    assert!(engine.progress().unwrap().busy);
    // Neither its word nor the job: what runs goes on.
    engine.begin(bank(0, 0), &[9; WORD_BYTES]).unwrap();
    let mut word = [0; WORD_BYTES];
    engine.fetch(bank(0, 0), &mut word).unwrap();
    assert_eq!(word, [2; WORD_BYTES]);
    engine.stop().unwrap();
    assert!(!engine.progress().unwrap().busy);
    engine.choose(0, 1000).unwrap();
    engine.begin(bank(0, 0), &[2; WORD_BYTES]).unwrap();
    assert!(matches!(engine.finish(10), Err(EngineFault::Stopped(1000..=1010))), "its watchdog");
}
