//! The loader as Python sees it; see `datago.stream`.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use numpy::PyReadonlyArray1;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use tokio::sync::Semaphore;

use super::Engine;
use super::job::{Batch, Input, Job, Options};
use super::shard::{FETCHES, Origin, Shard, fetch};
use crate::decode::Limits;
use crate::error::{Error, Result};
use crate::lent::lend;
use crate::pool;
use crate::python::{Recipe, Seconds, seconds};
use crate::reason::Verdict;
use crate::s3::{Ahead, Parts};
use crate::sample::Record;
use crate::shard::read::Wanted;
use crate::shard::{Compression, ShardFormat};
use crate::source::{Loaded, Source};

/// Makes the batches of one stream ahead, in the order in which they are asked for.
#[pyclass(frozen, module = "datago._core")]
pub struct Loader {
    engine: Engine,
    shards: Mutex<HashMap<u32, Arc<Shard>>>,
    turns: Arc<Semaphore>,
}

/// Ids, attributes as a JSON array, pixels, encoded pictures, payloads, and failures as (id, reason, detail).
type Handed<'py> = (
    Vec<String>,
    Bound<'py, PyBytes>,
    Option<Bound<'py, PyAny>>,
    Bound<'py, PyList>,
    Vec<Bound<'py, PyList>>,
    Vec<(String, &'static str, String)>,
);

#[pymethods]
impl Loader {
    #[new]
    #[pyo3(signature = (recipe, *, threads, payloads, max_bytes, max_pixels))]
    fn new(
        recipe: Recipe,
        threads: usize,
        payloads: Vec<String>,
        max_bytes: u64,
        max_pixels: u64,
    ) -> PyResult<Self> {
        let limits = Limits::new(max_bytes, max_pixels);
        let (encode, wanted) = (recipe.encode()?, Wanted { payloads, max_bytes });
        let options = Options { wanted, limits, extra_images: recipe.extra_images, encode };
        let engine = Engine::start(threads, options)?;
        Ok(Loader { engine, shards: Mutex::default(), turns: Arc::new(Semaphore::new(FETCHES)) })
    }

    /// Makes a shard known under a number, and sets out for it if it lies on S3. `digest`: what its bytes must have; an MDS
    /// shard on S3 without one is not fetched, but read where it is.
    #[pyo3(signature = (number, place, format, compression, samples, digest))]
    fn open(
        &self,
        number: u32,
        place: Source,
        format: &str,
        compression: Option<&str>,
        samples: usize,
        digest: Option<String>,
    ) -> PyResult<()> {
        self.engine.check_process()?;
        let mut shards = self.shards();
        if shards.contains_key(&number) {
            return Ok(());
        }
        let origin = match (place, &digest) {
            (Source::Path(path), _) => Origin::Path(path),
            (Source::Remote(remote), Some(digest)) => {
                Origin::Remote(fetch(Arc::clone(&remote.location), &self.turns, digest.clone())?)
            }
            (Source::Remote(remote), None) => {
                Origin::Parts(Arc::new(Parts::of(Arc::clone(&remote.location))))
            }
            (Source::Bytes(_), _) => return Err(Error::Input("a shard is a path or an object".into()).into()),
        };
        let (format, compression) = named(format, compression)?;
        shards.insert(number, Arc::new(Shard::new(origin, format, compression, samples, digest)));
        Ok(())
    }

    /// Lets go of a shard, once the batches that were asked for are done with it.
    fn release(&self, number: u32) {
        self.shards().remove(&number);
    }

    /// Asks for a batch of rows of open shards. `target`: (width, height) of the pixels; `None`: bytes as they are.
    fn submit_rows(
        &self,
        target: Option<(u32, u32)>,
        shards: PyReadonlyArray1<'_, i64>,
        rows: PyReadonlyArray1<'_, i64>,
    ) -> PyResult<()> {
        self.engine.check_process()?;
        let known = self.shards();
        let (shards, rows) = (shards.as_array(), rows.as_array());
        let inputs = shards.iter().zip(rows).map(|(&shard, &row)| {
            let found = u32::try_from(shard).ok().and_then(|shard| known.get(&shard));
            match (found, usize::try_from(row)) {
                (Some(shard), Ok(row)) => Ok(Input::Row { shard: Arc::clone(shard), row }),
                _ => Err(Error::Input(format!("row {row} of shard {shard}: it is not open"))),
            }
        });
        let inputs: Vec<Input> = inputs.collect::<Result<_>>()?;
        drop(known);
        let mut used: Vec<Arc<Shard>> = Vec::new();
        for input in &inputs {
            if let Input::Row { shard, .. } = input
                && !used.iter().any(|other| Arc::ptr_eq(other, shard))
            {
                used.push(Arc::clone(shard));
            }
        }
        Ok(self.engine.submit(Job::new(inputs, used, target, self.engine.options())?)?)
    }

