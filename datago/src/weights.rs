//! The weights of resampling filters, from sums and products alone: every machine rounds them alike.

use std::cell::RefCell;
use std::f64::consts::PI;
use std::ops::Range;
use std::rc::Rc;
use std::sync::LazyLock;

use crate::latest::Latest;

/// How far Lanczos3 reaches, in pixels of the target or of the source, whichever are larger.
const REACH: f64 = 3.0;
/// Steps of its table for one pixel. Between them the filter is taken to be straight.
const STEPS: usize = 2048;
/// Fractional bits of a weight. At an edge, where a window is cut, a weight may exceed one.
pub const WEIGHT_BITS: u32 = 14;

/// Lanczos3 at each step from 0 to its reach, and its slope to the next.
static TABLE: LazyLock<Vec<[f32; 2]>> = LazyLock::new(|| {
    let value = |at: usize| {
        let x = at as f64 / STEPS as f64;
        match at {
            0 => 1.0,
            _ if x >= REACH => 0.0,
            _ => REACH * sine(x) * sine(x / REACH) / (PI * PI * x * x),
        }
    };
    let last = REACH as usize * STEPS;
    (0..=last).map(|at| [value(at) as f32, (value(at + 1) - value(at)) as f32]).collect()
});

/// sin(pi x) for 0 <= x <= 3 by its series: a system's own sine may differ in the last bit.
fn sine(x: f64) -> f64 {
    let turned = x - x.floor();
    let t = PI * if turned > 0.5 { 1.0 - turned } else { turned };
    let (mut term, mut sum) = (t, t);
    for n in 1..12 {
        term *= -t * t / f64::from(2 * n * (2 * n + 1));
        sum += term;
    }
    if x.floor() % 2.0 == 0.0 { sum } else { -sum }
}

/// What a pixel of the target is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    Lanczos3,
    /// Bicubic, a = -0.5.
    CatmullRom,
    Triangle,
    /// The mean of what the target's pixel covers; enlarged, linear between neighbours.
    Area,
}

impl Filter {
    /// How far it reaches, in pixels of the source, where one of the target covers `scale` of them.
    fn reach(self, scale: f64) -> f64 {
        match self {
            Filter::Lanczos3 => REACH * scale.max(1.0),
            Filter::CatmullRom => 2.0 * scale.max(1.0),
            Filter::Triangle => scale.max(1.0),
            Filter::Area => (scale + 1.0).max(2.0) / 2.0,
        }
    }

    /// Writes the weights, not yet normalised, of the pixels of the source in `range`.
    #[inline(always)]
    fn fill(self, centre: f64, scale: f64, range: Range<usize>, out: &mut Vec<f32>) {
        let stretch = scale.max(1.0);
        let distance = |i: usize| ((i as f64 + 0.5 - centre) / stretch).abs() as f32;
        match self {
            Filter::Lanczos3 => {
                let table = TABLE.as_slice();
                out.extend(range.map(|i| lanczos(table, distance(i))));
            }
            Filter::CatmullRom => out.extend(range.map(|i| cubic(distance(i)))),
            Filter::Triangle => out.extend(range.map(|i| (1.0 - distance(i)).max(0.0))),
            Filter::Area => {
                // Of two pixels the shorter side is all that can be covered.
                let edge = (stretch + 1.0) / 2.0;
                out.extend(range.map(|i| (edge - (i as f64 + 0.5 - centre).abs()).clamp(0.0, 1.0) as f32));
            }
        }
    }
}

#[inline(always)]
fn lanczos(table: &[[f32; 2]], x: f32) -> f32 {
    let at = x * STEPS as f32;
    let whole = at as usize;
    table.get(whole).map_or(0.0, |[value, slope]| value + slope * (at - whole as f32))
}

#[inline(always)]
fn cubic(x: f32) -> f32 {
    let near = (1.5 * x - 2.5) * x * x + 1.0;
    let far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0;
    if x < 1.0 {
        near
    } else if x < 2.0 {
        far
    } else {
        0.0
    }
}

/// For each pixel of a target's row (or column): where its window of the source begins, and the weights in it.
pub struct Axis {
    pub starts: Vec<usize>,
    /// The most pixels in a window. Shorter windows, at the edges, end in weights of zero.
    pub taps: usize,
    weights: Vec<i16>,
}

/// The filter, where a part begins, how long it is, and the pixels that there are and that become of it.
type Asked = (Filter, f64, f64, usize, usize);

thread_local! { static LATEST: RefCell<Latest<Asked, Axis>> = const { RefCell::new(Latest::new()) }; }

