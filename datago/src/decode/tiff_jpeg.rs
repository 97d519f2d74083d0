//! JPEG within TIFF: each strip or tile is a JPEG that lacks the tables it shares with the others.

use tiff::ColorType;
use tiff::decoder::ChunkType;
use tiff::tags::Tag;

use super::cost::{MAX_MEMORY, MAX_WORK, too_costly};
use super::tiff::{Reader, verdict};
use super::{Header, jpeg};
use crate::picture::{Layout, Picture};
use crate::reason::{Failure, Verdict};

/// Adobe's segment, ahead of its last byte: it says whether three components are YCbCr (1) or RGB (0).
const ADOBE: &[u8] = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0";

/// Decodes all strips or tiles into one canvas; the caller has checked the caps for what the directory says.
pub fn decode(decoder: &mut Reader<'_>, data: &[u8], header: &Header, planar: bool) -> Verdict<Picture> {
    if planar {
        return Err(Failure::unsupported("TIFFs with a JPEG for each colour are not decoded."));
    }
    let (offsets, counts) = match decoder.get_chunk_type() {
        ChunkType::Strip => (Tag::StripOffsets, Tag::StripByteCounts),
        ChunkType::Tile => (Tag::TileOffsets, Tag::TileByteCounts),
    };
    let offsets = decoder.get_tag_u64_vec(offsets).map_err(verdict)?;
    let counts = decoder.get_tag_u64_vec(counts).map_err(verdict)?;
    let transform = u8::from(matches!(decoder.colortype().map_err(verdict)?, ColorType::YCbCr(_)));
    let tables = match decoder.find_tag(Tag::JPEGTables).map_err(verdict)? {
        Some(value) => value.into_u8_vec().map_err(verdict)?,
        None => Vec::new(),
    };
    let tables = tables.strip_prefix(b"\xff\xd8").unwrap_or(&tables);
    let tables = tables.strip_suffix(b"\xff\xd9").unwrap_or(tables);
    let start = [b"\xff\xd8", ADOBE, &[transform], tables].concat();

    let (width, height) = (header.width as usize, header.height as usize);
    let (across, down) = decoder.chunk_dimensions();
    let (across, down) = (across as usize, (down as usize).min(1 << 16));
    let columns = width.div_ceil(across);
    let mut canvas = vec![0; width * height * 3];
    let mut work = header.cost.work;
    for (index, (&offset, &count)) in offsets.iter().zip(&counts).enumerate() {
        let (left, top) = (index % columns * across, index / columns * down);
        let part = usize::try_from(offset).ok().zip(usize::try_from(count).ok());
        let part = part.and_then(|(offset, count)| data.get(offset..)?.get(..count));
        let part = part.and_then(|part| part.strip_prefix(b"\xff\xd8"));
        let part = part.ok_or_else(|| Failure::corrupt("A TIFF strip is no JPEG."))?;
        let whole = [&start, part].concat();
        let found = jpeg::probe(&whole)?;
        let (wide, high) = (found.width as usize, found.height as usize);
        let (needed_wide, needed_high) = (across.min(width - left), down.min(height.saturating_sub(top)));
        if !(needed_wide..=across).contains(&wide) || !(needed_high..=down.max(needed_high)).contains(&high) {
            return Err(Failure::corrupt("A JPEG within the TIFF has another size than its strip or tile."));
        }
        work += found.cost.work + whole.len() as u64;
        if work > MAX_WORK || found.cost.memory + header.cost.memory > MAX_MEMORY {
            return Err(too_costly("The JPEGs within the TIFF take more memory or work than a picture may."));
        }
        let picture = jpeg::decode_inks(&whole, &found, None, Layout::Cmyk { inverted: false })?;
        for (row, line) in picture.pixels.chunks_exact(wide * 3).take(needed_high).enumerate() {
            let at = ((top + row) * width + left) * 3;
            canvas[at..at + needed_wide * 3].copy_from_slice(&line[..needed_wide * 3]);
        }
    }
    Ok(Picture::new(header.width, header.height, Layout::Rgb, canvas))
}
