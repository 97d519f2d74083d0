//! A JPEG's own planes, luma and two of colour, from the decoder to the target without a detour through RGB.

use crate::convolve::{Axes, Convolver, Plane};
use crate::orient::turn;
use crate::resize::Crop;
use crate::weights::Filter;

/// Decoded planes, as stored, one after the other without gaps: of a grey picture only luma.
pub struct Planes<'a> {
    pub values: &'a [u8],
    pub extents: Vec<Extent>,
}

/// What a decoded plane measures.
pub struct Extent {
    /// Pixels of a block of 8x8 coefficients, across and down: 8, 4, 2 or 1.
    pub side: usize,
    pub width: usize,
    pub height: usize,
    /// Columns and rows that there are; those beyond width and height are not of the picture.
    pub stride: usize,
    pub rows: usize,
    /// Pixels of the plane for one of the size that the header tells, across and down.
    pub scale: (f64, f64),
}

impl Extent {
    pub fn bytes(&self) -> usize {
        self.stride * self.rows
    }

    fn plane<'a>(&self, values: &'a [u8]) -> Plane<'a> {
        Plane { values, stride: self.stride, width: self.width, height: self.height }
    }

    fn axes(&self, crop: Crop, target: (u32, u32)) -> Option<Axes> {
        let (kx, ky) = self.scale;
        let crop = Crop {
            left: crop.left * kx,
            top: crop.top * ky,
            width: crop.width * kx,
            height: crop.height * ky,
        };
        Axes::new(Filter::Lanczos3, crop, (self.width, self.height), target)
    }
}

/// Planes of exactly the target's size, upright. Kept from picture to picture.
#[derive(Default)]
pub struct Fitted {
    pub luma: Vec<u8>,
    pub blue: Vec<u8>,
    pub red: Vec<u8>,
    turned: Vec<u8>,
}

/// What the planes of a picture without colour hold.
const NO_COLOUR: u8 = 128;

impl Planes<'_> {
    /// Cuts out `crop` (in pixels of the header's size), resamples to `stored` (colour to `stored` divided by `sparse`) and
    /// turns upright. Returns false, with nothing done, where the source is too large for its target.
    pub fn fit(
        &self,
        crop: Crop,
        stored: (u32, u32),
        sparse: u32,
        orientation: u8,
        convolver: &mut Convolver,
        out: &mut Fitted,
    ) -> bool {
        let Some((light, colours)) = self.extents.split_first() else { return false };
        let Some(axes) = light.axes(crop, stored) else { return false };
        let less = (stored.0 / sparse, stored.1 / sparse);
        let bytes = (less.0 * less.1) as usize;
        let (luma, mut rest) = self.values.split_at(light.bytes());
        if colours.is_empty() {
            for plane in [&mut out.blue, &mut out.red] {
                plane.clear();
                plane.resize(bytes, NO_COLOUR);
            }
        }
        for (extent, to) in colours.iter().zip([&mut out.blue, &mut out.red]) {
            let Some(axes) = extent.axes(crop, less) else { return false };
            let (values, more) = rest.split_at(extent.bytes());
            to.resize(bytes, 0);
            convolver.resample(extent.plane(values), &axes, to);
            upright(to, less, orientation, &mut out.turned);
            rest = more;
        }
        out.luma.resize((stored.0 * stored.1) as usize, 0);
        convolver.resample(light.plane(luma), &axes, &mut out.luma);
        upright(&mut out.luma, stored, orientation, &mut out.turned);
        true
    }
}

fn upright(plane: &mut Vec<u8>, size: (u32, u32), orientation: u8, spare: &mut Vec<u8>) {
    if (2..=8).contains(&orientation) {
        spare.resize(plane.len(), 0);
        turn::<1>(plane, (size.0 as usize, size.1 as usize), orientation, spare);
        std::mem::swap(plane, spare);
    }
}

impl Fitted {
    /// Interleaved RGB. Needs colour at full resolution.
    pub fn rgb_into(&self, out: &mut [u8]) {
        rgb(&self.luma, &self.blue, &self.red, out);
    }
}

/// JFIF in 16-bit fixed point: the numbers are libjpeg's.
pub fn rgb(luma: &[u8], blue: &[u8], red: &[u8], out: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    let done = crate::wide::Wide::here().map_or(0, |wide| wide.rgb(luma, blue, red, out));
    #[cfg(not(target_arch = "x86_64"))]
    let done = 0;
    each(&luma[done..], &blue[done..], &red[done..], &mut out[3 * done..]);
}

fn each(luma: &[u8], blue: &[u8], red: &[u8], out: &mut [u8]) {
    // Half of a product, rounded to nearest. Of a factor beyond a half, whole ones are split off.
    let half = |value: i16, factor: i32| (((i32::from(2 * value) * factor) >> 16) as i16 + 1) >> 1;
    let byte = |value: i16| value.clamp(0, 255) as u8;
    let (pixels, _) = out.as_chunks_mut::<3>();
    for (((pixel, &y), &cb), &cr) in pixels.iter_mut().zip(luma).zip(blue).zip(red) {
        let (y, cb, cr) = (i16::from(y), i16::from(cb) - 128, i16::from(cr) - 128);
        let green = (i32::from(cb) * -22_554 + i32::from(cr) * 18_734 + 0x8000) >> 16;
        *pixel = [
            byte(y + cr + half(cr, 26_345)),
            byte(y - cr + green as i16),
            byte(y + 2 * cb + half(cb, -14_942)),
        ];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_without_colour_are_grey_and_primaries_are_what_jfif_says() {
        let mut out = [0; 12];
        rgb(&[0, 255, 76, 29], &[128, 128, 85, 255], &[128, 128, 255, 107], &mut out);
        assert_eq!(out, [0, 0, 0, 255, 255, 255, 254, 0, 0, 0, 0, 254]);
    }

    #[test]
    fn colour_is_cut_where_luma_is() {
        // A picture of 64x64 whose left half is dark and blue, right half light and red, colour at half the resolution.
        let (width, height) = (64, 64);
        let half = |size: usize, left: u8, right: u8| -> Vec<u8> {
            (0..size * size).map(|i| if i % size < size / 2 { left } else { right }).collect()
        };
        let values = [half(64, 40, 200), half(32, 200, 90), half(32, 100, 180)].concat();
        let extent =
            |width, height, scale| Extent { side: 8, width, height, stride: width, rows: height, scale };
        let colour = || extent(width / 2, height / 2, (0.5, 0.5));
        let planes =
            Planes { values: &values, extents: vec![extent(width, height, (1.0, 1.0)), colour(), colour()] };
        // The crop's middle is 3 pixels right of the edge.
        let crop = Crop { left: 19.0, top: 16.0, width: 32.0, height: 32.0 };
        let mut out = Fitted::default();
        assert!(planes.fit(crop, (32, 32), 1, 1, &mut Convolver::default(), &mut out));
        for (plane, left, right) in [(&out.luma, 40, 200), (&out.blue, 200, 90), (&out.red, 100, 180)] {
            let middle = (i32::from(left as u8) + i32::from(right as u8)) / 2;
            let row: Vec<i32> = plane[16 * 32..17 * 32].iter().map(|v| i32::from(*v)).collect();
            let edge = row.windows(2).position(|p| (p[0] < middle) != (p[1] < middle));
            assert_eq!(edge, Some(12));
        }
    }
}
