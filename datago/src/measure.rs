//! What is known of a picture once it is decoded: one way through its pixels, and all else from the reduced picture.

use fast_image_resize::FilterType;
use multiversion::multiversion;
use turbojpeg::Subsamp;

use crate::boxes::{self, Boxes, MAX_FACTOR};
use crate::convolve::{Axes, Convolver, Plane};
use crate::encode;
use crate::phash;
use crate::picture::Picture;
use crate::reason::{Failure, Reason, Verdict};
use crate::reduce::{self, LEAST_SIDE, Reduced};
use crate::resize::{Crop, View, cover, resample_into, within};
use crate::spare::Rooms;
use crate::stage::{Stage, timed};
use crate::stats::{self, Stats};
use crate::weights::Filter;

const THUMBNAIL_QUALITY: u8 = 85;
/// Sharpness is measured with the long side at this many pixels, whatever the source's size.
const WORKING_SIDE: usize = LEAST_SIDE;
/// How many times as large as its target a picture reduced by boxes is at least: what boxes lack of a good filter is then
/// hardly seen.
const ROOMY: f64 = 5.0 / 3.0;

/// How a small picture is made.
struct Way {
    /// From the reduced picture, if that is at least so many times as large.
    filter: Filter,
    least: f64,
    /// From the whole picture.
    full: FilterType,
}

const THUMBNAIL: Way = Way { filter: Filter::Area, least: 1.0, full: FilterType::Hamming };
const TENSOR: Way = Way { filter: Filter::CatmullRom, least: ROOMY, full: FilterType::CatmullRom };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    Crop,
    Squash,
}

/// Sides of the small pictures that are made of each.
#[derive(Clone, Copy, Debug)]
pub struct Sides {
    pub thumbnail: u32,
    pub tensor: Option<u32>,
    pub fit: Fit,
}

/// What is only known of a picture that decodes.
pub struct Measured {
    pub pixel_digest: String,
    pub phash: u64,
    pub stats: Stats,
    pub sharpness: f64,
    pub has_alpha: bool,
    pub thumbnail: Vec<u8>,
}

/// Working memory for one picture.
#[derive(Default)]
struct Room {
    reduced: Reduced,
    scaler: Scaler,
    working: Vec<u8>,
    thumbnail: Vec<u8>,
}

static ROOMS: Rooms<Room> = Rooms::new();

/// Measures an upright picture and fills `tensor` with its small copy.
pub fn measure(picture: &Picture, sides: Sides, tensor: &mut [u8]) -> Verdict<Measured> {
    ROOMS.with(|_| true, |room| measure_in(room, picture, sides, tensor))
}

fn measure_in(room: &mut Room, picture: &Picture, sides: Sides, tensor: &mut [u8]) -> Verdict<Measured> {
    let Room { reduced, scaler, working, thumbnail } = room;
    let pixel_digest = reduced.read(picture);
    let (width, height) = work_on(reduced, picture, scaler, working)?;
    let mut tiny = [0; phash::SIDE * phash::SIDE];
    scaler.hash_input(working, (width, height), &mut tiny)?;
    let size = within(picture.width, picture.height, sides.thumbnail);
    thumbnail.resize(size.0 as usize * size.1 as usize * 3, 0);
    small(picture, reduced, None, size, &THUMBNAIL, scaler, thumbnail)?;
    if let Some(side) = sides.tensor {
        let crop = (sides.fit == Fit::Crop).then(|| cover(picture.width, picture.height, (side, side)));
        small(picture, reduced, crop, (side, side), &TENSOR, scaler, tensor)?;
    }
    Ok(Measured {
        pixel_digest,
        phash: phash::phash(&tiny),
        stats: stats::stats(&reduced.luma),
        sharpness: stats::sharpness(working, width),
        has_alpha: picture.has_alpha(),
        thumbnail: encode::jpeg(thumbnail, size.0, size.1, THUMBNAIL_QUALITY, Subsamp::Sub2x2)?,
    })
}

/// Luma at the working scale, the same in both directions; returns its width and height.
fn work_on(
    reduced: &Reduced,
    picture: &Picture,
    scaler: &mut Scaler,
    out: &mut Vec<u8>,
) -> Verdict<(usize, usize)> {
    let scale = f64::from(picture.width.max(picture.height)) / WORKING_SIDE as f64;
    let side = |side: u32| (f64::from(side) / scale).round().max(1.0) as usize;
    let (width, height) = (side(picture.width), side(picture.height));
    let scale = scale / reduced.factor as f64;
    out.resize(width * height, 0);
    let (columns, rows) = (reduced.columns, reduced.rows);
    if reduced.factor > 1 && scale == 1.0 {
        soften(&reduced.luma, columns, width, &mut scaler.sums, out);
        return Ok((width, height));
    }
    let crop = Crop { left: 0.0, top: 0.0, width: width as f64 * scale, height: height as f64 * scale };
    let luma = Plane { values: &reduced.luma, stride: columns, width: columns, height: rows };
    let target = (width as u32, height as u32);
    scaler.scale(luma, &Scaling::new(Filter::Triangle, crop, (columns, rows), target)?, out);
    Ok((width, height))
}

