//! From the bits of a scan to planes of pixels, a row of units at a time.

use multiversion::multiversion;

use super::huffman::{Bits, LOOKS, value};
use super::{Baseline, Component, MOST};
use crate::idct::{Rows, Two, pair};

/// Where a coefficient stands in a row of two blocks side by side, by its position in the zigzag. Positions beyond the block's
/// lie beyond the blocks.
pub static PLACES: [u8; 256] = {
    let mut places = [128; 256];
    let (mut x, mut y, mut at) = (0u8, 0u8, 0);
    while at < 64 {
        places[at] = 16 * y + x;
        if (x + y) % 2 == 0 {
            if x == 7 {
                y += 1;
            } else {
                x += 1;
                y = y.saturating_sub(1);
            }
        } else if y == 7 {
            x += 1;
        } else {
            y += 1;
            x = x.saturating_sub(1);
        }
        at += 1;
    }
    places
};

/// Two blocks side by side, and room that is written where nothing is to be.
type Blocks = [i16; 264];

/// A plane, or the part of its rows that is kept.
pub struct Plane<'a> {
    pub values: &'a mut [u8],
    /// From one row to the next: whole units.
    pub stride: usize,
    /// How many rows there is room for, whole units: row n stands at n modulo that.
    pub rows: usize,
    /// Pixels of a block, across and down: 8, 4, 2 or 1.
    pub side: usize,
}

/// How far a scan is decoded.
pub struct Scan<'a> {
    of: &'a Baseline,
    bits: Bits<'a>,
    /// Ends of what lies between restarts, in the data and, soonest first, to come.
    ends: std::slice::Iter<'a, usize>,
    end: usize,
    /// Units until the next restart.
    left: usize,
    /// The first coefficient of the last block, by component.
    last: [i32; MOST],
    /// Rows of units that were decoded.
    row: usize,
    blocks: [Waiting; MOST],
}

/// A pair of blocks of one component.
struct Waiting {
    blocks: Blocks,
    /// Where the first belongs, if it is there: its column of blocks and its row of pixels.
    first: Option<(usize, usize)>,
}

