//! Pictures as pixels, and headers alone, for many inputs at once.

use std::sync::Mutex;

use crate::decode::{self, Format, Header, Limits, jpeg};
use crate::error::Result;
use crate::fit;
use crate::lent;
use crate::orient::{displayed, upright};
use crate::pool;
use crate::reason::{Verdict, caught};
use crate::s3::Ahead;
use crate::source::Source;

/// Most JPEG headers are shorter, colour profile and thumbnail included.
const HEADER_BYTES: u64 = 64 << 10;

/// Upright RGB, over white.
pub struct Raster {
    pub width: u32,
    pub height: u32,
    pub pixels: Vec<u8>,
}

/// The header of every input, in order.
pub fn probe(
    sources: &[Source],
    max_bytes: u64,
    threads: usize,
    tick: impl FnMut() -> Result<()>,
) -> Result<Vec<Verdict<Header>>> {
    each(sources, max_bytes, threads, tick, |index| header(&sources[index], max_bytes))
}

/// Only the beginning of a file is read where that is enough.
fn header(source: &Source, max_bytes: u64) -> Verdict<Header> {
    if let Some(start) = source.load_start(HEADER_BYTES, max_bytes)?
        && matches!(decode::recognise(&start), Ok(Format::Jpeg | Format::Gif))
        && let Ok(found) = decode::header(&start)
    {
        return Ok(found);
    }
    decode::header(&source.load(max_bytes)?)
}

/// The pixels of every input at full size, in order.
pub fn decode(
    sources: &[Source],
    limits: Limits,
    threads: usize,
    tick: impl FnMut() -> Result<()>,
) -> Result<Vec<Verdict<Raster>>> {
    each(sources, limits.max_bytes, threads, tick, |index| raster(&sources[index], limits))
}

fn raster(source: &Source, limits: Limits) -> Verdict<Raster> {
    let data = source.load(limits.max_bytes)?;
    let header = decode::header(&data)?;
    decode::check(&header, limits)?;
    let (width, height) = displayed(header.width, header.height, header.orientation);
    if jpeg::is_rgb(&header) && header.orientation == 1 {
        let mut pixels = lent::take(width as usize * height as usize * 3);
        jpeg::decode_into(&data, &header, &mut pixels)?;
        return Ok(Raster { width, height, pixels });
    }
    let picture = upright(decode::decode(&data, &header, limits, None)?, header.orientation);
    let pixels = if picture.has_alpha() { picture.flattened().into_owned() } else { picture.pixels };
    Ok(Raster { width, height, pixels })
}

/// All inputs cut and resized to `size`, one after the other in one block. What failed is zero there.
pub fn fitted(
    sources: &[Source],
    size: (u32, u32),
    limits: Limits,
    threads: usize,
    tick: impl FnMut() -> Result<()>,
) -> Result<(Vec<Verdict<()>>, Vec<u8>)> {
    let bytes = size.0 as usize * size.1 as usize * 3;
    let mut block = lent::take(bytes * sources.len());
    let verdicts = {
        let slots: Vec<Mutex<&mut [u8]>> = block.chunks_exact_mut(bytes).map(Mutex::new).collect();
        each(sources, limits.max_bytes, threads, tick, |index| {
            let mut slot = slots[index].lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let verdict =
                caught(|| fit::pixels_into(&sources[index].load(limits.max_bytes)?, size, limits, &mut slot));
            if verdict.is_err() {
                slot.fill(0);
            }
            verdict
        })?
    };
    Ok((verdicts, block))
}

fn each<T: Send>(
    sources: &[Source],
    max_bytes: u64,
    threads: usize,
    tick: impl FnMut() -> Result<()>,
    work: impl Fn(usize) -> Verdict<T> + Sync,
) -> Result<Vec<Verdict<T>>> {
    let threads = pool::threads(threads, sources.len());
    let mut found = Vec::with_capacity(sources.len());
    let receive = |_, verdict| {
        found.push(verdict);
        Ok(())
    };
    let ahead = Ahead::start(sources.iter(), max_bytes)?;
    let window = threads * 16;
    pool::ordered(sources.len(), threads, window, |i| caught(|| work(i)), receive, tick, || ahead.stop())?;
    Ok(found)
}
