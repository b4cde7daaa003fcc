//! Convolutions of every channel with its own kernel, channels last, pixels in whole vectors.
//!
//! ```text
//!  tap 0  [x0 x1 .. xf]  ─┬─ interleaved: pairs of numbers ─ times the pairs of weights, as in kernel
//!  tap 1  [y0 y1 .. yf]  ─┘  [x0 y0 x1 y1 ..]
//! ```
#![expect(
    clippy::indexing_slicing,
    reason = "slices are cut to one length before the loops, so that few bounds are looked at within them"
)]

use fearless_simd::prelude::*;
use fearless_simd::{Level, Simd, dispatch, i16x8, i16x16, i32x8};

use super::kernel::{Finish, Kept, LANES, Pairs, panels, vectors};

/// Places that are computed together, so that weights are read once for them.
const PLACES: usize = 4;

/// Channels that half a vector holds: pixels of more are in whole ones.
const FEW: usize = LANES / 2;

/// Kernels of so many taps, one for each channel.
#[derive(Clone, Debug)]
pub(super) struct Depthwise {
    channels: usize,
    /// Pairs of taps.
    pairs: usize,
    /// The weights of all pairs for one vector of channels after another.
    panels: Vec<Pairs>,
}

impl Depthwise {
    /// The kernels of which `at` tells the weight of a tap and a channel.
    pub(super) fn of(taps: usize, channels: usize, at: impl Fn(usize, usize) -> i16) -> Self {
        let panels = panels(taps, channels, at);
        Self { channels, pairs: panels.len() / channels.div_ceil(LANES).max(1), panels }
    }

    /// Channels in a vector of a frame.
    pub(super) const fn lanes(&self) -> usize {
        if self.channels > FEW { LANES } else { FEW }
    }

    /// Slides over one image in its frame: where windows begin, and what they meet from there, in vectors.
    pub(super) fn apply<T: Kept>(
        &self,
        frame: &[i16],
        starts: &[usize],
        taps: &[usize],
        finish: &Finish,
        out: &mut [T],
    ) {
        let mut taps = taps.to_vec();
        // The weight of the last one is 0 where their number is odd.
        taps.resize(2 * self.pairs, 0);
        let reach = taps.iter().max().map_or(0, |last| last + 1);
        let taps = Taps { pairs: taps.as_chunks().0, reach };
        dispatch!(Level::new(), simd => if self.lanes() == LANES {
            slide::<_, T, LANES, 2>(simd, self, (frame.as_chunks().0, starts, taps), finish, out);
        } else {
            slide::<_, T, FEW, 1>(simd, self, (frame.as_chunks().0, starts, taps), finish, out);
        });
    }
}

/// Where numbers lie that a window meets, in pairs.
#[derive(Clone, Copy)]
struct Taps<'a> {
    pairs: &'a [[usize; 2]],
    /// From the first number to behind the last.
    reach: usize,
}

#[inline(always)]
fn slide<S: Simd, T: Kept, const L: usize, const N: usize>(
    simd: S,
    depthwise: &Depthwise,
    (frame, starts, taps): (&[[i16; L]], &[usize], Taps<'_>),
    finish: &Finish,
    out: &mut [T],
) {
    let channels = depthwise.channels;
    let (blocks, rest) = starts.as_chunks::<PLACES>();
    let mut outs = out.chunks_exact_mut(PLACES * channels);
    for (starts, out) in blocks.iter().zip(&mut outs) {
        places::<S, T, L, N, PLACES>(simd, depthwise, (frame, starts, taps), finish, out);
    }
    for (start, out) in rest.iter().zip(outs.into_remainder().chunks_exact_mut(channels)) {
        places::<S, T, L, N, 1>(simd, depthwise, (frame, &[*start], taps), finish, out);
    }
}

/// Some places, all channels: `N` sums of half a vector each.
#[inline(always)]
fn places<S: Simd, T: Kept, const L: usize, const N: usize, const R: usize>(
    simd: S,
    depthwise: &Depthwise,
    (frame, starts, taps): (&[[i16; L]], &[usize; R], Taps<'_>),
    finish: &Finish,
    out: &mut [T],
) {
    for (index, panel) in depthwise.panels.chunks_exact(depthwise.pairs).enumerate() {
        // All of one length, so that a tap is compared with it once for all places.
        let windows: [&[[i16; L]]; R] = std::array::from_fn(|place| &frame[starts[place] + index..][..taps.reach]);
        let mut sums = [[i32x8::splat(simd, 0); N]; R];
        for ([first, second], weights) in taps.pairs.iter().zip(panel) {
            let weights = vectors(simd, weights);
            for place in 0..R {
                let numbers = interleaved(simd, &windows[place][*first], &windows[place][*second]);
                for half in 0..N {
                    sums[place][half] += numbers[half].pairwise_dot_product(weights[half]);
                }
            }
        }
        let ending = finish.of_panel(index);
        let columns = index * LANES..depthwise.channels.min((index + 1) * LANES);
        for place in 0..R {
            ending.keep(sums[place], &mut out[place * depthwise.channels..][columns.clone()]);
        }
    }
}

/// Pairs of the numbers of two taps: of half a vector, they are in the first one.
#[inline(always)]
fn interleaved<S: Simd, const L: usize>(simd: S, first: &[i16; L], second: &[i16; L]) -> [i16x16<S>; 2] {
    if let (Some(first), Some(second)) = (first.first_chunk(), second.first_chunk()) {
        let (low, high) = i16x16::load_array_ref(simd, first).interleave(i16x16::load_array_ref(simd, second));
        return [low, high];
    }
    let [first, second] = [first, second].map(|numbers| numbers.first_chunk::<FEW>());
    let (Some(first), Some(second)) = (first, second) else { return [i16x16::splat(simd, 0); 2] };
    let (low, high) = i16x8::load_array_ref(simd, first).interleave(i16x8::load_array_ref(simd, second));
    [low.combine(high); 2]
}
