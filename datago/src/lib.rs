//! datago: decodes, inspects, resizes and shards pictures. The Python face is `datago/__init__.py`.

mod boxes;
mod convolve;
mod decode;
mod encode;
mod error;
mod exif;
mod fit;
#[cfg(fuzzing)]
pub mod fuzz;
mod idct;
mod inspect;
mod latest;
mod lent;
mod loader;
mod mask;
mod measure;
mod orient;
mod phash;
mod picture;
mod pool;
mod python;
mod python_raster;
mod raster;
mod reason;
mod reduce;
mod resize;
mod s3;
mod sample;
mod shard;
mod source;
mod spare;
mod stage;
mod stats;
mod weights;
#[cfg(target_arch = "x86_64")]
mod wide;
mod ycc;

use pyo3::prelude::*;

#[pymodule]
mod _core {
    #[pymodule_export]
    use crate::loader::python::{Loader, read, sizes};
    #[pymodule_export]
    use crate::python::{inspect, write_shard};
    #[pymodule_export]
    use crate::python_raster::{decode, probe};
}
