//! Walks a graph in the order in which it is computed: every name once, every input made before it
//! is read, graphs within graphs to a depth.

use std::collections::{BTreeMap, BTreeSet};

use tract_onnx::pb::tensor_shape_proto::dimension;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, ValueInfoProto, type_proto};

use super::shapes::{Computed, Fact, Inputs, Shape, axis, compute};
use super::{
    CONSTANT_ELEMENTS_MAX, DEPTH_MAX, Effort, Fault, INITIALIZERS_MAX, Invalid, LIVE_ELEMENTS_MAX, NAME_BYTES_MAX,
    NODES_MAX, READERS_MAX, SCANNED_NODES_MAX, SIZE_NAME_BYTES_MAX, STEPS_MAX, WORK_MAX, attributes, operators, place,
    shown, tensors,
};

/// Most inputs or outputs of a graph: old exporters list every stored tensor as an input.
const VALUES_MAX: usize = INITIALIZERS_MAX;

/// What can be read at some place in a graph.
struct Scope<'s, 'm> {
    known: BTreeMap<&'m str, Fact<'m>>,
    readers: BTreeMap<&'m str, usize>,
    outer: Option<&'s Scope<'s, 'm>>,
}

impl<'m> Scope<'_, 'm> {
    fn find(&self, name: &str) -> Option<&Fact<'m>> {
        self.known.get(name).or_else(|| self.outer?.find(name))
    }

    fn add(&mut self, name: &'m str, fact: Fact<'m>) -> Result<(), Fault> {
        if name.len() > NAME_BYTES_MAX {
            return Err(Fault::broken(format!("a name of {} bytes: at most {NAME_BYTES_MAX}", name.len())));
        }
        match self.known.insert(name, fact) {
            None => Ok(()),
            Some(_) => Err(Fault::broken(format!("two values are named `{}`", shown(name)))),
        }
    }
}

/// What has been counted over all graphs of a model.
#[derive(Default)]
struct Census {
    nodes: usize,
    initializers: usize,
    work: u64,
    /// The most elements held at one time.
    held: u64,
    in_advance: u64,
    opset: i64,
}

/// Checks the graph of a model that imports this version of the default operator set.
pub(super) fn check(model: &ModelProto, opset: i64) -> Result<Effort, Invalid> {
    let Some(graph) = &model.graph else {
        return Err(Fault::broken("it has no graph").at("the model".to_owned()));
    };
    let mut census = Census { opset, ..Census::default() };
    census.graph(graph, None, 0)?;
    Ok(Effort { nodes: census.nodes, work: census.work, held: census.held })
}

/// Sizes of every value of the outer graph, as far as they are known.
pub(super) fn shapes(graph: &GraphProto, opset: i64) -> Result<BTreeMap<&str, Shape>, Invalid> {
    let known = Census { opset, ..Census::default() }.graph(graph, None, 0)?;
    Ok(known.into_iter().filter_map(|(name, fact)| Some((name, fact.shape?))).collect())
}

