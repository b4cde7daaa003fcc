//! A graph as the rewrites of this room look at it: who makes a value, how often it is read, and what is
//! stored.

use std::collections::{BTreeMap, BTreeSet};

use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, TensorProto};

/// Codes of `TensorProto.DataType`.
pub(crate) const FLOAT: i32 = 1;
pub(crate) const UINT8: i32 = 2;
pub(crate) const INT8: i32 = 3;
pub(crate) const INT32: i32 = 6;

/// Scale and zero point of a whole tensor.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scaled {
    /// The value before it is made real, or after it is quantised.
    pub(crate) value: String,
    /// Name of the scale.
    pub(crate) scale_name: String,
    /// Name of the zero point, empty if there is none.
    pub(crate) zero_name: String,
    pub(crate) scale: f32,
    pub(crate) zero: i32,
    /// Element type of the quantised tensor; 0 where only what makes it says so.
    pub(crate) kind: i32,
}

/// A graph under work: nodes are taken out and put in by place.
pub(crate) struct Graph {
    pub(crate) nodes: Vec<Option<NodeProto>>,
    stored: BTreeMap<String, TensorProto>,
    /// Those of the stored that nodes make.
    constants: BTreeSet<String>,
    makers: BTreeMap<String, usize>,
    readers: BTreeMap<String, Vec<usize>>,
    /// Values that leave the graph, or that an inner graph reads.
    kept: BTreeSet<String>,
    names: BTreeSet<String>,
}

impl Graph {
    pub(crate) fn new(graph: &mut GraphProto) -> Self {
        let mut stored: BTreeMap<String, TensorProto> = BTreeMap::new();
        for node in &graph.node {
            let value = node.attribute.iter().find(|attribute| attribute.name == "value");
            if let ("Constant", Some(tensor), Some(name)) =
                (node.op_type.as_str(), value.and_then(|value| value.t.as_ref()), node.output.first())
            {
                stored.insert(name.clone(), tensor.clone());
            }
        }
        let constants = stored.keys().cloned().collect();
        let initializers = std::mem::take(&mut graph.initializer);
        stored.extend(initializers.into_iter().map(|tensor| (tensor.name.clone(), tensor)));
        // An input that is stored as well is a default that callers cannot change here.
        let mut kept: BTreeSet<String> = graph.output.iter().map(|output| output.name.clone()).collect();
        let mut names: BTreeSet<String> = graph.input.iter().map(|input| input.name.clone()).collect();
        names.extend(stored.keys().cloned());
        for node in &graph.node {
            names.extend(node.input.iter().chain(&node.output).cloned());
            for inner in node.attribute.iter().filter_map(|attribute| attribute.g.as_ref()) {
                read_within(inner, &mut kept);
            }
        }
        let nodes = std::mem::take(&mut graph.node).into_iter().map(Some).collect();
        let mut work =
            Self { nodes, stored, constants, makers: BTreeMap::new(), readers: BTreeMap::new(), kept, names };
        work.index();
        work
    }

    /// Counts again who makes and reads what.
    pub(crate) fn index(&mut self) {
        self.makers.clear();
        self.readers.clear();
        for (place, node) in self.nodes.iter().enumerate() {
            let Some(node) = node else { continue };
            self.makers.extend(node.output.iter().map(|name| (name.clone(), place)));
            for name in node.input.iter().filter(|name| !name.is_empty()) {
                self.readers.entry(name.clone()).or_default().push(place);
            }
        }
    }

    /// The node that makes a value, with its place.
    pub(crate) fn maker(&self, name: &str) -> Option<(usize, &NodeProto)> {
        let place = *self.makers.get(name)?;
        Some((place, self.nodes.get(place)?.as_ref()?))
    }

    /// The node that alone reads the first output of a node, with its place.
    pub(crate) fn only_reader(&self, node: &NodeProto) -> Option<(usize, &NodeProto)> {
        let name = node.output.first()?;
        match self.readers.get(name)?.as_slice() {
            [place] if !self.kept.contains(name) => Some((*place, self.nodes.get(*place)?.as_ref()?)),
            _ => None,
        }
    }

    /// Whether a value leaves the graph, or an inner graph reads it.
    pub(crate) fn is_kept(&self, name: &str) -> bool {
        self.kept.contains(name)
    }

