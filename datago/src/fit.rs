//! A picture as pixels of exactly the size asked for.

use fast_image_resize::FilterType;

use crate::decode::{self, Limits};
use crate::orient::{swaps_sides, upright};
use crate::picture::Picture;
use crate::reason::Verdict;
use crate::resize::{View, cover, resample_into};

/// Decodes, cuts to the target's proportions, resamples once, turns upright and puts RGB over white into `out`, which
/// holds exactly the target's (width, height) pixels.
pub fn pixels_into(data: &[u8], target: (u32, u32), limits: Limits, out: &mut [u8]) -> Verdict<()> {
    let format = decode::recognise(data)?;
    let header = decode::probe(data, format)?;
    decode::check(&header, limits)?;
    let stored = if swaps_sides(header.orientation) { (target.1, target.0) } else { target };
    let crop = cover(header.width, header.height, stored);
    // What the whole picture measures when its crop measures the target.
    let whole = |side: u32, part: f64, all: u32| (f64::from(side) * f64::from(all) / part).ceil() as u32;
    let needed = (whole(stored.0, crop.width, header.width), whole(stored.1, crop.height, header.height));
    let picture = decode::decode(data, &header, limits, Some(needed))?;
    let flat = picture.flattened();
    let view = View { pixels: &flat, width: picture.width, height: picture.height, channels: 3 };
    let crop = cover(picture.width, picture.height, stored);
    resample_into(view, Some(crop), stored, FilterType::Lanczos3, out)?;
    if header.orientation > 1 {
        let small = Picture { width: stored.0, height: stored.1, channels: 3, pixels: out.to_vec() };
        out.copy_from_slice(&upright(small, header.orientation).pixels);
    }
    Ok(())
}
