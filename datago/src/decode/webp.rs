//! WebP, lossy and lossless, by a decoder written in Rust; of an animation the first frame.

use std::io::Cursor;

use image_webp::{DecodingError, WebPDecoder};

use super::{Cost, Format, Header, Limits, cost, le16, le32, webp_codes};
use crate::exif;
use crate::picture::{Layout, Picture};
use crate::reason::{Failure, Verdict};

/// Work for a pixel and for a compressed byte of a lossy picture, and for a pixel of a lossless one.
const LOSSY: u64 = 10;
const LOSSY_BYTE: u64 = 70;
const LOSSLESS: u64 = 18;
/// Bytes of the tables of one group of five prefix codes, at most.
const GROUP: u64 = 5 * 4400;

pub fn probe(data: &[u8]) -> Verdict<Header> {
    let claimed = u64::from(le32(data, 4).unwrap_or(0)) + 8;
    if (data.len() as u64) < claimed {
        return Err(Failure::truncated(format!("The WebP claims {claimed} bytes, {} are here.", data.len())));
    }
    let parts = parts(data)?;
    let mut decoder = WebPDecoder::new(Cursor::new(data)).map_err(|e| verdict(&e))?;
    let (width, height) = decoder.dimensions();
    let mode = if decoder.has_alpha() { "RGBA" } else { "RGB" };
    decoder.set_memory_limit(16 << 20);
    let orientation = decoder.exif_metadata().ok().flatten().map_or(1, |block| exif::orientation(&block));
    let pixels = cost::area(width, height);
    let lossy = parts.lossy.is_some();
    // What the decoder holds at once for a pixel: the canvas, the frame, its planes or transforms, its alpha.
    let most = match (decoder.is_animated(), decoder.has_alpha(), lossy) {
        (true, ..) => 13,
        (_, true, true) => 11,
        (_, false, false) => 8,
        _ => 5,
    };
    let work = pixels * (u64::from(lossy) * LOSSY + u64::from(parts.lossless) * LOSSLESS);
    let work = work + parts.lossy.unwrap_or(0) * LOSSY_BYTE;
    // The compressed data of lossy frames is copied.
    let decoding = pixels * most + parts.lossy.unwrap_or(0) + parts.tables;
    let cost = Cost::new(data.len(), pixels, decoder.has_alpha(), orientation, decoding, work);
    Ok(Header { format: Format::Webp, width, height, mode, orientation, cost })
}

pub fn decode(data: &[u8], header: &Header, limits: Limits) -> Verdict<Picture> {
    let mut decoder = WebPDecoder::new(Cursor::new(data)).map_err(|e| verdict(&e))?;
    decoder.set_memory_limit(usize::try_from(limits.max_pixels.saturating_mul(4)).unwrap_or(usize::MAX));
    let layout = if decoder.has_alpha() { Layout::Rgba } else { Layout::Rgb };
    let size = decoder.output_buffer_size().ok_or_else(|| Failure::corrupt("The WebP's size overflows."))?;
    let mut pixels = vec![0; size];
    decoder.read_image(&mut pixels).map_err(|e| verdict(&e))?;
    Ok(Picture::new(header.width, header.height, layout, pixels))
}

/// What a WebP is made of: the largest of its frames, whichever the decoder takes for the first.
#[derive(Default)]
struct Parts {
    /// Bytes of a lossy frame.
    lossy: Option<u64>,
    lossless: bool,
    /// Bytes of tables for the prefix codes of a lossless frame.
    tables: u64,
}

/// Steps over the chunks, of which there may be millions. The canvas is not the only size in a WebP: a lossy frame
/// brings its own, and the decoder believes it before it compares.
fn parts(data: &[u8]) -> Verdict<Parts> {
    let mut parts = Parts::default();
    let (mut at, mut chunks, mut frames) = (12, 0, 0);
    let three = |at| le32(data, at).map_or(1, |v| u64::from(v & 0xff_ffff) + 1);
    let extended = data.get(12..16) == Some(b"VP8X");
    let canvas = if extended { (three(24), three(27)) } else { (1 << 14, 1 << 14) };
    let mut frame = canvas;
    while let (Some(kind), Some(length)) = (data.get(at..at + 4), le32(data, at + 4)) {
        chunks += 1;
        cost::check_parts(chunks, "WebP chunks")?;
        let body = at + 8;
        let next = body.saturating_add(length as usize).saturating_add(length as usize & 1);
        let inside = data.get(body..next.min(data.len())).unwrap_or_default();
        match kind {
            b"ANMF" => {
                frames += 1;
                frame = (three(body + 6), three(body + 9));
            }
            b"VP8 " => {
                let side = |at| le16(inside, at).map_or(0, |side| u64::from(side & 0x3fff));
                let size = (side(6), side(8));
                let first = extended && frames < 2;
                if size.0 > canvas.0 || size.1 > canvas.1 || first && size != frame {
                    return Err(Failure::corrupt("A WebP frame has another size than it is said to have."));
                }
                parts.lossy = parts.lossy.max(Some(u64::from(length)));
            }
            b"VP8L" => {
                let size = u64::from(le32(inside, 1).unwrap_or(0));
                let (width, height) = ((size & 0x3fff) + 1, (size >> 14 & 0x3fff) + 1);
                parts.lossless = true;
                parts.tables = parts.tables.max(tables(inside.get(5..).unwrap_or_default(), width, height)?);
            }
            b"ALPH" if inside.first().is_some_and(|info| info & 3 == 1) => {
                parts.lossless = true;
                parts.tables = parts.tables.max(tables(&inside[1..], frame.0, frame.1)?);
            }
            _ => {}
        }
        // A frame's own chunks follow 16 bytes into an animation frame.
        at = if kind == b"ANMF" { body + 16 } else { next };
    }
    Ok(parts)
}

/// Bytes of tables for the prefix codes of a lossless stream.
fn tables(data: &[u8], width: u64, height: u64) -> Verdict<u64> {
    // A group takes at least 40 bytes of data to fill its tables, and holds for at least 4x4 pixels.
    let groups = (data.len() as u64 / 40).min(width.div_ceil(4) * height.div_ceil(4)).min(1 << 16);
    if groups * GROUP <= cost::MAX_MEMORY / 4 {
        return Ok(groups * GROUP);
    }
    let found = webp_codes::groups(data, width as usize, height as usize);
    let found =
        found.ok_or_else(|| cost::too_costly("The WebP does not tell how many prefix codes it has."))?;
    Ok(u64::from(found) * GROUP)
}

fn verdict(cause: &DecodingError) -> Failure {
    match cause {
        DecodingError::IoError(cause) => Failure::from_decoder_io(cause),
        DecodingError::UnsupportedFeature(what) => Failure::unsupported(format!("This WebP uses {what}.")),
        other => Failure::corrupt(format!("The WebP data is damaged ({other}).")),
    }
}
