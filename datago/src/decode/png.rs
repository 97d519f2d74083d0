//! PNG, 1 to 16 bits. Sixteen bits are cut to the high byte, as Pillow does.

use std::io::Cursor;

use png::{ColorType, Decoder, DecodingError, Limits as PngLimits, Transformations};

use super::{Format, Header, be32};
use crate::exif;
use crate::picture::{Layout, Picture};
use crate::reason::{Failure, Verdict};

const SIGNATURE: usize = 8;
/// Room for what a decoder may hold besides the pixels: one row, tables, the palette.
const WORKING_BYTES: usize = 256 << 20;

/// Walks the chunks to the end marker: a PNG without one was cut.
pub fn probe(data: &[u8]) -> Verdict<Header> {
    let ends = || Failure::truncated("The data ends within a PNG chunk.");
    let mut at = SIGNATURE;
    let mut header = None;
    let mut orientation = 1;
    loop {
        let length = be32(data, at).ok_or_else(ends)? as usize;
        let kind = data.get(at + 4..at + 8).ok_or_else(ends)?;
        let body = data.get(at + 8..).and_then(|rest| rest.get(..length)).ok_or_else(ends)?;
        if kind == b"IHDR" {
            header = header.or(Some(body));
        } else if header.is_none() {
            return Err(Failure::corrupt("The PNG does not begin with its header chunk."));
        }
        match kind {
            b"eXIf" => orientation = exif::orientation(body),
            b"IEND" => break,
            _ => {}
        }
        at += 12 + length;
    }
    let body = header.filter(|body| body.len() == 13);
    let body = body.ok_or_else(|| Failure::corrupt("The PNG header chunk has the wrong length."))?;
    let (width, height) = (be32(body, 0).unwrap_or(0), be32(body, 4).unwrap_or(0));
    let mode = match (body[9], body[8]) {
        (0, 1) => "1",
        (0, 16) => "I;16",
        (0, _) => "L",
        (2, _) => "RGB",
        (3, _) => "P",
        (4, _) => "LA",
        (6, _) => "RGBA",
        (kind, _) => return Err(Failure::corrupt(format!("The PNG claims an unknown colour type, {kind}."))),
    };
    Ok(Header { format: Format::Png, width, height, mode, orientation })
}

pub fn decode(data: &[u8], header: &Header) -> Verdict<Picture> {
    let (pixels, kind, _) = read(data, header, Transformations::EXPAND | Transformations::STRIP_16)?;
    let layout = match kind {
        ColorType::Grayscale => Layout::Grey,
        ColorType::GrayscaleAlpha => Layout::GreyAlpha,
        ColorType::Rgba => Layout::Rgba,
        ColorType::Rgb | ColorType::Indexed => Layout::Rgb,
    };
    Ok(Picture::new(header.width, header.height, layout, pixels))
}

/// Decodes with the given transformations; the caller has checked the caps.
pub fn read(
    data: &[u8],
    header: &Header,
    transformations: Transformations,
) -> Verdict<(Vec<u8>, ColorType, png::Info<'static>)> {
    let mut decoder = Decoder::new_with_limits(Cursor::new(data), PngLimits { bytes: WORKING_BYTES });
    decoder.set_transformations(transformations);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let mut reader = decoder.read_info().map_err(verdict)?;
    let info = reader.info().clone();
    if (info.width, info.height) != (header.width, header.height) {
        return Err(Failure::corrupt("The PNG has two headers that disagree."));
    }
    let size = reader.output_buffer_size().ok_or_else(|| Failure::corrupt("The PNG's size overflows."))?;
    let mut pixels = vec![0; size];
    let frame = reader.next_frame(&mut pixels).map_err(verdict)?;
    if (frame.width, frame.height) != (header.width, header.height) {
        return Err(Failure::corrupt("The first PNG frame does not fill the picture."));
    }
    pixels.truncate(frame.buffer_size());
    Ok((pixels, frame.color_type, info))
}

fn verdict(cause: DecodingError) -> Failure {
    match cause {
        DecodingError::IoError(cause) => Failure::from_decoder_io(&cause),
        DecodingError::LimitsExceeded => {
            Failure::corrupt("A PNG chunk wants more memory than any picture needs.")
        }
        other => Failure::corrupt(format!("The PNG data is damaged ({other}).")),
    }
}
