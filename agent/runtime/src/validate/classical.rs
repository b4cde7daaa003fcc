//! `ai.onnx.ml`: lists that are as long as they must be, and the shapes of what is computed.

use tract_onnx::pb::NodeProto;

use super::attributes::{find, int, ints, text};
use super::shapes::{Computed, Fact, Inputs, Shape, shown};
use super::trees::{FEATURES_MAX, LABELS_MAX};
use super::{Fault, PREPARE, product, tensors, trees};

const ENCODE: &str = "encode texts as numbers before scoring";
/// Attributes with texts, and what to do about them.
const TEXTS: [(&str, &str); 6] = [
    ("classlabels_strings", PREPARE),
    ("values_strings", PREPARE),
    ("values_tensor", PREPARE),
    ("keys_strings", ENCODE),
    ("keys_tensor", ENCODE),
    ("cats_strings", ENCODE),
];
const TRANSFORMS: [&str; 6] = ["", "NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"];

/// Rows of features: `None` where one varies or is not known.
#[derive(Clone, Copy)]
struct Rows {
    count: Option<u64>,
    width: Option<u64>,
}

/// Checks an operator of `ai.onnx.ml` and gives the shapes of its outputs.
pub(super) fn compute<'m>(node: &'m NodeProto, inputs: Inputs<'_, 'm>) -> Result<Computed<'m>, Fault> {
    for (name, mend) in TEXTS {
        let is_text = |tensor: &tract_onnx::pb::TensorProto| tensor.data_type == tensors::STRING;
        let has_texts = |attribute: &tract_onnx::pb::AttributeProto| {
            !attribute.strings.is_empty() || attribute.t.as_ref().is_some_and(is_text)
        };
        if find(node, name).is_some_and(has_texts) {
            return Err(Fault::new(format!("`{name}` holds texts, and devices have numbers only"), mend));
        }
    }
    let name = node.op_type.as_str();
    if name != "TreeEnsemble" && !TRANSFORMS.contains(&text(node, "post_transform")) {
        return Err(Fault::broken("its `post_transform` is none of the specification"));
    }
    match name {
        "TreeEnsembleClassifier" | "TreeEnsembleRegressor" | "TreeEnsemble" => {
            let rows = rows(inputs)?;
            let ensemble = trees::read(node, rows.width)?;
            let work = ensemble.branches.len().saturating_add(ensemble.votes.len()) as u64;
            Ok(scores(node, rows, ensemble.targets as u64, work))
        }
        "LinearClassifier" | "LinearRegressor" => linear(node, rows(inputs)?),
        "SVMClassifier" | "SVMRegressor" => machine(node, rows(inputs)?),
        "OneHotEncoder" => one_hot(node, inputs),
        "LabelEncoder" => labels(node, inputs),
        "ArrayFeatureExtractor" => extractor(inputs),
        "FeatureVectorizer" => vectorizer(node, inputs),
        _ => {
            each(node, rows(inputs)?)?;
            Ok(Computed::one(inputs.shape(0).map(<[_]>::to_vec)))
        }
    }
}

/// The input as rows: a vector is one.
fn rows(inputs: Inputs<'_, '_>) -> Result<Rows, Fault> {
    match inputs.shape(0) {
        None => Ok(Rows { count: None, width: None }),
        Some([width]) => Ok(Rows { count: Some(1), width: *width }),
        Some([count, width]) => Ok(Rows { count: *count, width: *width }),
        Some(other) => Err(Fault::broken(format!("its input is {}: rows of features are needed", shown(other)))),
    }
}

/// A label for each row, if it is a classifier, and so many scores.
fn scores<'m>(node: &NodeProto, rows: Rows, width: u64, work: u64) -> Computed<'m> {
    let mut outputs = vec![Fact::of(vec![rows.count, Some(width)])];
    if node.op_type.ends_with("Classifier") {
        outputs.insert(0, Fact::of(vec![rows.count]));
    }
    Computed { outputs, work, ..Computed::default() }
}

fn floats(node: &NodeProto, name: &str) -> usize {
    find(node, name).map_or(0, |list| list.floats.len())
}

/// Number of class labels, at least one; 0 if it is no classifier.
fn classes(node: &NodeProto) -> Result<usize, Fault> {
    let count = ints(node, "classlabels_ints").map_or(0, <[i64]>::len);
    if node.op_type.ends_with("Regressor") {
        return Ok(0);
    }
    if (1..=LABELS_MAX).contains(&count) {
        return Ok(count);
    }
    Err(Fault::broken(format!("{count} class labels: 1 to {LABELS_MAX} are supported")))
}

