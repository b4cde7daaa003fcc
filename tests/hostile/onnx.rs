//! Writes ONNX files, lawful ones and others: only what the corpus needs of the format, field by
//! field (`onnx.proto3`, IR version 8).

/// A protobuf message.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message(pub(crate) Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.0.push(value.to_le_bytes()[0]);
    }

    /// A field's number and wire type.
    pub(crate) fn key(&mut self, field: u64, wire: u64) {
        self.varint(field << 3 | wire);
    }

    pub(crate) fn int(&mut self, field: u64, value: i64) {
        self.key(field, 0);
        self.varint(u64::from_le_bytes(value.to_le_bytes()));
    }

    pub(crate) fn float(&mut self, field: u64, value: f32) {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
    }

    pub(crate) fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.key(field, 2);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
    }

    pub(crate) fn text(&mut self, field: u64, text: &str) {
        if !text.is_empty() {
            self.bytes(field, text.as_bytes());
        }
    }

    fn packed(&mut self, field: u64, values: &[i64]) {
        let mut list = Self::default();
        values.iter().for_each(|value| list.varint(u64::from_le_bytes(value.to_le_bytes())));
        self.bytes(field, &list.0);
    }
}

/// Element types by their code.
pub(crate) const FLOAT: i32 = 1;
pub(crate) const UINT8: i32 = 2;
pub(crate) const INT8: i32 = 3;
pub(crate) const INT32: i32 = 6;
pub(crate) const INT64: i32 = 7;
pub(crate) const STRING: i32 = 8;
pub(crate) const BOOL: i32 = 9;

/// A stored tensor.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) kind: i32,
    pub(crate) dims: Vec<i64>,
    pub(crate) raw: Vec<u8>,
    /// More fields, as they stand.
    pub(crate) more: Message,
}

pub(crate) fn floats(name: &str, dims: &[i64], values: &[f32]) -> Tensor {
    let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Tensor { name: name.into(), kind: FLOAT, dims: dims.into(), raw, ..Tensor::default() }
}

/// A tensor of small different numbers.
pub(crate) fn weights(name: &str, dims: &[i64]) -> Tensor {
    let count: i64 = dims.iter().product();
    let values: Vec<f32> = (0..count).map(|index| (index % 13) as f32 / 13.0 - 0.4).collect();
    floats(name, dims, &values)
}

pub(crate) fn integers(name: &str, dims: &[i64], values: &[i64]) -> Tensor {
    let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Tensor { name: name.into(), kind: INT64, dims: dims.into(), raw, ..Tensor::default() }
}

/// A list of integers.
pub(crate) fn list(name: &str, values: &[i64]) -> Tensor {
    integers(name, &[values.len() as i64], values)
}

impl Tensor {
    fn encoded(&self) -> Message {
        let mut message = Message::default();
        message.packed(1, &self.dims);
        message.int(2, self.kind.into());
        message.text(8, &self.name);
        if !self.raw.is_empty() {
            message.bytes(9, &self.raw);
        }
        message.0.extend(&self.more.0);
        message
    }
}

/// What an attribute holds.
#[derive(Clone, Debug)]
pub(crate) enum Held {
    Float(f32),
    Int(i64),
    Text(String),
    Tensor(Tensor),
    Graph(Graph),
    Floats(Vec<f32>),
    Ints(Vec<i64>),
    Texts(Vec<String>),
    /// Fields as they stand.
    Fields(Message),
}

/// A node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Node {
    pub(crate) operator: String,
    pub(crate) domain: String,
    pub(crate) name: String,
    pub(crate) inputs: Vec<String>,
    pub(crate) outputs: Vec<String>,
    pub(crate) attributes: Vec<(String, Held)>,
}

/// A node; its inputs and outputs stand apart by spaces, `-` is an absent one.
pub(crate) fn node(operator: &str, inputs: &str, outputs: &str) -> Node {
    let names =
        |text: &str| text.split_whitespace().map(|name| if name == "-" { "" } else { name }.to_owned()).collect();
    Node { operator: operator.into(), inputs: names(inputs), outputs: names(outputs), ..Node::default() }
}

impl Node {
    pub(crate) fn with(mut self, name: &str, held: Held) -> Self {
        self.attributes.push((name.into(), held));
        self
    }

    pub(crate) fn int(self, name: &str, value: i64) -> Self {
        self.with(name, Held::Int(value))
    }

    pub(crate) fn ints(self, name: &str, values: &[i64]) -> Self {
        self.with(name, Held::Ints(values.into()))
    }

    pub(crate) fn of(mut self, domain: &str) -> Self {
        self.domain = domain.into();
        self
    }

    fn encoded(&self) -> Message {
        let mut message = Message::default();
        self.inputs.iter().for_each(|name| message.bytes(1, name.as_bytes()));
        self.outputs.iter().for_each(|name| message.bytes(2, name.as_bytes()));
        message.text(3, &self.name);
        message.text(4, &self.operator);
        for (name, held) in &self.attributes {
            message.bytes(5, &attribute(name, held).0);
        }
        message.text(7, &self.domain);
        message
    }
}

