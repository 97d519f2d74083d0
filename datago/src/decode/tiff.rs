//! TIFF: the first directory; grey, palette, RGB, CMYK, with or without alpha, 1 to 16 bits a sample.

use std::io::Cursor;

use tiff::decoder::{Decoder, DecodingResult, Limits as TiffLimits};
use tiff::tags::Tag;
use tiff::{ColorType, TiffError};

use super::{Format, Header, Limits};
use crate::exif::Tag as Entry;
use crate::picture::{Layout, Picture};
use crate::reason::{Failure, Verdict};

type Reader<'a> = Decoder<Cursor<&'a [u8]>>;

const PHOTOMETRIC: u16 = 262;
const BLACK_IS_ZERO: u16 = 1;
const PALETTE: u32 = 3;

/// The decoder refuses palettes. A palette picture that calls itself grey decodes to its indices, so that is what
/// it gets to see: a copy with one number changed. `None` for every other picture.
fn as_grey(data: &[u8]) -> Option<Vec<u8>> {
    let tag = Entry::find(data, PHOTOMETRIC).filter(|tag| tag.value == PALETTE)?;
    let mut copy = data.to_vec();
    let number = if tag.little { BLACK_IS_ZERO.to_le_bytes() } else { BLACK_IS_ZERO.to_be_bytes() };
    copy.get_mut(tag.at..tag.at + 2)?.copy_from_slice(&number);
    Some(copy)
}

fn open(data: &[u8], palette: bool) -> Verdict<(Reader<'_>, ColorType)> {
    let mut decoder = Decoder::new(Cursor::new(data)).map_err(verdict)?;
    let kind = match decoder.colortype().map_err(verdict)? {
        ColorType::Gray(bits) if palette => ColorType::Palette(bits),
        other => other,
    };
    Ok((decoder, kind))
}

pub fn probe(data: &[u8]) -> Verdict<Header> {
    let grey = as_grey(data);
    let (mut decoder, kind) = open(grey.as_deref().unwrap_or(data), grey.is_some())?;
    let (width, height) = decoder.dimensions().map_err(verdict)?;
    let orientation = decoder.find_tag_unsigned::<u16>(Tag::Orientation).ok().flatten().unwrap_or(1);
    let orientation = if (1..=8).contains(&orientation) { orientation as u8 } else { 1 };
    let mode = match kind {
        ColorType::Gray(1) => "1",
        ColorType::Gray(16) => "I;16",
        ColorType::Gray(2 | 4 | 8) => "L",
        ColorType::GrayA(8 | 16) => "LA",
        ColorType::Palette(1 | 2 | 4 | 8) => "P",
        ColorType::RGB(8 | 16) => "RGB",
        ColorType::RGBA(8 | 16) => "RGBA",
        ColorType::CMYK(8) => "CMYK",
        other => return Err(Failure::unsupported(format!("TIFFs with {other:?} pixels are not decoded."))),
    };
    Ok(Header { format: Format::Tiff, width, height, mode, orientation })
}

pub fn decode(data: &[u8], header: &Header, limits: Limits) -> Verdict<Picture> {
    let grey = as_grey(data);
    let (decoder, kind) = open(grey.as_deref().unwrap_or(data), grey.is_some())?;
    let bytes = usize::try_from(limits.max_pixels.saturating_mul(8)).unwrap_or(usize::MAX);
    let mut room = TiffLimits::default();
    room.decoding_buffer_size = bytes;
    room.intermediate_buffer_size = bytes;
    let mut decoder = decoder.with_limits(room);
    let mut result = DecodingResult::U8(Vec::new());
    let layout = decoder.read_image_to_buffer(&mut result).map_err(verdict)?;
    let samples = match result {
        DecodingResult::U8(values) => values,
        DecodingResult::U16(values) => values.into_iter().map(|v| (v >> 8) as u8).collect(),
        _ => return Err(Failure::unsupported("TIFFs with float, signed or wide samples are not decoded.")),
    };
    let pixels = header.width as usize * header.height as usize;
    let samples = match layout.planes {
        0 | 1 => samples,
        _ => interleaved(&samples, pixels, usize::from(kind.num_samples())),
    };
    let (samples, shape) = match kind {
        ColorType::Palette(bits) => {
            let map = decoder.get_tag_u16_vec(Tag::ColorMap).map_err(verdict)?;
            (coloured(&unpacked(samples, header.width, bits), &map), Layout::Rgb)
        }
        ColorType::Gray(bits @ (1 | 2 | 4)) => {
            let scale = 255 / ((1u16 << bits) - 1) as u8;
            (unpacked(samples, header.width, bits).iter().map(|v| v * scale).collect(), Layout::Grey)
        }
        ColorType::Gray(_) => (samples, Layout::Grey),
        ColorType::GrayA(_) => (samples, Layout::GreyAlpha),
        ColorType::RGBA(_) => (samples, Layout::Rgba),
        ColorType::CMYK(_) => (samples, Layout::Cmyk { inverted: false }),
        _ => (samples, Layout::Rgb),
    };
    if samples.len() != pixels * shape.channels() {
        return Err(Failure::corrupt("The TIFF holds another number of samples than its header claims."));
    }
    Ok(Picture::new(header.width, header.height, shape, samples))
}

/// Separate planes to interleaved samples.
fn interleaved(planes: &[u8], pixels: usize, channels: usize) -> Vec<u8> {
    let sample =
        |index: usize| planes.get(index % channels * pixels + index / channels).copied().unwrap_or(0);
    (0..pixels * channels).map(sample).collect()
}

/// One byte a sample from rows of packed bits, each row padded to a byte.
fn unpacked(rows: Vec<u8>, width: u32, bits: u8) -> Vec<u8> {
    if bits == 8 {
        return rows;
    }
    let (width, bits) = (width as usize, usize::from(bits));
    let mask = (1u16 << bits) - 1;
    let expand = |row: &[u8]| -> Vec<u8> {
        (0..width).map(|x| (u16::from(row[x * bits / 8]) >> (8 - bits - x * bits % 8) & mask) as u8).collect()
    };
    rows.chunks_exact((width * bits).div_ceil(8)).flat_map(expand).collect()
}

/// Palette indices to RGB. The map holds all reds, then all greens, then all blues, 16 bits each.
fn coloured(indices: &[u8], map: &[u16]) -> Vec<u8> {
    let size = map.len() / 3;
    let shade =
        |index: u8, plane: usize| map.get(plane * size + usize::from(index)).map_or(0, |v| (v >> 8) as u8);
    indices.iter().flat_map(|&i| [shade(i, 0), shade(i, 1), shade(i, 2)]).collect()
}

fn verdict(cause: TiffError) -> Failure {
    match cause {
        TiffError::IoError(cause) => Failure::from_decoder_io(&cause),
        TiffError::UnsupportedError(what) => {
            Failure::unsupported(format!("This TIFF is not decoded ({what})."))
        }
        TiffError::LimitsExceeded => Failure::corrupt("The TIFF wants more memory than its size explains."),
        other => Failure::corrupt(format!("The TIFF data is damaged ({other}).")),
    }
}
