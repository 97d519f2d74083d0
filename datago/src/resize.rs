//! One antialiased resample, with the crop folded in.

use std::cell::RefCell;

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};

use crate::reason::{Failure, Reason, Verdict};
use crate::stage::{Stage, timed};

/// Most bytes of rows between the two passes. Of a picture that is wide beyond measure they would be more: it is
/// narrowed first.
const BETWEEN: u64 = 128 << 20;
/// Most bytes of them that a thread keeps for its next picture.
const KEPT: usize = 32 << 20;

thread_local! { static RESIZER: RefCell<Resizer> = RefCell::new(Resizer::new()); }

/// A rectangle of the source, in pixels, not necessarily whole ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Crop {
    pub left: f64,
    pub top: f64,
    pub width: f64,
    pub height: f64,
}

impl Crop {
    /// In pixels of a picture that is smaller by whole factors.
    pub fn shrunk(self, across: usize, down: usize) -> Crop {
        let (across, down) = (across as f64, down as f64);
        Crop {
            left: self.left / across,
            top: self.top / down,
            width: self.width / across,
            height: self.height / down,
        }
    }
}

/// What to resample: interleaved 8-bit RGB.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub pixels: &'a [u8],
    pub width: u32,
    pub height: u32,
}

/// The largest centred part of a `width` x `height` picture with the proportions of the target.
pub fn cover(width: u32, height: u32, target: (u32, u32)) -> Crop {
    let (w, h) = (f64::from(width), f64::from(height));
    let (tw, th) = (f64::from(target.0), f64::from(target.1));
    // Integer comparison decides which side is cut, so rounding can not.
    let wide = u64::from(width) * u64::from(target.1) > u64::from(height) * u64::from(target.0);
    let (cw, ch) = if wide { ((h * tw / th).min(w), h) } else { (w, (w * th / tw).min(h)) };
    Crop { left: (w - cw) / 2.0, top: (h - ch) / 2.0, width: cw, height: ch }
}

/// Resamples the crop (or all) of `view` to `target`, into a new buffer.
pub fn resample(
    view: View<'_>,
    crop: Option<Crop>,
    target: (u32, u32),
    filter: FilterType,
) -> Verdict<Vec<u8>> {
    let mut out = vec![0; target.0 as usize * target.1 as usize * 3];
    resample_into(view, crop, target, filter, &mut out)?;
    Ok(out)
}

/// Resamples into `out`, which holds exactly the target's pixels.
pub fn resample_into(
    view: View<'_>,
    crop: Option<Crop>,
    target: (u32, u32),
    filter: FilterType,
    out: &mut [u8],
) -> Verdict<()> {
    let whole = crop.is_none_or(|c| c.width == f64::from(view.width) && c.height == f64::from(view.height));
    if whole && target == (view.width, view.height) {
        out.copy_from_slice(view.pixels);
        return Ok(());
    }
    let between = u64::from(view.width) * u64::from(target.1) * 3;
    if crop.is_none() && between > BETWEEN && target.0 < view.width {
        let narrow = resample(view, None, (target.0, view.height), filter)?;
        let narrow = View { pixels: &narrow, width: target.0, ..view };
        return resample_into(narrow, None, target, filter, out);
    }
    timed(Stage::Resize, || convolve(view, crop, target, filter, out))
}

/// Typed, because the untyped call would compile every kind of pixel into this crate.
fn convolve(
    view: View<'_>,
    crop: Option<Crop>,
    target: (u32, u32),
    filter: FilterType,
    out: &mut [u8],
) -> Verdict<()> {
    let fail = |text: String| Failure::new(Reason::Internal, format!("Resizing failed: {text}."));
    let source = TypedImageRef::<U8x3>::from_buffer(view.width, view.height, view.pixels)
        .map_err(|e| fail(e.to_string()))?;
    let mut sink =
        TypedImage::<U8x3>::from_buffer(target.0, target.1, out).map_err(|e| fail(e.to_string()))?;
    let mut options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter));
    if let Some(c) = crop {
        options = options.crop(c.left, c.top, c.width, c.height);
    }
    RESIZER
        .with(|resizer| {
            let mut resizer = resizer.borrow_mut();
            let done = resizer.resize_typed(&source, &mut sink, &options);
            if resizer.size_of_internal_buffers() > KEPT {
                resizer.reset_internal_buffers();
            }
            done
        })
        .map_err(|e| fail(e.to_string()))
}

/// The size with its long side at most `side`, proportions kept, never enlarged.
pub fn within(width: u32, height: u32, side: u32) -> (u32, u32) {
    let long = width.max(height);
    if long <= side {
        return (width, height);
    }
    let scale =
        |v: u32| ((u64::from(v) * u64::from(side) + u64::from(long) / 2) / u64::from(long)).max(1) as u32;
    (scale(width), scale(height))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cover_cuts_the_longer_side_evenly() {
        let crop = cover(300, 100, (50, 50));
        assert_eq!(crop, Crop { left: 100.0, top: 0.0, width: 100.0, height: 100.0 });
    }

    #[test]
    fn a_wide_picture_is_narrowed_before_it_is_stretched() {
        let pixels: Vec<u8> = (0..1 << 20).flat_map(|x| [(x >> 12) as u8; 3]).collect();
        let view = View { pixels: &pixels, width: 1 << 20, height: 1 };
        let stretched = resample(view, None, (2, 64), FilterType::Bilinear).expect("resized");
        assert_eq!(stretched.len(), 2 * 64 * 3);
        assert!(stretched.chunks_exact(6).all(|row| row == &stretched[..6] && row[0] < row[3]));
        let kept = RESIZER.with(|resizer| resizer.borrow().size_of_internal_buffers());
        assert!(kept <= KEPT);
    }

    #[test]
    fn within_never_enlarges_and_never_reaches_zero() {
        assert_eq!(within(10, 20, 256), (10, 20));
        assert_eq!(within(100_000, 1, 256), (256, 1));
    }
}
