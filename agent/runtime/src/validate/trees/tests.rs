//! What is refused of tree ensembles, and what is read.

use tract_onnx::pb::{AttributeProto, NodeProto, TensorProto};

use super::{Child, Mode, read};

fn fault(node: &NodeProto) -> String {
    read(node, Some(1)).err().map_or_else(String::new, |fault| fault.what)
}

fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto { name: name.into(), ints: ints.to_vec(), ..AttributeProto::default() }
}

fn floats(name: &str, floats: &[f32]) -> AttributeProto {
    AttributeProto { name: name.into(), floats: floats.to_vec(), ..AttributeProto::default() }
}

fn stump(class_id: i64) -> NodeProto {
    let modes = ["BRANCH_LEQ", "LEAF", "LEAF"];
    let modes = AttributeProto {
        name: "nodes_modes".into(),
        strings: modes.iter().map(|text| text.as_bytes().to_vec()).collect(),
        ..AttributeProto::default()
    };
    NodeProto {
        op_type: "TreeEnsembleClassifier".into(),
        attribute: vec![
            ints("nodes_treeids", &[0, 0, 0]),
            ints("nodes_nodeids", &[0, 1, 2]),
            ints("nodes_featureids", &[0, 0, 0]),
            ints("nodes_truenodeids", &[1, 0, 0]),
            ints("nodes_falsenodeids", &[2, 0, 0]),
            floats("nodes_values", &[0.5, 0.0, 0.0]),
            modes,
            ints("classlabels_int64s", &[0, 1]),
            ints("class_ids", &[0, class_id]),
            ints("class_nodeids", &[1, 2]),
            ints("class_treeids", &[0, 0]),
            floats("class_weights", &[1.0, 1.0]),
        ],
        ..NodeProto::default()
    }
}

/// The stump as TreeEnsemble has it.
fn flat() -> NodeProto {
    let tensor = |name: &str, data_type: i32, values: &[f32], bytes: &[i32]| AttributeProto {
        name: name.into(),
        t: Some(TensorProto {
            data_type,
            dims: vec![i64::try_from(values.len().max(bytes.len())).unwrap()],
            float_data: values.to_vec(),
            int32_data: bytes.to_vec(),
            ..TensorProto::default()
        }),
        ..AttributeProto::default()
    };
    NodeProto {
        op_type: "TreeEnsemble".into(),
        attribute: vec![
            ints("tree_roots", &[0]),
            ints("nodes_featureids", &[0]),
            ints("nodes_truenodeids", &[0]),
            ints("nodes_trueleafs", &[1]),
            ints("nodes_falsenodeids", &[1]),
            ints("nodes_falseleafs", &[1]),
            tensor("nodes_splits", 1, &[0.5], &[]),
            tensor("nodes_modes", 2, &[], &[0]),
            ints("leaf_targetids", &[0, 0]),
            tensor("leaf_weights", 1, &[1.0, 2.0], &[]),
        ],
        ..NodeProto::default()
    }
}

fn list<'n>(node: &'n mut NodeProto, name: &str) -> &'n mut Vec<i64> {
    &mut node.attribute.iter_mut().find(|attribute| attribute.name == name).unwrap().ints
}

#[test]
fn a_class_id_beyond_the_labels_is_refused() {
    assert_eq!(fault(&stump(1)), "");
    assert!(fault(&stump(2)).contains("id 2 is not below the 2"));
    assert!(fault(&stump(-1)).contains("id -1"));
}

#[test]
fn a_branch_that_leads_back_is_refused() {
    let mut looping = stump(1);
    *list(&mut looping, "nodes_truenodeids") = vec![0, 0, 0];
    assert!(fault(&looping).contains("no other node"));
    let mut twice = stump(1);
    *list(&mut twice, "nodes_truenodeids") = vec![2, 0, 0];
    assert!(fault(&twice).contains("one parent"));
}

