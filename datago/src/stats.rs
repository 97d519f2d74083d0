//! Figures about how a picture looks, all from its luma (ITU-R 601, alpha over white).

use fast_image_resize::FilterType;
use multiversion::multiversion;

use crate::reason::Verdict;
use crate::resize::{View, resample};
use crate::spare;

/// Sharpness is measured with the long side at this many pixels, whatever the source's size.
pub const WORKING_SIDE: u32 = 512;

#[derive(Clone, Copy, Debug)]
pub struct Stats {
    /// Mean luma, 0 (black) to 1 (white).
    pub brightness: f64,
    /// Standard deviation of luma, same scale: 0 (flat) to 0.5.
    pub contrast: f64,
    /// Bits of the 256-bin luma histogram, 0 to 8.
    pub entropy: f64,
}

/// A single channel.
pub struct Luma {
    pub width: u32,
    pub height: u32,
    pub values: Vec<u8>,
}

impl Luma {
    /// The weights are Pillow's, in 16-bit fixed point.
    pub fn of(rgb: &[u8], width: u32, height: u32) -> Self {
        let mut values = spare::take(rgb.len() / 3);
        luma(rgb, &mut values);
        Luma { width, height, values }
    }

    fn view(&self) -> View<'_> {
        View { pixels: &self.values, width: self.width, height: self.height, channels: 1 }
    }

    /// Stretched or shrunk (triangle filter, antialiased) to the given size.
    pub fn resized(&self, width: u32, height: u32, filter: FilterType) -> Verdict<Luma> {
        let values = resample(self.view(), None, (width, height), filter)?;
        Ok(Luma { width, height, values })
    }

    /// At the working scale: long side [`WORKING_SIDE`], proportions kept.
    pub fn working(&self) -> Verdict<Luma> {
        let long = u64::from(self.width.max(self.height));
        let scale = |v: u32| ((u64::from(v) * u64::from(WORKING_SIDE) + long / 2) / long).max(1) as u32;
        self.resized(scale(self.width), scale(self.height), FilterType::Bilinear)
    }
}

#[multiversion(targets("x86_64+avx2", "x86_64+ssse3"))]
fn luma(rgb: &[u8], out: &mut [u8]) {
    let (pixels, _) = rgb.as_chunks::<3>();
    for (out, p) in out.iter_mut().zip(pixels) {
        let sum = u32::from(p[0]) * 19595 + u32::from(p[1]) * 38470 + u32::from(p[2]) * 7471;
        *out = ((sum + 0x8000) >> 16) as u8;
    }
}

pub fn stats(luma: &Luma) -> Stats {
    // Four tables, so that runs of one value do not wait for each other.
    let mut tables = [[0u64; 256]; 4];
    let (quads, rest) = luma.values.as_chunks::<4>();
    for quad in quads {
        for (table, &value) in tables.iter_mut().zip(quad) {
            table[usize::from(value)] += 1;
        }
    }
    for &value in rest {
        tables[0][usize::from(value)] += 1;
    }
    let histogram: Vec<f64> = (0..256).map(|bin| tables.iter().map(|t| t[bin]).sum::<u64>() as f64).collect();
    let count = luma.values.len() as f64;
    let mean = histogram.iter().enumerate().map(|(v, n)| v as f64 * n).sum::<f64>() / count;
    let variance =
        histogram.iter().enumerate().map(|(v, n)| (v as f64 - mean).powi(2) * n).sum::<f64>() / count;
    let entropy: f64 =
        histogram.iter().filter(|n| **n > 0.0).map(|n| -(n / count) * (n / count).log2()).sum();
    Stats { brightness: mean / 255.0, contrast: variance.sqrt() / 255.0, entropy: entropy.max(0.0) }
}

/// Variance of the four-neighbour Laplacian over the inner pixels, luma 0..255. Pass luma at the working scale.
pub fn sharpness(luma: &Luma) -> f64 {
    let (width, height) = (luma.width as usize, luma.height as usize);
    if width < 3 || height < 3 {
        return 0.0;
    }
    let (mut sum, mut squares) = (0i64, 0i64);
    for y in 1..height - 1 {
        let row = |y: usize| &luma.values[y * width..(y + 1) * width];
        let (above, here, below) = (row(y - 1), row(y), row(y + 1));
        for x in 1..width - 1 {
            let value =
                i64::from(above[x]) + i64::from(below[x]) + i64::from(here[x - 1]) + i64::from(here[x + 1])
                    - 4 * i64::from(here[x]);
            sum += value;
            squares += value * value;
        }
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
        let luma = Luma { width: 8, height: 8, values: vec![51; 64] };
        let found = stats(&luma);
        assert!((found.brightness - 0.2).abs() < 1e-12);
        assert_eq!((found.contrast, found.entropy), (0.0, 0.0));
        assert_eq!(sharpness(&luma), 0.0);
    }
}