/// So many numbers for so many vectors of the input's width, if that is known.
fn vectors(name: &str, numbers: usize, count: usize, width: Option<u64>) -> Result<(), Fault> {
    let is_right = match width.and_then(|width| usize::try_from(width).ok()) {
        Some(width) => count.checked_mul(width) == Some(numbers),
        None => count > 0 && numbers.is_multiple_of(count),
    };
    if is_right && numbers > 0 {
        return Ok(());
    }
    let width = width.map_or_else(|| "?".to_owned(), |width| width.to_string());
    Err(Fault::broken(format!("`{name}` has {numbers} numbers for {count} times {width} features")))
}

fn linear<'m>(node: &NodeProto, rows: Rows) -> Result<Computed<'m>, Fault> {
    let (coefficients, intercepts) = (floats(node, "coefficients"), floats(node, "intercepts"));
    let labels = classes(node)?;
    let expected = if labels > 0 { labels } else { usize::try_from(int(node, "targets").unwrap_or(1)).unwrap_or(0) };
    let sums = if intercepts > 0 { intercepts } else { expected };
    if sums != expected && sums != 1 || sums != expected && labels == 0 {
        return Err(Fault::broken(format!("`intercepts` has {intercepts} entries, {expected} are needed")));
    }
    vectors("coefficients", coefficients, sums, rows.width)?;
    let width = if sums == 1 && labels == 2 { 2 } else { sums };
    Ok(scores(node, rows, width as u64, coefficients as u64))
}

fn machine<'m>(node: &NodeProto, rows: Rows) -> Result<Computed<'m>, Fault> {
    let (coefficients, rho, sure) = (floats(node, "coefficients"), floats(node, "rho"), floats(node, "prob_a"));
    if !matches!(floats(node, "kernel_params"), 0 | 3) {
        return Err(Fault::broken("`kernel_params` are not gamma, coef0 and degree"));
    }
    if !["", "LINEAR", "POLY", "RBF", "SIGMOID"].contains(&text(node, "kernel_type")) {
        return Err(Fault::broken("its `kernel_type` is none of the specification"));
    }
    let labels = classes(node)?;
    let sizes = match ints(node, "vectors_per_class") {
        Some(sizes) if labels > 0 => sizes.to_vec(),
        _ => vec![int(node, "n_supports").unwrap_or(0)],
    };
    let count = sizes.iter().try_fold(0_usize, |sum, size| sum.checked_add(usize::try_from(*size).ok()?));
    let Some(count) = count else {
        return Err(Fault::broken("a number of support vectors is negative"));
    };
    let needs = |name: &str, got: usize, least: usize| {
        if got >= least {
            return Ok(());
        }
        Err(Fault::broken(format!("`{name}` has {got} entries, {least} are needed")))
    };
    if count == 0 {
        vectors("coefficients", coefficients, labels.max(1), rows.width)?;
        needs("rho", rho, 1)?;
        return Ok(scores(node, rows, labels.max(1) as u64, coefficients as u64));
    }
    let numbers = floats(node, "support_vectors");
    vectors("support_vectors", numbers, count, rows.width)?;
    let (pairs, weights) = match labels {
        0 => (1, count),
        1 => return Err(Fault::broken("support vectors of one class")),
        _ if sizes.len() != labels => {
            return Err(Fault::broken(format!("support vectors of {} classes of {labels}", sizes.len())));
        }
        _ => (labels * (labels - 1) / 2, count.saturating_mul(labels - 1)),
    };
    needs("rho", rho, pairs)?;
    needs("coefficients", coefficients, weights)?;
    if sure > 0 {
        needs("prob_a", sure, pairs)?;
    }
    if sure != floats(node, "prob_b") {
        return Err(Fault::broken("`prob_a` and `prob_b` have not the same length"));
    }
    let width = if labels > 2 && sure == 0 { pairs } else { labels.max(1) };
    let work = product([numbers as u64, 1]).saturating_add(product([pairs as u64, count as u64]));
    Ok(scores(node, rows, width as u64, work))
}

