//! Everything we want to know about a picture, from one decode.

use std::sync::Mutex;

use crate::decode::{self, Format, Header, Limits};
use crate::error::Result;
use crate::lent;
use crate::measure::{Measured, Sides, measure};
use crate::orient;
use crate::pool;
use crate::reason::{Failure, Verdict, caught};
use crate::s3::Ahead;
use crate::source::Source;
use crate::spare;
use crate::stage::{Spent, Stage, timed};

#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub sides: Sides,
    pub limits: Limits,
    pub threads: usize,
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
    let size = options.sides.tensor.map_or(0, |side| side as usize * side as usize * 3);
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
    Ok((rows, options.sides.tensor.map(|_| tensors), spent))
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
    row.measured = Some(timed(Stage::Measure, || measure(&picture, options.sides, tensor))?);
    spare::give(picture.pixels);
    Ok(())
}