#[test]
fn a_circle_beside_a_tree_is_refused() {
    let mut circle = stump(1);
    let modes = ["LEAF", "BRANCH_LEQ", "BRANCH_LEQ"];
    circle.attribute[6].strings = modes.iter().map(|text| text.as_bytes().to_vec()).collect();
    circle.attribute[0].ints = vec![0, 0, 0];
    *list(&mut circle, "nodes_truenodeids") = vec![0, 2, 1];
    *list(&mut circle, "nodes_falsenodeids") = vec![0, 2, 1];
    assert!(!fault(&circle).is_empty());
    let mut flat = flat();
    for (name, values) in [("nodes_featureids", [0, 0]), ("nodes_truenodeids", [0, 1]), ("nodes_trueleafs", [1, 0])] {
        *list(&mut flat, name) = values.to_vec();
    }
    for (name, values) in [("nodes_falsenodeids", [1, 1]), ("nodes_falseleafs", [1, 1])] {
        *list(&mut flat, name) = values.to_vec();
    }
    for (at, values) in [(6, [0.5, 0.5].as_slice()), (7, &[])] {
        let tensor = flat.attribute[at].t.as_mut().unwrap();
        tensor.dims = vec![2];
        tensor.float_data = values.to_vec();
        tensor.int32_data = if values.is_empty() { vec![0, 0] } else { vec![] };
    }
    assert!(fault(&flat).contains("1 of 2 branches are reached"), "{}", fault(&flat));
}

#[test]
fn a_feature_beyond_the_input_and_a_second_root_are_refused() {
    let mut wide = stump(1);
    wide.attribute[2].ints = vec![1, 0, 0];
    assert!(fault(&wide).contains("feature id 1 is not below the 1"));
    let mut forest = stump(1);
    forest.attribute[6].strings[0] = b"LEAF".to_vec();
    assert!(fault(&forest).contains("only root"));
    let mut other = stump(1);
    other.attribute[9].ints = vec![0, 1];
    other.attribute[10].ints = vec![0, 1];
    assert!(fault(&other).contains("no leaf"));
    let mut heavy = stump(1);
    heavy.attribute.push(floats("base_values", &[1.0, 2.0, 3.0]));
    assert!(fault(&heavy).contains("3 base values"));
}

#[test]
fn ids_may_have_gaps_and_children_may_stand_before_their_parents_brother() {
    let mut odd = stump(1);
    *list(&mut odd, "nodes_nodeids") = vec![7, 3, 5];
    *list(&mut odd, "nodes_truenodeids") = vec![5, 0, 0];
    *list(&mut odd, "nodes_falsenodeids") = vec![3, 0, 0];
    *list(&mut odd, "class_nodeids") = vec![3, 5];
    let ensemble = read(&odd, None).unwrap();
    assert_eq!((ensemble.branches[0].yes, ensemble.branches[0].no), (Child::Leaf(1), Child::Leaf(0)));
    assert_eq!(ensemble.roots, [Child::Branch(0)]);
}

#[test]
fn trees_of_operator_set_five_are_read_and_checked() {
    let ensemble = read(&flat(), Some(1)).unwrap();
    assert_eq!((ensemble.branches[0].mode, ensemble.branches[0].no), (Mode::AtMost, Child::Leaf(1)));
    assert_eq!(ensemble.leaves, [(0, 1), (1, 2)]);
    let mut astray = flat();
    *list(&mut astray, "nodes_falsenodeids") = vec![2];
    assert!(fault(&astray).contains("leaf 2 of 2"));
    let mut looping = flat();
    *list(&mut looping, "nodes_falseleafs") = vec![0];
    *list(&mut looping, "nodes_falsenodeids") = vec![0];
    assert!(fault(&looping).contains("one parent"));
    let mut set = flat();
    set.attribute[7].t.as_mut().unwrap().int32_data = vec![6];
    assert!(fault(&set).contains("fewer sets"));
}
