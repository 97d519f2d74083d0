//! What a JPEG costs: its coefficients, and how often its scans go over them.

use super::cost::{self, Cost};
use super::{Header, be16};
use crate::reason::{Failure, Verdict};

/// Work for one block in one scan, for each of the coefficients that the scan tells, and for each that it refines.
const BLOCK: u64 = 12;
const COEFFICIENT: u64 = 4;
const REFINED: u64 = 1;
/// Arithmetic decoding is that much slower than Huffman's.
const ARITHMETIC: u64 = 8;
/// A progressive file with more scans than this is an attack on our time, not a picture.
pub const MAX_SCANS: u32 = 500;

/// The frame header.
pub struct Frame {
    progressive: bool,
    arithmetic: bool,
    components: Vec<Component>,
}

struct Component {
    id: u8,
    across: u64,
    down: u64,
    /// 8x8 blocks, whole units of all components.
    blocks: u64,
}

impl Frame {
    /// Reads the components that follow the sizes in the segment `body` of `marker`.
    pub fn read(marker: u8, body: &[u8], width: u16, height: u16) -> Verdict<Frame> {
        let entries = body.get(6..).unwrap_or_default().as_chunks::<3>().0;
        let count = usize::from(body.get(5).copied().unwrap_or(0));
        let mut components: Vec<Component> = entries
            .iter()
            .take(count)
            .map(|&[id, sampling, _]| Component {
                id,
                across: u64::from(sampling >> 4),
                down: u64::from(sampling & 15),
                blocks: 0,
            })
            .collect();
        let whole = components.iter().all(|c| (1..=4).contains(&c.across) && (1..=4).contains(&c.down));
        if components.len() != count || !whole {
            return Err(Failure::corrupt("The JPEG frame header does not describe its components."));
        }
        let units = |side: u16, most: u64| u64::from(side).div_ceil(8 * most);
        let across = components.iter().map(|c| c.across).max().unwrap_or(1);
        let down = components.iter().map(|c| c.down).max().unwrap_or(1);
        for c in &mut components {
            c.blocks = units(width, across) * c.across * units(height, down) * c.down;
        }
        Ok(Frame {
            progressive: matches!(marker, 0xc2 | 0xca),
            arithmetic: matches!(marker, 0xc9 | 0xca),
            components,
        })
    }

    /// `at` is where the first scan's header tells its length.
    pub fn cost(&self, data: &[u8], at: usize, header: &Header) -> Verdict<Cost> {
        let blocks: u64 = self.components.iter().map(|c| c.blocks).sum();
        let first = data.get(at + 2).copied().map_or(0, usize::from);
        let kept = self.progressive || first < self.components.len();
        let work = if kept { self.scans(data, at)? } else { blocks * (BLOCK + 64 * COEFFICIENT) };
        let work = work * if self.arithmetic { ARITHMETIC } else { 1 };
        // A file decoded in one pass holds rows of blocks only, and is never more than its pixels.
        let coefficients = if kept { blocks * 128 } else { 0 };
        let pixels = cost::area(header.width, header.height);
        let (out, converted) =
            if self.components.len() == 1 { (1, 4) } else { (self.components.len() as u64, 4) };
        let decoding = (pixels * out + coefficients).max(pixels * converted);
        // What is decoded in one pass is copied before.
        let bytes = if kept { data.len() } else { 2 * data.len() };
        Ok(Cost::new(bytes, pixels, false, header.orientation, decoding, work))
    }

    /// The work of all scans, of which each goes over some coefficients of all blocks of some components.
    fn scans(&self, data: &[u8], mut at: usize) -> Verdict<u64> {
        let (mut work, mut count) = (0u64, 0);
        while let Some(length) = be16(data, at)
            && let Some(body) = data.get(at + 2..at + usize::from(length))
        {
            count += 1;
            if count > MAX_SCANS {
                return Err(cost::too_costly(format!("The JPEG has more than {MAX_SCANS} scans.")));
            }
            let components = body.first().copied().map_or(0, usize::from);
            let each = match body.get(1 + 2 * components..4 + 2 * components) {
                Some(&[first, last, approximation]) if self.progressive => {
                    let refines = approximation >> 4 > 0;
                    let band = u64::from(last.saturating_sub(first)).min(63) + 1;
                    band * if refines { REFINED } else { COEFFICIENT }
                }
                _ => 64 * COEFFICIENT,
            };
            for entry in body.get(1..).unwrap_or_default().as_chunks::<2>().0.iter().take(components) {
                let found = self.components.iter().find(|c| c.id == entry[0]);
                work += found.map_or(0, |c| c.blocks) * (BLOCK + each);
            }
            match next_scan(data, at + usize::from(length)) {
                Some(next) => at = next,
                None => break,
            }
        }
        Ok(work)
    }
}

/// Past entropy-coded data and other segments, to where the next scan's header tells its length.
fn next_scan(data: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += memchr::memchr(0xff, data.get(at..)?)?;
        match data.get(at + 1)? {
            0xff => at += 1,
            0x00 | 0x01 | 0xd0..=0xd8 => at += 2,
            0xd9 => return None,
            0xda => return Some(at + 2),
            _ => at += 2 + usize::from(be16(data, at + 2)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_counted_in_whole_units_of_all_components() {
        // 17x8, the luma twice as fine across: two units of 16x8.
        let body = [8, 0, 8, 0, 17, 3, 1, 0x21, 0, 2, 0x11, 0, 3, 0x11, 0];
        let frame = Frame::read(0xc0, &body, 17, 8).expect("a frame");
        assert_eq!(frame.components.iter().map(|c| c.blocks).collect::<Vec<_>>(), [4, 2, 2]);
        assert!(Frame::read(0xc0, &body[..12], 17, 8).is_err());
    }

    #[test]
    fn a_stuffed_byte_and_a_restart_are_no_scan() {
        assert_eq!(next_scan(b"ab\xff\x00\xff\xd3c\xff\xc4\0\x04xy\xff\xda..", 0), Some(15));
        assert_eq!(next_scan(b"ab\xff\xd9\xff\xda", 0), None);
    }
}
