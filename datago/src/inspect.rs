//! Everything we want to know about a picture, from one decode.

use std::sync::Mutex;

use fast_image_resize::FilterType;
use turbojpeg::Subsamp;

use crate::decode::{self, Format, Header, Limits};
use crate::encode;
use crate::error::Result;
use crate::lent;
use crate::orient;
use crate::phash;
use crate::picture::Picture;
use crate::pool;
use crate::reason::{Failure, Verdict, caught};
use crate::resize::{View, cover, resample, resample_into, within};
use crate::s3::Ahead;
use crate::source::Source;
use crate::spare;
use crate::stage::{Spent, Stage, timed};
use crate::stats::{self, Luma, Stats};

const THUMBNAIL_QUALITY: u8 = 85;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    Crop,
    Squash,
}

#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub thumbnail_side: u32,
    pub tensor_side: Option<u32>,
    pub fit: Fit,
    pub limits: Limits,
    pub threads: usize,
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

/// What is known of one input. Every input gets one; a failure keeps what was learnt before it.
#[derive(Default)]
pub struct Row {
    pub failure: Option<Failure>,
    pub digest: Option<String>,
    pub bytes: Option<u64>,
    pub format: Option<Format>,
    pub header: Option<Header>,
    pub measured: Option<Measured>,
}

/// Inspects all sources, in order. The tensors come back as one block, zero where a picture failed.
pub fn inspect(
    sources: &[Source],
    options: Options,
    tick: impl FnMut() -> Result<()>,
) -> Result<(Vec<Row>, Option<Vec<u8>>, Spent)> {
    let size = options.tensor_side.map_or(0, |side| side as usize * side as usize * 3);
    let mut tensors = lent::take(size * sources.len());
    let mut rows = Vec::with_capacity(sources.len());
    let spent = {
        // Each worker writes only its own picture's slice of the block.
        let slots: Vec<Mutex<&mut [u8]>> = match size {
            0 => Vec::new(),
            _ => tensors.chunks_exact_mut(size).map(Mutex::new).collect(),
        };
        let work = |index: usize| match slots.get(index).map(Mutex::lock) {
            Some(Ok(mut slot)) => inspect_one(&sources[index], &options, &mut slot),
            _ => inspect_one(&sources[index], &options, &mut []),
        };
        let threads = pool::threads(options.threads, sources.len());
        let receive = |_, row| {
            rows.push(row);
            Ok(())
        };
        let ahead = Ahead::start(sources.iter(), options.limits.max_bytes)?;
        pool::ordered(sources.len(), threads, threads * 16, work, receive, tick, || ahead.stop())?
    };
    Ok((rows, options.tensor_side.map(|_| tensors), spent))
}

fn inspect_one(source: &Source, options: &Options, tensor: &mut [u8]) -> Row {
    let mut row = Row::default();
    let outcome = caught(|| fill(&mut row, source, options, tensor));
    if let Err(failure) = outcome {
        row.failure = Some(failure);
        row.measured = None;
        tensor.fill(0);
    }
    row
}

fn fill(row: &mut Row, source: &Source, options: &Options, tensor: &mut [u8]) -> Verdict<()> {
    let data = source.load(options.limits.max_bytes)?;
    row.bytes = Some(data.len() as u64);
    row.digest = Some(timed(Stage::Measure, || blake3::hash(&data)).to_hex().to_string());
    let format = *row.format.insert(decode::recognise(&data)?);
    let header = row.header.insert(decode::probe(&data, format)?);
    let picture = decode::decode(&data, header, options.limits, None)?;
    let picture = orient::upright(picture, header.orientation);
    row.measured = Some(timed(Stage::Measure, || measure(&picture, options, tensor))?);
    spare::give(picture.pixels);
    Ok(())
}

fn measure(picture: &Picture, options: &Options, tensor: &mut [u8]) -> Verdict<Measured> {
    let flat = picture.flattened();
    let (width, height) = (picture.width, picture.height);
    let view = View { pixels: &flat, width, height, channels: 3 };
    let luma = Luma::of(&flat, width, height);
    let working = luma.working()?;
    let tiny = working.resized(phash::SIDE as u32, phash::SIDE as u32, FilterType::Lanczos3)?;
    if let Some(side) = options.tensor_side {
        let crop = (options.fit == Fit::Crop).then(|| cover(width, height, (side, side)));
        resample_into(view, crop, (side, side), FilterType::CatmullRom, tensor)?;
    }
    let stats = stats::stats(&luma);
    spare::give(luma.values);
    Ok(Measured {
        pixel_digest: pixel_digest(picture),
        phash: phash::phash(&tiny),
        stats,
        sharpness: stats::sharpness(&working),
        has_alpha: picture.has_alpha(),
        thumbnail: thumbnail(view, options.thumbnail_side)?,
    })
}

/// BLAKE3 of width, height and channels (u32, little endian) and the pixels.
fn pixel_digest(picture: &Picture) -> String {
    let mut hasher = blake3::Hasher::new();
    for number in [picture.width, picture.height, picture.channels as u32] {
        hasher.update(&number.to_le_bytes());
    }
    hasher.update(&picture.pixels);
    hasher.finalize().to_hex().to_string()
}

fn thumbnail(view: View<'_>, side: u32) -> Verdict<Vec<u8>> {
    let size = within(view.width, view.height, side);
    let pixels = resample(view, None, size, FilterType::Hamming)?;
    encode::jpeg(&pixels, size.0, size.1, THUMBNAIL_QUALITY, Subsamp::Sub2x2)
}
