//! An object of which only parts are read, each when it is asked for.

use std::future::Future;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use object_store::{Error as Cause, GetOptions, ObjectStore, ObjectStoreExt};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::{Location, network};
use crate::error::{Error, Result};

pub struct Parts {
    location: Arc<Location>,
    /// What the service calls this version of the object, once that is known.
    tag: OnceLock<Option<String>>,
    /// What is under way; `None`: it was stopped.
    asked: Mutex<Option<Vec<AbortHandle>>>,
}

impl Parts {
    pub fn of(location: Arc<Location>) -> Self {
        Parts { location, tag: OnceLock::new(), asked: Mutex::new(Some(Vec::new())) }
    }

    pub fn url(&self) -> String {
        self.location.url()
    }

    /// The object's length. What is read after this is of the object that is there now.
    pub fn begin(&self) -> Result<u64> {
        let location = Arc::clone(&self.location);
        let found = self.wait(async move {
            location.client().store.head(&location.path()?).await.map_err(|e| failed(&location, &e))
        })?;
        self.tag.get_or_init(|| found.e_tag);
        Ok(found.size)
    }

    /// These bytes, waited for.
    pub fn read(&self, range: Range<u64>) -> Result<Vec<u8>> {
        let location = Arc::clone(&self.location);
        let expected = range.end - range.start;
        let if_match = self.tag.get().cloned().flatten();
        let options = GetOptions { range: Some(range.into()), if_match, ..GetOptions::default() };
        let data = self.wait(async move {
            let path = location.path()?;
            let found = async { location.client().store.get_opts(&path, options).await?.bytes().await };
            found.await.map_err(|cause| failed(&location, &cause))
        })?;
        if data.len() as u64 != expected {
            return Err(Error::Storage(format!("could not read {}: a part of it came short", self.url())));
        }
        Ok(data.into())
    }

    /// Wakes whoever waits; nothing is read after this.
    pub fn stop(&self) {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner).take();
        asked.into_iter().flatten().for_each(|task| task.abort());
    }

    fn wait<T: Send + 'static>(&self, work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        let (done, receiver) = oneshot::channel();
        let task = network()?.runtime.spawn(async move { done.send(work.await) });
        match &mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(asked) => {
                asked.retain(|task| !task.is_finished());
                asked.push(task.abort_handle());
            }
            None => task.abort(),
        }
        let stopped = |_| Err(Error::Storage(format!("could not read {}: it was stopped", self.url())));
        receiver.blocking_recv().unwrap_or_else(stopped)
    }
}

fn failed(location: &Location, cause: &Cause) -> Error {
    match cause {
        Cause::Precondition { .. } => {
            Error::Damaged(format!("shard {} is damaged: it was replaced while it was read", location.url()))
        }
        other => Error::Storage(location.unreadable(other).detail),
    }
}
