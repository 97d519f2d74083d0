//! The functions Python sees. They convert arguments and results; the work is elsewhere, with the GIL released.

use numpy::PyArray1;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};
use turbojpeg::Subsamp;

use crate::decode::Limits;
use crate::encode::Encoding;
use crate::error::{Error, Result};
use crate::fit::Encode;
use crate::inspect::{self as inspecting, Options, Row};
use crate::lent::lend;
use crate::measure::{Fit, Measured, Sides};
use crate::orient;
use crate::sample::{Record, Treatment};
use crate::shard::{self, Compression, Job, ShardFormat, Target, Written};
use crate::source::Source;
use crate::stage::{Spent, Stage};

/// Lets Ctrl-C through while the workers run.
pub fn check_signals() -> Result<()> {
    Python::attach(|py| py.check_signals()).map_err(Error::Python)
}

/// Seconds of all threads in each stage.
pub type Seconds = Vec<(&'static str, f64)>;

pub fn seconds(spent: &Spent) -> Seconds {
    Stage::ALL.iter().map(|&stage| (stage.name(), spent[stage].as_secs_f64())).collect()
}

/// One decode for each input; see `datago.inspect`.
#[pyfunction]
#[pyo3(signature = (inputs, *, thumbnail_side, tensor_side, tensor_fit, max_bytes, max_pixels, threads))]
#[allow(clippy::too_many_arguments)]
pub fn inspect<'py>(
    py: Python<'py>,
    inputs: Vec<Source>,
    thumbnail_side: u32,
    tensor_side: Option<u32>,
    tensor_fit: &str,
    max_bytes: u64,
    max_pixels: u64,
    threads: usize,
) -> PyResult<(Bound<'py, PyDict>, Option<Bound<'py, PyAny>>, Seconds)> {
    let fit = match tensor_fit {
        "crop" => Fit::Crop,
        "squash" => Fit::Squash,
        other => {
            return Err(Error::Config(format!("tensor_fit must be 'crop' or 'squash', not '{other}'")).into());
        }
    };
    let limits = Limits::new(max_bytes, max_pixels);
    let sides = Sides { thumbnail: thumbnail_side, tensor: tensor_side, fit };
    let options = Options { sides, limits, threads };
    let (rows, tensors, spent) = py.detach(|| inspecting::inspect(&inputs, options, check_signals))?;
    let count = rows.len();
    let columns = columns(py, rows)?;
    let tensors = match (tensors, tensor_side) {
        (Some(block), Some(side)) => {
            let shape = [count, side as usize, side as usize, 3];
            Some(lend(py, block, &shape)?)
        }
        _ => None,
    };
    Ok((columns, tensors, seconds(&spent)))
}

