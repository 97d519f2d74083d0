//! PNG, 1 to 16 bits. Sixteen bits are cut to the high byte, as Pillow does.

use std::cell::Cell;

use png::{ColorType, Decoder, DecodingError, InterlaceInfo, Limits as PngLimits, Reader, Transformations};

use super::meter::Meter;
use super::{Cost, Format, Header, be32, cost};
use crate::exif;
use crate::picture::{Layout, Picture};
use crate::reason::{Failure, Verdict};

const SIGNATURE: usize = 8;
/// Room for what a decoder may hold besides the pixels: one row, tables, the palette.
const WORKING_BYTES: usize = 32 << 20;
/// Work for a byte of the rows as they are compressed.
const WORK: u64 = 3;
/// Bytes that may follow the last row in the compressed stream. A byte may stand for a thousand.
const MAX_REST: usize = 1 << 20;

/// Walks the chunks to the end marker: a PNG without one was cut.
pub fn probe(data: &[u8]) -> Verdict<Header> {
    let ends = || Failure::truncated("The data ends within a PNG chunk.");
    let mut at = SIGNATURE;
    let mut header = None;
    let mut orientation = 1;
    let (mut chunks, mut transparent) = (0, false);
    loop {
        chunks += 1;
        cost::check_parts(chunks, "PNG chunks")?;
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
            // The decoder looks colours up in threes.
            b"PLTE" if length == 0 || !length.is_multiple_of(3) => {
                return Err(Failure::corrupt("The PNG palette does not hold whole colours."));
            }
            b"tRNS" => transparent = true,
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
        (kind, _) => {
            return Err(Failure::corrupt(format!("The PNG claims an unknown colour type, {kind}.")));
        }
    };
    let samples = match mode {
        "LA" => 2,
        "RGB" => 3,
        "RGBA" => 4,
        _ => 1,
    };
    let pixels = cost::area(width, height);
    let row = (u64::from(width) * samples * u64::from(body[8])).div_ceil(8) + 1;
    let alpha = transparent || samples % 2 == 0;
    // Masks keep sixteen bits and indices; pictures become eight bits, then colours.
    let out = if samples == 2 || samples == 1 && transparent { 2 + 4 } else { 4 };
    let out = out.max(samples * 2 * u64::from(body[8] == 16));
    let decoding = pixels.saturating_mul(out) + 4 * row + WORKING_BYTES as u64;
    let work = row.saturating_mul(u64::from(height)).saturating_mul(WORK);
    let cost = Cost::new(data.len(), pixels, alpha, orientation, decoding, work);
    Ok(Header { format: Format::Png, width, height, mode, orientation, cost })
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
    let taken = Cell::new(0);
    let meter = Meter::new(data, usize::MAX, &taken);
    let mut decoder = Decoder::new_with_limits(meter, PngLimits { bytes: WORKING_BYTES });
    decoder.set_transformations(transformations);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let mut reader = decoder.read_info().map_err(verdict)?;
    let info = reader.info().clone();
    if (info.width, info.height) != (header.width, header.height) {
        return Err(Failure::corrupt("The PNG has two headers that disagree."));
    }
    let size = reader.output_buffer_size().ok_or_else(|| Failure::corrupt("The PNG's size overflows."))?;
    if info.frame_control.is_some_and(|f| (f.width, f.height) != (header.width, header.height)) {
        return Err(Failure::corrupt("The first PNG frame does not fill the picture."));
    }
    let mut pixels = vec![0; size];
    rows(&mut reader, header, &mut pixels)?;
    // The rest of the stream holds its checksums, and may hold a bomb.
    let end = data.len().saturating_sub(taken.get());
    if end > MAX_REST && idat_end(data).saturating_sub(taken.get()) > MAX_REST {
        return Err(Failure::corrupt("The PNG's compressed data goes on long after its last row."));
    }
    reader.next_row().map_err(verdict)?;
    let (color, _) = reader.output_color_type();
    Ok((pixels, color, info))
}

/// All rows, and nothing of the stream beyond them.
fn rows(reader: &mut Reader<Meter<'_>>, header: &Header, pixels: &mut [u8]) -> Verdict<()> {
    let (color, depth) = reader.output_color_type();
    let stride = pixels.len() / header.height as usize;
    if !reader.info().interlaced {
        for row in pixels.chunks_exact_mut(stride) {
            reader.read_row(row).map_err(verdict)?;
        }
        return Ok(());
    }
    let bits = color.samples() as u8 * depth as u8;
    let mut left = passes(header.width, header.height);
    while left > 0 {
        let Some(row) = reader.next_interlaced_row().map_err(verdict)? else {
            break;
        };
        if let InterlaceInfo::Adam7(place) = row.interlace() {
            png::expand_interlaced_row(pixels, stride, row.data(), place, bits);
        }
        left -= 1;
    }
    Ok(())
}

/// The number of rows in all passes of an interlaced picture.
fn passes(width: u32, height: u32) -> u64 {
    // First column, first row, and the step between rows, for each pass of Adam7.
    const PASSES: [(u32, u32, u32); 7] =
        [(0, 0, 8), (4, 0, 8), (0, 4, 8), (2, 0, 4), (0, 2, 4), (1, 0, 2), (0, 1, 2)];
    let count = |(left, top, down): (u32, u32, u32)| {
        if left < width { u64::from(height.saturating_sub(top).div_ceil(down)) } else { 0 }
    };
    PASSES.into_iter().map(count).sum()
}

/// Where the last chunk of the first picture ends.
fn idat_end(data: &[u8]) -> usize {
    let (mut at, mut end) = (SIGNATURE, 0);
    while let (Some(length), Some(kind)) = (be32(data, at), data.get(at + 4..at + 8)) {
        let next = at + 12 + length as usize;
        match kind {
            b"IDAT" => end = next,
            _ if end > 0 => break,
            _ => {}
        }
        at = next;
    }
    end
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
