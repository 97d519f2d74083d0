//! A file or an object that appears under its name complete, or not at all.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::prelude::*;
use xxhash_rust::xxh3::Xxh3;

use super::blocks::{BLOCK, Block, Disk};
use super::compress::Measure;
use crate::error::{Error, Result};
use crate::s3::{self, Remote};

/// What is hashed at a time: little enough to be in the cache of a core still, and wide vectors for BLAKE3.
const STEP: usize = 128 << 10;
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
    /// What is not on its way yet, and how much of it is hashed.
    block: Block,
    hashed: usize,
    bytes: u64,
    /// `None` for what is only kept aside.
    digest: Option<blake3::Hasher>,
    /// Only where a format's index asks for it.
    xxh128: Option<Box<Xxh3>>,
    /// Once a block was full, where the file itself is to last.
    disk: Option<Disk>,
}

impl Output {
    pub fn create(target: &Target) -> Result<Self> {
        match target {
            Target::Path(path) => {
                let name = path
                    .file_name()
                    .and_then(|n| n.to_str())
                    .ok_or_else(|| Error::Config(format!("{} is no path of a file", path.display())))?;
                let parent = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                let folder = parent.unwrap_or(Path::new(".")).to_path_buf();
                sweep(&folder, name);
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
        let mut scratch = Self::of(&self.name, &self.shown, self.folder.clone(), None, file);
        scratch.digest = None;
        Ok(scratch)
    }

    fn of(name: &str, shown: &Path, folder: PathBuf, temporary: Option<PathBuf>, file: File) -> Self {
        Output {
            name: name.to_owned(),
            shown: shown.to_path_buf(),
            folder,
            temporary,
            file,
            block: Block::empty(),
            hashed: 0,
            bytes: 0,
            digest: Some(blake3::Hasher::new()),
            xxh128: None,
            disk: None,
        }
    }

    pub fn hash_xxh128(&mut self) {
        self.xxh128 = Some(Box::default());
    }

    /// Of what was put, with the xxh128 if it was asked for before that.
    pub fn measure(&mut self) -> Measure {
        self.hash();
        let xxh128 = self.xxh128.as_ref().map(|hasher| format!("{:032x}", hasher.digest128()));
        Measure { bytes: self.bytes, xxh128: xxh128.unwrap_or_default() }
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

    /// Gives everything that was written to this scratch file to `put`.
    pub fn pour(mut self, put: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let begun = self.complete().and_then(|()| self.file.seek(SeekFrom::Start(0)));
        begun.map_err(|e| self.failed(&e))?;
        let mut block = vec![0; STEP];
        loop {
            match self.file.read(&mut block).map_err(|e| self.failed(&e))? {
                0 => return Ok(()),
                n => put(&block[..n])?,
            }
        }
    }

    /// Makes the shard durable, then visible. Returns its size and BLAKE3 digest.
    pub fn publish(mut self, target: &Target, tick: &mut dyn FnMut() -> Result<()>) -> Result<(u64, String)> {
        self.complete().map_err(|e| self.failed(&e))?;
        match target {
            Target::Path(path) => {
                let publish = || -> io::Result<()> {
                    self.file.sync_all()?;
                    if let Some(temporary) = &self.temporary {
                        fs::rename(temporary, path)?;
                    }
                    File::open(&self.folder)?.sync_all()
                };
                publish().map_err(|e| Error::storage("publish", path, &e))?;
            }
            Target::Remote(remote) => s3::upload(remote, &mut self.file, self.bytes, tick)?,
        }
        let digest = self.digest.take().unwrap_or_default().finalize();
        Ok((self.bytes, digest.to_hex().to_string()))
    }

    fn hash(&mut self) {
        let rest = &self.block.bytes()[self.hashed..];
        if let Some(hasher) = &mut self.digest {
            hasher.update(rest);
        }
        if let Some(hasher) = &mut self.xxh128 {
            hasher.update(rest);
        }
        self.hashed += rest.len();
    }

    /// A full block on its way.
    fn send(&mut self) -> io::Result<()> {
        self.hashed = 0;
        let full = std::mem::replace(&mut self.block, Block::empty());
        let disk = match (self.disk.take(), &self.temporary) {
            (Some(disk), _) => disk,
            (None, Some(path)) => Disk::begin(&self.file, path)?,
            (None, None) => return self.file.write_all(full.bytes()),
        };
        if !disk.put(full) {
            return disk.end().and(Err(io::Error::other("writing ended early")));
        }
        self.disk = Some(disk);
        Ok(())
    }

    /// Everything to the file. Nothing may be put after this.
    fn complete(&mut self) -> io::Result<()> {
        self.hash();
        self.disk.take().map_or(Ok(()), Disk::end)?;
        self.file.write_all(self.block.bytes())
    }
}

impl Write for Output {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let mut rest = data;
        while !rest.is_empty() {
            let filled = self.block.bytes().len();
            let (piece, after) = rest.split_at(rest.len().min(STEP - filled % STEP));
            self.block.extend(piece);
            if (filled + piece.len()).is_multiple_of(STEP) {
                self.hash();
            }
            if filled + piece.len() == BLOCK {
                self.send()?;
            }
            rest = after;
        }
        self.bytes += data.len() as u64;
        Ok(data.len())
    }

    /// What is here goes on its way in full blocks.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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

/// A new file in `folder` under a name of its own, locked for as long as this process has it.
fn create(folder: &Path, name: &str, options: &mut fs::OpenOptions) -> Result<(PathBuf, File)> {
    loop {
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!(".{name}.{}-{count}.tmp", std::process::id()));
        let file = options.create_new(true).open(&path).map_err(|e| Error::storage("create", &path, &e))?;
        match file.lock() {
            Err(cause) if cause.kind() != ErrorKind::Unsupported => {
                return Err(Error::storage("lock", &path, &cause));
            }
            // Swept by another before it was locked.
            _ if !path.exists() => {}
            _ => return Ok((path, file)),
        }
    }
}

/// Removes what writers of this very file left in `folder` when their process was killed.
fn sweep(folder: &Path, name: &str) {
    let ours = |file: &std::ffi::OsStr| {
        let file = file.to_str()?.strip_prefix('.')?.strip_prefix(name)?;
        file.strip_prefix('.')?
            .strip_suffix(".tmp")?
            .bytes()
            .all(|b| b.is_ascii_digit() || b == b'-')
            .then_some(())
    };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Some(file) = ours(&entry.file_name()).and_then(|()| File::open(entry.path()).ok()) else {
            continue;
        };
        // Held until it is removed: who has just created it locks it next, and sees that it is gone.
        if file.try_lock().is_ok() {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// A new file in `folder` that only this handle knows: whatever ends the process, nothing is left of it.
pub fn nameless(folder: &Path, name: &str) -> Result<File> {
    let mut options = File::options();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let (path, file) = create(folder, name, options.write(true).read(true))?;
    fs::remove_file(&path).map_err(|e| Error::storage("create", &path, &e))?;
    Ok(file)
}
