//! Networks that do not fit, and why.

use std::string::String;
use std::vec;
use std::vec::Vec;

use super::network::{Network, Operation, Output, Shape, Weights, What, Window};
use super::{Unfit, compile, reference};
use crate::layer::WEIGHT_WORDS;
use crate::score::{Scores, Twin};
use crate::twin::Fault;

fn network(input: Shape, window: Window, what: What) -> Network {
    let output = Output { zero_point: 0, lowest: -128, highest: 127 };
    Network { input, zero_point: 0, layers: vec![Operation { name: String::from("a"), window, what, output }] }
}

fn dense(inputs: u16, outputs: usize, scale: f32) -> Network {
    let values = vec![1; usize::from(inputs) * outputs];
    let weights = Weights { values, bias: vec![0; outputs], scales: vec![scale; outputs] };
    network(Shape::row(inputs), Window::whole(Shape::row(inputs)), What::Convolution(weights))
}

#[test]
fn shapes_of_nothing_are_refused() {
    for input in [Shape::row(0), Shape { rows: 0, columns: 3, channels: 8 }, Shape { rows: 3, columns: 0, channels: 8 }]
    {
        let window = Window { kernel: [1, 1], strides: [1, 1], before: [0, 0], after: [0, 0] };
        for what in [What::Greatest, What::Mean { sum_scale: 1.0 }] {
            assert!(matches!(compile(&network(input, window, what)), Err(Unfit::Hollow { .. })), "{input:?}");
        }
    }
    assert!(matches!(compile(&dense(8, 0, 1.0)), Err(Unfit::Hollow { .. })));
    assert_eq!(compile(&Network { layers: Vec::new(), ..dense(8, 8, 1.0) }), Err(Unfit::Empty));
}

#[test]
fn what_is_too_large_or_too_little_is_named() {
    assert!(matches!(compile(&dense(8000, 8, 1.0)), Err(Unfit::Large { .. })));
    assert!(matches!(compile(&dense(u16::MAX, 1, 1.0)), Err(Unfit::Large { .. })));
    for scale in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e-40] {
        assert!(matches!(compile(&dense(8, 8, scale)), Err(Unfit::Scale { .. })), "{scale}");
    }
    let image = Shape { rows: 9, columns: 9, channels: 8 };
    let pool =
        |kernel, strides| network(image, Window { kernel, strides, before: [0, 0], after: [0, 0] }, What::Greatest);
    assert!(matches!(compile(&pool([10, 1], [1, 1])), Err(Unfit::Kernel { .. })));
    assert!(matches!(compile(&pool([0, 1], [1, 1])), Err(Unfit::Kernel { .. })));
    assert!(matches!(compile(&pool([1, 1], [1, 0])), Err(Unfit::Kernel { .. })));
    assert!(matches!(compile(&pool([1, 1], [1, 3])), Err(Unfit::Large { what: "its stride along columns", .. })));
    let mut short = dense(8, 8, 1.0);
    if let What::Convolution(weights) = &mut short.layers[0].what {
        weights.values.pop();
    }
    assert!(matches!(compile(&short), Err(Unfit::Count { what: "weights", .. })));
}

#[test]
fn weights_that_do_not_fit_are_streamed() {
    let fits = compile(&dense(640, 200, 1.0)).unwrap();
    assert!(fits.segments.len() == 1 && fits.segments[0].streamed.is_none());
    let network = dense(640, 300, 1.0);
    let plan = compile(&network).unwrap();
    let streamed = plan.segments.iter().filter_map(|segment| segment.streamed.as_ref());
    let words: usize = streamed.map(|streamed| streamed.section.words.len()).sum();
    // What does not fit of 24,000 words of weights, and what the windows take from those that do.
    let over = 24_000 - WEIGHT_WORDS;
    assert!((over..over + 4096).contains(&words), "{words}");
    let input: Vec<i8> = (0..640).map(|i| [7, -3, 1][i % 3]).collect();
    assert_eq!(Twin::new(plan).score(&input).unwrap(), reference::run(&network, &input));
}

#[test]
fn images_that_do_not_fit_stay_on_the_host() {
    let window = Window { kernel: [3, 3], strides: [1, 1], before: [1, 1], after: [1, 1] };
    let image = |rows, columns| Shape { rows, columns, channels: 64 };
    let plan = |input| compile(&network(input, window, What::Greatest));
    // 600 words and 600: one is over the other.
    assert_eq!(plan(image(25, 5)).unwrap().segments.len(), 1);
    let tiled = plan(image(40, 20)).unwrap();
    assert!(tiled.segments.len() > 1 && tiled.segments.iter().all(|job| job.writes.is_some() && job.reads.is_some()));
    assert!(matches!(plan(image(40, 100)), Err(Unfit::Tight { .. })));
    assert!(matches!(plan(image(40, 200)), Err(Unfit::Large { what: "words of a row in a bank", .. })));
}

#[test]
fn inputs_of_another_size_are_no_inputs() {
    let mut twin = Twin::new(compile(&dense(8, 8, 1.0)).unwrap());
    for got in [0, 7, 9, 10_000] {
        assert_eq!(twin.score(&vec![1; got]), Err(Fault::Length { expected: 8, got }));
    }
    assert_eq!(twin.score(&[1; 8]).unwrap(), [8; 8]);
}
