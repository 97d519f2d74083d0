//! From RGB pixels to JPEG, PNG or WebP bytes. No metadata, so equal pixels give equal bytes.

use std::cell::RefCell;

use turbojpeg::{Compressor, Image, PixelFormat, Subsamp};

use crate::reason::{Failure, Reason, Verdict};
use crate::stage::{Stage, timed};

thread_local! { static ENCODER: RefCell<Option<Compressor>> = const { RefCell::new(None) }; }

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Jpeg,
    Png,
    Webp,
}

impl Encoding {
    pub fn name(self) -> &'static str {
        match self {
            Encoding::Jpeg => "jpeg",
            Encoding::Png => "png",
            Encoding::Webp => "webp",
        }
    }

    pub fn extension(self) -> &'static str {
        match self {
            Encoding::Jpeg => "jpg",
            Encoding::Png => "png",
            Encoding::Webp => "webp",
        }
    }
}

fn fail(what: &str, cause: impl std::fmt::Display) -> Failure {
    Failure::new(Reason::Internal, format!("Encoding {what} failed: {cause}."))
}

pub fn encode(rgb: &[u8], width: u32, height: u32, encoding: Encoding, quality: u8) -> Verdict<Vec<u8>> {
    timed(Stage::Encode, || match encoding {
        Encoding::Jpeg => jpeg(rgb, width, height, quality, Subsamp::None),
        Encoding::Png => png(rgb, width, height),
        Encoding::Webp => {
            let encoder = webp::Encoder::from_rgb(rgb, width, height);
            let data = encoder.encode_simple(false, f32::from(quality));
            data.map(|data| data.to_vec()).map_err(|e| fail("WebP", format!("{e:?}")))
        }
    })
}

/// Baseline JPEG.
pub fn jpeg(rgb: &[u8], width: u32, height: u32, quality: u8, subsampling: Subsamp) -> Verdict<Vec<u8>> {
    ENCODER.with(|slot| {
        let mut slot = slot.borrow_mut();
        let mut encoder = match slot.take() {
            Some(ready) => ready,
            None => Compressor::new().map_err(|e| fail("JPEG", e))?,
        };
        encoder.set_quality(i32::from(quality)).map_err(|e| fail("JPEG", e))?;
        encoder.set_subsamp(subsampling).map_err(|e| fail("JPEG", e))?;
        let (width, height) = (width as usize, height as usize);
        let image = Image { pixels: rgb, width, pitch: width * 3, height, format: PixelFormat::RGB };
        let data = encoder.compress_to_vec(image).map_err(|e| fail("JPEG", e))?;
        *slot = Some(encoder);
        Ok(data)
    })
}

fn png(rgb: &[u8], width: u32, height: u32) -> Verdict<Vec<u8>> {
    let mut data = Vec::new();
    let mut encoder = ::png::Encoder::new(&mut data, width, height);
    encoder.set_color(::png::ColorType::Rgb);
    encoder.set_depth(::png::BitDepth::Eight);
    let mut writer = encoder.write_header().map_err(|e| fail("PNG", e))?;
    writer.write_image_data(rgb).map_err(|e| fail("PNG", e))?;
    writer.finish().map_err(|e| fail("PNG", e))?;
    Ok(data)
}
