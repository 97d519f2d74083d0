//! A file that appears under its name complete, or not at all.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

const BUFFER: usize = 1 << 20;
static COUNTER: AtomicU64 = AtomicU64::new(0);

/// A file beside its destination, removed when dropped unless it was published.
pub struct Output {
    destination: PathBuf,
    temporary: PathBuf,
    file: File,
    buffer: Vec<u8>,
    bytes: u64,
    digest: blake3::Hasher,
    /// Only where a format's index asks for it.
    sha256: Option<Sha256>,
}

impl Output {
    pub fn create(destination: &Path) -> Result<Self> {
        Self::beside(destination, false)
    }

    /// A second file for the same destination, to be read back and thrown away.
    pub fn scratch(&self) -> Result<Self> {
        Self::beside(&self.destination, true)
    }

    fn beside(destination: &Path, readable: bool) -> Result<Self> {
        let name = destination
            .file_name()
            .and_then(|n| n.to_str())
            .ok_or_else(|| Error::Config(format!("{} is no path of a file", destination.display())))?;
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let temporary = destination.with_file_name(format!(".{name}.{}-{count}.tmp", std::process::id()));
        let file = File::options().write(true).read(readable).create_new(true).open(&temporary);
        let file = file.map_err(|e| Error::storage("create", &temporary, &e))?;
        Ok(Output {
            destination: destination.to_path_buf(),
            temporary,
            file,
            buffer: Vec::with_capacity(BUFFER),
            bytes: 0,
            digest: blake3::Hasher::new(),
            sha256: None,
        })
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
        self.destination.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Writes everything, naming the file if that fails.
    pub fn put(&mut self, data: &[u8]) -> Result<()> {
        self.write_all(data).map_err(|e| self.failed(&e))
    }

    pub fn failed(&self, cause: &io::Error) -> Error {
        Error::storage("write", &self.destination, cause)
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

    /// Makes the file durable, then visible. Returns its size and BLAKE3 digest.
    pub fn publish(mut self) -> Result<(u64, String)> {
        let mut publish = || -> io::Result<()> {
            self.flush()?;
            self.file.sync_all()?;
            fs::rename(&self.temporary, &self.destination)?;
            let folder = self.destination.parent().filter(|p| !p.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
        };
        publish().map_err(|e| Error::storage("publish", &self.destination, &e))?;
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
        let _ = fs::remove_file(&self.temporary);
    }
}
