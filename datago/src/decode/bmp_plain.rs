//! BMP without compression: rows of indices, or of colours as bit masks say.

use super::{Header, le16, le32};
use crate::picture::{Layout, Picture};
use crate::reason::{Failure, Verdict};

/// The first header is 14 bytes; the second begins with its own length.
const SECOND: usize = 14;
/// Where the masks of red, green, blue and alpha stand, within the second header or right behind it.
const MASKS: usize = 54;

/// The rows as they stand in the file, from the top of the picture down. The last may lack its padding.
struct Rows<'a> {
    data: &'a [u8],
    start: usize,
    stride: usize,
    height: usize,
    bottom_up: bool,
}

impl<'a> Rows<'a> {
    fn iter(&self) -> impl Iterator<Item = &'a [u8]> {
        (0..self.height).map(|y| {
            let place = if self.bottom_up { self.height - 1 - y } else { y };
            let rest = self.data.get(self.start + self.stride * place..).unwrap_or_default();
            &rest[..rest.len().min(self.stride)]
        })
    }
}

pub fn decode(data: &[u8], header: &Header) -> Verdict<Picture> {
    let size = le32(data, SECOND).unwrap_or(0) as usize;
    let old = size == 12;
    let bits = usize::from(if old { le16(data, 24) } else { le16(data, 28) }.unwrap_or(0));
    let masked = !old && matches!(le32(data, 30), Some(3 | 6));
    let (width, height) = (header.width as usize, header.height as usize);
    let start = le32(data, 10).unwrap_or(0) as usize;
    let bottom_up = old || le32(data, 22).is_some_and(|height| height.cast_signed() > 0);
    let rows = Rows { data, start, stride: (width * bits).div_ceil(32) * 4, height, bottom_up };
    let (layout, pixels) = match (bits, masked) {
        (1 | 2 | 4 | 8, _) => (Layout::Rgb, indexed(&rows, &palette(data, size, bits, start), width, bits)),
        (24, _) | (32, false) => (Layout::Rgb, plain(&rows, width, bits / 8)),
        (16 | 32, _) => {
            let alpha = size >= 56 || le32(data, 30) == Some(6);
            let mask = |n: usize| le32(data, MASKS + 4 * n).unwrap_or(0);
            let masks = match masked {
                true => [mask(0), mask(1), mask(2), if alpha { mask(3) } else { 0 }],
                false => [0x7c00, 0x3e0, 0x1f, 0],
            };
            let layout = if masks[3] > 0 { Layout::Rgba } else { Layout::Rgb };
            (layout, coloured(&rows, &masks[..layout.channels()], width, bits / 8))
        }
        _ => {
            return Err(Failure::corrupt(format!("The BMP header claims {bits} bits a pixel.")));
        }
    };
    if pixels.len() != width * height * layout.channels() {
        return Err(Failure::truncated("The BMP ends before its last row."));
    }
    Ok(Picture::new(header.width, header.height, layout, pixels))
}

/// The colours; without any, shades of grey.
fn palette(data: &[u8], size: usize, bits: usize, start: usize) -> Vec<[u8; 3]> {
    let entry = if size == 12 { 3 } else { 4 };
    let begin = SECOND + size;
    let all = 1 << bits;
    let said = if size < 36 { 0 } else { le32(data, 46).unwrap_or(0) as usize };
    let count = if (1..=all).contains(&said) { said } else { all }.min(start.saturating_sub(begin) / entry);
    if count == 0 {
        return (0..all).map(|n| [(n * 255 / (all - 1)) as u8; 3]).collect();
    }
    let entries = data.get(begin..).unwrap_or_default().chunks_exact(entry).take(count);
    entries.map(|e| [e[2], e[1], e[0]]).collect()
}

fn indexed(rows: &Rows<'_>, palette: &[[u8; 3]], width: usize, bits: usize) -> Vec<u8> {
    let mask = ((1u16 << bits) - 1) as u8;
    let mut out = Vec::with_capacity(width * rows.height * 3);
    for row in rows.iter().filter(|row| row.len() >= (width * bits).div_ceil(8)) {
        for x in 0..width {
            let index = row[x * bits / 8] >> (8 - bits - x * bits % 8) & mask;
            out.extend_from_slice(palette.get(usize::from(index)).unwrap_or(&[0; 3]));
        }
    }
    out
}

/// Blue, green and red, each a byte, and perhaps one that means nothing.
fn plain(rows: &Rows<'_>, width: usize, step: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(width * rows.height * 3);
    for row in rows.iter() {
        out.extend(row.chunks_exact(step).take(width).flat_map(|p| [p[2], p[1], p[0]]));
    }
    out
}

fn coloured(rows: &Rows<'_>, masks: &[u32], width: usize, step: usize) -> Vec<u8> {
    // Shift and largest value of each channel.
    let parts: Vec<(u32, u32, u64)> = masks
        .iter()
        .map(|&mask| {
            let shift = mask.trailing_zeros() & 31;
            (mask, shift, u64::from(mask >> shift).max(1))
        })
        .collect();
    let mut out = Vec::with_capacity(width * rows.height * masks.len());
    for row in rows.iter() {
        for pixel in row.chunks_exact(step).take(width) {
            let value = pixel.iter().rev().fold(0u32, |value, byte| value << 8 | u32::from(*byte));
            out.extend(
                parts
                    .iter()
                    .map(|&(mask, shift, most)| (u64::from((value & mask) >> shift) * 255 / most) as u8),
            );
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{Cost, Format};

    #[test]
    fn rows_of_bits_end_at_four_bytes_and_begin_at_the_bottom() {
        let mut data = vec![0; 62];
        data[10] = 62;
        data[14] = 40;
        data[18] = 9;
        data[22] = 2;
        data[28] = 1;
        data[58..62].copy_from_slice(&[30, 20, 10, 0]);
        data.extend([0xff, 0x80, 0, 0, 0, 0x80]);
        let header = Header {
            format: Format::Bmp,
            width: 9,
            height: 2,
            mode: "P",
            orientation: 1,
            cost: Cost::default(),
        };
        let found = decode(&data, &header).expect("decodes without the last padding").pixels;
        assert_eq!(found[..24], [0; 24]);
        assert_eq!(found[24..27], [10, 20, 30]);
        assert!(found[27..].chunks_exact(3).all(|p| p == [10, 20, 30]));
        assert!(decode(&data[..67], &header).is_err());
    }
}
