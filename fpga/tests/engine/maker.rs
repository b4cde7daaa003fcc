//! Networks with random weights.

use bellwether_fpga::compile::network::{Network, Operation, Output, Shape, Weights, What, Window};

use crate::dice::Dice;

/// Makes layers with random weights and scales that fill eight bits.
pub(crate) struct Maker {
    pub(crate) dice: Dice,
    pub(crate) network: Network,
    pub(crate) shape: Shape,
    zero_point: i8,
}

impl Maker {
    pub(crate) fn new(seed: u64, input: Shape) -> Self {
        let network = Network { input, zero_point: -3, layers: Vec::new() };
        Self { dice: Dice::new(seed), zero_point: network.zero_point, network, shape: input }
    }

    fn weights(&mut self, outputs: u16, each: u16) -> Weights {
        let size = (f32::from(each)).sqrt() * 74.0 * 74.0;
        Weights {
            values: (0..usize::from(outputs) * usize::from(each))
                .map(|_| (self.dice.byte(false) as i8).max(-127))
                .collect(),
            bias: (0..outputs).map(|_| self.dice.below(20_000) as i32 - 10_000).collect(),
            scales: (0..outputs).map(|_| 60.0 / size * (0.5 + self.dice.below(1000) as f32 / 1000.0)).collect(),
        }
    }

    fn push(mut self, name: &str, window: Window, what: What, relu: bool) -> Self {
        let zero_point = if relu { -128 } else { 5 };
        // The greatest value is one of those that were there.
        let zero_point = if what == What::Greatest { self.zero_point } else { zero_point };
        let lowest = if relu { zero_point } else { -128 };
        let output = Output { zero_point, lowest, highest: 127 };
        self.zero_point = zero_point;
        let along = |size: u16, axis: usize| {
            (size + u16::from(window.before[axis]) + u16::from(window.after[axis]) - window.kernel[axis])
                / u16::from(window.strides[axis])
                + 1
        };
        let channels =
            if let What::Convolution(weights) = &what { weights.bias.len() as u16 } else { self.shape.channels };
        self.shape = Shape { rows: along(self.shape.rows, 0), columns: along(self.shape.columns, 1), channels };
        self.network.layers.push(Operation { name: name.into(), window, what, output });
        self
    }

    pub(crate) fn dense(mut self, outputs: u16, relu: bool) -> Self {
        let window = Window::whole(self.shape);
        let weights = self.weights(outputs, self.shape.count() as u16);
        self.push(&format!("dense {outputs}"), window, What::Convolution(weights), relu)
    }

    pub(crate) fn convolution(self, outputs: u16, kernel: u16, stride: u8) -> Self {
        self.convolution_by(outputs, same(kernel, stride))
    }

    pub(crate) fn convolution_by(mut self, outputs: u16, window: Window) -> Self {
        let [rows, columns] = window.kernel;
        let weights = self.weights(outputs, rows * columns * self.shape.channels);
        self.push(&format!("convolution {rows}x{columns} {outputs}"), window, What::Convolution(weights), true)
    }

    pub(crate) fn depthwise(self, stride: u8) -> Self {
        self.depthwise_by(same(3, stride))
    }

    pub(crate) fn depthwise_by(mut self, window: Window) -> Self {
        let [rows, columns] = window.kernel;
        let weights = self.weights(self.shape.channels, rows * columns);
        self.push(&format!("depthwise {rows}x{columns}"), window, What::Depthwise(weights), true)
    }

    pub(crate) fn pool(self, greatest: bool) -> Self {
        self.pool_by(greatest, Window { kernel: [2, 2], strides: [2, 2], before: [0, 0], after: [0, 0] })
    }

    pub(crate) fn pool_by(self, greatest: bool, window: Window) -> Self {
        let [rows, columns] = window.kernel;
        let sum_scale = 1.3 / f32::from(rows * columns);
        let what = if greatest { What::Greatest } else { What::Mean { sum_scale } };
        self.push(&format!("pool {rows}x{columns}"), window, what, false)
    }

    pub(crate) fn mean(self) -> Self {
        let window = Window::whole(self.shape);
        let places = f32::from(self.shape.rows * self.shape.columns);
        self.push("mean", window, What::Mean { sum_scale: 1.1 / places }, false)
    }

    /// A layer of some kind, or none if it would be of nothing.
    pub(crate) fn any(mut self) -> Self {
        let mut along = |size: u16, most: u64| {
            let kernel = self.dice.within(1, u64::from(size).min(4)) as u16;
            let padding = u64::from(kernel - 1);
            (
                kernel,
                self.dice.within(1, most) as u8,
                self.dice.below(padding + 1) as u8,
                self.dice.below(padding + 1) as u8,
            )
        };
        let (rows, columns) = (along(self.shape.rows, 3), along(self.shape.columns, 2));
        let window = Window {
            kernel: [rows.0, columns.0],
            strides: [rows.1, columns.1],
            before: [rows.2, columns.2],
            after: [rows.3, columns.3],
        };
        match self.dice.below(8) {
            0 | 1 => self.depthwise_by(window),
            2 => self.pool_by(true, window),
            3 => self.pool_by(false, window),
            _ => {
                let outputs = [4, 8, 10, 16, 32, 64][self.dice.below(6) as usize];
                self.convolution_by(outputs, window)
            }
        }
    }
}

const fn same(kernel: u16, stride: u8) -> Window {
    let pad = (kernel / 2) as u8;
    Window { kernel: [kernel, kernel], strides: [stride, stride], before: [pad, pad], after: [pad, pad] }
}
