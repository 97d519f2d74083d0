//! A file in blocks on their way to the disk: past the page cache where the file system has such a way, and on a thread
//! of their own, so that the disk writes while more is made.

use std::fs::File;
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// What is written at a time.
pub const BLOCK: usize = 4 << 20;
/// Where memory must begin for a way past the page cache.
const ALIGN: usize = 4096;
/// How much goes into the page cache before the disk is asked to begin.
const PUSH: u64 = 32 << 20;

/// Memory of blocks for the next file: fresh pages cost more than to write them.
static SPARE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
/// No more than this many are kept.
const KEPT: usize = 4;

/// Up to `BLOCK` bytes in aligned memory.
pub struct Block {
    memory: Vec<u8>,
    start: usize,
    length: usize,
}

impl Block {
    pub fn empty() -> Self {
        // A child forked while another thread held the lock goes without.
        let kept = SPARE.try_lock().ok().and_then(|mut kept| kept.pop());
        let memory = kept.unwrap_or_else(|| vec![0; BLOCK + ALIGN]);
        let start = memory.as_ptr().align_offset(ALIGN).min(ALIGN);
        Block { memory, start, length: 0 }
    }

    /// `data` must fit.
    pub fn extend(&mut self, data: &[u8]) {
        let end = self.start + self.length;
        self.memory[end..end + data.len()].copy_from_slice(data);
        self.length += data.len();
    }

    pub fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.length]
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Ok(mut kept) = SPARE.try_lock()
            && kept.len() < KEPT
        {
            kept.push(std::mem::take(&mut self.memory));
        }
    }
}

/// Writes full blocks to the start of a file, one after the other.
pub struct Disk {
    blocks: SyncSender<Block>,
    thread: JoinHandle<io::Result<()>>,
}

impl Disk {
    /// `path` is where `file`, which is new, can be opened once more.
    pub fn begin(file: &File, path: &Path) -> io::Result<Self> {
        let (file, direct) = (file.try_clone()?, past_the_cache(path));
        // One is written, one waits, one is filled.
        let (blocks, filled) = sync_channel(1);
        let thread = std::thread::Builder::new().spawn(|| write(file, direct, filled))?;
        Ok(Disk { blocks, thread })
    }

    /// False once the thread has failed: `end` tells why.
    pub fn put(&self, block: Block) -> bool {
        self.blocks.send(block).is_ok()
    }

    /// Waits for what is under way and tells how it went. The file then stands at the end of the blocks.
    pub fn end(self) -> io::Result<()> {
        drop(self.blocks);
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("writing panicked")))
    }
}

fn write(mut file: File, mut direct: Option<File>, blocks: Receiver<Block>) -> io::Result<()> {
    let mut written = 0;
    for block in blocks {
        let past = direct.as_mut().map(|direct| direct.write_all(block.bytes()));
        match past {
            Some(Ok(())) => {}
            Some(Err(cause)) if cause.kind() != ErrorKind::InvalidInput => return Err(cause),
            otherwise => {
                if otherwise.is_some() {
                    // The file system opens a file this way, but does not write it.
                    direct = None;
                    file.seek(SeekFrom::Start(written))?;
                }
                file.write_all(block.bytes())?;
                if written / PUSH != (written + BLOCK as u64) / PUSH {
                    file.sync_data()?;
                }
            }
        }
        written += block.bytes().len() as u64;
    }
    file.seek(SeekFrom::Start(written)).map(|_| ())
}

#[cfg(target_os = "linux")]
fn past_the_cache(path: &Path) -> Option<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options().write(true).custom_flags(libc::O_DIRECT).open(path).ok()
}

#[cfg(not(target_os = "linux"))]
fn past_the_cache(_: &Path) -> Option<File> {
    None
}