/// Operators that give a number for each number.
fn each(node: &NodeProto, rows: Rows) -> Result<(), Fault> {
    let fits = |name: &str, length: usize| {
        let width = rows.width.unwrap_or(length as u64);
        if length == 1 || length as u64 == width {
            return Ok(());
        }
        Err(Fault::broken(format!("`{name}` has {length} entries for {width} features")))
    };
    match node.op_type.as_str() {
        "Scaler" => {
            fits("scale", floats(node, "scale"))?;
            fits("offset", floats(node, "offset"))?;
            if floats(node, "scale") == floats(node, "offset") && floats(node, "scale") > 0 {
                return Ok(());
            }
            Err(Fault::broken("`scale` and `offset` are empty or have not the same length"))
        }
        "Normalizer" if !["", "MAX", "L1", "L2"].contains(&text(node, "norm")) => {
            Err(Fault::broken("its `norm` is none of the specification"))
        }
        "Imputer" => {
            let whole = ints(node, "imputed_value_int64s").map_or(0, <[i64]>::len);
            let real = floats(node, "imputed_value_floats");
            if (whole == 0) == (real == 0) {
                return Err(Fault::broken("it imputes either floats or integers"));
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn one_hot<'m>(node: &NodeProto, inputs: Inputs<'_, 'm>) -> Result<Computed<'m>, Fault> {
    let kinds = ints(node, "cats_int64s").map_or(0, <[i64]>::len);
    if !(1..=LABELS_MAX).contains(&kinds) {
        return Err(Fault::broken(format!("{kinds} categories: 1 to {LABELS_MAX} are supported")));
    }
    let mut shape = inputs.shape(0).map(<[_]>::to_vec);
    shape.iter_mut().for_each(|shape| shape.push(Some(kinds as u64)));
    Ok(Computed::one(shape))
}

fn labels<'m>(node: &NodeProto, inputs: Inputs<'_, 'm>) -> Result<Computed<'m>, Fault> {
    let length = |part: &str| {
        let stored = find(node, &format!("{part}_tensor")).and_then(|list| list.t.as_ref());
        let stored = stored.map(|tensor| product(tensor.dims.iter().map(|size| u64::try_from(*size).unwrap_or(0))));
        let whole = ints(node, &format!("{part}_int64s")).map_or(0, <[i64]>::len);
        stored.unwrap_or((whole + floats(node, &format!("{part}_floats"))) as u64)
    };
    let (keys, values) = (length("keys"), length("values"));
    if keys != values || !(1..=LABELS_MAX as u64).contains(&keys) {
        return Err(Fault::broken(format!("{keys} keys and {values} values: as many, 1 to {LABELS_MAX}, are needed")));
    }
    if find(node, "default_tensor").is_some_and(|default| default.t.is_some()) && length("default") != 1 {
        return Err(Fault::broken("its default is not one number"));
    }
    Ok(Computed::one(inputs.shape(0).map(<[_]>::to_vec)))
}

fn extractor<'m>(inputs: Inputs<'_, 'm>) -> Result<Computed<'m>, Fault> {
    let Some(shape) = inputs.shape(0) else { return Ok(Computed::one(None)) };
    let [before @ .., width] = shape else {
        return Err(Fault::broken("its data has no dimension"));
    };
    if let (Some(width), Some(places)) = (width, inputs.numbers(1)) {
        let is_beyond = |place: &&i64| u64::try_from(**place).map_or(true, |place| place >= *width);
        if let Some(place) = places.iter().find(is_beyond) {
            return Err(Fault::broken(format!("it takes column {place} of {width}")));
        }
    }
    let count = inputs.shape(1).map_or(Some(None), |sizes| {
        sizes.iter().copied().collect::<Option<Vec<u64>>>().map(|sizes| Some(product(sizes)))
    });
    let mut made: Shape = if before.is_empty() { vec![Some(1)] } else { before.to_vec() };
    made.push(count.flatten());
    Ok(Computed::one(Some(made)))
}

fn vectorizer<'m>(node: &NodeProto, inputs: Inputs<'_, 'm>) -> Result<Computed<'m>, Fault> {
    let widths = ints(node, "inputdimensions").unwrap_or_default();
    if widths.len() != node.input.len() {
        return Err(Fault::broken(format!("{} widths for {} inputs", widths.len(), node.input.len())));
    }
    let mut total = 0_u64;
    for width in widths {
        let width = u32::try_from(*width).ok().filter(|width| *width <= FEATURES_MAX);
        let Some(width) = width else {
            return Err(Fault::broken(format!("a width in `inputdimensions` is not in 0 to {FEATURES_MAX}")));
        };
        total = total.saturating_add(u64::from(width));
    }
    let count = match inputs.shape(0) {
        None => None,
        Some([_]) => Some(1),
        Some([count, ..]) => *count,
        Some([]) => return Err(Fault::broken("its first input has no dimension")),
    };
    Ok(Computed::one(Some(vec![count, Some(total)])))
}
