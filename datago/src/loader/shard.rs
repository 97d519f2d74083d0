//! A shard while a stream needs it: opened when its first row is asked for; one on S3 is fetched before that, whole, into
//! a file without a name.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use object_store::{GetOptions, ObjectStore};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::AbortHandle;

use crate::error::{Error, Result};
use crate::reason::caught;
use crate::s3::{Location, Parts, network};
use crate::shard::read::{self, Place, Rows, Stored, Wanted};
use crate::shard::{Compression, ShardFormat, nameless};

/// Shards that are fetched at a time.
pub const FETCHES: usize = 4;

/// Where a shard lies.
pub enum Origin {
    Path(PathBuf),
    /// On its way; stopped when the shard is dropped.
    Remote(Fetching),
    /// Read where it is, a sample at a time.
    Parts(Arc<Parts>),
}

pub struct Fetching {
    arriving: Mutex<Option<oneshot::Receiver<Result<File>>>>,
    url: String,
    task: AbortHandle,
}

impl Drop for Fetching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub struct Shard {
    origin: Origin,
    format: ShardFormat,
    compression: Option<Compression>,
    samples: usize,
    /// BLAKE3 (hex) that its bytes must have, if that is to be seen.
    digest: Option<String>,
    opened: OnceLock<Result<Box<dyn Rows>>>,
}

impl Shard {
    pub fn new(
        origin: Origin,
        format: ShardFormat,
        compression: Option<Compression>,
        samples: usize,
        digest: Option<String>,
    ) -> Self {
        Shard { origin, format, compression, samples, digest, opened: OnceLock::new() }
    }

    pub fn row(&self, row: usize, wanted: &Wanted) -> Result<Stored> {
        let rows = self.opened.get_or_init(|| self.open()).as_ref().map_err(Error::again)?;
        unpanicked(&self.shown(), || rows.row(row, wanted))
    }

    /// (width, height) of every picture, by what the shard says.
    pub fn sizes(&self) -> Result<Vec<(u32, u32)>> {
        let rows = self.opened.get_or_init(|| self.open()).as_ref().map_err(Error::again)?;
        unpanicked(&self.shown(), || rows.sizes())
    }

    /// Wakes whoever waits for it: nobody wants it any more.
    pub fn stop(&self) {
        match &self.origin {
            Origin::Path(_) => {}
            Origin::Remote(fetching) => fetching.task.abort(),
            Origin::Parts(parts) => parts.stop(),
        }
    }

    fn shown(&self) -> String {
        match &self.origin {
            Origin::Path(path) => path.display().to_string(),
            Origin::Remote(fetching) => fetching.url.clone(),
            Origin::Parts(parts) => parts.url(),
        }
    }

    /// Whoever needs a shard first opens it; the others wait.
    fn open(&self) -> Result<Box<dyn Rows>> {
        let place = match &self.origin {
            Origin::Path(path) => {
                let place = Place::open(path)?;
                if let Some(expected) = &self.digest
                    && place.digest()? != *expected
                {
                    return Err(place.damaged("its bytes do not have the digest that its index names"));
                }
                place
            }
            Origin::Remote(fetching) => {
                let receiver = fetching.arriving.lock().unwrap_or_else(PoisonError::into_inner).take();
                let file = match receiver.and_then(|arriving| arriving.blocking_recv().ok()) {
                    Some(fetched) => fetched?,
                    None => {
                        return Err(Error::Storage(format!(
                            "could not read {}: it was stopped",
                            fetching.url
                        )));
                    }
                };
                Place::of(file, fetching.url.clone())?
            }
            Origin::Parts(parts) => Place::in_parts(Arc::clone(parts))?,
        };
        let place = match self.compression {
            Some(compression) => place.expanded(compression)?,
            None => place,
        };
        let rows = unpanicked(&self.shown(), || read::open(place, self.format))?;
        if rows.len() != self.samples {
            return Err(Error::Damaged(format!(
                "shard {} is damaged: it holds {} samples, its index says {}",
                self.shown(),
                rows.len(),
                self.samples
            )));
        }
        Ok(rows)
    }
}

/// Reads a shard; the parser of a format that is not ours may panic on damage.
fn unpanicked<T>(shown: &str, read: impl FnOnce() -> Result<T>) -> Result<T> {
    caught(|| Ok(read())).unwrap_or_else(|failure| {
        let why = failure.detail.trim_start_matches("The decoder panicked: ").trim_end_matches('.');
        Err(Error::Damaged(format!("shard {shown} is damaged: its reader gave up ({why})")))
    })
}

/// Sets out for a shard on S3. Shards are fetched in the order of these calls, some at a time; at its end the bytes
/// must have the length and the digest that the index names.
pub fn fetch(location: Arc<Location>, turns: &Arc<Semaphore>, digest: String) -> Result<Fetching> {
    let url = location.url();
    let turns = Arc::clone(turns);
    let (done, receiver) = oneshot::channel();
    let task = network()?.runtime.spawn(async move {
        let Ok(turn) = turns.acquire_owned().await else { return };
        let fetched = fetched(&location, &digest).await;
        drop(turn);
        let _ = done.send(fetched);
    });
    Ok(Fetching { arriving: Mutex::new(Some(receiver)), url, task: task.abort_handle() })
}

async fn fetched(location: &Location, digest: &str) -> Result<File> {
    let path = location.path()?;
    let opened = location.client().store.get_opts(&path, GetOptions::default()).await;
    let opened = opened.map_err(|cause| Error::Storage(location.unreadable(&cause).detail))?;
    let mut file = nameless(&std::env::temp_dir(), location.name())?;
    let mut hasher = blake3::Hasher::new();
    let mut pieces = opened.into_stream();
    while let Some(piece) = next(&mut pieces).await {
        let piece = piece.map_err(|cause| Error::Storage(location.unreadable(&cause).detail))?;
        hasher.update(&piece);
        file.write_all(&piece).map_err(|cause| full(location, &cause))?;
    }
    if hasher.finalize().to_hex().as_str() != digest {
        return Err(Error::Damaged(format!(
            "shard {} is damaged: its bytes do not have the digest that its index names",
            location.url()
        )));
    }
    Ok(file)
}

/// The next piece of a stream, without the crate of combinators.
async fn next<S: futures_core::Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    std::future::poll_fn(|context| std::pin::Pin::new(&mut *stream).poll_next(context)).await
}

fn full(location: &Location, cause: &io::Error) -> Error {
    let folder = std::env::temp_dir();
    Error::Storage(format!("could not set down {} in {}: {cause}", location.url(), folder.display()))
}
