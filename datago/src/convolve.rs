//! One channel resampled, in 16-bit whole numbers: faster than floats, and the same on every machine.
//!
//! First down the columns, then along the rows, `ROWS` rows of the target at a time. Both passes add up runs of
//! numbers that lie side by side, which is what a compiler can turn into vector instructions; between them the rows are
//! stood on end, and afterwards laid down again.

use std::rc::Rc;

use multiversion::multiversion;

use crate::resize::Crop;
use crate::weights::{Axis, Filter, WEIGHT_BITS};

/// Fractional bits of a value that is multiplied.
const VALUE_BITS: u32 = 7;
/// Fractional bits of what is added up: of a product the lowest 16 bits are dropped.
const BITS: u32 = VALUE_BITS + WEIGHT_BITS - 16;
/// Half a grey level. It rides along from the first pixel on, so that dropping bits in the end rounds.
const HALF: i16 = 1 << (VALUE_BITS - 1);
/// The bits that a sum lacks to be a value again.
const MORE: u32 = VALUE_BITS - BITS;
/// Columns that are added up at a time.
const BLOCK: usize = 64;
const ROWS: usize = 64;
/// The widest window for which 16 bits are exact enough, and the most source rows that are held.
const MAX_TAPS: f64 = 32.0;

/// One channel of a picture.
#[derive(Clone, Copy)]
pub struct Plane<'a> {
    pub values: &'a [u8],
    /// From one row to the next.
    pub stride: usize,
    pub width: usize,
    pub height: usize,
}

/// Working memory, kept from picture to picture.
#[derive(Default)]
pub struct Convolver {
    /// The source rows that the current window needs, row n at n modulo the number held.
    ring: Vec<i16>,
    lines: Vec<i16>,
    columns: Vec<[i16; ROWS]>,
    done: Vec<[u8; ROWS]>,
}

/// The two axes of a resampling, for all planes of one size.
pub struct Axes {
    across: Rc<Axis>,
    down: Rc<Axis>,
}

impl Axes {
    pub fn exist(filter: Filter, crop: Crop, target: (u32, u32)) -> bool {
        let reach = |length, target| Axis::reach(filter, length, target);
        reach(crop.width, target.0).max(reach(crop.height, target.1)) <= MAX_TAPS
    }

    /// For the part `crop` of planes of `size`; `None` if it is so much larger than the target that 16 bits are too few.
    pub fn new(filter: Filter, crop: Crop, size: (usize, usize), target: (u32, u32)) -> Option<Axes> {
        if !Axes::exist(filter, crop, target) {
            return None;
        }
        Some(Axes {
            across: Axis::shared(filter, crop.left, crop.width, size.0, target.0 as usize),
            down: Axis::shared(filter, crop.top, crop.height, size.1, target.1 as usize),
        })
    }
}

impl Convolver {
    /// Fills `out`, which holds exactly the target's pixels.
    pub fn resample(&mut self, plane: Plane<'_>, axes: &Axes, out: &mut [u8]) {
        let Axes { across, down } = axes;
        let width = across.starts.len();
        let (Some(&first), Some(&end)) = (across.starts.first(), across.starts.last()) else { return };
        let used = (end + across.taps).min(plane.width) - first;
        // Not a power of two from row to row, or all rows would share a few lines of the cache.
        let pitch = used.next_multiple_of(BLOCK) + BLOCK / 2;
        let held = down.taps;
        grown(&mut self.ring, held * pitch, 0);
        grown(&mut self.lines, ROWS * pitch, 0);
        grown(&mut self.columns, used.next_multiple_of(BLOCK), [0; ROWS]);
        grown(&mut self.done, width, [0; ROWS]);
        let mut next = down.starts.first().copied().unwrap_or(0);
        for (group, out) in out.chunks_mut(width * ROWS).enumerate() {
            for row in 0..out.len() / width {
                let at = group * ROWS + row;
                let top = down.starts[at];
                let weights = down.weights(at, plane.height);
                for y in next..top + weights.len() {
                    let from = y * plane.stride + first;
                    widen(&plane.values[from..from + used], &mut self.ring[y % held * pitch..][..used]);
                }
                next = next.max(top + weights.len());
                let line = &mut self.lines[row * pitch..][..used.next_multiple_of(BLOCK)];
                add_rows(&self.ring, pitch, held, top, weights, line);
            }
            stand(&self.lines, pitch, out.len() / width, &mut self.columns[..used.next_multiple_of(BLOCK)]);
            add_columns(&self.columns[..used], across, first, &mut self.done[..width]);
            lie(&self.done[..width], out);
        }
    }
}