    /// A stored tensor.
    pub(crate) fn stored(&self, name: &str) -> Option<&TensorProto> {
        self.stored.get(name)
    }

    /// Stores a tensor under a name that nothing has, which is returned.
    pub(crate) fn store(&mut self, mut tensor: TensorProto, like: &str) -> String {
        let name = self.fresh(like);
        tensor.name.clone_from(&name);
        self.stored.insert(name.clone(), tensor);
        name
    }

    /// A name that nothing has.
    pub(crate) fn fresh(&mut self, like: &str) -> String {
        let mut count = 0_u32;
        loop {
            let name = format!("{like}~{count}");
            if self.names.insert(name.clone()) {
                return name;
            }
            count += 1;
        }
    }

    /// This name, or one like it that nothing has.
    pub(crate) fn claim(&mut self, name: &str) -> String {
        if self.names.insert(name.to_owned()) { name.to_owned() } else { self.fresh(name) }
    }

    /// Stores a tensor under its name, or one like it that nothing has, which is returned.
    pub(crate) fn keep(&mut self, mut tensor: TensorProto) -> String {
        tensor.name = self.claim(&tensor.name);
        let name = tensor.name.clone();
        self.stored.insert(name.clone(), tensor);
        name
    }

    /// The floats of a stored tensor.
    pub(crate) fn floats(&self, name: &str) -> Option<Vec<f32>> {
        let tensor = self.stored(name)?;
        if tensor.data_type != FLOAT {
            return None;
        }
        let raw = tensor.raw_data.chunks_exact(4).filter_map(|bytes| Some(f32::from_le_bytes(bytes.try_into().ok()?)));
        Some(tensor.float_data.iter().copied().chain(raw).collect())
    }

    /// The integers of a stored tensor of 8 or 32 bits.
    pub(crate) fn integers(&self, name: &str) -> Option<Vec<i32>> {
        let tensor = self.stored(name)?;
        let raw = &tensor.raw_data;
        let raw: Vec<i32> = match tensor.data_type {
            UINT8 => raw.iter().map(|byte| i32::from(*byte)).collect(),
            INT8 => raw.iter().map(|byte| i32::from(byte.cast_signed())).collect(),
            INT32 => raw.chunks_exact(4).filter_map(|bytes| Some(i32::from_le_bytes(bytes.try_into().ok()?))).collect(),
            _ => return None,
        };
        Some(tensor.int32_data.iter().copied().chain(raw).collect())
    }

    /// The real value that a `DequantizeLinear` with one stored scale makes.
    pub(crate) fn real(&self, name: &str) -> Option<Scaled> {
        let (_, node) = self.maker(name)?;
        if node.op_type != "DequantizeLinear" {
            return None;
        }
        self.scaled(node, node.input.first()?)
    }

    /// What a `QuantizeLinear` with one stored scale makes.
    pub(crate) fn quantised(&self, node: &NodeProto) -> Option<Scaled> {
        if node.op_type != "QuantizeLinear" || int(node, "output_dtype").is_some() {
            return None;
        }
        self.scaled(node, node.output.first()?)
    }

    fn scaled(&self, node: &NodeProto, value: &str) -> Option<Scaled> {
        if int(node, "block_size").unwrap_or(0) != 0 {
            return None;
        }
        let scale_name = node.input.get(1)?.clone();
        let zero_name = node.input.get(2).cloned().unwrap_or_default();
        let [scale] = self.floats(&scale_name)?[..] else { return None };
        let (zero, kind) = if zero_name.is_empty() {
            // Without a zero point bytes are unsigned only where they are made.
            (0, if node.op_type == "QuantizeLinear" { UINT8 } else { 0 })
        } else {
            let [zero] = self.integers(&zero_name)?[..] else { return None };
            (zero, self.stored(&zero_name)?.data_type)
        };
        Some(Scaled { value: value.to_owned(), scale_name, zero_name, scale, zero, kind })
    }

