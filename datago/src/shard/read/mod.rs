//! Shards read back, row by row, in any order: what is asked for is read, and no more.
//!
//! A shard is bytes from outside: every length is checked against the file before anything is allocated.

mod footer;
mod mds;
mod pages;
mod parquet;
mod place;
mod thrift;
mod webdataset;

use std::ops::Range;

pub use self::place::Place;
use super::ShardFormat;
use crate::error::Result;
use crate::reason::{Failure, Verdict};
use crate::source::check_size;

/// What of a row is wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Names of payloads.
    pub payloads: Vec<String>,
    /// The most bytes of a picture or payload.
    pub max_bytes: u64,
}

/// One row. What is over the cap is not read; the row then has a failure instead of bytes.
#[derive(Debug, Default)]
pub struct Stored {
    pub id: String,
    /// The bytes around the picture, and where in them it lies.
    pub data: Vec<u8>,
    pub image: Range<usize>,
    /// A JSON object.
    pub attributes: Vec<u8>,
    /// As wanted; `None` where the sample has no such payload.
    pub payloads: Vec<Option<Vec<u8>>>,
    pub failure: Option<Failure>,
}

/// A shard whose layout is known. Many threads read it at once.
pub trait Rows: Send + Sync {
    /// How many there are.
    fn len(&self) -> usize;
    /// The row of this number, below `len`.
    fn row(&self, row: usize, wanted: &Wanted) -> Result<Stored>;
    /// (width, height) of the picture of every row, by what the shard says.
    fn sizes(&self) -> Result<Vec<(u32, u32)>>;
}

pub fn open(place: Place, format: ShardFormat) -> Result<Box<dyn Rows>> {
    Ok(match format {
        ShardFormat::Webdataset => Box::new(webdataset::Tar::open(place)?),
        ShardFormat::Mds => Box::new(mds::Mds::open(place)?),
        ShardFormat::Parquet => Box::new(parquet::Parquet::open(place)?),
    })
}

/// A size of at least one pixel on each side.
fn size(width: Option<u32>, height: Option<u32>, place: &Place) -> Result<(u32, u32)> {
    match (width, height) {
        (Some(width @ 1..), Some(height @ 1..)) => Ok((width, height)),
        _ => Err(place.damaged("a sample does not say how large its picture is")),
    }
}

/// The cap on each of some lengths.
fn check_sizes(lengths: impl IntoIterator<Item = u64>, wanted: &Wanted) -> Verdict<()> {
    lengths.into_iter().try_for_each(|length| check_size(length, wanted.max_bytes))
}