/// What was left by former pictures may stay: it is never part of a window.
fn grown<T: Clone>(buffer: &mut Vec<T>, length: usize, filler: T) {
    if buffer.len() < length {
        buffer.resize(length, filler);
    }
}

/// A value times a weight, rounded down.
#[inline(always)]
fn product(value: i16, weight: i16) -> i16 {
    ((i32::from(value) * i32::from(weight)) >> 16) as i16
}

/// What rounding the products down takes away in the mean.
fn lost(weights: &[i16]) -> i16 {
    (weights.iter().filter(|w| **w != 0).count() / 2) as i16
}

#[multiversion(targets("x86_64+avx2", "x86_64+ssse3"))]
fn widen(row: &[u8], out: &mut [i16]) {
    for (out, &value) in out.iter_mut().zip(row) {
        *out = (i16::from(value) << VALUE_BITS) + HALF;
    }
}

/// One line from the ring's rows `top`, `top + 1`…, each times its weight.
#[multiversion(targets("x86_64+avx2", "x86_64+ssse3"))]
fn add_rows(ring: &[i16], pitch: usize, held: usize, top: usize, weights: &[i16], line: &mut [i16]) {
    let start = lost(weights);
    let (blocks, _) = line.as_chunks_mut::<BLOCK>();
    for (at, block) in blocks.iter_mut().enumerate() {
        let mut sums = [start; BLOCK];
        let mut slot = top % held;
        for &weight in weights {
            let Some(row) = ring[slot * pitch + at * BLOCK..].first_chunk::<BLOCK>() else { return };
            for k in 0..BLOCK {
                sums[k] = sums[k].wrapping_add(product(row[k], weight));
            }
            slot = if slot + 1 == held { 0 } else { slot + 1 };
        }
        for k in 0..BLOCK {
            // Ringing is cut where it would not fit: beyond white, or far below black.
            block[k] = sums[k].clamp(i16::MIN >> MORE, i16::MAX >> MORE) << MORE;
        }
    }
}

/// Each column of the target from those of its window, each times its weight.
#[multiversion(targets("x86_64+avx2", "x86_64+ssse3"))]
fn add_columns(columns: &[[i16; ROWS]], across: &Axis, first: usize, done: &mut [[u8; ROWS]]) {
    for (at, done) in done.iter_mut().enumerate() {
        let columns = &columns[across.starts[at] - first..];
        let weights = across.weights(at, usize::MAX);
        let mut sums = [lost(weights); ROWS];
        for (column, &weight) in columns.iter().zip(weights) {
            for k in 0..ROWS {
                sums[k] = sums[k].wrapping_add(product(column[k], weight));
            }
        }
        for k in 0..ROWS {
            done[k] = (sums[k] >> BITS).clamp(0, 255) as u8;
        }
    }
}

/// Lines to columns, the first `rows` rows: four of them become one of quadruples, which are then laid below each other.
#[multiversion(targets("x86_64+avx2", "x86_64+ssse3"))]
fn stand(lines: &[i16], pitch: usize, rows: usize, columns: &mut [[i16; ROWS]]) {
    let mut quadruples = [[0; 4]; BLOCK];
    for (at, block) in columns.chunks_mut(BLOCK).enumerate() {
        for row in (0..rows).step_by(4) {
            let line = |k: usize| lines[(row + k) * pitch + at * BLOCK..].first_chunk::<BLOCK>();
            let (Some(a), Some(b), Some(c), Some(d)) = (line(0), line(1), line(2), line(3)) else { return };
            for ((((four, &a), &b), &c), &d) in quadruples.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                *four = [a, b, c, d];
            }
            for (column, four) in block.iter_mut().zip(&quadruples) {
                column[row..row + 4].copy_from_slice(four);
            }
        }
    }
}

