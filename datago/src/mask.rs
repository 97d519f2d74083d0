//! Masks: labels, not light. Only ever copied by nearest neighbour, never blended, never re-coloured.

use png::{BitDepth, ColorType, Transformations};

use crate::decode::{self, Format, Limits};
use crate::orient::{displayed, upright};
use crate::reason::{Failure, Reason, Verdict};
use crate::resize::cover;

/// A mask may differ from its picture's proportions by rounding only.
const MAX_SKEW: f64 = 0.02;

/// Pixels of any kind: `size` bytes each.
struct Labels {
    width: u32,
    height: u32,
    size: usize,
    data: Vec<u8>,
    color: ColorType,
    depth: BitDepth,
    palette: Option<Vec<u8>>,
    transparency: Option<Vec<u8>>,
}

/// The mask cut and resized as its picture is, as PNG. `shown` is the picture's displayed size.
pub fn fit(data: &[u8], shown: (u32, u32), target: (u32, u32), limits: Limits) -> Verdict<Vec<u8>> {
    let labels = read(data, limits)?;
    let ratio = |(w, h): (u32, u32)| f64::from(w) / f64::from(h);
    let skew = ratio((labels.width, labels.height)) / ratio(shown);
    if !(1.0 - MAX_SKEW..=1.0 + MAX_SKEW).contains(&skew) {
        return Err(Failure::new(
            Reason::MaskMismatch,
            format!(
                "A mask of {}x{} does not have the proportions of its picture, {}x{}.",
                labels.width, labels.height, shown.0, shown.1
            ),
        ));
    }
    // The crop is the picture's, in fractions of it, so that mask and picture stay aligned.
    let crop = cover(shown.0, shown.1, target);
    let (kx, ky) =
        (f64::from(labels.width) / f64::from(shown.0), f64::from(labels.height) / f64::from(shown.1));
    let columns = nearest(crop.left * kx, crop.width * kx, target.0, labels.width);
    let rows = nearest(crop.top * ky, crop.height * ky, target.1, labels.height);
    let stride = labels.width as usize * labels.size;
    let mut out = Vec::with_capacity(columns.len() * rows.len() * labels.size);
    for row in rows {
        let line = &labels.data[row * stride..(row + 1) * stride];
        for &column in &columns {
            out.extend_from_slice(&line[column * labels.size..(column + 1) * labels.size]);
        }
    }
    write(&labels, &out, target)
}

/// For each target pixel the source pixel under its centre.
fn nearest(start: f64, length: f64, target: u32, size: u32) -> Vec<usize> {
    let step = length / f64::from(target);
    let last = size as usize - 1;
    (0..target).map(|i| ((start + (f64::from(i) + 0.5) * step).floor().max(0.0) as usize).min(last)).collect()
}

fn read(data: &[u8], limits: Limits) -> Verdict<Labels> {
    let header = decode::header(data)?;
    decode::check(&header, limits)?;
    if header.format != Format::Png {
        let picture = upright(decode::decode(data, &header, limits, None)?, header.orientation);
        let color = if picture.has_alpha() { ColorType::Rgba } else { ColorType::Rgb };
        let (width, height) = displayed(header.width, header.height, header.orientation);
        return Ok(Labels {
            width,
            height,
            size: picture.channels,
            data: picture.pixels,
            color,
            depth: BitDepth::Eight,
            palette: None,
            transparency: None,
        });
    }
    // Grey below eight bits is scaled to the full range; palette indices are labels and stay as they are.
    let grey = matches!(header.mode, "1" | "L");
    let change = if grey { Transformations::EXPAND } else { Transformations::IDENTITY };
    let (data, color, info) = decode::png::read(data, &header, change)?;
    let bits = info.bit_depth as usize;
    let (data, depth) = match (color, bits) {
        (ColorType::Indexed, 1 | 2 | 4) => (unpack(&data, header.width as usize, bits), BitDepth::Eight),
        (_, 16) => (data, BitDepth::Sixteen),
        _ => (data, BitDepth::Eight),
    };
    let indexed = color == ColorType::Indexed;
    if indexed && info.palette.is_none() {
        return Err(Failure::corrupt("A mask of palette indices has no palette."));
    }
    Ok(Labels {
        width: header.width,
        height: header.height,
        size: color.samples() * if depth == BitDepth::Sixteen { 2 } else { 1 },
        data,
        color,
        depth,
        palette: info.palette.filter(|_| indexed).map(|p| p.into_owned()),
        transparency: info.trns.filter(|_| indexed).map(|t| t.into_owned()),
    })
}

fn unpack(rows: &[u8], width: usize, bits: usize) -> Vec<u8> {
    let mask = (1u16 << bits) - 1;
    let sample =
        |row: &[u8], x: usize| (u16::from(row[x * bits / 8]) >> (8 - bits - x * bits % 8) & mask) as u8;
    rows.chunks_exact((width * bits).div_ceil(8))
        .flat_map(|row| (0..width).map(|x| sample(row, x)).collect::<Vec<_>>())
        .collect()
}

fn write(labels: &Labels, pixels: &[u8], (width, height): (u32, u32)) -> Verdict<Vec<u8>> {
    let fail =
        |e: png::EncodingError| Failure::new(Reason::Internal, format!("Encoding a mask failed: {e}."));
    let mut data = Vec::new();
    let mut encoder = png::Encoder::new(&mut data, width, height);
    encoder.set_color(labels.color);
    encoder.set_depth(labels.depth);
    if let Some(palette) = &labels.palette {
        encoder.set_palette(palette.clone());
    }
    if let Some(transparency) = &labels.transparency {
        encoder.set_trns(transparency.clone());
    }
    let mut writer = encoder.write_header().map_err(fail)?;
    writer.write_image_data(pixels).map_err(fail)?;
    writer.finish().map_err(fail)?;
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn nearest_takes_the_pixel_under_the_centre() {
        assert_eq!(nearest(0.0, 4.0, 2, 4), [1, 3]);
        assert_eq!(nearest(0.0, 2.0, 4, 2), [0, 0, 1, 1]);
        assert_eq!(nearest(1.0, 2.0, 2, 4), [1, 2]);
    }
}
