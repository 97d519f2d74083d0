//! datago: decodes, inspects, resizes and shards pictures. The Python face is `datago/__init__.py`.

mod decode;
mod encode;
mod error;
mod exif;
mod fit;
mod inspect;
mod loader;
mod mask;
mod orient;
mod phash;
mod picture;
mod pool;
mod python;
mod reason;
mod resize;
mod s3;
mod sample;
mod shard;
mod source;
mod stage;
mod stats;

use pyo3::prelude::*;

#[pymodule]
mod _core {
    #[pymodule_export]
    use crate::loader::python::{Loader, read, sizes};
    #[pymodule_export]
    use crate::python::{inspect, write_shard};
}
