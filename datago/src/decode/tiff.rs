//! TIFF: the first directory; grey, palette, RGB, YCbCr (as JPEG), CMYK, with or without alpha, 1 to 16 bits a sample.

use std::cell::Cell;

use tiff::decoder::{Decoder, DecodingResult, Limits as TiffLimits};
use tiff::tags::Tag;
use tiff::{ColorType, TiffError};

use super::meter::{Meter, PORTION};
use super::{Cost, Format, Header, cost, tiff_jpeg};
use crate::exif::Tag as Entry;
use crate::picture::{Layout, Picture};
use crate::reason::{Failure, Verdict};

pub type Reader<'a> = Decoder<Meter<'a>>;

const PHOTOMETRIC: u16 = 262;
const BLACK_IS_ZERO: u16 = 1;
const PALETTE: u32 = 3;
pub const JPEG: u16 = 7;
/// Work for a byte of what is compressed, and for setting up the decoder of one strip or tile.
const WORK: u64 = 4;
const WORK_CHUNK: u64 = 10_000;

/// What the first directory says.
struct Directory {
    kind: ColorType,
    compression: u16,
    /// Bytes of all strips or tiles before compression, padding and extra samples included.
    raw: u64,
    chunks: u64,
    wide: bool,
    planar: bool,
}

/// The decoder refuses palettes. A palette picture that calls itself grey decodes to its indices, so that is what
/// it gets to see: one number reads otherwise than it stands.
fn open<'a>(data: &'a [u8], read: &'a Cell<usize>) -> Verdict<(Reader<'a>, ColorType)> {
    // Each byte is needed once, and a decoder for each strip reads a portion ahead.
    let budget = data.len().saturating_mul(2).saturating_add(cost::MAX_PARTS * PORTION);
    let palette = Entry::find(data, PHOTOMETRIC).filter(|tag| tag.value == PALETTE);
    let mut meter = Meter::new(data, budget, read);
    if let Some(tag) = &palette {
        let number = if tag.little { BLACK_IS_ZERO.to_le_bytes() } else { BLACK_IS_ZERO.to_be_bytes() };
        meter = meter.changed(tag.at, number);
    }
    let mut decoder = Decoder::new(meter).map_err(verdict)?;
    let kind = match decoder.colortype().map_err(verdict)? {
        ColorType::Gray(bits) if palette.is_some() => ColorType::Palette(bits),
        ColorType::Multiband { bit_depth, num_samples: 2 } if alpha(&mut decoder) => {
            ColorType::GrayA(bit_depth)
        }
        other => other,
    };
    Ok((decoder, kind))
}

/// Whether the sample beside grey is alpha, premultiplied or not.
fn alpha(decoder: &mut Reader<'_>) -> bool {
    let extra = decoder.find_tag_unsigned_vec::<u16>(Tag::ExtraSamples).ok().flatten();
    matches!(extra.as_deref(), Some([1 | 2]))
}

fn directory(decoder: &mut Reader<'_>, kind: ColorType) -> Verdict<Directory> {
    let mut number = |tag, default: u64| -> Verdict<u64> {
        Ok(decoder.find_tag_unsigned::<u64>(tag).map_err(verdict)?.unwrap_or(default))
    };
    let samples = number(Tag::SamplesPerPixel, 1)?.max(1);
    let compression = number(Tag::Compression, 1)?.try_into().unwrap_or(u16::MAX);
    let planar = number(Tag::PlanarConfiguration, 1)? == 2;
    let bits = u64::from(kind.bit_depth()).max(1);
    let chunks = match decoder.get_chunk_type() {
        tiff::decoder::ChunkType::Strip => decoder.strip_count(),
        tiff::decoder::ChunkType::Tile => decoder.tile_count(),
    };
    let chunks = u64::from(chunks.map_err(verdict)?);
    let (_, height) = decoder.dimensions().map_err(verdict)?;
    let (across, down) = decoder.chunk_dimensions();
    // The last strip may be said to be longer than what is left of the picture.
    let down = match decoder.get_chunk_type() {
        tiff::decoder::ChunkType::Strip => down.min(height),
        tiff::decoder::ChunkType::Tile => down,
    };
    let row = (u64::from(across) * bits).saturating_mul(if planar { 1 } else { samples }).div_ceil(8);
    let raw = row.saturating_mul(u64::from(down)).saturating_mul(chunks);
    Ok(Directory { kind, compression, raw, chunks, wide: bits > 8, planar })
}