/// Fills `out`, of the given width, with the first rows and columns of a plane, each value a little like its neighbours: 1, 8, 1
/// tenths in both directions. Means of boxes are then about as sharp as what the triangle filter gives at other sizes.
#[multiversion(targets("x86_64+avx2", "x86_64+ssse3"))]
fn soften(plane: &[u8], columns: usize, width: usize, sums: &mut Vec<u16>, out: &mut [u8]) {
    sums.resize(columns + 2, 0);
    let last = plane.len() / columns - 1;
    let row = |y: usize| &plane[y.min(last) * columns..][..columns];
    for (y, out) in out.chunks_exact_mut(width).enumerate() {
        let rows = row(y.saturating_sub(1)).iter().zip(row(y)).zip(row(y + 1));
        for (sum, ((&above, &here), &below)) in sums[1..].iter_mut().zip(rows) {
            *sum = u16::from(above) + 8 * u16::from(here) + u16::from(below);
        }
        sums[0] = sums[1];
        sums[columns + 1] = sums[columns];
        for (((out, left), here), right) in out.iter_mut().zip(&*sums).zip(&sums[1..]).zip(&sums[2..]) {
            *out = ((left + 8 * here + right + 50) / 100) as u8;
        }
    }
}

/// Fills `out` with the crop (or all) of the picture.
fn small(
    picture: &Picture,
    reduced: &Reduced,
    crop: Option<Crop>,
    target: (u32, u32),
    way: &Way,
    scaler: &mut Scaler,
    out: &mut [u8],
) -> Verdict<()> {
    timed(Stage::Resize, || {
        let whole =
            Crop { left: 0.0, top: 0.0, width: f64::from(picture.width), height: f64::from(picture.height) };
        let part = crop.unwrap_or(whole).shrunk(reduced.factor, reduced.factor);
        let least = |side: u32| f64::from(side) * way.least;
        if reduced.factor == 1 || (part.width >= least(target.0) && part.height >= least(target.1)) {
            return scaler.colours(reduced, part, target, way.filter, out);
        }
        let flat = picture.flattened();
        let view = View { pixels: &flat, width: picture.width, height: picture.height };
        resample_into(view, crop, target, way.full, out)
    })
}

/// Resamples planes that may be much larger than their target: by boxes as far as there is room, then by a filter.
#[derive(Default)]
struct Scaler {
    convolver: Convolver,
    boxes: Boxes,
    shrunk: Vec<u8>,
    done: [Vec<u8>; 3],
    sums: Vec<u16>,
}

/// How planes of one size become planes of another: by boxes, and what these leave by a filter.
struct Scaling {
    factors: (usize, usize),
    axes: Option<Axes>,
}

impl Scaling {
    fn new(
        filter: Filter,
        crop: Crop,
        (width, height): (usize, usize),
        target: (u32, u32),
    ) -> Verdict<Scaling> {
        let exact = |length: f64, target: u32| {
            let factor = boxes::factor(length, f64::from(target), MAX_FACTOR);
            (length == f64::from(target) * factor as f64).then_some(factor)
        };
        if let (Filter::Area, Some(across), Some(down)) =
            (filter, exact(crop.width, target.0), exact(crop.height, target.1))
            && width.div_ceil(across) == target.0 as usize
        {
            return Ok(Scaling { factors: (across, down), axes: None });
        }
        let factor = |length, target| boxes::factor(length, f64::from(target) * ROOMY, MAX_FACTOR);
        let factors = (factor(crop.width, target.0), factor(crop.height, target.1));
        let size = (width.div_ceil(factors.0), height.div_ceil(factors.1));
        match Axes::new(filter, crop.shrunk(factors.0, factors.1), size, target) {
            None => Err(Failure::new(Reason::Internal, "Boxes leave too much to a filter.")),
            axes => Ok(Scaling { factors, axes }),
        }
    }
}

impl Scaler {
    fn scale(&mut self, plane: Plane<'_>, how: &Scaling, out: &mut [u8]) {
        let Some(axes) = &how.axes else {
            return boxes::shrink(plane.values, plane.width, how.factors, &mut self.boxes, out);
        };
        if how.factors == (1, 1) {
            return self.convolver.resample(plane, axes, out);
        }
        let (width, height) = (plane.width.div_ceil(how.factors.0), plane.height.div_ceil(how.factors.1));
        self.shrunk.resize(width * height, 0);
        boxes::shrink(plane.values, plane.width, how.factors, &mut self.boxes, &mut self.shrunk);
        self.convolver.resample(Plane { values: &self.shrunk, stride: width, width, height }, axes, out);
    }

    fn hash_input(&mut self, luma: &[u8], (width, height): (usize, usize), out: &mut [u8]) -> Verdict<()> {
        let plane = Plane { values: luma, stride: width, width, height };
        let crop = Crop { left: 0.0, top: 0.0, width: width as f64, height: height as f64 };
        let target = (phash::SIDE as u32, phash::SIDE as u32);
        self.scale(plane, &Scaling::new(Filter::Lanczos3, crop, (width, height), target)?, out);
        Ok(())
    }

    fn colours(
        &mut self,
        reduced: &Reduced,
        crop: Crop,
        target: (u32, u32),
        filter: Filter,
        out: &mut [u8],
    ) -> Verdict<()> {
        let (width, height) = (reduced.columns, reduced.rows);
        let how = Scaling::new(filter, crop, (width, height), target)?;
        let mut done = std::mem::take(&mut self.done);
        for (values, done) in reduced.colours.iter().zip(&mut done) {
            done.resize(out.len() / 3, 0);
            self.scale(Plane { values, stride: width, width, height }, &how, done);
        }
        reduce::join(&done, out);
        self.done = done;
        Ok(())
    }
}
