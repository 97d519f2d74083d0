//! The headers of a JPEG that we decode: its tables, its components, its one scan.

use std::cell::RefCell;
use std::rc::Rc;

use super::huffman::{Codes, Coefficients};
use super::{Baseline, Component, factors};
use crate::decode::be16;
use crate::decode::jpeg_segments::Segments;
use crate::latest::Latest;

// By counts and symbols: most files have the same.
thread_local! {
    static FIRST: RefCell<Latest<Vec<u8>, Codes>> = const { RefCell::new(Latest::new()) };
    static OTHERS: RefCell<Latest<Vec<u8>, Coefficients>> = const { RefCell::new(Latest::new()) };
}

/// Tables by their numbers.
#[derive(Default)]
struct Tables {
    factors: [Option<[u8; 64]>; 4],
    first: [Option<Rc<Codes>>; 4],
    others: [Option<Rc<Coefficients>>; 4],
}

/// A component as the frame header describes it.
struct Described {
    id: u8,
    across: usize,
    down: usize,
    factors: usize,
}

/// What tells how three components are to be understood.
#[derive(Default)]
struct Colours {
    jfif: bool,
    /// What Adobe's segment says that was done to RGB.
    adobe: Option<u8>,
}

impl Colours {
    fn is_ycc(&self, described: &[Described]) -> bool {
        let ids = || described.iter().map(|c| c.id).eq(1..=3);
        self.jfif || self.adobe.map_or_else(ids, |transform| transform == 1)
    }
}

pub fn read(data: &[u8]) -> Option<Baseline> {
    let (mut tables, mut colours, mut frame, mut restart) = (Tables::default(), Colours::default(), None, 0);
    for segment in Segments::new(data) {
        let segment = segment.ok()?;
        let body = segment.body;
        match segment.marker {
            0xdb => tables.read_factors(body)?,
            0xc4 => tables.read_codes(body)?,
            0xc0 | 0xc1 if frame.is_none() => frame = Some(body),
            0xc0..=0xcf => return None,
            0xdd => restart = usize::from(be16(body, 0)?),
            0xe0 if body.starts_with(b"JFIF\0") && body.len() >= 14 => colours.jfif = true,
            0xee if body.starts_with(b"Adobe") && body.len() >= 12 => colours.adobe = Some(body[11]),
            0xda => return baseline(&tables, &colours, frame?, restart, body, segment.end),
            _ => {}
        }
    }
    None
}

fn baseline(
    tables: &Tables,
    colours: &Colours,
    frame: &[u8],
    restart: usize,
    scan: &[u8],
    at: usize,
) -> Option<Baseline> {
    let (height, width) = (usize::from(be16(frame, 1)?), usize::from(be16(frame, 3)?));
    let described = describe(frame)?;
    let &[count, ref scan @ ..] = scan else { return None };
    let (pairs, [0, 63, 0]) = scan.split_at_checked(2 * described.len())? else { return None };
    if frame[0] != 8 || usize::from(count) != described.len() {
        return None;
    }
    if described.len() == 3 && !(colours.is_ycc(&described) && width >= NARROWEST) {
        return None;
    }
    let mut components = Vec::with_capacity(described.len());
    for (from, &[id, codes]) in described.iter().zip(pairs.as_chunks::<2>().0) {
        components.push(Component {
            across: from.across,
            down: from.down,
            factors: factors(tables.factors.get(from.factors)?.as_ref()?),
            first: Rc::clone(tables.first.get(usize::from(codes >> 4))?.as_ref()?),
            others: Rc::clone(tables.others.get(usize::from(codes & 15))?.as_ref()?),
        });
        if id != from.id {
            return None;
        }
    }
    let units = (width.div_ceil(8 * components[0].across), height.div_ceil(8 * components[0].down));
    Some(Baseline { width, height, components, units, restart, at })
}

/// libjpeg smooths colour differently where it has fewer than three columns.
const NARROWEST: usize = 16;

/// One component, or three of which the first has the most pixels.
fn describe(frame: &[u8]) -> Option<Vec<Described>> {
    let (entries, rest) = frame.get(6..)?.as_chunks::<3>();
    let described: Vec<Described> = entries
        .iter()
        .map(|&[id, sampling, factors]| Described {
            id,
            across: usize::from(sampling >> 4),
            down: usize::from(sampling & 15),
            factors: usize::from(factors),
        })
        .collect();
    if !rest.is_empty() || usize::from(frame[5]) != described.len() {
        return None;
    }
    match &described[..] {
        // Of a single component the unit is a block, whatever is said.
        [grey] => Some(vec![Described { across: 1, down: 1, ..*grey }]),
        [luma, blue, red] => {
            let sparse = |c: &Described| (c.across, c.down) == (1, 1);
            let known = [(1, 1), (2, 1), (2, 2), (1, 2), (4, 1)].contains(&(luma.across, luma.down));
            (known && sparse(blue) && sparse(red)).then_some(described)
        }
        _ => None,
    }
}

impl Tables {
    fn read_factors(&mut self, mut body: &[u8]) -> Option<()> {
        while let [number, rest @ ..] = body {
            // The upper half tells whether factors have 16 bits.
            let (zigzag, rest) = rest.split_first_chunk::<64>()?;
            *self.factors.get_mut(usize::from(*number))? = Some(*zigzag);
            body = rest;
        }
        Some(())
    }

    fn read_codes(&mut self, mut body: &[u8]) -> Option<()> {
        while let [kind, rest @ ..] = body {
            let (counts, rest) = rest.split_first_chunk::<16>()?;
            let count = counts.iter().map(|n| usize::from(*n)).sum::<usize>();
            let (symbols, rest) = rest.split_at_checked(count)?;
            let number = usize::from(kind & 15);
            let key = &body[1..17 + count];
            match kind >> 4 {
                0 => {
                    let new = || Codes::new(counts, symbols).filter(|_| symbols.iter().all(|s| *s <= 11));
                    *self.first.get_mut(number)? =
                        Some(FIRST.with_borrow_mut(|latest| latest.get(key, new))?);
                }
                1 => {
                    let new = || Coefficients::new(counts, symbols);
                    *self.others.get_mut(number)? =
                        Some(OTHERS.with_borrow_mut(|latest| latest.get(key, new))?);
                }
                _ => return None,
            }
            body = rest;
        }
        Some(())
    }
}
