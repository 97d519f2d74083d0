//! A file or an object that appears under its name complete, or not at all.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::prelude::*;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::s3::{self, Remote};

const BUFFER: usize = 1 << 20;
static COUNTER: AtomicU64 = AtomicU64::new(0);

/// Where a shard is to appear.
pub enum Target {
    Path(PathBuf),
    Remote(Remote),
}

impl<'py> FromPyObject<'_, 'py> for Target {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        match Remote::of(&object)? {
            Some(remote) => Ok(Target::Remote(remote)),
            None => Ok(Target::Path(object.extract()?)),
        }
    }
}

/// A file beside its destination, removed when dropped unless it was published. What is to become an object of S3 is
/// set down in the folder for temporary files first: it is sent once all of it is known to be good.
pub struct Output {
    name: String,
    /// The destination, for people.
    shown: PathBuf,
    folder: PathBuf,
    /// `None`: the file has no name and goes with its handle.
    temporary: Option<PathBuf>,
    file: File,
    buffer: Vec<u8>,
    bytes: u64,
    digest: blake3::Hasher,
    /// Only where a format's index asks for it.
    sha256: Option<Sha256>,
}

impl Output {
    pub fn create(target: &Target) -> Result<Self> {
        match target {
            Target::Path(path) => {
                let name = path
                    .file_name()
                    .and_then(|n| n.to_str())
                    .ok_or_else(|| Error::Config(format!("{} is no path of a file", path.display())))?;
                let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
                let (temporary, file) = create(&folder, name, File::options().write(true))?;
                Ok(Self::of(name, path, folder, Some(temporary), file))
            }
            Target::Remote(remote) => {
                remote.location.path()?;
                let (name, folder) = (remote.location.name(), std::env::temp_dir());
                let file = nameless(&folder, name)?;
                Ok(Self::of(name, Path::new(&remote.location.url()), folder, None, file))
            }
        }
    }

    /// A second file for the same destination, to be read back and thrown away.
    pub fn scratch(&self) -> Result<Self> {
        let file = nameless(&self.folder, &self.name)?;
        Ok(Self::of(&self.name, &self.shown, self.folder.clone(), None, file))
    }

    fn of(name: &str, shown: &Path, folder: PathBuf, temporary: Option<PathBuf>, file: File) -> Self {
        Output {
            name: name.to_owned(),
            shown: shown.to_path_buf(),
            folder,
            temporary,
            file,
            buffer: Vec::with_capacity(BUFFER),
            bytes: 0,
            digest: blake3::Hasher::new(),
            sha256: None,
        }
    }

    pub fn hash_sha256(&mut self) {
        self.sha256 = Some(Sha256::new());
    }

    pub fn sha256(&self) -> Option<String> {
        let hex = |byte: &u8| format!("{byte:02x}");
        self.sha256.as_ref().map(|h| h.clone().finalize().iter().map(hex).collect())
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn name(&self) -> String {
        self.name.clone()
    }

    /// Writes everything, naming the file if that fails.
    pub fn put(&mut self, data: &[u8]) -> Result<()> {
        self.write_all(data).map_err(|e| self.failed(&e))
    }

    pub fn failed(&self, cause: &io::Error) -> Error {
        Error::storage("write", &self.shown, cause)
    }

    /// Copies everything that was written to this scratch file into `other`.
    pub fn pour_into(mut self, other: &mut Output) -> Result<()> {
        let mut pour = || -> io::Result<()> {
            self.flush()?;
            self.file.seek(SeekFrom::Start(0))?;
            let mut block = vec![0; BUFFER];
            loop {
                match self.file.read(&mut block)? {
                    0 => return Ok(()),
                    n => other.write_all(&block[..n])?,
                }
            }
        };
        pour().map_err(|e| self.failed(&e))
    }

    /// Makes the shard durable, then visible. Returns its size and BLAKE3 digest.
    pub fn publish(mut self, target: &Target, tick: &mut dyn FnMut() -> Result<()>) -> Result<(u64, String)> {
        self.flush().map_err(|e| self.failed(&e))?;
        match target {
            Target::Path(path) => {
                let publish = || -> io::Result<()> {
                    self.file.sync_all()?;
                    if let Some(temporary) = &self.temporary {
                        fs::rename(temporary, path)?;
                    }
                    let folder =
                        if self.folder.as_os_str().is_empty() { Path::new(".") } else { &self.folder };
                    File::open(folder)?.sync_all()
                };
                publish().map_err(|e| Error::storage("publish", path, &e))?;
            }
            Target::Remote(remote) => s3::upload(remote, &mut self.file, self.bytes, tick)?,
        }
        Ok((self.bytes, self.digest.finalize().to_hex().to_string()))
    }
}

impl Write for Output {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.digest.update(data);
        if let Some(hasher) = &mut self.sha256 {
            hasher.update(data);
        }
        self.bytes += data.len() as u64;
        if self.buffer.len() + data.len() > BUFFER {
            self.flush()?;
        }
        if data.len() >= BUFFER {
            self.file.write_all(data)?;
        } else {
            self.buffer.extend_from_slice(data);
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.file.write_all(&self.buffer);
        self.buffer.clear();
        result
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // After publishing there is nothing under this name; otherwise nobody needs what is.
        if let Some(temporary) = &self.temporary {
            let _ = fs::remove_file(temporary);
        }
    }
}

/// A new file in `folder` under a name of its own.
fn create(folder: &Path, name: &str, options: &mut fs::OpenOptions) -> Result<(PathBuf, File)> {
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let path = folder.join(format!(".{name}.{}-{count}.tmp", std::process::id()));
    let file = options.create_new(true).open(&path).map_err(|e| Error::storage("create", &path, &e))?;
    Ok((path, file))
}

/// A new file in `folder` that only this handle knows: whatever ends the process, nothing is left of it.
fn nameless(folder: &Path, name: &str) -> Result<File> {
    let mut options = File::options();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let (path, file) = create(folder, name, options.write(true).read(true))?;
    fs::remove_file(&path).map_err(|e| Error::storage("create", &path, &e))?;
    Ok(file)
}
