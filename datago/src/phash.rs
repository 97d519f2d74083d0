//! The classic DCT perceptual hash, 64 bits.
//!
//! Luma is squashed to 32x32, transformed by a 2-D DCT-II, and of the 8x8 lowest frequencies each bit says whether
//! the coefficient is above the median. Bit `8*v + u` belongs to vertical frequency `v`, horizontal `u`, counted
//! from the least significant bit. The DC term is the mean brightness, not structure: it takes no part in the
//! median and its bit is always 0. A flat picture hashes to 0.

use std::f64::consts::PI;
use std::sync::LazyLock;

use crate::stats::Luma;

pub const SIDE: usize = 32;
const LOW: usize = 8;
/// Below this a coefficient is rounding noise of an 8-bit picture, and counts as zero.
const NOISE: f64 = 1e-6;

static COSINES: LazyLock<[[f64; SIDE]; LOW]> = LazyLock::new(|| {
    std::array::from_fn(|k| {
        std::array::from_fn(|n| (PI * k as f64 * (2 * n + 1) as f64 / (2 * SIDE) as f64).cos())
    })
});

/// The hash of a 32x32 luma picture.
pub fn phash(luma: &Luma) -> u64 {
    debug_assert_eq!(luma.values.len(), SIDE * SIDE);
    let mut rows = [[0f64; LOW]; SIDE];
    for (row, values) in rows.iter_mut().zip(luma.values.chunks_exact(SIDE)) {
        for (out, cosines) in row.iter_mut().zip(COSINES.iter()) {
            *out = values.iter().zip(cosines).map(|(v, c)| f64::from(*v) * c).sum();
        }
    }
    let mut low = [0f64; LOW * LOW];
    for (v, cosines) in COSINES.iter().enumerate() {
        for u in 0..LOW {
            let sum: f64 = rows.iter().zip(cosines).map(|(row, c)| row[u] * c).sum();
            low[v * LOW + u] = if sum.abs() < NOISE { 0.0 } else { sum };
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
        let flat = Luma { width: 32, height: 32, values: vec![200; SIDE * SIDE] };
        assert_eq!(phash(&flat), 0);
        let ramp = |plus: usize| Luma {
            width: 32,
            height: 32,
            values: (0..SIDE * SIDE).map(|i| (plus + (i * 7) % 97 + i / SIDE) as u8).collect(),
        };
        assert_eq!(phash(&ramp(0)), phash(&ramp(40)));
        assert_eq!(phash(&ramp(0)) & 1, 0);
    }
}
