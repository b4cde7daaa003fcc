//! Engines that fail in every way: the answers stay the same, and every failure is told.

use std::cell::Cell;
use std::rc::Rc;

use bellwether_fpga::accelerator::{Accelerator, Backend, Event, Reload, Rung};
use bellwether_fpga::bus::SpiBus;
use bellwether_fpga::compile::compile;
use bellwether_fpga::cosim::{Cosim, Gone};
use bellwether_fpga::engine::{Engine, EngineFault};
use bellwether_fpga::frame::{Ask, HEADER_BYTES, Space, crc16};
use bellwether_fpga::layer::WORD_BYTES;
use bellwether_fpga::score::{Scores, Twin};
use embedded_hal::spi::{ErrorType, Operation, SpiDevice};

use crate::dice::Dice;
use crate::networks::networks;
use crate::{cosim, weights};

/// What is wrong with the board, shared with whoever repairs it.
#[derive(Clone, Default)]
struct Board {
    dead: Rc<Cell<bool>>,
    /// A byte of the next streamed weights is changed, and its CRC-16 made to fit.
    changed: Rc<Cell<bool>>,
    /// The next bitstream load starts a new engine in its place.
    fresh: Rc<Cell<bool>>,
    reload_fails: Rc<Cell<bool>>,
}

struct Slot {
    board: Board,
    cosim: Cosim,
}

impl ErrorType for Slot {
    type Error = Gone;
}

impl SpiDevice for Slot {
    fn transaction(&mut self, operations: &mut [Operation<'_, u8>]) -> Result<(), Gone> {
        if self.board.fresh.take() {
            self.cosim = cosim();
        }
        if self.board.dead.get() {
            for operation in operations {
                if let Operation::TransferInPlace(bytes) = operation {
                    bytes.fill(0xff);
                }
            }
            return Ok(());
        }
        if let [Operation::TransferInPlace(frame)] = operations
            && frame.starts_with(&[Ask::Write as u8])
            && frame[2] == Space::Weights as u8
            && self.board.changed.take()
        {
            let words = usize::from(frame[5]) + 1;
            let payload = &mut frame[HEADER_BYTES..][..words * WORD_BYTES];
            payload[100] ^= 4;
            let crc = crc16(payload).to_be_bytes();
            frame[HEADER_BYTES + words * WORD_BYTES..][..2].copy_from_slice(&crc);
        }
        self.cosim.transaction(operations)
    }
}

impl Reload for Board {
    fn reload(&mut self) -> Result<(), String> {
        if self.reload_fails.get() {
            return Err("CDONE stays low".into());
        }
        self.dead.set(false);
        self.fresh.set(true);
        Ok(())
    }
}

#[test]
fn whatever_fails_the_answers_stay_the_same() {
    let (_, network) = networks().swap_remove(0);
    let plan = compile(&network).unwrap();
    let mut twin = Twin::new(plan.clone());
    let board = Board::default();
    let slot = Slot { board: board.clone(), cosim: cosim() };
    let mut accelerator = Accelerator::new(Engine::new(SpiBus::new(slot)), board.clone(), plan).unwrap();
    assert_eq!(accelerator.backend(), Backend::Engine);
    let mut dice = Dice::new(21);
    let mut same = |accelerator: &mut Accelerator<SpiBus<Slot>, Board>| {
        let row: Vec<i8> = (0..64).map(|_| dice.byte(false) as i8).collect();
        assert_eq!(accelerator.score(&row).unwrap(), twin.score(&row).unwrap());
    };
    same(&mut accelerator);
    assert_eq!(accelerator.poll_event(), None);

    // The layers in the weight memory are overwritten: the job is stopped, the weights come again.
    accelerator.engine().load(weights(0), &[0xff; 40]).unwrap();
    same(&mut accelerator);
    assert!(matches!(
        accelerator.poll_event(),
        Some(Event::Recovered { by: Rung::Weights, from: EngineFault::Stopped(_) })
    ));

    // The part has lost its design.
    board.dead.set(true);
    same(&mut accelerator);
    assert!(matches!(
        accelerator.poll_event(),
        Some(Event::Recovered { by: Rung::Bitstream, from: EngineFault::Bus(_) })
    ));

    // And cannot get it back: the twin scores, and the engine is tried again later.
    board.dead.set(true);
    board.reload_fails.set(true);
    for _ in 0..10 {
        same(&mut accelerator);
    }
    assert!(matches!(accelerator.backend(), Backend::Twin { .. }));
    assert!(matches!(accelerator.poll_event(), Some(Event::Fallen { reload: Some(_), .. })));
    assert_eq!(accelerator.poll_event(), None);
    for _ in 0..1500 {
        same(&mut accelerator);
    }
    assert!(matches!(accelerator.backend(), Backend::Twin { .. }));
    board.reload_fails.set(false);
    for _ in 0..1000 {
        same(&mut accelerator);
    }
    assert_eq!(accelerator.poll_event(), Some(Event::Returned));
    assert_eq!(accelerator.backend(), Backend::Engine);
}

#[test]
fn changed_weights_are_found_in_the_end() {
    let (_, network) = networks().swap_remove(0);
    let plan = compile(&network).unwrap();
    let slot = Slot { board: Board::default(), cosim: cosim() };
    let mut accelerator = Accelerator::new(Engine::new(SpiBus::new(slot)), Board::default(), plan).unwrap();
    // A bit of a weight, as radiation would: nothing tells but the CRC.
    accelerator.engine().load(weights(40), &[1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
    let row = [3; 64];
    let event = (0..10_010).find_map(|_| {
        accelerator.score(&row).unwrap();
        accelerator.poll_event()
    });
    assert!(matches!(event, Some(Event::Recovered { by: Rung::Weights, from: EngineFault::Changed { .. } })));
}

#[test]
fn streamed_weights_that_changed_on_the_way_are_found_at_once() {
    let name = "anomaly 640-128x4-8-128x4-640";
    let network = networks().into_iter().find_map(|(other, network)| (name == other).then_some(network)).unwrap();
    let plan = compile(&network).unwrap();
    assert!(plan.segments.len() > 1);
    let mut twin = Twin::new(plan.clone());
    let board = Board::default();
    let slot = Slot { board: board.clone(), cosim: cosim() };
    let mut accelerator = Accelerator::new(Engine::new(SpiBus::new(slot)), board.clone(), plan).unwrap();
    let row: Vec<i8> = (0..640).map(|value| (value % 251) as i8).collect();
    let expected = twin.score(&row).unwrap();
    assert_eq!(accelerator.score(&row).unwrap(), expected);
    assert_eq!(accelerator.poll_event(), None);
    board.changed.set(true);
    assert_eq!(accelerator.score(&row).unwrap(), expected);
    assert!(matches!(
        accelerator.poll_event(),
        Some(Event::Recovered { by: Rung::Weights, from: EngineFault::Changed { .. } })
    ));
}
