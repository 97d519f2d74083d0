//! RGB from planes of luma and colour, as libjpeg makes it: sparse colour is drawn out by triangles ("fancy upsampling").

use multiversion::multiversion;

use super::Baseline;
use super::scan::{Plane, Scan};
use crate::spare;
use crate::ycc;

/// Rows of units that are kept: smoothed colour needs the last row of the one before.
const HELD: usize = 2;

/// Decodes all rows of units and writes all rows of pixels, `of.width * of.height * 3` bytes.
pub fn rgb(of: &Baseline, scan: &mut Scan<'_>, out: &mut [u8]) -> Option<()> {
    let sizes: Vec<(usize, usize)> =
        of.components.iter().map(|c| (of.units.0 * c.across * 8, HELD * c.down * 8)).collect();
    let mut room = spare::take(sizes.iter().map(|(stride, rows)| stride * rows).sum());
    let done = draw(of, scan, &sizes, &mut room, out);
    spare::give(room);
    done
}

fn draw(
    of: &Baseline,
    scan: &mut Scan<'_>,
    sizes: &[(usize, usize)],
    mut room: &mut [u8],
    out: &mut [u8],
) -> Option<()> {
    let mut planes = Vec::with_capacity(sizes.len());
    for &(stride, rows) in sizes {
        let (values, rest) = room.split_at_mut_checked(stride * rows)?;
        planes.push(Plane { values, stride, rows, side: 8 });
        room = rest;
    }
    let mut drawn = Drawn::new(of);
    let (_, down) = of.block();
    for unit in 1..=of.units.1 {
        scan.row(&mut planes)?;
        // The last row of colour waits for its neighbour, unless there is none.
        let last = unit == of.units.1;
        let ready = if last { of.height } else { 8 * down * unit - if down > 1 { down } else { 0 } };
        while drawn.row < ready {
            let pixels = out.get_mut(drawn.row * of.width * 3..(drawn.row + 1) * of.width * 3)?;
            drawn.next(&planes, pixels)?;
        }
    }
    Some(())
}

struct Drawn {
    width: usize,
    row: usize,
    across: usize,
    down: usize,
    /// Columns and rows of colour that belong to the picture.
    columns: usize,
    rows: usize,
    /// A row of each colour: across or down drawn out, and then in full.
    sums: Vec<i16>,
    blue: Vec<u8>,
    red: Vec<u8>,
}

impl Drawn {
    fn new(of: &Baseline) -> Drawn {
        let (across, down) = of.block();
        let (columns, rows) = (of.width.div_ceil(across), of.height.div_ceil(down));
        let full = vec![0; columns * across];
        Drawn {
            width: of.width,
            row: 0,
            across,
            down,
            columns,
            rows,
            sums: vec![0; columns],
            blue: full.clone(),
            red: full,
        }
    }

    /// Draws the next row of pixels.
    fn next(&mut self, planes: &[Plane<'_>], pixels: &mut [u8]) -> Option<()> {
        let luma = row(&planes[0], self.row, self.width)?;
        if let [_, blue, red] = planes {
            let (near, far) = self.sources();
            for (plane, full) in [(blue, &mut self.blue), (red, &mut self.red)] {
                let (near, far) = (row(plane, near, self.columns)?, row(plane, far, self.columns)?);
                match (self.across, self.down) {
                    (1, 1) => full.copy_from_slice(near),
                    (2, 1) => across(near, full),
                    (2, _) => {
                        add(near, far, &mut self.sums);
                        both(&self.sums, full);
                    }
                    (1, _) => down(near, far, self.row % 2, full),
                    (times, _) => repeat(near, times, full),
                }
            }
            ycc::rgb(luma, &self.blue[..self.width], &self.red[..self.width], pixels);
        } else {
            for (pixel, &value) in pixels.as_chunks_mut::<3>().0.iter_mut().zip(luma) {
                *pixel = [value; 3];
            }
        }
        self.row += 1;
        Some(())
    }

    /// The row of colour that is nearest, and the second nearest.
    fn sources(&self) -> (usize, usize) {
        let near = self.row / self.down;
        if self.down == 1 {
            return (near, near);
        }
        let far =
            if self.row.is_multiple_of(2) { near.saturating_sub(1) } else { (near + 1).min(self.rows - 1) };
        (near, far)
    }
}

fn row<'a>(plane: &'a Plane<'_>, row: usize, width: usize) -> Option<&'a [u8]> {
    plane.values.get(row % plane.rows * plane.stride..)?.get(..width)
}

/// Each value for two pixels: three quarters of it and a quarter of its neighbour, rounded down and up in turns.
#[multiversion(targets("x86_64+avx2", "x86_64+ssse3"))]
fn across(near: &[u8], out: &mut [u8]) {
    let (pairs, _) = out.as_chunks_mut::<2>();
    let n = near.len();
    for ((pair, three), &here) in pairs[1..n - 1].iter_mut().zip(near.windows(3)).zip(&near[1..]) {
        let here = 3 * u16::from(here);
        *pair =
            [((here + u16::from(three[0]) + 1) >> 2) as u8, ((here + u16::from(three[2]) + 2) >> 2) as u8];
    }
    let edge =
        |here: u8, there: u8, round: u16| ((3 * u16::from(here) + u16::from(there) + round) >> 2) as u8;
    pairs[0] = [near[0], edge(near[0], near[1], 2)];
    pairs[n - 1] = [edge(near[n - 1], near[n - 2], 1), near[n - 1]];
}

#[multiversion(targets("x86_64+avx2", "x86_64+ssse3"))]
fn down(near: &[u8], far: &[u8], odd: usize, out: &mut [u8]) {
    let round = 1 + odd as u16;
    for ((out, &near), &far) in out.iter_mut().zip(near).zip(far) {
        *out = ((3 * u16::from(near) + u16::from(far) + round) >> 2) as u8;
    }
}

#[multiversion(targets("x86_64+avx2", "x86_64+ssse3"))]
fn add(near: &[u8], far: &[u8], sums: &mut [i16]) {
    for ((sum, &near), &far) in sums.iter_mut().zip(near).zip(far) {
        *sum = 3 * i16::from(near) + i16::from(far);
    }
}

/// As [`across`], of sums of four.
#[multiversion(targets("x86_64+avx2", "x86_64+ssse3"))]
fn both(sums: &[i16], out: &mut [u8]) {
    let (pairs, _) = out.as_chunks_mut::<2>();
    let n = sums.len();
    let middle = pairs[1..n - 1].iter_mut();
    for (((pair, &before), &here), &after) in middle.zip(sums).zip(&sums[1..]).zip(&sums[2..]) {
        *pair = [((3 * here + before + 8) >> 4) as u8, ((3 * here + after + 7) >> 4) as u8];
    }
    let edge = |here: i16, there: i16, round: i16| ((3 * here + there + round) >> 4) as u8;
    pairs[0] = [edge(sums[0], sums[0], 8), edge(sums[0], sums[1], 7)];
    pairs[n - 1] = [edge(sums[n - 1], sums[n - 2], 8), edge(sums[n - 1], sums[n - 1], 7)];
}

fn repeat(near: &[u8], times: usize, out: &mut [u8]) {
    for (out, &value) in out.chunks_exact_mut(times).zip(near) {
        out.fill(value);
    }
}