impl<'a> Scan<'a> {
    /// Of `data` without stuffing, whose parts between restarts end at `ends`.
    pub fn new(of: &'a Baseline, data: &'a [u8], ends: &'a [usize]) -> Option<Scan<'a>> {
        let mut ends = ends.iter();
        let end = *ends.next()?;
        let blocks = std::array::from_fn(|_| Waiting { blocks: [0; 264], first: None });
        Some(Scan {
            of,
            bits: Bits::new(data, 0),
            ends,
            end,
            left: of.restart,
            last: [0; MOST],
            row: 0,
            blocks,
        })
    }

    /// Whether the data reached to here. Bytes that are left over are padding, which some cameras write.
    pub fn is_whole(&self) -> bool {
        self.bits.position() <= self.end && self.ends.len() == 0
    }

    /// The next row of units; `None` where the data is not what it should be.
    pub fn row(&mut self, planes: &mut [Plane<'_>]) -> Option<()> {
        #[cfg(target_arch = "x86_64")]
        if let Some(wide) = crate::wide::Wide::here() {
            return row(self, planes, |side, coefficients, factors| wide.pair(side, coefficients, factors));
        }
        row(self, planes, pair)
    }

    #[inline(always)]
    fn row_by(
        &mut self,
        planes: &mut [Plane<'_>],
        transform: impl Fn(usize, &Two<i16>, &Two<i16>) -> Rows,
    ) -> Option<()> {
        for unit in 0..self.of.units.0 {
            if self.of.restart > 0 {
                self.restart()?;
            }
            for (index, component) in self.of.components.iter().enumerate() {
                let waiting = &mut self.blocks[index];
                let plane = &mut planes[index];
                for v in 0..component.down {
                    for h in 0..component.across {
                        let half = usize::from(waiting.first.is_some());
                        self.bits =
                            block(self.bits, component, &mut self.last[index], half, &mut waiting.blocks)?;
                        let place =
                            (unit * component.across + h, (self.row * component.down + v) * plane.side);
                        let Some(first) = waiting.first.take() else {
                            waiting.first = Some(place);
                            continue;
                        };
                        let rows = transform(plane.side, two(&waiting.blocks)?, &component.factors);
                        plane.put(first, &rows[0])?;
                        plane.put(place, &rows[1])?;
                    }
                }
            }
        }
        for (index, component) in self.of.components.iter().enumerate() {
            let waiting = &mut self.blocks[index];
            if let Some(first) = waiting.first.take() {
                let rows = transform(planes[index].side, two(&waiting.blocks)?, &component.factors);
                planes[index].put(first, &rows[0])?;
            }
        }
        self.row += 1;
        Some(())
    }

    fn restart(&mut self) -> Option<()> {
        if self.left == 0 {
            if self.bits.position() != self.end {
                return None;
            }
            self.bits = self.bits.moved(self.end);
            self.end = *self.ends.next()?;
            self.last = [0; MOST];
            self.left = self.of.restart;
        }
        self.left -= 1;
        Some(())
    }
}

/// Bits are shifted by numbers of their own in one step where the machine can.
#[multiversion(targets("x86_64+bmi1+bmi2+lzcnt"))]
fn row(
    scan: &mut Scan<'_>,
    planes: &mut [Plane<'_>],
    transform: impl Fn(usize, &Two<i16>, &Two<i16>) -> Rows,
) -> Option<()> {
    scan.row_by(planes, transform)
}

#[inline(always)]
fn two(blocks: &Blocks) -> Option<&Two<i16>> {
    blocks.as_chunks::<16>().0.first_chunk::<8>()
}

impl Plane<'_> {
    #[inline(always)]
    fn put(&mut self, (column, row): (usize, usize), rows: &[u64; 8]) -> Option<()> {
        let from = (row % self.rows) * self.stride + column * self.side;
        let room = self.values.get_mut(from..from + (self.side - 1) * self.stride + self.side)?;
        match self.side {
            8 => put::<8>(room, self.stride, rows),
            4 => put::<4>(room, self.stride, rows),
            2 => put::<2>(room, self.stride, rows),
            _ => put::<1>(room, self.stride, rows),
        }
        Some(())
    }
}

#[inline(always)]
fn put<const N: usize>(room: &mut [u8], stride: usize, rows: &[u64; 8]) {
    for (out, row) in room.chunks_mut(stride).zip(rows).take(N) {
        if let (Some(out), Some(bytes)) = (out.first_chunk_mut::<N>(), row.to_le_bytes().first_chunk::<N>()) {
            *out = *bytes;
        }
    }
}

/// Decodes one block's coefficients into the left (0) or right (1) half.
#[inline(always)]
fn block<'a>(
    bits: Bits<'a>,
    component: &Component,
    last: &mut i32,
    half: usize,
    blocks: &mut Blocks,
) -> Option<Bits<'a>> {
    let mut bits = bits.refilled()?;
    if half == 0 {
        blocks[..128].fill(0);
    }
    let (size, length) = component.first.find(bits.next)?;
    bits.skip(length);
    *last = last.wrapping_add(value(bits.next, u32::from(size)));
    bits.skip(u32::from(size));
    let blocks = blocks.get_mut(8 * half..)?.first_chunk_mut::<256>()?;
    blocks[0] = *last as i16;
    let mut at = 0u8;
    let mut put = |at: u8, value: i16| blocks[usize::from(PLACES[usize::from(at)])] = value;
    'block: loop {
        bits = bits.refilled()?;
        for _ in 0..LOOKS {
            let look = component.others.look(bits.next);
            let first = at.wrapping_add(look.to_first());
            if first >= 63 {
                // The end of a block, a long code, or a large value.
                bits = bits.refilled()?;
                let found = component.others.one(bits.next)?;
                bits.skip(found.used);
                at = at.wrapping_add(found.step);
                put(at, found.value);
                if at >= 63 {
                    break 'block;
                }
                continue 'block;
            }
            bits.skip(look.used());
            at = at.wrapping_add(look.to_last());
            put(at, look.second());
            put(first, look.first());
            if at >= 63 {
                break 'block;
            }
        }
    }
    Some(bits)
}