/// One step of a transposition: the bits of `mask` stay, the others change sides.
#[inline(always)]
fn exchange(words: &mut [u64], low: usize, high: usize, shift: u32, mask: u64) {
    let (a, b) = (words[low], words[high]);
    words[low] = (a & mask) | (b & mask) << shift;
    words[high] = (a >> shift & mask) | (b & !mask);
}

/// Columns to lines, eight by eight.
#[multiversion(targets("x86_64+avx2", "x86_64+ssse3"))]
fn lie(columns: &[[u8; ROWS]], out: &mut [u8]) {
    let width = columns.len();
    let (blocks, rest) = columns.as_chunks::<8>();
    for (at, block) in blocks.iter().enumerate() {
        for row in (0..ROWS).step_by(8) {
            let mut words: [u64; 8] = std::array::from_fn(|k| {
                u64::from_le_bytes(block[k][row..].first_chunk::<8>().copied().unwrap_or_default())
            });
            for low in [0, 1, 2, 3] {
                exchange(&mut words, low, low + 4, 32, 0xffff_ffff);
            }
            for low in [0, 1, 4, 5] {
                exchange(&mut words, low, low + 2, 16, 0xffff_0000_ffff);
            }
            for low in [0, 2, 4, 6] {
                exchange(&mut words, low, low + 1, 8, 0x00ff_00ff_00ff_00ff);
            }
            for (k, word) in words.iter().enumerate() {
                let place = out.get_mut((row + k) * width + at * 8..);
                if let Some(place) = place.and_then(|rest| rest.first_chunk_mut::<8>()) {
                    *place = word.to_le_bytes();
                }
            }
        }
    }
    for (line, row) in out.chunks_exact_mut(width).zip(0..) {
        for (out, column) in line[width - rest.len()..].iter_mut().zip(rest) {
            *out = column[row];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resampled(values: &[u8], size: (usize, usize), crop: Crop, target: (u32, u32)) -> Vec<u8> {
        let plane = Plane { values, stride: size.0, width: size.0, height: size.1 };
        let mut out = vec![0; (target.0 * target.1) as usize];
        let axes = Axes::new(Filter::Lanczos3, crop, size, target).expect("not too large");
        Convolver::default().resample(plane, &axes, &mut out);
        out
    }

    fn all(size: (usize, usize)) -> Crop {
        Crop { left: 0.0, top: 0.0, width: size.0 as f64, height: size.1 as f64 }
    }

    #[test]
    fn a_flat_plane_stays_flat_at_every_scale() {
        for value in [0, 1, 127, 128, 254, 255] {
            for (size, target) in
                [((70, 90), (31, 17)), ((33, 5), (66, 129)), ((400, 300), (80, 60)), ((1, 1), (8, 8))]
            {
                let out = resampled(&vec![value; size.0 * size.1], size, all(size), target);
                assert!(out.iter().all(|v| *v == value), "{value} from {size:?} to {target:?}");
            }
        }
    }

    #[test]
    fn a_plane_of_the_targets_size_is_copied() {
        let values: Vec<u8> = (0..130 * 70).map(|i| (i * 7919 % 256) as u8).collect();
        assert_eq!(resampled(&values, (130, 70), all((130, 70)), (130, 70)), values);
    }

    #[test]
    fn rows_and_columns_are_treated_alike() {
        let (w, h) = (97, 61);
        let values: Vec<u8> = (0..w * h).map(|i| (i * i % 251) as u8).collect();
        let turned: Vec<u8> = (0..w * h).map(|i| values[i % h * w + i / h]).collect();
        let crop = Crop { left: 3.0, top: 5.5, width: 90.0, height: 50.0 };
        let other = Crop { left: 5.5, top: 3.0, width: 50.0, height: 90.0 };
        let out = resampled(&values, (w, h), crop, (40, 23));
        let across = resampled(&turned, (h, w), other, (23, 40));
        let worst = (0..40 * 23).map(|i| out[i].abs_diff(across[i % 40 * 23 + i / 40])).max();
        assert!(worst <= Some(1), "{worst:?}");
    }
}
