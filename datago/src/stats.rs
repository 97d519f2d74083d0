//! Figures about how a picture looks, all from luma (ITU-R 601, alpha over white).

use multiversion::multiversion;

#[derive(Clone, Copy, Debug)]
pub struct Stats {
    /// Mean luma, 0 (black) to 1 (white).
    pub brightness: f64,
    /// Standard deviation of luma, same scale: 0 (flat) to 0.5.
    pub contrast: f64,
    /// Bits of the 256-bin luma histogram, 0 to 8.
    pub entropy: f64,
}

/// The figures that the histogram of luma gives.
pub fn stats(luma: &[u8]) -> Stats {
    // Four tables, so that runs of one value do not wait for each other.
    let mut tables = [[0u32; 256]; 4];
    let (words, rest) = luma.as_chunks::<8>();
    for word in words {
        let word = u64::from_le_bytes(*word);
        for at in 0..8 {
            tables[at % 4][usize::from((word >> (8 * at)) as u8)] += 1;
        }
    }
    for &value in rest {
        tables[0][usize::from(value)] += 1;
    }
    let counts: [f64; 256] =
        std::array::from_fn(|value| tables.iter().map(|table| f64::from(table[value])).sum());
    let count = luma.len() as f64;
    let mean = counts.iter().zip(0..=u8::MAX).map(|(n, v)| f64::from(v) * n).sum::<f64>() / count;
    let squares = counts.iter().zip(0..=u8::MAX).map(|(n, v)| (f64::from(v) - mean).powi(2) * n);
    let contrast = (squares.sum::<f64>() / count).sqrt() / 255.0;
    let shares = counts.iter().filter(|n| **n > 0.0).map(|n| n / count);
    let entropy: f64 = shares.map(|share| -share * share.log2()).sum();
    Stats { brightness: mean / 255.0, contrast, entropy: entropy.max(0.0) }
}

/// Variance of the four-neighbour Laplacian over the inner pixels of luma 0..255, `width` pixels wide.
#[multiversion(targets("x86_64+avx2", "x86_64+ssse3"))]
pub fn sharpness(luma: &[u8], width: usize) -> f64 {
    if width < 3 || luma.len() < 3 * width {
        return 0.0;
    }
    let height = luma.len() / width;
    let (mut sum, mut squares) = (0i64, 0i64);
    for y in 1..height - 1 {
        let row = |y: usize| &luma[y * width..(y + 1) * width];
        let (above, here, below) = (&row(y - 1)[1..], row(y), &row(y + 1)[1..]);
        let sides = here.iter().zip(&here[1..]).zip(&here[2..]);
        let (mut row_sum, mut row_squares) = (0i32, 0u32);
        for (((&left, &middle), &right), (&above, &below)) in sides.zip(above.iter().zip(below)) {
            let around = i16::from(left) + i16::from(right) + i16::from(above) + i16::from(below);
            let value = i32::from(around - 4 * i16::from(middle));
            row_sum = row_sum.wrapping_add(value);
            row_squares = row_squares.wrapping_add((value * value) as u32);
        }
        sum += i64::from(row_sum);
        squares += i64::from(row_squares);
    }
    let count = ((width - 2) * (height - 2)) as f64;
    let mean = sum as f64 / count;
    (squares as f64 / count - mean * mean).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_picture_has_no_contrast_no_entropy_and_no_sharpness() {
        let found = stats(&[51; 61]);
        assert!((found.brightness - 0.2).abs() < 1e-12);
        assert_eq!((found.contrast, found.entropy), (0.0, 0.0));
        assert_eq!(sharpness(&[51; 64], 8), 0.0);
    }

    #[test]
    fn the_sharpest_row_there_is_does_not_overflow() {
        let luma: Vec<u8> =
            (0..3 * 512).map(|i| if (i % 512 + i / 512) % 2 == 0 { 255 } else { 0 }).collect();
        assert_eq!(sharpness(&luma, 512), 1020.0 * 1020.0);
    }

    #[test]
    fn sharpness_is_the_variance_of_the_laplacian() {
        // Inner pixels 5 and 6 of two rows of three: their Laplacians are 10 - 20 and 12 - 24.
        let luma = [1, 2, 3, 4, 4, 5, 6, 7, 0, 3, 3, 0];
        let value = |x: usize| {
            f64::from(luma[x] + luma[x + 8] + luma[x + 3] + luma[x + 5]) - 4.0 * f64::from(luma[x + 4])
        };
        let (a, b) = (value(1), value(2));
        let mean = (a + b) / 2.0;
        let expected = ((a - mean).powi(2) + (b - mean).powi(2)) / 2.0;
        assert!((sharpness(&luma, 4) - expected).abs() < 1e-9);
    }
}