    /// Asks for a batch of records.
    fn submit_records(&self, target: Option<(u32, u32)>, records: Vec<Record>) -> PyResult<()> {
        self.engine.check_process()?;
        let inputs = records.into_iter().map(Input::Record).collect();
        Ok(self.engine.submit(Job::new(inputs, Vec::new(), target, self.engine.options())?)?)
    }

    /// The next batch that was asked for, waited for at most `timeout` seconds.
    #[pyo3(signature = (timeout))]
    fn next<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Handed<'py>> {
        self.engine.check_process()?;
        let timeout = timeout.map(Duration::try_from_secs_f64).transpose();
        let timeout = timeout.map_err(|e| Error::Config(format!("timeout: {e}")))?;
        let batch = py.detach(|| self.engine.next(timeout, crate::python::check_signals))?;
        handed(py, batch)
    }

    /// Seconds of all threads by stage, and those in which `next` was waited for.
    fn seconds(&self) -> PyResult<(Seconds, f64)> {
        self.engine.check_process()?;
        let (spent, waited) = self.engine.spent();
        Ok((seconds(&spent), waited.as_secs_f64()))
    }

    /// Ends the threads; what they had not done is dropped.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.engine.check_process()?;
        self.engine.stop();
        self.shards().clear();
        py.detach(|| self.engine.join());
        Ok(())
    }
}

impl Loader {
    fn shards(&self) -> MutexGuard<'_, HashMap<u32, Arc<Shard>>> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn named(format: &str, compression: Option<&str>) -> Result<(ShardFormat, Option<Compression>)> {
    Ok((ShardFormat::named(format)?, compression.map(Compression::named).transpose()?))
}

fn handed(py: Python<'_>, batch: Batch) -> PyResult<Handed<'_>> {
    let Batch { ids, attributes, payloads, target, block, encoded, failures } = batch;
    let pixels = match target {
        Some((width, height)) => {
            let shape = [ids.len(), height as usize, width as usize, 3];
            Some(lend(py, block, &shape)?)
        }
        None => None,
    };
    let encoded = PyList::new(py, encoded.iter().map(|data| PyBytes::new(py, data)))?;
    let list = |found: Vec<Option<Vec<u8>>>| {
        PyList::new(py, found.iter().map(|data| data.as_ref().map(|data| PyBytes::new(py, data))))
    };
    let payloads = payloads.into_iter().map(list).collect::<PyResult<_>>()?;
    let failures = failures.into_iter().map(|(id, f)| (id, f.reason.code(), f.detail)).collect();
    Ok((ids, PyBytes::new(py, &attributes), pixels, encoded, payloads, failures))
}

/// (width, height) of every picture in a local shard, by what it says.
#[pyfunction]
#[pyo3(signature = (path, format, compression, samples))]
pub fn sizes(
    py: Python<'_>,
    path: PathBuf,
    format: &str,
    compression: Option<&str>,
    samples: usize,
) -> PyResult<Vec<(u32, u32)>> {
    let (format, compression) = named(format, compression)?;
    let shard = Shard::new(Origin::Path(path), format, compression, samples, None);
    Ok(py.detach(|| shard.sizes())?)
}

/// The bytes of one file or object.
#[pyfunction]
#[pyo3(signature = (place, *, max_bytes))]
pub fn read<'py>(py: Python<'py>, place: Source, max_bytes: u64) -> PyResult<Bound<'py, PyBytes>> {
    let mut data = Vec::new();
    py.detach(|| {
        let ahead = Ahead::start(std::iter::once(&place), max_bytes)?;
        let load = |_| place.load(max_bytes).map(Loaded::into_vec);
        let receive = |_, loaded: Verdict<Vec<u8>>| {
            data = loaded.map_err(|failure| Error::Storage(failure.detail))?;
            Ok(())
        };
        // On a thread of its own, so that Ctrl-C is noticed.
        pool::ordered(1, 1, 1, load, receive, crate::python::check_signals, || ahead.stop()).map(drop)
    })?;
    Ok(PyBytes::new(py, &data))
}
