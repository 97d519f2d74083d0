//! A file that many threads read at once, each where it likes.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::s3::Parts;
use crate::shard::{Compression, MOST, expanded};

enum Held {
    File(File),
    /// An object of S3, of which each read is a request.
    Parts(Arc<Parts>),
}

/// An open file or object of a known length, and what people call it.
pub struct Place {
    held: Held,
    length: u64,
    shown: String,
}

impl Place {
    /// A shard on this machine.
    pub fn open(path: &Path) -> Result<Self> {
        let known = std::fs::metadata(path).map_err(|e| Error::storage("look up", path, &e))?;
        if !known.is_file() {
            // Opening a pipe or a device could block for ever.
            let cause = io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
            return Err(Error::storage("read", path, &cause));
        }
        let file = File::open(path).map_err(|e| Error::storage("open", path, &e))?;
        Self::of(file, path.display().to_string())
    }

    pub fn of(file: File, shown: String) -> Result<Self> {
        let length =
            file.metadata().map_err(|e| Error::Storage(format!("could not look up {shown}: {e}")))?;
        Ok(Place { held: Held::File(file), length: length.len(), shown })
    }

    /// A shard on S3, of which only what is asked for is read.
    pub fn in_parts(parts: Arc<Parts>) -> Result<Self> {
        Ok(Place { length: parts.begin()?, shown: parts.url(), held: Held::Parts(parts) })
    }

    /// Whether one large read is better than few small ones.
    pub fn is_far(&self) -> bool {
        matches!(self.held, Held::Parts(_))
    }

    /// What it holds compressed, in a file of this machine without a name.
    pub fn expanded(self, compression: Compression) -> Result<Self> {
        match self.held {
            Held::File(file) => Self::of(expanded(&file, compression, &self.shown, MOST)?, self.shown),
            Held::Parts(_) => Err(Error::Input(format!("{} is compressed: it has no parts", self.shown))),
        }
    }

    pub fn length(&self) -> u64 {
        self.length
    }

    /// Exactly `length` bytes from `at` on.
    pub fn read(&self, at: u64, length: u64) -> Result<Vec<u8>> {
        if at.checked_add(length).is_none_or(|end| end > self.length) {
            return Err(self.damaged("it ends before what it says it holds"));
        }
        if let Held::Parts(parts) = &self.held {
            return parts.read(at..at + length);
        }
        let mut data = vec![0; length as usize];
        self.read_into(at, &mut data)?;
        Ok(data)
    }

    /// Fills `data` with the bytes from `at` on.
    pub fn read_into(&self, at: u64, data: &mut [u8]) -> Result<()> {
        let file = match &self.held {
            Held::File(file) => file,
            Held::Parts(parts) => {
                data.copy_from_slice(&parts.read(at..at + data.len() as u64)?);
                return Ok(());
            }
        };
        read_exact_at(file, data, at).map_err(|cause| {
            if cause.kind() == io::ErrorKind::UnexpectedEof {
                return self.damaged("it ends before what it says it holds");
            }
            Error::Storage(format!("could not read {}: {cause}", self.shown))
        })
    }

    /// At most `data`'s length of bytes from `at` on; how many there were.
    pub fn read_some(&self, at: u64, data: &mut [u8]) -> io::Result<usize> {
        match &self.held {
            Held::File(file) => read_at(file, data, at),
            Held::Parts(_) => {
                let size = data.len().min(self.length.saturating_sub(at) as usize);
                self.read_into(at, &mut data[..size]).map_err(io::Error::other)?;
                Ok(size)
            }
        }
    }

    /// BLAKE3 of everything, in hex.
    pub fn digest(&self) -> Result<String> {
        let mut hasher = blake3::Hasher::new();
        let mut block = vec![0; 1 << 20];
        let mut at = 0;
        while at < self.length {
            let size = block.len().min((self.length - at) as usize);
            self.read_into(at, &mut block[..size])?;
            hasher.update(&block[..size]);
            at += size as u64;
        }
        Ok(hasher.finalize().to_hex().to_string())
    }

    pub fn damaged(&self, why: &str) -> Error {
        Error::Damaged(format!("shard {} is damaged: {why}", self.shown))
    }
}

#[cfg(unix)]
fn read_at(file: &File, data: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, data, at)
}

#[cfg(windows)]
fn read_at(file: &File, data: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, data, at)
}

fn read_exact_at(file: &File, mut data: &mut [u8], mut at: u64) -> io::Result<()> {
    while !data.is_empty() {
        match read_at(file, data, at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                data = &mut data[n..];
                at += n as u64;
            }
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(())
}