impl Census {
    /// Checks a graph; what is known of its values.
    fn graph<'m>(
        &mut self,
        graph: &'m GraphProto,
        outer: Option<&Scope<'_, 'm>>,
        depth: usize,
    ) -> Result<BTreeMap<&'m str, Fact<'m>>, Invalid> {
        let here = || format!("graph `{}`", shown(&graph.name));
        self.count(graph, depth).map_err(|fault| fault.at(here()))?;
        let mut scope = Scope { known: BTreeMap::new(), readers: BTreeMap::new(), outer };
        for tensor in &graph.initializer {
            let named = |fault: Fault| fault.at(format!("initializer `{}`", shown(&tensor.name)));
            if tensor.name.is_empty() {
                return Err(named(Fault::broken("it has no name")));
            }
            scope.add(&tensor.name, Fact::stored(tensor).map_err(named)?).map_err(named)?;
        }
        let mut stored: BTreeSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
        for input in &graph.input {
            let named = |fault: Fault| fault.at(format!("input `{}`", shown(&input.name)));
            let fact = declared(input).map_err(named)?;
            // One that is stored as well has a default; the second of that name is one too many.
            if !stored.remove(input.name.as_str()) {
                scope.add(&input.name, fact).map_err(named)?;
            }
        }
        self.nodes(graph, &mut scope, depth)?;
        let mut given = BTreeSet::new();
        for output in &graph.output {
            let named = |what: &str| Fault::broken(what).at(format!("output `{}`", shown(&output.name)));
            if !scope.known.contains_key(output.name.as_str()) {
                return Err(named("no node of the graph makes it"));
            }
            if !given.insert(output.name.as_str()) {
                return Err(named("two outputs have this name"));
            }
        }
        Ok(scope.known)
    }

    fn count(&mut self, graph: &GraphProto, depth: usize) -> Result<(), Fault> {
        if depth > DEPTH_MAX {
            return Err(Fault::broken(format!("graphs are nested deeper than {DEPTH_MAX}")));
        }
        self.nodes = self.nodes.saturating_add(graph.node.len());
        self.initializers = self.initializers.saturating_add(graph.initializer.len());
        if self.nodes > NODES_MAX {
            return Err(Fault::large(format!("{} nodes: at most {NODES_MAX} are accepted", self.nodes)));
        }
        if self.initializers > INITIALIZERS_MAX {
            return Err(Fault::large(format!("{} initializers: at most {INITIALIZERS_MAX}", self.initializers)));
        }
        let values = graph.input.len().max(graph.output.len());
        if values > VALUES_MAX {
            return Err(Fault::large(format!(
                "{values} inputs or outputs: at most {VALUES_MAX}, stored ones included"
            )));
        }
        if !graph.sparse_initializer.is_empty() {
            return Err(Fault::broken("sparse initializers are not supported"));
        }
        Ok(())
    }

    fn nodes<'m>(&mut self, graph: &'m GraphProto, scope: &mut Scope<'_, 'm>, depth: usize) -> Result<(), Invalid> {
        let last = last_readers(graph);
        let mut live: u64 = graph
            .initializer
            .iter()
            .filter_map(|t| scope.find(&t.name))
            .map(Fact::elements)
            .fold(0, u64::saturating_add);
        for (index, node) in graph.node.iter().enumerate() {
            let named = |fault: Fault| fault.at(place(node));
            let computed = self.node(node, scope, depth).map_err(|at| match at {
                At::Here(fault) => named(fault),
                At::Within(invalid) => invalid,
            })?;
            self.work = self.work.saturating_add(computed.work);
            self.in_advance = self.in_advance.saturating_add(computed.in_advance);
            if self.in_advance > CONSTANT_ELEMENTS_MAX {
                let (got, most) = (self.in_advance, CONSTANT_ELEMENTS_MAX);
                return Err(named(Fault::large(format!(
                    "up to here {got} elements are computed in advance: at most {most}"
                ))));
            }
            if self.work > WORK_MAX {
                return Err(named(Fault::large(format!(
                    "up to here {} multiplications for one row: at most {WORK_MAX}",
                    self.work
                ))));
            }
            let mut facts = computed.outputs.into_iter();
            for output in node.output.iter().map(|output| (output, facts.next().unwrap_or_default())) {
                let (output, fact) = (output.0.as_str(), output.1);
                if output.is_empty() {
                    continue;
                }
                live = live.saturating_add(fact.elements());
                scope.add(output, fact).map_err(named)?;
            }
            self.held = self.held.max(live);
            if live > LIVE_ELEMENTS_MAX {
                return Err(named(Fault::large(format!("{live} elements are held here: at most {LIVE_ELEMENTS_MAX}"))));
            }
            for name in last.get(&index).into_iter().flatten() {
                // What is constant may be computed in advance and kept.
                let freed = scope.known.get(name).filter(|fact| !fact.is_constant).map_or(0, Fact::elements);
                live = live.saturating_sub(freed);
            }
        }
        Ok(())
    }

    fn node<'m>(&mut self, node: &'m NodeProto, scope: &mut Scope<'_, 'm>, depth: usize) -> Result<Computed<'m>, At> {
        let rule = operators::rule(node)?;
        if node.name.len() > NAME_BYTES_MAX {
            return Err(
                Fault::broken(format!("its name has {} bytes: at most {NAME_BYTES_MAX}", node.name.len())).into()
            );
        }
        attributes::check(node)?;
        let mut facts = Vec::with_capacity(node.input.len());
        for name in &node.input {
            if name.is_empty() {
                facts.push(Fact::default());
                continue;
            }
            let Some(fact) = scope.find(name) else {
                let what = format!(
                    "nothing before it makes its input `{}`: it is missing, or the graph is a circle",
                    shown(name)
                );
                return Err(Fault::broken(what).into());
            };
            facts.push(fact.clone());
            let readers = scope.readers.entry(name).or_default();
            *readers += 1;
            if *readers > READERS_MAX {
                return Err(Fault::large(format!("more than {READERS_MAX} nodes read `{}`", shown(name))).into());
            }
        }
        let inputs = Inputs(&facts);
        self.inner(node, inputs, scope, depth)?;
        Ok(compute(node, rule, inputs, self.opset)?)
    }

    /// The graphs within a node.
    fn inner<'m>(
        &mut self,
        node: &'m NodeProto,
        inputs: Inputs<'_, 'm>,
        scope: &Scope<'_, 'm>,
        depth: usize,
    ) -> Result<(), At> {
        match node.op_type.as_str() {
            "If" => {
                for name in ["then_branch", "else_branch"] {
                    let branch = attributes::graph(node, name)?;
                    if !branch.input.is_empty() || branch.output.len() != node.output.len() {
                        return Err(Fault::broken(format!(
                            "`{name}` takes inputs, or gives not {} outputs",
                            node.output.len()
                        ))
                        .into());
                    }
                    self.graph(branch, Some(scope), depth + 1).map_err(At::Within)?;
                }
                Ok(())
            }
            "Scan" => {
                let body = attributes::graph(node, "body")?;
                scan(node, body, inputs)?;
                self.graph(body, Some(scope), depth + 1).map(drop).map_err(At::Within)
            }
            _ => Ok(()),
        }
    }
}

