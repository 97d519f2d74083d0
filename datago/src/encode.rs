//! From RGB pixels to JPEG, PNG, WebP or npy bytes. No metadata, so equal pixels give equal bytes.

use std::cell::RefCell;

use turbojpeg::{Compressor, Image, PixelFormat, Subsamp, YuvPlanesImage};

use crate::fit::Encode;
use crate::reason::{Failure, Reason, Verdict};
use crate::stage::{Stage, timed};
use crate::ycc::Fitted;

thread_local! { static ENCODER: RefCell<Option<Compressor>> = const { RefCell::new(None) }; }

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Jpeg,
    Png,
    Webp,
    /// The pixels themselves, as NumPy writes an array of uint8 and of shape (height, width, 3).
    Raw,
}

impl Encoding {
    pub fn name(self) -> &'static str {
        match self {
            Encoding::Jpeg => "jpeg",
            Encoding::Png => "png",
            Encoding::Webp => "webp",
            Encoding::Raw => "npy",
        }
    }

    pub fn extension(self) -> &'static str {
        match self {
            Encoding::Jpeg => "jpg",
            Encoding::Png => "png",
            Encoding::Webp => "webp",
            Encoding::Raw => "npy",
        }
    }
}

fn fail(what: &str, cause: impl std::fmt::Display) -> Failure {
    Failure::new(Reason::Internal, format!("Encoding {what} failed: {cause}."))
}

pub fn encode(rgb: &[u8], width: u32, height: u32, how: Encode) -> Verdict<Vec<u8>> {
    let Encode { encoding, quality, subsampling } = how;
    timed(Stage::Encode, || match encoding {
        Encoding::Jpeg => jpeg(rgb, width, height, quality, subsampling),
        Encoding::Png => png(rgb, width, height),
        Encoding::Webp => {
            let encoder = webp::Encoder::from_rgb(rgb, width, height);
            let data = encoder.encode_simple(false, f32::from(quality));
            data.map(|data| data.to_vec()).map_err(|e| fail("WebP", format!("{e:?}")))
        }
        Encoding::Raw => Ok(npy(rgb, width, height)),
    })
}

/// Baseline JPEG.
pub fn jpeg(rgb: &[u8], width: u32, height: u32, quality: u8, subsampling: Subsamp) -> Verdict<Vec<u8>> {
    let (width, height) = (width as usize, height as usize);
    let image = Image { pixels: rgb, width, pitch: width * 3, height, format: PixelFormat::RGB };
    with_encoder(quality, subsampling, |encoder| encoder.compress_to_vec(image))
}

/// Baseline JPEG of planes that are as sparse as `subsampling` says.
pub fn planes(fitted: &Fitted, target: (u32, u32), quality: u8, subsampling: Subsamp) -> Verdict<Vec<u8>> {
    let (width, height) = (target.0 as usize, target.1 as usize);
    let stride = width / subsampling.width();
    let image = YuvPlanesImage {
        y_plane: fitted.luma.as_slice(),
        u_plane: &fitted.blue,
        v_plane: &fitted.red,
        width,
        height,
        y_stride: width,
        u_stride: stride,
        v_stride: stride,
        subsamp: subsampling,
    };
    with_encoder(quality, subsampling, |encoder| encoder.compress_yuv_planes_to_vec(&image))
}

fn with_encoder(
    quality: u8,
    subsampling: Subsamp,
    work: impl FnOnce(&mut Compressor) -> turbojpeg::Result<Vec<u8>>,
) -> Verdict<Vec<u8>> {
    ENCODER.with(|slot| {
        let mut slot = slot.borrow_mut();
        let mut encoder = match slot.take() {
            Some(ready) => ready,
            None => Compressor::new().map_err(|e| fail("JPEG", e))?,
        };
        encoder.set_quality(i32::from(quality)).map_err(|e| fail("JPEG", e))?;
        encoder.set_subsamp(subsampling).map_err(|e| fail("JPEG", e))?;
        let data = work(&mut encoder).map_err(|e| fail("JPEG", e))?;
        *slot = Some(encoder);
        Ok(data)
    })
}

/// The npy format, version 1.0: its header is padded so that the pixels begin at a multiple of 64 bytes.
fn npy(rgb: &[u8], width: u32, height: u32) -> Vec<u8> {
    let mut header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({height}, {width}, 3), }}");
    let prefix = NPY.len() + 2;
    let padded = (prefix + header.len() + 1).next_multiple_of(64) - prefix;
    header.push_str(&" ".repeat(padded - header.len() - 1));
    header.push('\n');
    let mut data = Vec::with_capacity(prefix + padded + rgb.len());
    data.extend_from_slice(NPY);
    data.extend_from_slice(&(padded as u16).to_le_bytes());
    data.extend_from_slice(header.as_bytes());
    data.extend_from_slice(rgb);
    data
}

/// The pixels in a file that `npy` made.
pub fn npy_pixels(data: &[u8]) -> &[u8] {
    let header = data.get(NPY.len()..).and_then(|rest| rest.first_chunk::<2>());
    let length = header.map_or(0, |b| usize::from(u16::from_le_bytes(*b)));
    data.get(NPY.len() + 2 + length..).unwrap_or_default()
}

const NPY: &[u8] = b"\x93NUMPY\x01\x00";

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