impl Axis {
    /// As [`Axis::new`]; pictures of one size need it once.
    pub fn shared(filter: Filter, start: f64, length: f64, size: usize, target: usize) -> Rc<Axis> {
        let new = || Axis::new(filter, start, length, size, target);
        let asked = (filter, start, length, size, target);
        LATEST.with_borrow_mut(|latest| latest.get(&asked, || Some(new()))).unwrap_or_else(|| Rc::new(new()))
    }

    /// From the `length` pixels that begin at `start`, of the `size` that there are, to `target` pixels. Windows reach
    /// beyond the part, never beyond the source.
    pub fn new(filter: Filter, start: f64, length: f64, size: usize, target: usize) -> Axis {
        let scale = length / target as f64;
        let reach = filter.reach(scale);
        let taps = ((2.0 * reach).ceil() as usize + 1).min(size);
        let mut starts = Vec::with_capacity(target);
        let mut weights = vec![0; target * taps];
        let mut exact = Vec::with_capacity(taps);
        for (at, row) in weights.chunks_exact_mut(taps).enumerate() {
            let centre = start + (at as f64 + 0.5) * scale;
            let first = (centre - reach + 0.5).floor().clamp(0.0, size as f64 - 1.0) as usize;
            let last = (centre + reach + 0.5).floor().clamp(0.0, size as f64) as usize;
            let last = last.clamp(first + 1, first + taps);
            exact.clear();
            filter.fill(centre, scale, first..last, &mut exact);
            whole(&exact, row);
            starts.push(first);
        }
        Axis { starts, taps, weights }
    }

    /// How many pixels the widest window has.
    pub fn reach(filter: Filter, length: f64, target: u32) -> f64 {
        2.0 * filter.reach(length / f64::from(target))
    }

    /// The weights of a window, as many as it has pixels before `size`.
    pub fn weights(&self, at: usize, size: usize) -> &[i16] {
        let row = &self.weights[at * self.taps..(at + 1) * self.taps];
        &row[..self.taps.min(size.saturating_sub(self.starts[at]))]
    }
}

/// Weights in fixed point whose sum is exactly one, so that a flat picture stays flat.
fn whole(exact: &[f32], out: &mut [i16]) {
    let one = 1i32 << WEIGHT_BITS;
    let factor = one as f32 / exact.iter().sum::<f32>();
    let (mut rest, mut heaviest) = (one, 0);
    for (at, weight) in exact.iter().enumerate() {
        // Rounded to nearest: the shift keeps the number positive.
        let rounded = (weight * factor + (2 * one) as f32 + 0.5) as i32 - 2 * one;
        out[at] = rounded as i16;
        rest -= rounded;
        if *weight > exact[heaviest] {
            heaviest = at;
        }
    }
    out[heaviest] += rest as i16;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weights_of_a_window_add_up_to_one() {
        for (start, length, size, target) in
            [(0.0, 100.0, 100, 37), (3.4, 90.2, 100, 240), (0.0, 5.0, 5, 1), (0.0, 0.3, 1, 1)]
        {
            for filter in [Filter::Lanczos3, Filter::CatmullRom, Filter::Triangle, Filter::Area] {
                let axis = Axis::new(filter, start, length, size, target);
                for at in 0..target {
                    let sum: i32 = axis.weights(at, size).iter().map(|w| i32::from(*w)).sum();
                    assert_eq!(sum, 1 << WEIGHT_BITS, "{filter:?} at {at} of {target}");
                }
            }
        }
    }

    #[test]
    fn an_area_weighs_what_it_covers_and_is_linear_where_it_is_enlarged() {
        let weights = |length: f64, size, target, at| {
            let axis = Axis::new(Filter::Area, 0.0, length, size, target);
            let row = axis.weights(at, size).iter().map(|w| f64::from(*w) / f64::from(1 << WEIGHT_BITS));
            let mut all = vec![0.0; size];
            row.zip(axis.starts[at]..).for_each(|(w, i)| all[i] = (w * 12.0).round() / 12.0);
            all
        };
        assert_eq!(weights(4.0, 4, 2, 1), [0.0, 0.0, 0.5, 0.5]);
        assert_eq!(weights(3.0, 3, 2, 0), [8.0 / 12.0, 4.0 / 12.0, 0.0]);
        assert_eq!(weights(2.0, 2, 4, 1), [0.75, 0.25]);
    }

    #[test]
    fn the_series_is_the_sine() {
        for at in 0..=300 {
            let x = f64::from(at) / 100.0;
            assert!((sine(x) - (PI * x).sin()).abs() < 1e-12);
        }
    }
}
