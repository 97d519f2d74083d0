//! The JPEGs that cameras and converters write, decoded by ourselves: sequential, Huffman coded, 8 bits, grey or YCbCr, one scan.
//!
//! It is twice as fast as libjpeg-turbo where bits are many, and gives the same pixels to the last bit. Whatever is not such a
//! JPEG, and whatever is damaged, is left to libjpeg-turbo, which also says what is wrong with it.

mod colour;
mod huffman;
mod scan;
mod tables;
#[cfg(test)]
mod tests;

use std::rc::Rc;

use self::huffman::{Codes, Coefficients};
use self::scan::{PLACES, Plane, Scan};
use crate::idct::Two;
use crate::spare::Rooms;
use crate::ycc::Extent;

/// Components of a picture in colour.
const MOST: usize = 3;

/// What there is to know before the bits of the scan.
pub struct Baseline {
    pub width: usize,
    pub height: usize,
    components: Vec<Component>,
    /// Units of all components, across and down.
    units: (usize, usize),
    /// Units between restarts, or 0.
    restart: usize,
    /// Where the bits begin.
    at: usize,
}

/// Luma, or one of two planes of colour.
struct Component {
    /// Blocks of a unit.
    across: usize,
    down: usize,
    /// What coefficients are multiplied with, twice side by side.
    factors: Box<Two<i16>>,
    first: Rc<Codes>,
    others: Rc<Coefficients>,
}

impl Baseline {
    /// `None` for any other kind of JPEG, and for damaged headers.
    pub fn read(data: &[u8]) -> Option<Baseline> {
        tables::read(data)
    }

    pub fn components(&self) -> usize {
        self.components.len()
    }

    /// How many pixels of luma, across and down, are for one of colour.
    pub fn block(&self) -> (usize, usize) {
        (self.components[0].across, self.components[0].down)
    }

    /// The plane of component `index`, 0 for luma, at the strongest reduction that leaves `needed`.
    pub fn extent(&self, index: usize, needed: (u32, u32)) -> Extent {
        let (most, of) = (&self.components[0], &self.components[index]);
        let extent = |side: usize| {
            let part =
                |length: usize, blocks: usize, most: usize| (length * blocks * side).div_ceil(8 * most);
            let scale = |blocks: usize, most: usize| (side * blocks) as f64 / (8 * most) as f64;
            Extent {
                side,
                width: part(self.width, of.across, most.across),
                height: part(self.height, of.down, most.down),
                stride: self.units.0 * of.across * side,
                rows: self.units.1 * of.down * side,
                scale: (scale(of.across, most.across), scale(of.down, most.down)),
            }
        };
        let leaves = |e: &Extent| e.width >= needed.0 as usize && e.height >= needed.1 as usize;
        [1, 2, 4].into_iter().map(extent).find(leaves).unwrap_or_else(|| extent(8))
    }

    /// Decodes all planes, one after the other, each as `extents` say. `None` if the data is not whole.
    pub fn planes(&self, data: &[u8], extents: &[Extent], out: &mut [u8]) -> Option<()> {
        let mut rest = out;
        let mut planes = Vec::with_capacity(MOST);
        for extent in extents {
            let (values, more) = rest.split_at_mut_checked(extent.stride * extent.rows)?;
            planes.push(Plane { values, stride: extent.stride, rows: extent.rows, side: extent.side });
            rest = more;
        }
        self.scan(data, |scan| {
            for _ in 0..self.units.1 {
                scan.row(&mut planes)?;
            }
            Some(())
        })
    }

    /// Decodes to RGB at full size, into exactly `width * height * 3` bytes. `None` if the data is not whole.
    pub fn rgb(&self, data: &[u8], out: &mut [u8]) -> Option<()> {
        self.scan(data, |scan| colour::rgb(self, scan, out))
    }

    /// Lends the bits, without what is stuffed in between.
    fn scan(&self, data: &[u8], work: impl FnOnce(&mut Scan<'_>) -> Option<()>) -> Option<()> {
        let small = |bits: &Unstuffed| bits.bytes.capacity() <= KEPT;
        BITS.with(small, |bits| {
            bits.fill(data.get(self.at..)?)?;
            let mut scan = Scan::new(self, &bits.bytes, &bits.ends)?;
            work(&mut scan)?;
            scan.is_whole().then_some(())
        })
    }
}

static BITS: Rooms<Unstuffed> = Rooms::new();

/// Most bytes that are kept for the next picture.
const KEPT: usize = 16 << 20;

/// The bytes of a scan without those that keep 0xff from being a marker, and without restarts.
#[derive(Default)]
struct Unstuffed {
    bytes: Vec<u8>,
    /// Where each part between restarts ends.
    ends: Vec<usize>,
}

impl Unstuffed {
    /// `None` if the picture does not end behind the scan, or restarts are not in order.
    fn fill(&mut self, data: &[u8]) -> Option<()> {
        self.bytes.clear();
        self.ends.clear();
        let mut at = 0;
        loop {
            let stop = at + memchr::memchr(0xff, data.get(at..)?)?;
            match *data.get(stop + 1)? {
                0 => {
                    self.bytes.extend_from_slice(&data[at..=stop]);
                    at = stop + 2;
                    continue;
                }
                // The end, or the next of eight restarts in turn.
                0xd9 => {}
                code if usize::from(code) == 0xd0 + self.ends.len() % 8 => {}
                _ => return None,
            }
            self.bytes.extend_from_slice(&data[at..stop]);
            self.ends.push(self.bytes.len());
            if data[stop + 1] == 0xd9 {
                self.bytes.extend_from_slice(&[0; 16]);
                return Some(());
            }
            at = stop + 2;
        }
    }
}

/// Two sets of factors side by side, from their order in the zigzag.
fn factors(zigzag: &[u8; 64]) -> Box<Two<i16>> {
    let mut flat = [[0; 16]; 8];
    for (at, &factor) in zigzag.iter().enumerate() {
        let place = usize::from(PLACES[at]);
        flat[place / 16][place % 16] = i16::from(factor);
        flat[place / 16][place % 16 + 8] = i16::from(factor);
    }
    Box::new(flat)
}
