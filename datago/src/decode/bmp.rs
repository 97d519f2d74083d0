//! BMP: 1 to 32 bits, palettes, bit fields; run lengths by a library.

use zune_bmp::BmpDecoder;
use zune_bmp::zune_core::bytestream::ZCursor;
use zune_bmp::zune_core::colorspace::ColorSpace;
use zune_bmp::zune_core::options::DecoderOptions;

use super::{Cost, Format, Header, bmp_plain, cost, le16, le32};
use crate::picture::{Layout, Picture};
use crate::reason::{Failure, Verdict};

/// Work for a pixel.
const WORK: u64 = 8;

/// `BM` alone begins many texts: the size of the second header must be one that exists.
pub fn recognise(data: &[u8]) -> bool {
    data.starts_with(b"BM") && matches!(le32(data, 14), Some(12 | 16 | 40 | 52 | 56 | 64 | 108 | 124))
}

pub fn probe(data: &[u8]) -> Verdict<Header> {
    let old = le32(data, 14) == Some(12);
    let fields = if old {
        (le16(data, 18).map(i32::from), le16(data, 20).map(i32::from), le16(data, 24), Some(0))
    } else {
        (
            le32(data, 18).map(u32::cast_signed),
            le32(data, 22).map(u32::cast_signed),
            le16(data, 28),
            le32(data, 30),
        )
    };
    let (Some(width), Some(height), Some(bits), Some(compression)) = fields else {
        return Err(Failure::truncated("The data ends within the BMP header."));
    };
    if width <= 0 {
        return Err(Failure::corrupt("The BMP header claims a width that is not positive."));
    }
    let (width, height) = (width.unsigned_abs(), height.unsigned_abs());
    let mode = match bits {
        1 | 2 | 4 | 8 => "P",
        16 | 24 => "RGB",
        32 if compression == 3 => "RGBA",
        32 => "RGB",
        _ => {
            return Err(Failure::corrupt(format!("The BMP header claims {bits} bits a pixel.")));
        }
    };
    if matches!(compression, 4 | 5) {
        return Err(Failure::unsupported("BMP files that wrap a JPEG or a PNG are not decoded."));
    }
    if matches!(compression, 0 | 3 | 6) {
        let start = u64::from(le32(data, 10).unwrap_or(0));
        let row = (u64::from(width) * u64::from(bits)).div_ceil(32) * 4;
        // The padding of the last row may be missing.
        let before = start + (u64::from(width) * u64::from(bits)).div_ceil(8);
        let needed = row.saturating_mul(u64::from(height).saturating_sub(1)).saturating_add(before);
        if (data.len() as u64) < needed {
            return Err(Failure::truncated(format!(
                "The BMP claims {needed} bytes, {} are here.",
                data.len()
            )));
        }
    }
    let pixels = cost::area(width, height);
    let alpha = matches!(bits, 16 | 32);
    // Run lengths are laid out as indices before they become colours.
    let indices = if matches!(compression, 1 | 2) { u64::from(bits).div_ceil(8) } else { 0 };
    let decoding = pixels * (if alpha { 4 } else { 3 } + indices + 1);
    let cost = Cost::new(data.len(), pixels, alpha, 1, decoding, pixels * WORK);
    Ok(Header { format: Format::Bmp, width, height, mode, orientation: 1, cost })
}

pub fn decode(data: &[u8], header: &Header) -> Verdict<Picture> {
    if le32(data, 14) == Some(12) || matches!(le32(data, 30), Some(0 | 3 | 6)) {
        return bmp_plain::decode(data, header);
    }
    let options = DecoderOptions::new_safe()
        .set_max_width(header.width as usize)
        .set_max_height(header.height as usize);
    let mut decoder = BmpDecoder::new_with_options(ZCursor::new(data), options);
    let pixels = decoder.decode().map_err(|cause| {
        let text = format!("{cause:?}");
        if text.contains("NotEnoughBytes") || text.contains("ot enough") || text.contains("EOF") {
            return Failure::truncated("The data ends before the picture does.");
        }
        Failure::corrupt(format!("The BMP data is damaged ({}).", text.trim()))
    })?;
    let layout = match decoder.colorspace() {
        Some(ColorSpace::RGBA) => Layout::Rgba,
        Some(ColorSpace::Luma) => Layout::Grey,
        _ => Layout::Rgb,
    };
    let size = header.width as usize * header.height as usize * layout.channels();
    if pixels.len() != size {
        return Err(Failure::corrupt("The BMP decoder returned another size than the header claims."));
    }
    Ok(Picture::new(header.width, header.height, layout, pixels))
}
