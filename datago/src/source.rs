//! Where the bytes of a picture come from, with the cap on bytes applied before they are read.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

use crate::reason::{Failure, Reason, Verdict};
use crate::s3::Remote;
use crate::stage::{Stage, timed};

/// A local file, bytes that Python owns (shared, not copied), or an object on S3, which `s3::Ahead` fetches.
pub enum Source {
    Path(PathBuf),
    Bytes(PyBackedBytes),
    Remote(Remote),
}

/// The bytes of a source.
pub enum Loaded<'a> {
    Owned(Vec<u8>),
    Shared(&'a [u8]),
}

impl Loaded<'_> {
    pub fn into_vec(self) -> Vec<u8> {
        match self {
            Loaded::Owned(data) => data,
            Loaded::Shared(data) => data.to_vec(),
        }
    }
}

impl std::ops::Deref for Loaded<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Loaded::Owned(data) => data,
            Loaded::Shared(data) => data,
        }
    }
}

impl<'py> FromPyObject<'_, 'py> for Source {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(bytes) = object.cast::<PyBytes>() {
            return Ok(Source::Bytes(bytes.to_owned().into()));
        }
        if let Some(remote) = Remote::of(&object)? {
            return Ok(Source::Remote(remote));
        }
        object.extract::<PathBuf>().map(Source::Path).map_err(|_| {
            let kind = object.get_type().name().map(|n| n.to_string()).unwrap_or_default();
            crate::error::Error::Input(format!(
                "an input must be a local path (str), an S3Object or the bytes of a picture, not {kind}"
            ))
            .into()
        })
    }
}

impl Source {
    /// Reads everything, or says why not. At most `max_bytes` are ever held.
    pub fn load(&self, max_bytes: u64) -> Verdict<Loaded<'_>> {
        self.load_in(Vec::new(), max_bytes)
    }

    /// As `load`; a file is read into `buffer`, whatever is in it.
    pub fn load_in(&self, buffer: Vec<u8>, max_bytes: u64) -> Verdict<Loaded<'_>> {
        timed(Stage::Read, || self.read(buffer, max_bytes))
    }

    fn read(&self, mut data: Vec<u8>, max_bytes: u64) -> Verdict<Loaded<'_>> {
        match self {
            Source::Bytes(data) => {
                check_size(data.len() as u64, max_bytes)?;
                Ok(Loaded::Shared(data))
            }
            Source::Remote(remote) => remote.load().map(Loaded::Owned),
            Source::Path(path) => {
                let unreadable = |doing: &str, cause: std::io::Error| {
                    Failure::new(
                        Reason::Unreadable,
                        format!("Could not {doing} {}: {cause}.", path.display()),
                    )
                };
                let known = std::fs::metadata(path).map_err(|e| unreadable("look up", e))?;
                if !known.is_file() {
                    // Opening a pipe or a device could block for ever.
                    let cause = std::io::Error::new(ErrorKind::InvalidInput, "not a regular file");
                    return Err(unreadable("read", cause));
                }
                check_size(known.len(), max_bytes)?;
                let file = File::open(path).map_err(|e| unreadable("open", e))?;
                data.clear();
                data.reserve(known.len() as usize + 1);
                file.take(max_bytes.saturating_add(1))
                    .read_to_end(&mut data)
                    .map_err(|e| unreadable("read", e))?;
                check_size(data.len() as u64, max_bytes)?;
                Ok(Loaded::Owned(data))
            }
        }
    }

    /// How many bytes `load` will give, where that can be told without reading.
    pub fn known_size(&self) -> Option<u64> {
        match self {
            Source::Path(path) => std::fs::metadata(path).ok().filter(|m| m.is_file()).map(|m| m.len()),
            Source::Bytes(data) => Some(data.len() as u64),
            Source::Remote(_) => None,
        }
    }

    /// The first `length` bytes of a local file that has more; `None` for everything else, which `load` reads.
    pub fn load_start(&self, length: u64, max_bytes: u64) -> Verdict<Option<Vec<u8>>> {
        let Source::Path(path) = self else { return Ok(None) };
        match std::fs::metadata(path) {
            Ok(known) if known.is_file() && known.len() > length => check_size(known.len(), max_bytes)?,
            _ => return Ok(None),
        }
        let mut data = Vec::with_capacity(length as usize);
        let read = File::open(path).and_then(|file| file.take(length).read_to_end(&mut data));
        Ok(read.is_ok().then_some(data))
    }

    /// Lets go of what may be on its way for a source that will not be loaded any more.
    pub fn forget(&self) {
        if let Source::Remote(remote) = self {
            remote.forget();
        }
    }
}

/// The cap on bytes.
pub fn check_size(found: u64, max_bytes: u64) -> Verdict<()> {
    if found > max_bytes {
        return Err(Failure::new(
            Reason::TooLarge,
            format!("{found} bytes are more than the cap of {max_bytes} bytes."),
        ));
    }
    Ok(())
}
