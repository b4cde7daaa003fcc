//! How ONNX sees what the engine holds: the engine has `[rows, columns, channels]`, ONNX has channels first,
//! or a row of all of them.

use bellwether_fpga::compile::network::Shape;
use tract_onnx::pb::NodeProto;

use super::model::Model;
use crate::validate;

/// In which order ONNX has the values of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// All places of a channel, then those of the next: `[channels, rows, columns]`.
    ChannelsFirst,
    /// As the engine has them.
    ChannelsLast,
}

impl Order {
    /// Where each value of the engine's image is in ONNX's order.
    pub(super) fn places(self, shape: Shape) -> impl Iterator<Item = usize> {
        let Shape { rows, columns, channels } = shape;
        let [rows, columns, channels] = [rows, columns, channels].map(usize::from);
        (0..rows * columns).flat_map(move |place| {
            (0..channels).map(move |channel| match self {
                Self::ChannelsFirst => channel * rows * columns + place,
                Self::ChannelsLast => place * channels + channel,
            })
        })
    }
}

/// An image in the engine, and the order in which ONNX has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) shape: Shape,
    pub(super) order: Order,
}

/// A value between two operators.
#[derive(Clone, Debug)]
pub(super) struct View {
    /// ONNX's sizes without the batch.
    pub(super) sizes: Vec<usize>,
    /// What the engine has for it; open until an operator says what is a row and what a channel.
    pub(super) held: Option<Held>,
    /// The same of what goes into the first layer.
    pub(super) input: Option<Held>,
}

impl View {
    /// What goes in.
    pub(super) fn input(sizes: Vec<usize>) -> Self {
        Self { sizes, held: None, input: None }
    }

    /// What an operator makes, in so many dimensions of space.
    pub(super) fn made(&self, shape: Shape, space: usize) -> Self {
        let [rows, columns, channels] = [shape.rows, shape.columns, shape.channels].map(usize::from);
        let sizes = match space {
            0 => vec![channels],
            1 => vec![channels, columns],
            _ => vec![channels, rows, columns],
        };
        Self { sizes, held: Some(Held { shape, order: Order::ChannelsFirst }), input: self.input }
    }

    /// An image for a kernel to go over, and its dimensions of space.
    pub(super) fn image(&mut self) -> Result<(Shape, usize), String> {
        let (shape, space) = match self.sizes[..] {
            [channels, rows, columns] => (shape(rows, columns, channels)?, 2),
            [channels, columns] => (shape(1, columns, channels)?, 1),
            _ => {
                return Err(format!(
                    "its input has {} dimensions beside the batch: 2 or 3 are needed",
                    self.sizes.len()
                ));
            }
        };
        let held = self.held.unwrap_or(Held { shape, order: Order::ChannelsFirst });
        if held.shape != shape || held.order != Order::ChannelsFirst && (shape.rows, shape.columns) != (1, 1) {
            return Err("its input was laid out anew since it was made".to_owned());
        }
        self.hold(held, held.order);
        Ok((shape, space))
    }

    /// A row for a dense layer.
    pub(super) fn row(&mut self) -> Result<Held, String> {
        let [numbers] = self.sizes[..] else {
            return Err(format!("its input has {} dimensions beside the batch: a row is needed", self.sizes.len()));
        };
        let held = Held { shape: shape(1, 1, numbers)?, order: Order::ChannelsLast };
        let held = self.held.unwrap_or(held);
        self.hold(held, held.order);
        Ok(held)
    }

    fn hold(&mut self, held: Held, given: Order) {
        self.held = Some(held);
        self.input.get_or_insert(Held { order: given, ..held });
    }

    /// What `Flatten`, `Transpose` and the like make of it.
    pub(super) fn moved(&mut self, model: &Model<'_>, node: &NodeProto) -> Result<(), String> {
        let sizes = node.output.first().and_then(|output| model.sizes(output));
        let Some(sizes) = sizes.filter(|sizes| product(sizes) == product(&self.sizes)) else {
            return Err("what shape it makes of one row is not known".to_owned());
        };
        if node.op_type == "Transpose" {
            self.turned(validate::ints(node, "perm").unwrap_or_default())?;
        }
        self.sizes = sizes;
        Ok(())
    }

    fn turned(&mut self, perm: &[i64]) -> Result<(), String> {
        let lasting = |place: &&i64| **place > 0 && self.sizes.get(index(**place - 1)).is_some_and(|size| *size > 1);
        let long: Vec<i64> = perm.iter().filter(lasting).copied().collect();
        if perm.first() == Some(&0) && long.is_sorted() {
            return Ok(());
        }
        let (is_first, shape) = match (perm, &self.sizes[..]) {
            ([0, 2, 3, 1], [channels, rows, columns]) => (true, shape(*rows, *columns, *channels)?),
            ([0, 3, 1, 2], [rows, columns, channels]) => (false, shape(*rows, *columns, *channels)?),
            ([0, 2, 1], [channels, columns]) if self.is_held(Order::ChannelsFirst) => {
                (true, shape(1, *columns, *channels)?)
            }
            ([0, 2, 1], [columns, channels]) => (false, shape(1, *columns, *channels)?),
            _ => return Err("it turns more than a layout".to_owned()),
        };
        let [before, after] = [Order::ChannelsLast, Order::ChannelsFirst];
        let [before, after] = if is_first { [after, before] } else { [before, after] };
        let held = self.held.unwrap_or(Held { shape, order: before });
        if held != (Held { shape, order: before }) {
            return Err("it turns more than a layout".to_owned());
        }
        self.hold(Held { shape, order: after }, before);
        Ok(())
    }

    fn is_held(&self, order: Order) -> bool {
        self.held.is_some_and(|held| held.order == order)
    }
}

fn index(place: i64) -> usize {
    usize::try_from(place).unwrap_or(usize::MAX)
}

fn product(sizes: &[usize]) -> usize {
    sizes.iter().fold(1, |all, size| all.saturating_mul(*size))
}

/// A shape whose sizes the engine can count.
pub(super) fn shape(rows: usize, columns: usize, channels: usize) -> Result<Shape, String> {
    let small =
        |size: usize| u16::try_from(size).map_err(|_| format!("a size of {size}: the engine counts to {}", u16::MAX));
    Ok(Shape { rows: small(rows)?, columns: small(columns)?, channels: small(channels)? })
}