/// Where a fault lies: in the node itself, or in a graph within it.
enum At {
    Here(Fault),
    Within(Invalid),
}

impl From<Fault> for At {
    fn from(fault: Fault) -> Self {
        Self::Here(fault)
    }
}

/// As many axes and directions as values are scanned.
fn scan(node: &NodeProto, body: &GraphProto, inputs: Inputs<'_, '_>) -> Result<(), Fault> {
    let scanned = attributes::int(node, "num_scan_inputs").and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
    let states = node.input.len().checked_sub(scanned).filter(|_| scanned > 0);
    let Some(states) = states.filter(|states| *states <= node.output.len()) else {
        return Err(Fault::broken(format!(
            "it scans {scanned} of {} inputs into {} outputs",
            node.input.len(),
            node.output.len()
        )));
    };
    if body.input.len() != node.input.len() || body.output.len() != node.output.len() {
        return Err(Fault::broken("its body takes and gives not as many values as it does"));
    }
    let axes = attributes::ints(node, "scan_input_axes").unwrap_or_default();
    for (place, index) in (states..node.input.len()).enumerate() {
        let Some(shape) = inputs.shape(index) else { continue };
        let along = axis(axes.get(place).copied().unwrap_or(0), shape.len())?;
        let steps = shape.get(along).copied().flatten().unwrap_or(1);
        if steps > STEPS_MAX || steps.saturating_mul(body.node.len() as u64) > SCANNED_NODES_MAX {
            let nodes = body.node.len();
            return Err(Fault::large(format!(
                "{steps} steps of {nodes} nodes: at most {STEPS_MAX} steps, and {SCANNED_NODES_MAX} nodes all together"
            )));
        }
    }
    let made = node.output.len() - states;
    for (name, count) in [
        ("scan_input_axes", scanned),
        ("scan_input_directions", scanned),
        ("scan_output_axes", made),
        ("scan_output_directions", made),
    ] {
        if let Some(list) = attributes::ints(node, name).filter(|list| list.len() != count) {
            return Err(Fault::broken(format!("`{name}` has {} entries, {count} are needed", list.len())));
        }
    }
    Ok(())
}

/// Which values are read for the last time by the node at an index.
fn last_readers(graph: &GraphProto) -> BTreeMap<usize, Vec<&str>> {
    let mut last: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, node) in graph.node.iter().enumerate() {
        last.extend(node.input.iter().map(|name| (name.as_str(), index)));
    }
    for output in &graph.output {
        last.remove(output.name.as_str());
    }
    let mut freed: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
    for (name, index) in last {
        freed.entry(index).or_default().push(name);
    }
    freed
}

/// What an input says of itself.
fn declared<'m>(input: &ValueInfoProto) -> Result<Fact<'m>, Fault> {
    if input.name.is_empty() {
        return Err(Fault::broken("it has no name"));
    }
    let Some(type_proto::Value::TensorType(tensor)) = input.r#type.as_ref().and_then(|kind| kind.value.as_ref()) else {
        return Err(Fault::broken("it has no type, or is no tensor"));
    };
    if !tensors::is_kind(i64::from(tensor.elem_type)) {
        return Err(Fault::broken(format!("its element type {} is not supported", tensor.elem_type)));
    }
    let Some(shape) = &tensor.shape else { return Ok(Fact::default()) };
    let mut sizes = Shape::new();
    for size in &shape.dim {
        sizes.push(match &size.value {
            Some(dimension::Value::DimValue(0)) => {
                return Err(Fault::broken("a size of 0: give a size that varies a name instead"));
            }
            Some(dimension::Value::DimValue(size)) => u64::try_from(*size).ok(),
            Some(dimension::Value::DimParam(name)) => {
                size_name(name)?;
                None
            }
            None => None,
        });
    }
    let fixed: Vec<i64> =
        sizes.iter().map(|size| size.and_then(|size| i64::try_from(size).ok()).unwrap_or(1)).collect();
    tensors::sizes(&fixed)?;
    Ok(Fact::of(sizes))
}

/// A size that varies has a plain name: tract would compute what looks like an expression.
fn size_name(name: &str) -> Result<(), Fault> {
    if name.len() <= SIZE_NAME_BYTES_MAX && !name.contains(['*', '/', '(', ')', '+', '^', '%', ',']) {
        return Ok(());
    }
    Err(Fault::broken(format!(
        "`{}` names a size: at most {SIZE_NAME_BYTES_MAX} bytes and nothing to compute are supported",
        shown(name)
    )))
}
