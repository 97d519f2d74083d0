//! `datago.probe` and `datago.decode`.

use numpy::PyArray1;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::decode::Limits;
use crate::lent::lend;
use crate::orient::displayed;
use crate::python::check_signals;
use crate::raster;
use crate::reason::Verdict;
use crate::source::Source;

/// Headers; see `datago.probe`.
#[pyfunction]
#[pyo3(signature = (inputs, *, max_bytes, threads))]
pub fn probe(
    py: Python<'_>,
    inputs: Vec<Source>,
    max_bytes: u64,
    threads: usize,
) -> PyResult<Bound<'_, PyDict>> {
    let found = py.detach(|| raster::probe(&inputs, max_bytes, threads, check_signals))?;
    let out = verdicts(py, &found)?;
    let headers = || found.iter().map(|v| v.as_ref().ok());
    let size = |(width, height): (u32, u32)| (i64::from(width), i64::from(height));
    let sizes: Vec<(i64, i64)> =
        headers().map(|h| h.map_or((0, 0), |h| size(displayed(h.width, h.height, h.orientation)))).collect();
    out.set_item("format", PyList::new(py, headers().map(|h| h.map(|h| h.format.name())))?)?;
    out.set_item("width", PyArray1::from_iter(py, sizes.iter().map(|s| s.0)))?;
    out.set_item("height", PyArray1::from_iter(py, sizes.iter().map(|s| s.1)))?;
    out.set_item("mode", PyList::new(py, headers().map(|h| h.map(|h| h.mode)))?)?;
    let turns = headers().map(|h| h.map_or(0, |h| h.orientation));
    out.set_item("orientation", PyArray1::from_iter(py, turns))?;
    Ok(out)
}

/// Pixels; see `datago.decode`. A list of arrays, or one block if there is a size.
#[pyfunction]
#[pyo3(signature = (inputs, *, size, max_bytes, max_pixels, threads))]
pub fn decode<'py>(
    py: Python<'py>,
    inputs: Vec<Source>,
    size: Option<(u32, u32)>,
    max_bytes: u64,
    max_pixels: u64,
    threads: usize,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyDict>)> {
    let limits = Limits::new(max_bytes, max_pixels);
    if let Some((width, height)) = size {
        let (found, block) =
            py.detach(|| raster::fitted(&inputs, (width, height), limits, threads, check_signals))?;
        let shape = [found.len(), height as usize, width as usize, 3];
        return Ok((lend(py, block, &shape)?, verdicts(py, &found)?));
    }
    let found = py.detach(|| raster::decode(&inputs, limits, threads, check_signals))?;
    let columns = verdicts(py, &found)?;
    let images = PyList::empty(py);
    for verdict in found {
        match verdict {
            Ok(raster) => {
                let shape = [raster.height as usize, raster.width as usize, 3];
                images.append(lend(py, raster.pixels, &shape)?)?;
            }
            Err(_) => images.append(py.None())?,
        }
    }
    Ok((images.into_any(), columns))
}

/// The columns that say what failed, and why.
fn verdicts<'py, T>(py: Python<'py>, found: &[Verdict<T>]) -> PyResult<Bound<'py, PyDict>> {
    let failures = || found.iter().map(|v| v.as_ref().err());
    let out = PyDict::new(py);
    out.set_item("reason", PyList::new(py, failures().map(|f| f.map(|f| f.reason.code())))?)?;
    out.set_item("detail", PyList::new(py, failures().map(|f| f.map(|f| f.detail.as_str())))?)?;
    let retryable = failures().map(|f| f.is_some_and(|f| f.reason.retryable()));
    out.set_item("retryable", PyArray1::from_iter(py, retryable))?;
    Ok(out)
}
