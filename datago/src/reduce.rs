//! One way through all pixels of a picture: their digest, and the picture reduced by boxes to planes.

use multiversion::multiversion;

use crate::boxes::{self, Boxes, MAX_FACTOR};
use crate::picture::{Picture, over_white};

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
    /// One row of pixels, and one of boxes.
    row: [Vec<u8>; 3],
    boxes: [Boxes; 3],
}

impl Reduced {
    /// Takes in a picture; returns the digest of its pixels: BLAKE3 of width, height and channels (u32, little endian) and the
    /// pixels.
    pub fn read(&mut self, picture: &Picture) -> String {
        let (width, height) = (picture.width as usize, picture.height as usize);
        self.factor = boxes::factor(width.max(height) as f64, LEAST_SIDE as f64, MAX_FACTOR);
        (self.columns, self.rows) = (width.div_ceil(self.factor), height.div_ceil(self.factor));
        let size = self.columns * self.rows;
        self.colours.iter_mut().for_each(|plane| plane.resize(size, 0));
        self.luma.resize(size, 0);
        let mut hasher = blake3::Hasher::new();
        for number in [picture.width, picture.height, picture.channels as u32] {
            hasher.update(&number.to_le_bytes());
        }
        match picture.channels {
            3 => self.strips::<3>(&picture.pixels, width, &mut hasher),
            _ => self.strips::<4>(&picture.pixels, width, &mut hasher),
        }
        let [red, green, blue] = &self.colours;
        luma(red, green, blue, &mut self.luma);
        hasher.finalize().to_hex().to_string()
    }

    /// Goes through the rows of boxes.
    fn strips<const N: usize>(&mut self, pixels: &[u8], width: usize, hasher: &mut blake3::Hasher) {
        let Reduced { factor, columns, colours, row, boxes, .. } = self;
        row.iter_mut().for_each(|row| row.resize(width, 0));
        let (mut read, mut hashed, mut next) = (0, 0, HASHED - HASHED_BEFORE);
        let [red, green, blue] = colours.each_mut().map(|plane| plane.chunks_exact_mut(*columns));
        let outs = red.zip(green).zip(blue).map(|((red, green), blue)| [red, green, blue]);
        for (strip, out) in pixels.chunks(width * N * *factor).zip(outs) {
            read += strip.len();
            while hashed < read {
                next = next.min(pixels.len());
                hasher.update(&pixels[hashed..next]);
                (hashed, next) = (next, next + HASHED);
            }
            match factor {
                1 => split::<N>(strip, out),
                _ => means::<N>(strip, *factor, row, boxes, out),
            }
        }
    }
}

/// A row of pixels as planes.
#[multiversion(targets("x86_64+avx2", "x86_64+ssse3"))]
fn split<const N: usize>(row: &[u8], out: [&mut [u8]; 3]) {
    let [red, green, blue] = out;
    split_row::<N>(row, red, green, blue);
}

/// The rows of one row of boxes as planes of their means.
#[multiversion(targets("x86_64+avx2", "x86_64+ssse3"))]
fn means<const N: usize>(
    strip: &[u8],
    factor: usize,
    planes: &mut [Vec<u8>; 3],
    boxes: &mut [Boxes; 3],
    out: [&mut [u8]; 3],
) {
    let width = planes[0].len();
    for (y, row) in strip.chunks_exact(width * N).enumerate() {
        let [red, green, blue] = &mut *planes;
        split_row::<N>(row, red, green, blue);
        for (boxes, row) in boxes.iter_mut().zip(&*planes) {
            if y == 0 {
                boxes.begin(row, factor);
            } else {
                boxes.add(row);
            }
        }
    }
    for (boxes, out) in boxes.iter_mut().zip(out) {
        boxes.means(width, factor, strip.len() / (width * N), out);
    }
}

#[inline(always)]
fn split_row<const N: usize>(row: &[u8], red: &mut [u8], green: &mut [u8], blue: &mut [u8]) {
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
#[multiversion(targets("x86_64+avx2", "x86_64+ssse3"))]
fn luma(red: &[u8], green: &[u8], blue: &[u8], out: &mut [u8]) {
    for (((out, &r), &g), &b) in out.iter_mut().zip(red).zip(green).zip(blue) {
        let sum = u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471;
        *out = ((sum + 0x8000) >> 16) as u8;
    }
}

/// Interleaves three planes.
#[multiversion(targets("x86_64+avx2", "x86_64+ssse3"))]
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
