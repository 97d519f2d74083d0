//! A JPEG's own planes, luma and two of colour, from the decoder to the target without a detour through RGB.

use multiversion::multiversion;

use crate::convolve::{Axes, Convolver, Plane};
use crate::orient::turn;
use crate::resize::Crop;
use crate::weights::Filter;

/// Decoded planes, as stored, one after the other without gaps.
pub struct Planes<'a> {
    pub values: &'a [u8],
    /// What the picture measures at the scale at which it was decoded. Rows of luma may be longer.
    pub width: usize,
    pub height: usize,
    /// The size at which it was decoded, of the size that the header tells: 1, 1/2, 1/4 or 1/8, exactly.
    pub scale: f64,
    /// Pixels of luma, across and down, for one of colour; `None` for a grey picture.
    pub block: Option<(usize, usize)>,
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
        let (across, down) = self.block.unwrap_or((1, 1));
        let pitch = self.width.next_multiple_of(across);
        let rows = self.height.next_multiple_of(down);
        let (luma, colour) = self.values.split_at(pitch * rows);
        let light = Plane { values: luma, stride: pitch, width: self.width, height: self.height };
        let Some(axes) =
            Axes::new(Filter::Lanczos3, part(crop, self.scale, (1, 1)), (light.width, light.height), stored)
        else {
            return false;
        };
        let less = (stored.0 / sparse, stored.1 / sparse);
        if self.block.is_none() {
            for plane in [&mut out.blue, &mut out.red] {
                plane.clear();
                plane.resize((less.0 * less.1) as usize, NO_COLOUR);
            }
        } else {
            let (width, height) = (pitch / across, rows / down);
            let Some(axes) =
                Axes::new(Filter::Lanczos3, part(crop, self.scale, (across, down)), (width, height), less)
            else {
                return false;
            };
            let (blue, red) = colour.split_at(width * height);
            for (values, to) in [(blue, &mut out.blue), (red, &mut out.red)] {
                to.resize((less.0 * less.1) as usize, 0);
                convolver.resample(Plane { values, stride: width, width, height }, &axes, to);
                upright(to, less, orientation, &mut out.turned);
            }
        }
        out.luma.resize((stored.0 * stored.1) as usize, 0);
        convolver.resample(light, &axes, &mut out.luma);
        upright(&mut out.luma, stored, orientation, &mut out.turned);
        true
    }
}

/// A crop in pixels of a plane. A pixel of colour lies in the middle of those of luma that it is for.
fn part(crop: Crop, scale: f64, (across, down): (usize, usize)) -> Crop {
    let (kx, ky) = (scale / across as f64, scale / down as f64);
    Crop { left: crop.left * kx, top: crop.top * ky, width: crop.width * kx, height: crop.height * ky }
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
#[multiversion(targets("x86_64+avx2", "x86_64+ssse3"))]
fn rgb(luma: &[u8], blue: &[u8], red: &[u8], out: &mut [u8]) {
    let (pixels, _) = out.as_chunks_mut::<3>();
    for (((pixel, &y), &cb), &cr) in pixels.iter_mut().zip(luma).zip(blue).zip(red) {
        let y = (i32::from(y) << 16) + 0x8000;
        let (cb, cr) = (i32::from(cb) - 128, i32::from(cr) - 128);
        let byte = |value: i32| (value >> 16).clamp(0, 255) as u8;
        *pixel = [byte(y + 91_881 * cr), byte(y - 22_554 * cb - 46_802 * cr), byte(y + 116_130 * cb)];
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
        let planes = Planes { values: &values, width, height, scale: 1.0, block: Some((2, 2)) };
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
