//! Shards: files whose bytes depend on the samples and the recipe, and on nothing else.

mod blocks;
mod compress;
mod mds;
mod output;
mod parquet;
pub mod read;
mod webdataset;

use std::sync::Mutex;

use serde_json::Value;

pub use self::compress::{Compression, MOST, expanded};
use self::output::Output;
pub use self::output::{Target, nameless};
use crate::decode::Limits;
use crate::error::{Error, Result};
use crate::pool;
use crate::reason::{Failure, caught};
use crate::s3::Ahead;
use crate::sample::{self, Record, Sample, Treatment};
use crate::source::Source;
use crate::spare::Shelf;
use crate::stage::{self, Spent, Stage, timed};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShardFormat {
    Webdataset,
    Mds,
    Parquet,
}

impl ShardFormat {
    pub fn named(name: &str) -> Result<Self> {
        match name {
            "webdataset" => Ok(ShardFormat::Webdataset),
            "mds" => Ok(ShardFormat::Mds),
            "parquet" => Ok(ShardFormat::Parquet),
            other => Err(Error::Config(format!("{other:?} is no shard format"))),
        }
    }
}

/// How to write one shard.
pub struct Job<'a> {
    pub target: &'a Target,
    pub format: ShardFormat,
    /// Of an MDS shard.
    pub compression: Option<Compression>,
    pub treatment: Treatment,
    /// Payloads that become what the picture becomes.
    pub extra_images: Vec<String>,
    /// Payloads that get a column even where no sample of this shard has them.
    pub payload_names: Vec<String>,
    pub limits: Limits,
    pub threads: usize,
}

/// What was written.
pub struct Written {
    pub bytes: u64,
    pub digest: String,
    pub samples: usize,
    pub failures: Vec<(String, Failure)>,
    /// For MDS, the shard's entry of `index.json`.
    pub entry: Option<Value>,
    pub spent: Spent,
}

/// Receives samples in order and ends with the file complete but not yet published.
trait Writer {
    /// What is needed longer than this is taken out of `sample`.
    fn add(&mut self, sample: &mut Sample) -> Result<()>;
    /// `None` where samples turned out otherwise than foretold.
    fn finish(self: Box<Self>) -> Result<Option<(Output, Option<Value>)>>;
}

/// Prepares the records on many threads and writes them in order. A sample that can not be used is left out and
/// reported. A sample that could not be *read* stops the shard: a later attempt might read it, and one shard must
/// not have two contents.
pub fn write(job: &Job<'_>, records: &[Record], mut tick: impl FnMut() -> Result<()>) -> Result<Written> {
    let mut foretelling = job.format == ShardFormat::Mds && matches!(job.treatment, Treatment::Bytes);
    loop {
        if let Some(written) = attempt(job, records, foretelling, &mut tick)? {
            return Ok(written);
        }
        foretelling = false;
    }
}

/// `None` where samples turned out otherwise than foretold.
fn attempt(
    job: &Job<'_>,
    records: &[Record],
    foretelling: bool,
    tick: &mut dyn FnMut() -> Result<()>,
) -> Result<Option<Written>> {
    let attributes = records.iter().map(|r| sample::check(r).map(Mutex::new)).collect::<Result<Vec<_>>>()?;
    let columns = columns(job, records);
    let foretell = || records.iter().zip(&attributes).map(|(r, a)| mds::foretell(r, a, &columns)).collect();
    let foretold: Option<Vec<u64>> = foretelling.then(foretell).flatten();
    let output = Output::create(job.target)?;
    let mut writer: Box<dyn Writer> = match job.format {
        ShardFormat::Webdataset => Box::new(webdataset::Tar::new(output)),
        ShardFormat::Mds => Box::new(mds::Mds::new(output, job, columns, foretold)?),
        ShardFormat::Parquet => Box::new(parquet::Parquet::new(output, columns)?),
    };
    let mut failures = Vec::new();
    let mut samples = 0;
    let threads = pool::threads(job.threads, records.len());
    let shelf = Shelf::default();
    let work = |i: usize| {
        let prepared = caught(|| {
            sample::prepare(&records[i], &attributes[i], job.treatment, &job.extra_images, job.limits, &shelf)
        });
        // A picture that can not be used leaves its payloads unread.
        records[i].sources().for_each(Source::forget);
        prepared
    };
    let receive = |index: usize, verdict| match verdict {
        Ok(mut sample) => {
            samples += 1;
            timed(Stage::Write, || writer.add(&mut sample))?;
            if matches!(job.treatment, Treatment::Bytes) {
                shelf.give(sample.image);
                sample.payloads.into_iter().for_each(|payload| shelf.give(payload.data));
            }
            Ok(())
        }
        Err(Failure { reason, detail }) if reason.retryable() => {
            Err(Error::Storage(format!("sample {}: {detail}", records[index].sample_id)))
        }
        Err(failure) => {
            failures.push((records[index].sample_id.clone(), failure));
            Ok(())
        }
    };
    let ahead = Ahead::start(records.iter().flat_map(Record::sources), job.limits.max_bytes)?;
    let mut spent =
        pool::ordered(records.len(), threads, threads * 2, work, receive, &mut *tick, || ahead.stop())?;
    let published = timed(Stage::Write, || {
        let Some((output, entry)) = writer.finish()? else { return Ok(None) };
        output.publish(job.target, tick).map(|(bytes, digest)| Some((bytes, digest, entry)))
    })?;
    spent += stage::take();
    Ok(published.map(|(bytes, digest, entry)| Written { bytes, digest, samples, failures, entry, spent }))
}

/// The payload columns: those asked for and those found, sorted.
fn columns(job: &Job<'_>, records: &[Record]) -> Vec<String> {
    let found = records.iter().flat_map(|r| r.payloads.iter().map(|p| &p.name));
    let mut names: Vec<String> = job.payload_names.iter().chain(found).cloned().collect();
    names.sort();
    names.dedup();
    names
}

/// Compact JSON with sorted keys: one value has one text.
fn canonical(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| Error::Input(format!("attributes can not be written as JSON: {e}")))
}
