//! One way through all pixels of a picture: the histogram of its luma, and the picture reduced by boxes to planes.

use multiversion::multiversion;

use crate::boxes::{self, Boxes, MAX_FACTOR};
use crate::picture::{Picture, over_white};
use crate::stats::Histogram;

/// The reduced picture's long side is at least this, and less than twice this, unless the picture is smaller or so large
/// that boxes do not get there.
pub const LEAST_SIDE: usize = 512;

/// Bytes that are hashed at a time, so few that they are still in the cache when they are read again. Boundaries of the
/// hash's own tree, where it is fastest, are powers of two from its beginning, and the picture's size comes before its pixels.
const HASHED: usize = 128 << 10;
const HASHED_BEFORE: usize = 12;

/// Red, green and blue over white, and their luma. Kept from picture to picture, with the working memory.
#[derive(Default)]
pub struct Reduced {
    /// How many pixels of the picture, across and down, became one.
    pub factor: usize,
    pub columns: usize,
    pub rows: usize,
    pub colours: [Vec<u8>; 3],
    pub luma: Vec<u8>,
    strip: Strip,
}

/// One row of pixels, and one of boxes.
#[derive(Default)]
struct Strip {
    colours: [Vec<u8>; 3],
    luma: Vec<u8>,
    boxes: [Boxes; 3],
}

impl Reduced {
    /// Takes in a picture; returns the histogram of luma of all its pixels, and their digest: BLAKE3 of width, height and
    /// channels (u32, little endian) and the pixels.
    pub fn read(&mut self, picture: &Picture) -> (Histogram, String) {
        let (width, height) = (picture.width as usize, picture.height as usize);
        self.factor = boxes::factor(width.max(height) as f64, LEAST_SIDE as f64, MAX_FACTOR);
        (self.columns, self.rows) = (width.div_ceil(self.factor), height.div_ceil(self.factor));
        let size = self.columns * self.rows;
        self.colours.iter_mut().for_each(|plane| plane.resize(size, 0));
        self.luma.resize(size, 0);
        let mut histogram = Histogram::default();
        let mut hasher = blake3::Hasher::new();
        for number in [picture.width, picture.height, picture.channels as u32] {
            hasher.update(&number.to_le_bytes());
        }
        match picture.channels {
            3 => self.rows_of::<3>(&picture.pixels, width, &mut histogram, &mut hasher),
            _ => self.rows_of::<4>(&picture.pixels, width, &mut histogram, &mut hasher),
        }
        if self.factor > 1 {
            let [red, green, blue] = &self.colours;
            luma(red, green, blue, &mut self.luma);
        }
        (histogram, hasher.finalize().to_hex().to_string())
    }

    fn rows_of<const N: usize>(
        &mut self,
        pixels: &[u8],
        width: usize,
        histogram: &mut Histogram,
        hasher: &mut blake3::Hasher,
    ) {
        let Reduced { factor, columns, colours, luma, strip, .. } = self;
        strip.colours.iter_mut().for_each(|row| row.resize(width, 0));
        strip.luma.resize(width, 0);
        let [red, green, blue] = colours;
        let outs = red.chunks_exact_mut(*columns).zip(green.chunks_exact_mut(*columns));
        let outs = outs.zip(blue.chunks_exact_mut(*columns)).zip(luma.chunks_exact_mut(*columns));
        let (mut read, mut hashed, mut next) = (0, 0, HASHED - HASHED_BEFORE);
        for (rows, (((red, green), blue), luma)) in pixels.chunks(width * N * *factor).zip(outs) {
            read += rows.len();
            while hashed < read {
                next = next.min(pixels.len());
                hasher.update(&pixels[hashed..next]);
                (hashed, next) = (next, next + HASHED);
            }
            let out = [red, green, blue];
            match factor {
                1 => whole::<N>(rows, out, luma, histogram),
                _ => boxed::<N>(rows, *factor, strip, out, histogram),
            }
        }
    }
}

/// A row of pixels that stay what they are.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx512vbmi", "x86_64+avx2", "x86_64+ssse3"))]
fn whole<const N: usize>(row: &[u8], out: [&mut [u8]; 3], luma: &mut [u8], histogram: &mut Histogram) {
    let [red, green, blue] = out;
    split::<N>(row, red, green, blue);
    luma_of(red, green, blue, luma);
    histogram.add(luma);
}