pub fn probe(data: &[u8]) -> Verdict<Header> {
    let read = Cell::new(0);
    let (mut decoder, kind) = open(data, &read)?;
    let (width, height) = decoder.dimensions().map_err(verdict)?;
    let orientation = decoder.find_tag_unsigned::<u16>(Tag::Orientation).ok().flatten().unwrap_or(1);
    let orientation = if (1..=8).contains(&orientation) { orientation as u8 } else { 1 };
    let found = directory(&mut decoder, kind)?;
    let mode = match kind {
        ColorType::Gray(1) => "1",
        ColorType::Gray(16) => "I;16",
        ColorType::Gray(2 | 4 | 8) => "L",
        ColorType::GrayA(8 | 16) => "LA",
        ColorType::Palette(1 | 2 | 4 | 8) => "P",
        ColorType::RGB(8 | 16) => "RGB",
        ColorType::YCbCr(8) if found.compression == JPEG => "RGB",
        ColorType::RGBA(8 | 16) => "RGBA",
        ColorType::CMYK(8) => "CMYK",
        other => {
            return Err(Failure::unsupported(format!("TIFFs with {other:?} pixels are not decoded.")));
        }
    };
    let mut header = Header { format: Format::Tiff, width, height, mode, orientation, cost: Cost::default() };
    // A header without area or of too many pixels is refused for that.
    header.cost = found.cost(data.len(), &header)?;
    Ok(header)
}

impl Directory {
    fn cost(&self, bytes: usize, header: &Header) -> Verdict<Cost> {
        let pixels = cost::area(header.width, header.height);
        cost::check_parts(usize::try_from(self.chunks).unwrap_or(usize::MAX), "TIFF strips or tiles")?;
        let alpha = matches!(header.mode, "LA" | "RGBA");
        // As read beside eight bits or interleaved, then beside the colours that it becomes.
        let samples = u64::from(self.kind.num_samples());
        let read =
            samples * if self.wide { 2 } else { 1 } + if self.wide || self.planar { samples } else { 0 };
        let coloured = match samples {
            1 => 4,
            2 => 6,
            other => other,
        };
        let row = self.raw / u64::from(header.height.max(1));
        let decoding = pixels.saturating_mul(read.max(coloured)).saturating_add(row);
        let work = self.raw.saturating_mul(WORK).saturating_add(self.chunks * WORK_CHUNK);
        Ok(Cost::new(bytes, pixels, alpha, header.orientation, decoding, work))
    }
}

pub fn decode(data: &[u8], header: &Header) -> Verdict<Picture> {
    let read = Cell::new(0);
    let (mut decoder, kind) = open(data, &read)?;
    let found = directory(&mut decoder, kind)?;
    if found.compression == JPEG {
        return tiff_jpeg::decode(&mut decoder, data, header, found.planar);
    }
    let bytes = cost::MAX_MEMORY as usize;
    let mut room = TiffLimits::default();
    room.decoding_buffer_size = bytes;
    room.intermediate_buffer_size = bytes;
    let mut decoder = decoder.with_limits(room);
    let mut result = DecodingResult::U8(Vec::new());
    let layout = decoder.read_image_to_buffer(&mut result).map_err(verdict)?;
    let samples = match result {
        DecodingResult::U8(values) => values,
        DecodingResult::U16(values) => values.into_iter().map(|v| (v >> 8) as u8).collect(),
        _ => {
            return Err(Failure::unsupported("TIFFs with float, signed or wide samples are not decoded."));
        }
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

pub fn verdict(cause: TiffError) -> Failure {
    match cause {
        TiffError::IoError(cause) => Failure::from_decoder_io(&cause),
        TiffError::UnsupportedError(what) => {
            Failure::unsupported(format!("This TIFF is not decoded ({what})."))
        }
        TiffError::LimitsExceeded => cost::too_costly("The TIFF wants more memory than a picture may take."),
        other => Failure::corrupt(format!("The TIFF data is damaged ({other}).")),
    }
}
