//! Pixels that a shard holds as they are: npy files (format 1 to 3, 8 bits, C order), and the arrays of an MDS column.

use fast_image_resize::FilterType;

use crate::decode::{self, Limits};
use crate::reason::{Failure, Verdict};
use crate::resize::{View, cover, resample_into};

const MAGIC: &[u8] = b"\x93NUMPY";

pub fn is_npy(data: &[u8]) -> bool {
    data.starts_with(MAGIC)
}

/// Cuts and resamples the pixels of an npy file of shape (height, width, 3) into `out`; where they measure the target,
/// they are copied.
pub fn pixels_into(data: &[u8], target: (u32, u32), limits: Limits, out: &mut [u8]) -> Verdict<()> {
    let (width, height, pixels) = parsed(data).ok_or_else(|| {
        Failure::corrupt("An npy file that holds no 8-bit array of shape (height, width, 3).")
    })?;
    decode::check_sides(width, height, limits)?;
    let view = View { pixels, width, height };
    resample_into(view, Some(cover(width, height, target)), target, FilterType::Lanczos3, out)
}

fn parsed(data: &[u8]) -> Option<(u32, u32, &[u8])> {
    let (at, length): (usize, usize) = match data.get(MAGIC.len())? {
        1 => (10, usize::from(u16::from_le_bytes(*data.get(8..)?.first_chunk()?))),
        2 | 3 => (12, usize::try_from(u32::from_le_bytes(*data.get(8..)?.first_chunk()?)).ok()?),
        _ => return None,
    };
    let end = at.checked_add(length)?;
    let header: String = std::str::from_utf8(data.get(at..end)?).ok()?.split_whitespace().collect();
    let (_, shape) = header.split_once("'shape':(")?;
    let plain = header.contains("'descr':'|u1'") && header.contains("'fortran_order':False");
    let mut sides = shape.split_once(')')?.0.split(',').map(|side| side.parse::<u32>().ok());
    let (height, width) = (sides.next()??, sides.next()??);
    let rgb = sides.next()?? == 3 && sides.next().is_none_or(|rest| rest.is_none());
    let pixels = &data[end..];
    let size = u64::from(width) * u64::from(height) * 3;
    (plain && rgb && size > 0 && pixels.len() as u64 == size).then_some((width, height, pixels))
}

/// An npy file of an array as MDS columns of kind `ndarray:uint8` hold one: the number of axes and the size of their
/// lengths (2 bits) in a byte, the lengths, the values.
pub fn npy_of_mds(data: &[u8]) -> Option<Vec<u8>> {
    let (&first, rest) = data.split_first()?;
    let (axes, size) = (usize::from(first >> 2), 1_usize << (first & 3));
    let lengths = rest.get(..axes * size)?;
    let shape: Vec<String> = lengths
        .chunks_exact(size)
        .map(|side| side.iter().rev().fold(0_u64, |value, &byte| value << 8 | u64::from(byte)).to_string())
        .collect();
    let mut header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({}), }}", shape.join(", "));
    let padded = (10 + header.len() + 1).next_multiple_of(64) - 10;
    header.push_str(&" ".repeat(padded - header.len() - 1));
    header.push('\n');
    let values = &rest[axes * size..];
    let mut npy = Vec::with_capacity(10 + padded + values.len());
    npy.extend_from_slice(MAGIC);
    npy.extend_from_slice(&[1, 0]);
    npy.extend_from_slice(&u16::try_from(padded).ok()?.to_le_bytes());
    npy.extend_from_slice(header.as_bytes());
    npy.extend_from_slice(values);
    Some(npy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_of_mds_is_an_npy_file_of_its_shape() {
        let pixels: Vec<u8> = (0..2 * 300 * 3).map(|n| (n % 251) as u8).collect();
        let mut small = vec![3 << 2, 2, 3, 3];
        small.extend(&pixels[..18]);
        assert_eq!(parsed(&npy_of_mds(&small).expect("npy")), Some((3, 2, &pixels[..18])));
        let mut wide = vec![3 << 2 | 1, 2, 0, 44, 1, 3, 0];
        wide.extend(&pixels);
        assert_eq!(parsed(&npy_of_mds(&wide).expect("npy")), Some((300, 2, &pixels[..])));
        assert!(npy_of_mds(&[3 << 2 | 3, 1]).is_none());
        wide.pop();
        assert_eq!(parsed(&npy_of_mds(&wide).expect("npy")), None);
    }
}