    /// Takes nodes out whose outputs nobody needs: those that only turn numbers.
    pub(crate) fn prune(&mut self) {
        for place in (0..self.nodes.len()).rev() {
            let Some(Some(node)) = self.nodes.get(place) else { continue };
            let turns = matches!(
                node.op_type.as_str(),
                "DequantizeLinear" | "QuantizeLinear" | "DynamicQuantizeLinear" | "Cast" | "Mul"
            );
            let is_read = |name: &String| self.readers.contains_key(name) || self.kept.contains(name);
            if turns && !node.output.iter().any(is_read) {
                self.remove(place);
            }
        }
    }

    /// Takes a node out.
    pub(crate) fn remove(&mut self, place: usize) {
        let Some(node) = self.nodes.get_mut(place).and_then(Option::take) else { return };
        for name in &node.output {
            if self.makers.get(name) == Some(&place) {
                self.makers.remove(name);
            }
        }
        for name in &node.input {
            if let Some(readers) = self.readers.get_mut(name) {
                readers.retain(|reader| *reader != place);
                if readers.is_empty() {
                    self.readers.remove(name);
                }
            }
        }
    }

    /// Puts a node in the place of another.
    pub(crate) fn replace(&mut self, place: usize, node: NodeProto) {
        self.remove(place);
        self.makers.extend(node.output.iter().map(|name| (name.clone(), place)));
        for name in node.input.iter().filter(|name| !name.is_empty()) {
            self.readers.entry(name.clone()).or_default().push(place);
        }
        if let Some(old) = self.nodes.get_mut(place) {
            *old = Some(node);
        }
    }

    /// Puts the nodes back, without what nobody reads any more.
    pub(crate) fn finish(mut self, graph: &mut GraphProto, is_changed: bool) {
        if is_changed {
            self.prune();
        }
        graph.node = self.nodes.into_iter().flatten().collect();
        let constants = self.constants;
        graph.initializer =
            self.stored.into_iter().filter(|(name, _)| !constants.contains(name)).map(|(_, tensor)| tensor).collect();
        if is_changed {
            let read: BTreeSet<&String> = graph.node.iter().flat_map(|node| &node.input).collect();
            let is_needed = |name: &String| read.contains(name) || self.kept.contains(name);
            let unread: BTreeSet<String> =
                graph.initializer.iter().map(|tensor| tensor.name.clone()).filter(|name| !is_needed(name)).collect();
            // Tract would keep what nobody reads.
            graph.initializer.retain(|tensor| !unread.contains(&tensor.name));
            graph.input.retain(|input| !unread.contains(&input.name));
        }
    }
}

/// Names that an inner graph reads, its own among them.
fn read_within(graph: &GraphProto, names: &mut BTreeSet<String>) {
    names.extend(graph.output.iter().map(|output| output.name.clone()));
    for node in &graph.node {
        names.extend(node.input.iter().cloned());
        for inner in node.attribute.iter().filter_map(|attribute| attribute.g.as_ref()) {
            read_within(inner, names);
        }
    }
}

/// A number, if there is such an attribute.
pub(crate) fn int(node: &NodeProto, name: &str) -> Option<i64> {
    node.attribute.iter().find(|attribute| attribute.name == name).map(|attribute| attribute.i)
}

/// A list of numbers, empty if there is none.
pub(crate) fn ints<'n>(node: &'n NodeProto, name: &str) -> &'n [i64] {
    let found = node.attribute.iter().find(|attribute| attribute.name == name);
    found.map(|attribute| attribute.ints.as_slice()).unwrap_or_default()
}

/// A float, if there is such an attribute.
pub(crate) fn float(node: &NodeProto, name: &str) -> Option<f32> {
    node.attribute.iter().find(|attribute| attribute.name == name).map(|attribute| attribute.f)
}

/// An attribute with a number.
pub(crate) fn with_int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: name.to_owned(), r#type: 2, i: value, ..AttributeProto::default() }
}

/// An attribute with a float.
pub(crate) fn with_float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { name: name.to_owned(), r#type: 1, f: value, ..AttributeProto::default() }
}

/// A node that makes what another made.
pub(crate) fn node(op_type: &str, name: &str, input: Vec<String>, output: &str) -> NodeProto {
    NodeProto {
        op_type: op_type.to_owned(),
        name: name.to_owned(),
        input,
        output: vec![output.to_owned()],
        ..NodeProto::default()
    }
}
