//! A whole file to one object: complete under its key, or not at all.

use std::fs::File;
use std::future::Future;
use std::io::{self, Read, Seek, SeekFrom};
use std::pin::pin;
use std::time::Duration;

use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStoreExt, PutPayload};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::client::{Network, network};
use super::{Location, Remote};
use crate::error::{Error, Result};

/// The least size of a part; a file below it is sent whole.
const PART: u64 = 8 << 20;
/// How many parts S3 puts together.
const PARTS: u64 = 10_000;
const IN_FLIGHT: usize = 4;
/// How often to look up from waiting, to notice Ctrl-C.
const TICK: Duration = Duration::from_millis(100);
/// How long to try to tell the service that parts are not wanted any more.
const FAREWELL: Duration = Duration::from_secs(5);

/// Sends `size` bytes of `file`, from its start. An object that was there before stays whole until then.
pub fn upload(
    remote: &Remote,
    file: &mut File,
    size: u64,
    tick: &mut dyn FnMut() -> Result<()>,
) -> Result<()> {
    let sending = Sending { network: network()?, location: &remote.location, path: remote.location.path()? };
    file.seek(SeekFrom::Start(0)).map_err(|e| sending.unread(&e))?;
    if size <= PART { sending.whole(file, size, tick) } else { sending.parts(file, size, tick) }
}

struct Sending<'a> {
    network: &'static Network,
    location: &'a Location,
    path: Path,
}

impl Sending<'_> {
    fn whole(&self, file: &mut File, size: u64, tick: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        let data = self.next(file, size)?;
        self.wait(self.location.client.store.put(&self.path, data), tick).map(|_| ())
    }

    fn parts(&self, file: &mut File, size: u64, tick: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        let mut upload = self.wait(self.location.client.store.put_multipart(&self.path), tick)?;
        let sent = self.send(upload.as_mut(), file, size, tick);
        if sent.is_err() {
            // A lifecycle rule of the bucket removes what can not be removed now.
            let _ = self.network.runtime.block_on(async { timeout(FAREWELL, upload.abort()).await });
        }
        sent
    }

    fn send(
        &self,
        upload: &mut dyn MultipartUpload,
        file: &mut File,
        size: u64,
        tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        let mut under_way = JoinSet::new();
        let part = part_size(size);
        let mut left = size;
        while left > 0 {
            let data = self.next(file, left.min(part))?;
            left -= data.content_length() as u64;
            under_way.spawn_on(upload.put_part(data), self.network.runtime.handle());
            if under_way.len() >= IN_FLIGHT {
                self.join(&mut under_way, tick)?;
            }
        }
        while !under_way.is_empty() {
            self.join(&mut under_way, tick)?;
        }
        self.wait(upload.complete(), tick).map(|_| ())
    }

    fn join(
        &self,
        under_way: &mut JoinSet<object_store::Result<()>>,
        tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        match self.wait_for(under_way.join_next(), tick)? {
            None => Ok(()),
            Some(Ok(sent)) => sent.map_err(|cause| self.location.unwritten(&cause)),
            Some(Err(panic)) => {
                Err(Error::Storage(format!("could not write {}: {panic}", self.location.url())))
            }
        }
    }

    fn next(&self, file: &mut File, size: u64) -> Result<PutPayload> {
        let mut data = vec![0; size as usize];
        file.read_exact(&mut data).map_err(|e| self.unread(&e))?;
        Ok(data.into())
    }

    fn unread(&self, cause: &io::Error) -> Error {
        Error::Storage(format!("could not read back what is to become {}: {cause}", self.location.url()))
    }

    /// Waits for an answer of the service.
    fn wait<T>(
        &self,
        answer: impl Future<Output = object_store::Result<T>>,
        tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<T> {
        self.wait_for(answer, tick)?.map_err(|cause| self.location.unwritten(&cause))
    }

    fn wait_for<T>(
        &self,
        future: impl Future<Output = T>,
        tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<T> {
        let mut future = pin!(future);
        loop {
            let waited = self.network.runtime.block_on(async { timeout(TICK, future.as_mut()).await });
            match waited {
                Ok(value) => return Ok(value),
                Err(_) => tick()?,
            }
        }
    }
}

/// Large enough for `PARTS` of them to hold the file.
fn part_size(size: u64) -> u64 {
    size.div_ceil(PARTS).max(PART)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_any_size_fits_into_the_parts_there_may_be() {
        for size in [PART + 1, PART * PARTS, PART * PARTS + 1, 5 << 40] {
            assert!(part_size(size) >= PART);
            assert!(size.div_ceil(part_size(size)) <= PARTS);
        }
        assert_eq!(part_size(PART * PARTS), PART);
    }
}