fn columns(py: Python<'_>, rows: Vec<Row>) -> PyResult<Bound<'_, PyDict>> {
    let out = PyDict::new(py);
    let list = |values: Vec<Option<&str>>| PyList::new(py, values);
    let failures = || rows.iter().map(|row| row.failure.as_ref());
    let headers = || rows.iter().map(|row| row.header.as_ref());
    let measured = || rows.iter().map(|row| row.measured.as_ref());
    let float = |get: fn(&Measured) -> f64| {
        let values: Vec<f64> = measured().map(|m| m.map_or(f64::NAN, get)).collect();
        PyArray1::from_vec(py, values)
    };
    let size = |row: &Row| {
        row.header.as_ref().map_or((0, 0), |h| orient::displayed(h.width, h.height, h.orientation))
    };

    out.set_item("reason", list(failures().map(|f| f.map(|f| f.reason.code())).collect())?)?;
    out.set_item("detail", list(failures().map(|f| f.map(|f| f.detail.as_str())).collect())?)?;
    let retryable: Vec<bool> = failures().map(|f| f.is_some_and(|f| f.reason.retryable())).collect();
    out.set_item("retryable", PyArray1::from_vec(py, retryable))?;
    out.set_item("digest", list(rows.iter().map(|row| row.digest.as_deref()).collect())?)?;
    let bytes: Vec<i64> = rows.iter().map(|row| row.bytes.map_or(-1, |n| n as i64)).collect();
    out.set_item("bytes", PyArray1::from_vec(py, bytes))?;
    out.set_item("format", list(rows.iter().map(|row| row.format.map(|f| f.name())).collect())?)?;
    let widths: Vec<i64> = rows.iter().map(|row| i64::from(size(row).0)).collect();
    let heights: Vec<i64> = rows.iter().map(|row| i64::from(size(row).1)).collect();
    out.set_item("width", PyArray1::from_vec(py, widths))?;
    out.set_item("height", PyArray1::from_vec(py, heights))?;
    out.set_item("mode", list(headers().map(|h| h.map(|h| h.mode)).collect())?)?;
    let turns: Vec<u8> = headers().map(|h| h.map_or(0, |h| h.orientation)).collect();
    out.set_item("orientation", PyArray1::from_vec(py, turns))?;
    out.set_item("pixel_digest", list(measured().map(|m| m.map(|m| m.pixel_digest.as_str())).collect())?)?;
    let hashes: Vec<u64> = measured().map(|m| m.map_or(0, |m| m.phash)).collect();
    out.set_item("phash", PyArray1::from_vec(py, hashes))?;
    out.set_item("brightness", float(|m| m.stats.brightness))?;
    out.set_item("contrast", float(|m| m.stats.contrast))?;
    out.set_item("entropy", float(|m| m.stats.entropy))?;
    out.set_item("sharpness", float(|m| m.sharpness))?;
    let alphas: Vec<bool> = measured().map(|m| m.is_some_and(|m| m.has_alpha)).collect();
    out.set_item("has_alpha", PyArray1::from_vec(py, alphas))?;
    let thumbnails = PyList::empty(py);
    for found in measured() {
        thumbnails.append(found.map(|m| PyBytes::new(py, &m.thumbnail)))?;
    }
    out.set_item("thumbnail", thumbnails)?;
    Ok(out)
}

/// The parts of `datago.Recipe` that writing needs.
#[derive(FromPyObject)]
pub struct Recipe {
    format: String,
    size: String,
    encode: String,
    quality: u8,
    subsampling: String,
    pub extra_images: Vec<String>,
    compression: Option<String>,
}

impl Recipe {
    /// Of resized pictures.
    pub fn encode(&self) -> Result<Encode> {
        let unknown = |what: &str, value: &str| Error::Config(format!("{value:?} is no {what}"));
        let encoding = match self.encode.as_str() {
            "jpeg" => Encoding::Jpeg,
            "png" => Encoding::Png,
            "webp" => Encoding::Webp,
            "raw" => Encoding::Raw,
            other => return Err(unknown("encoding", other)),
        };
        let subsampling = match self.subsampling.as_str() {
            "4:4:4" => Subsamp::None,
            "4:2:0" => Subsamp::Sub2x2,
            other => return Err(unknown("subsampling", other)),
        };
        Ok(Encode { encoding, quality: self.quality, subsampling })
    }
}

/// Bytes, digest, samples, failures as (sample id, reason, detail), the MDS entry as JSON, and where
/// time went.
type Report = (u64, String, usize, Vec<(String, &'static str, String)>, Option<String>, Seconds);

/// Writes one shard; see `datago.write_shard`.
#[pyfunction]
#[pyo3(signature = (path, bucket, records, recipe, *, payload_names, max_bytes, max_pixels, threads))]
#[allow(clippy::too_many_arguments)]
pub fn write_shard(
    py: Python<'_>,
    path: Target,
    bucket: Option<(u32, u32)>,
    records: Vec<Record>,
    recipe: Recipe,
    payload_names: Vec<String>,
    max_bytes: u64,
    max_pixels: u64,
    threads: usize,
) -> PyResult<Report> {
    let format = ShardFormat::named(&recipe.format)?;
    let compression = recipe.compression.as_deref().map(Compression::named).transpose()?;
    let encode = recipe.encode()?;
    let treatment = match (recipe.size.as_str(), bucket) {
        ("bytes", None) => Treatment::Bytes,
        ("bucket" | "fixed", Some(target)) => Treatment::Fitted { target, encode },
        (size, _) => {
            return Err(Error::Config(format!("a shard of size {size:?} needs another bucket")).into());
        }
    };
    let limits = Limits::new(max_bytes, max_pixels);
    let extra_images = recipe.extra_images;
    let target = &path;
    let job = Job { target, format, compression, treatment, extra_images, payload_names, limits, threads };
    let Written { bytes, digest, samples, failures, entry, spent } =
        py.detach(|| shard::write(&job, &records, check_signals))?;
    let failures = failures.into_iter().map(|(id, f)| (id, f.reason.code(), f.detail)).collect();
    Ok((bytes, digest, samples, failures, entry.map(|value| value.to_string()), seconds(&spent)))
}