fn attribute(name: &str, held: &Held) -> Message {
    let mut message = Message::default();
    message.text(1, name);
    let kind = match held {
        Held::Float(value) => {
            message.float(2, *value);
            1
        }
        Held::Int(value) => {
            message.int(3, *value);
            2
        }
        Held::Text(text) => {
            message.bytes(4, text.as_bytes());
            3
        }
        Held::Tensor(tensor) => {
            message.bytes(5, &tensor.encoded().0);
            4
        }
        Held::Graph(graph) => {
            message.bytes(6, &graph.encoded().0);
            5
        }
        Held::Floats(values) => {
            values.iter().for_each(|value| message.float(7, *value));
            6
        }
        Held::Ints(values) => {
            message.packed(8, values);
            7
        }
        Held::Texts(texts) => {
            texts.iter().for_each(|text| message.bytes(9, text.as_bytes()));
            8
        }
        Held::Fields(fields) => {
            message.0.extend(&fields.0);
            return message;
        }
    };
    message.int(20, kind);
    message
}

/// A size of a value's dimension.
#[derive(Clone, Debug)]
pub(crate) enum Size {
    Fixed(i64),
    Named(String),
}

/// An input or output.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    pub(crate) name: String,
    pub(crate) kind: i32,
    /// No shape at all if absent.
    pub(crate) sizes: Option<Vec<Size>>,
}

/// A value of floats; -1 stands for a size named `N`.
pub(crate) fn value(name: &str, sizes: &[i64]) -> Value {
    let size = |size: &i64| if *size == -1 { Size::Named("N".into()) } else { Size::Fixed(*size) };
    Value { name: name.into(), kind: FLOAT, sizes: Some(sizes.iter().map(size).collect()) }
}

impl Value {
    pub(crate) fn of(mut self, kind: i32) -> Self {
        self.kind = kind;
        self
    }

    fn encoded(&self) -> Message {
        let mut tensor = Message::default();
        tensor.int(1, self.kind.into());
        if let Some(sizes) = &self.sizes {
            let mut shape = Message::default();
            for size in sizes {
                let mut dimension = Message::default();
                match size {
                    Size::Fixed(size) => dimension.int(1, *size),
                    Size::Named(name) => dimension.text(2, name),
                }
                shape.bytes(1, &dimension.0);
            }
            tensor.bytes(2, &shape.0);
        }
        let (mut kind, mut message) = (Message::default(), Message::default());
        kind.bytes(1, &tensor.0);
        message.text(1, &self.name);
        message.bytes(2, &kind.0);
        message
    }
}

/// A graph.
#[derive(Clone, Debug, Default)]
pub(crate) struct Graph {
    pub(crate) nodes: Vec<Node>,
    pub(crate) stored: Vec<Tensor>,
    pub(crate) inputs: Vec<Value>,
    pub(crate) outputs: Vec<Value>,
    pub(crate) more: Message,
}

impl Graph {
    fn encoded(&self) -> Message {
        let mut message = Message::default();
        self.nodes.iter().for_each(|node| message.bytes(1, &node.encoded().0));
        message.text(2, "g");
        self.stored.iter().for_each(|tensor| message.bytes(5, &tensor.encoded().0));
        self.inputs.iter().for_each(|value| message.bytes(11, &value.encoded().0));
        self.outputs.iter().for_each(|value| message.bytes(12, &value.encoded().0));
        message.0.extend(&self.more.0);
        message
    }
}

/// A model.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) graph: Graph,
    pub(crate) sets: Vec<(String, i64)>,
    pub(crate) more: Message,
}

impl Model {
    /// A model of these nodes, from `x` of this shape to `y` of that one, where -1 is any size.
    pub(crate) fn new(nodes: Vec<Node>, stored: Vec<Tensor>, x: &[i64], y: &[i64]) -> Self {
        let graph = Graph {
            nodes,
            stored,
            inputs: vec![value("x", x)],
            outputs: vec![value("y", y)],
            more: Message::default(),
        };
        let sets = vec![(String::new(), 17), ("ai.onnx.ml".into(), 3), ("com.microsoft".into(), 1)];
        Self { graph, sets, more: Message::default() }
    }

    /// The first node.
    pub(crate) fn first(&mut self) -> &mut Node {
        &mut self.graph.nodes[0]
    }

    /// The same with one thing changed.
    pub(crate) fn but(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut other = self.clone();
        change(&mut other);
        other
    }

    /// The same with an attribute of the first node set to this.
    pub(crate) fn set(&self, name: &str, held: Held) -> Self {
        self.but(|model| {
            model.first().attributes.retain(|(known, _)| known != name);
            model.first().attributes.push((name.into(), held));
        })
    }

    /// The file.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut message = Message::default();
        message.int(1, 8);
        message.bytes(7, &self.graph.encoded().0);
        for (domain, version) in &self.sets {
            let mut set = Message::default();
            set.text(1, domain);
            set.int(2, *version);
            message.bytes(8, &set.0);
        }
        message.0.extend(&self.more.0);
        message.0
    }
}
