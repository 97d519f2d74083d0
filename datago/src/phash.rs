//! The classic DCT perceptual hash, 64 bits.
//!
//! Luma is squashed to 32x32, transformed by a 2-D DCT-II, and of the 8x8 lowest frequencies each bit says whether
//! the coefficient is above the median. Bit `8*v + u` belongs to vertical frequency `v`, horizontal `u`, counted
//! from the least significant bit. The DC term is the mean brightness, not structure: it takes no part in the
//! median and its bit is always 0. A flat picture hashes to 0.

use std::f64::consts::PI;
use std::sync::LazyLock;

pub const SIDE: usize = 32;
const LOW: usize = 8;
/// Below this a coefficient is rounding noise of an 8-bit picture, and counts as zero.
const NOISE: f64 = 1e-6;

/// For each of the pixels of a row or column what it counts in each frequency.
static COSINES: LazyLock<[[f64; LOW]; SIDE]> = LazyLock::new(|| {
    std::array::from_fn(|n| {
        std::array::from_fn(|k| (PI * k as f64 * (2 * n + 1) as f64 / (2 * SIDE) as f64).cos())
    })
});

/// The hash of 32x32 values of luma.
pub fn phash(luma: &[u8]) -> u64 {
    debug_assert_eq!(luma.len(), SIDE * SIDE);
    let mut low = [0f64; LOW * LOW];
    for (values, down) in luma.chunks_exact(SIDE).zip(COSINES.iter()) {
        let mut row = [0f64; LOW];
        for (value, across) in values.iter().zip(COSINES.iter()) {
            for (sum, cosine) in row.iter_mut().zip(across) {
                *sum += f64::from(*value) * cosine;
            }
        }
        for (sums, cosine) in low.chunks_exact_mut(LOW).zip(down) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += value * cosine;
            }
        }
    }
    for sum in &mut low {
        if sum.abs() < NOISE {
            *sum = 0.0;
        }
    }
    let mut sorted = low[1..].to_vec();
    sorted.sort_by(f64::total_cmp);
    let median = sorted[sorted.len() / 2];
    low.iter().enumerate().skip(1).filter(|(_, c)| **c > median).fold(0, |hash, (bit, _)| hash | 1 << bit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_picture_hashes_to_zero_and_a_brighter_copy_hashes_the_same() {
        assert_eq!(phash(&[200; SIDE * SIDE]), 0);
        let ramp = |plus: usize| -> Vec<u8> {
            (0..SIDE * SIDE).map(|i| (plus + (i * 7) % 97 + i / SIDE) as u8).collect()
        };
        assert_eq!(phash(&ramp(0)), phash(&ramp(40)));
        assert_eq!(phash(&ramp(0)) & 1, 0);
    }
}