/// The rows of one row of boxes.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx512vbmi", "x86_64+avx2", "x86_64+ssse3"))]
fn boxed<const N: usize>(
    rows: &[u8],
    factor: usize,
    strip: &mut Strip,
    out: [&mut [u8]; 3],
    histogram: &mut Histogram,
) {
    let Strip { colours, luma, boxes } = strip;
    let width = luma.len();
    for (y, row) in rows.chunks_exact(width * N).enumerate() {
        let [red, green, blue] = &mut *colours;
        split::<N>(row, red, green, blue);
        luma_of(red, green, blue, luma);
        histogram.add(luma);
        for (boxes, row) in boxes.iter_mut().zip(&*colours) {
            if y == 0 {
                boxes.begin(row, factor);
            } else {
                boxes.add(row);
            }
        }
    }
    for (boxes, out) in boxes.iter_mut().zip(out) {
        boxes.means(width, factor, rows.len() / (width * N), out);
    }
}

#[inline(always)]
fn split<const N: usize>(row: &[u8], red: &mut [u8], green: &mut [u8], blue: &mut [u8]) {
    let (pixels, _) = row.as_chunks::<N>();
    for (((p, red), green), blue) in pixels.iter().zip(red).zip(green).zip(blue) {
        if N == 3 {
            (*red, *green, *blue) = (p[0], p[1], p[2]);
        } else {
            [*red, *green, *blue] = [p[0], p[1], p[2]].map(|value| over_white(value, p[N - 1]));
        }
    }
}

/// The weights are Pillow's, in 16-bit fixed point.
#[inline(always)]
fn luma_of(red: &[u8], green: &[u8], blue: &[u8], out: &mut [u8]) {
    for (((out, &r), &g), &b) in out.iter_mut().zip(red).zip(green).zip(blue) {
        let sum = u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471;
        *out = ((sum + 0x8000) >> 16) as u8;
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx512vbmi", "x86_64+avx2", "x86_64+ssse3"))]
fn luma(red: &[u8], green: &[u8], blue: &[u8], out: &mut [u8]) {
    luma_of(red, green, blue, out);
}

/// Interleaves three planes.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx512vbmi", "x86_64+avx2", "x86_64+ssse3"))]
pub fn join(planes: &[Vec<u8>; 3], out: &mut [u8]) {
    let [red, green, blue] = planes;
    let (pixels, _) = out.as_chunks_mut::<3>();
    for (((pixel, &red), &green), &blue) in pixels.iter_mut().zip(red).zip(green).zip(blue) {
        *pixel = [red, green, blue];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::Layout;

    fn read(width: u32, height: u32, layout: Layout, pixels: Vec<u8>) -> Reduced {
        let mut reduced = Reduced::default();
        reduced.read(&Picture::new(width, height, layout, pixels));
        reduced
    }

    #[test]
    fn a_small_picture_stays_whole_and_a_large_one_becomes_means() {
        let small = read(2, 1, Layout::Rgb, vec![255, 0, 0, 1, 2, 3]);
        assert_eq!((small.factor, small.columns, small.rows), (1, 2, 1));
        assert_eq!(small.colours, [[255, 1], [0, 2], [0, 3]]);
        assert_eq!(small.luma, [76, 2]);
        let pixels = (0..1025 * 3).map(|i| (i % 3 * 10 + i / 3 % 2 * 4) as u8).collect();
        let large = read(1025, 1, Layout::Rgb, pixels);
        assert_eq!((large.factor, large.columns, large.rows), (2, 513, 1));
        assert_eq!((large.colours[1][0], large.colours[1][512]), (12, 10));
        assert_eq!((large.luma[0], large.luma[512]), (10, 8));
    }

    #[test]
    fn clear_pixels_are_white() {
        let pixels = [9, 9, 9, 0].repeat(1024);
        for (width, height) in [(1024, 1), (64, 16)] {
            let reduced = read(width, height, Layout::Rgba, pixels.clone());
            assert!(reduced.colours.iter().chain([&reduced.luma]).flatten().all(|v| *v == 255));
        }
    }
}
