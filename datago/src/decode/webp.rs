//! WebP, lossy and lossless, by a decoder written in Rust; of an animation the first frame.

use std::io::Cursor;

use image_webp::{DecodingError, WebPDecoder};

use super::{Format, Header, Limits, le16, le32};
use crate::exif;
use crate::picture::{Layout, Picture};
use crate::reason::{Failure, Verdict};

pub fn probe(data: &[u8]) -> Verdict<Header> {
    let claimed = u64::from(le32(data, 4).unwrap_or(0)) + 8;
    if (data.len() as u64) < claimed {
        return Err(Failure::truncated(format!("The WebP claims {claimed} bytes, {} are here.", data.len())));
    }
    let mut decoder = WebPDecoder::new(Cursor::new(data)).map_err(|e| verdict(&e))?;
    let (width, height) = decoder.dimensions();
    let mode = if decoder.has_alpha() { "RGBA" } else { "RGB" };
    decoder.set_memory_limit(16 << 20);
    let orientation = decoder.exif_metadata().ok().flatten().map_or(1, |block| exif::orientation(&block));
    Ok(Header { format: Format::Webp, width, height, mode, orientation })
}

pub fn decode(data: &[u8], header: &Header, limits: Limits) -> Verdict<Picture> {
    check_frames(data, limits)?;
    let mut decoder = WebPDecoder::new(Cursor::new(data)).map_err(|e| verdict(&e))?;
    decoder.set_memory_limit(usize::try_from(limits.max_pixels.saturating_mul(4)).unwrap_or(usize::MAX));
    let layout = if decoder.has_alpha() { Layout::Rgba } else { Layout::Rgb };
    let size = decoder.output_buffer_size().ok_or_else(|| Failure::corrupt("The WebP's size overflows."))?;
    let mut pixels = vec![0; size];
    decoder.read_image(&mut pixels).map_err(|e| verdict(&e))?;
    Ok(Picture::new(header.width, header.height, layout, pixels))
}

/// The canvas is not the only size in a WebP: a lossy frame brings its own, and the decoder believes it before
/// it compares. So the cap is checked on every frame header first.
fn check_frames(data: &[u8], limits: Limits) -> Verdict<()> {
    let mut at = 12;
    while let (Some(kind), Some(length)) = (data.get(at..at + 4), le32(data, at + 4)) {
        let body = at + 8;
        if kind == b"VP8 "
            && let (Some(width), Some(height)) = (le16(data, body + 6), le16(data, body + 8))
            && u64::from(width & 0x3fff) * u64::from(height & 0x3fff) > limits.max_pixels
        {
            return Err(Failure::corrupt("A WebP frame claims more pixels than its canvas may have."));
        }
        // The first frame's own chunks follow 16 bytes into an animation frame.
        at = match kind {
            b"ANMF" => body + 16,
            _ => body.saturating_add(length as usize).saturating_add(length as usize & 1),
        };
    }
    Ok(())
}

fn verdict(cause: &DecodingError) -> Failure {
    match cause {
        DecodingError::IoError(cause) => Failure::from_decoder_io(cause),
        DecodingError::UnsupportedFeature(what) => Failure::unsupported(format!("This WebP uses {what}.")),
        other => Failure::corrupt(format!("The WebP data is damaged ({other}).")),
    }
}
