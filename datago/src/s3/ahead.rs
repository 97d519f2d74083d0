//! Objects on their way before they are asked for, so that threads that decode never wait for a network that could
//! have been busy: in order, so many at a time, and never more bytes than a budget.

use std::sync::Arc;
use std::time::Duration;

use object_store::path::Path;
use object_store::{GetOptions, GetResult, ObjectStore};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::{AbortHandle, JoinSet};

use super::Location;
use super::client::network;
use crate::error::Result;
use crate::reason::{Failure, Reason, Verdict};
use crate::source::{Source, check_size};

/// Requests under way at a time.
const REQUESTS: usize = 32;
/// Bytes that have arrived, or are arriving, and were not taken yet; in KiB.
const BUDGET: u32 = 256 << 10;
/// Objects that have arrived and were not taken yet.
const HELD: u32 = 64;
/// An object that comes more slowly than this is given up, after the patience for a whole new start.
const SLOWEST: u64 = 64 << 10;

/// Bytes, and their part of the budget: given back when they are taken.
pub struct Arrived {
    pub data: Vec<u8>,
    _weight: OwnedSemaphorePermit,
}

pub type Arrival = Verdict<Arrived>;

/// Everything that is on its way. Dropped, all of it is stopped.
pub struct Ahead(Option<AbortHandle>);

struct Wanted {
    location: Arc<Location>,
    path: Path,
    arrival: oneshot::Sender<Arrival>,
}

impl Ahead {
    /// Sets out for those of `sources` that lie on S3. They must be taken (or forgotten) in this order, several at a
    /// time or not: bytes for later ones may fill the budget only after all earlier ones had their part of it.
    pub fn start<'a>(sources: impl Iterator<Item = &'a Source>, max_bytes: u64) -> Result<Self> {
        let mut wanted = Vec::new();
        for source in sources {
            let Source::Remote(remote) = source else { continue };
            let (arrival, receiver) = oneshot::channel();
            *remote.arriving() = Some(receiver);
            match remote.location.path() {
                Ok(path) => wanted.push(Wanted { location: Arc::clone(&remote.location), path, arrival }),
                Err(cause) => drop(arrival.send(Err(Failure::new(Reason::Unreadable, format!("{cause}."))))),
            }
        }
        if wanted.is_empty() {
            return Ok(Ahead(None));
        }
        Ok(Ahead(Some(network()?.runtime.spawn(fetch_all(wanted, max_bytes)).abort_handle())))
    }

    /// Stops everything: whoever waits for an object is told so.
    pub fn stop(&self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Objects are opened many at a time, but get their part of the budget strictly in order. So the first object that was
/// not taken yet either has its part, or waits for objects before it, which are being taken: nothing waits in a circle.
async fn fetch_all(wanted: Vec<Wanted>, max_bytes: u64) {
    let requests = Arc::new(Semaphore::new(REQUESTS));
    let budget = Arc::new(Semaphore::new(BUDGET as usize));
    // Dropped with this future, and all tasks with it.
    let mut tasks = JoinSet::new();
    let (_, mut turn) = oneshot::channel();
    for Wanted { location, path, arrival } in wanted {
        let Ok(request) = Arc::clone(&requests).acquire_owned().await else { return };
        let (next, after) = oneshot::channel::<()>();
        let mine = std::mem::replace(&mut turn, after);
        let budget = Arc::clone(&budget);
        tasks.spawn(async move {
            let opened = open(&location, &path, max_bytes).await;
            // The one before tells by letting go of its end.
            let _ = mine.await;
            let fetched = match opened {
                Err(failure) => Err(failure),
                Ok(opened) => match budget.acquire_many_owned(weight(opened.meta.size)).await {
                    Err(_) => Err(location.unread("it was stopped")),
                    Ok(weight) => {
                        drop(next);
                        read(&location, opened).await.map(|data| Arrived { data, _weight: weight })
                    }
                },
            };
            drop(request);
            let _ = arrival.send(fetched);
        });
        while tasks.try_join_next().is_some() {}
    }
    while tasks.join_next().await.is_some() {}
}

/// A part of the budget: at least what lets `HELD` objects in, at most all of it.
fn weight(size: u64) -> u32 {
    u32::try_from(size.div_ceil(1024)).unwrap_or(BUDGET).clamp(BUDGET / HELD, BUDGET)
}

/// The reply's head, from which the cap is known to hold before the body is read.
async fn open(location: &Location, path: &Path, max_bytes: u64) -> Verdict<GetResult> {
    let opened = location.client.store.get_opts(path, GetOptions::default()).await;
    let opened = opened.map_err(|cause| location.unreadable(&cause))?;
    check_size(opened.meta.size, max_bytes)?;
    Ok(opened)
}

/// All of the body. One that ends early is not a verdict on the picture.
async fn read(location: &Location, opened: GetResult) -> Verdict<Vec<u8>> {
    let size = opened.meta.size;
    let settings = &location.client.settings;
    let patience = Duration::from_secs(settings.timeout * settings.attempts as u64 + size / SLOWEST);
    match tokio::time::timeout(patience, opened.bytes()).await {
        Err(_) => Err(location.unread(&format!("{size} bytes did not come in {} s", patience.as_secs()))),
        Ok(Err(cause)) => Err(location.unreadable(&cause)),
        Ok(Ok(data)) if data.len() as u64 != size => {
            Err(location.unread(&format!("{} of {size} bytes came", data.len())))
        }
        Ok(Ok(data)) => Ok(data.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_weighs_its_bytes_within_the_budget() {
        assert_eq!(weight(0), BUDGET / HELD);
        assert_eq!(weight(10 << 20), 10 << 10);
        assert_eq!(weight((10 << 20) + 1), (10 << 10) + 1);
        assert_eq!(weight(u64::MAX), BUDGET);
    }
}
