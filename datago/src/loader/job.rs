//! One batch while it is made: each sample is decoded into its own part of one block, which is handed over whole.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use serde_json::{Map, Value};

use super::raw;
use super::shard::Shard;
use crate::decode::{self, Limits};
use crate::error::{Error, Result};
use crate::fit::{Encode, rgb_into};
use crate::lent;
use crate::orient::displayed;
use crate::reason::{Failure, Verdict, caught};
use crate::s3::Ahead;
use crate::sample::{Record, Role, fitted};
use crate::shard::read::{Stored, Wanted};
use crate::source::{Loaded, Source};

/// What a stream wants of every sample.
pub struct Options {
    pub wanted: Wanted,
    pub limits: Limits,
    /// Names of payloads that become what pictures become in an export, and how those are encoded there.
    pub extra_images: Vec<String>,
    pub encode: Encode,
}

/// Where a sample comes from.
pub enum Input {
    Row { shard: Arc<Shard>, row: usize },
    Record(Record),
}

/// One sample, read.
struct Read {
    stored: Stored,
    /// What becomes of each of its payloads.
    roles: Vec<Role>,
}

/// One sample, made.
struct Made {
    id: String,
    attributes: Vec<u8>,
    payloads: Vec<Option<Vec<u8>>>,
    /// The picture's bytes, where they are wanted and not its pixels.
    encoded: Option<Vec<u8>>,
    failure: Option<Failure>,
}

#[derive(Default)]
struct Slot {
    input: Option<Input>,
    read: Option<Result<Read>>,
    pixels: BytesMut,
    made: Option<Result<Made>>,
}

pub struct Job {
    /// (width, height) of its pictures; `None`: their bytes are handed over as they are.
    target: Option<(u32, u32)>,
    slots: Vec<Mutex<Slot>>,
    left: AtomicUsize,
    shards: Vec<Arc<Shard>>,
    ahead: Ahead,
}

/// A batch as it is handed over. Samples that can not be used are in `failures` alone.
#[derive(Default)]
pub struct Batch {
    pub ids: Vec<String>,
    /// A JSON array of an object for each sample.
    pub attributes: Vec<u8>,
    /// One list for each payload wanted.
    pub payloads: Vec<Vec<Option<Vec<u8>>>>,
    pub target: Option<(u32, u32)>,
    /// The pictures one after the other, where there is a target.
    pub block: Vec<u8>,
    pub encoded: Vec<Vec<u8>>,
    pub failures: Vec<(String, Failure)>,
}

impl Job {
    pub fn new(
        mut inputs: Vec<Input>,
        shards: Vec<Arc<Shard>>,
        target: Option<(u32, u32)>,
        options: &Options,
    ) -> Result<Self> {
        for input in &mut inputs {
            if let Input::Record(record) = input {
                record.payloads.retain(|payload| options.wanted.payloads.contains(&payload.name));
            }
        }
        let sources = inputs.iter().filter_map(|input| match input {
            Input::Record(record) => Some(record.sources()),
            Input::Row { .. } => None,
        });
        let ahead = Ahead::start(sources.flatten(), options.limits.max_bytes)?;
        let size = size(target);
        // Both conversions keep the memory, which nobody else has.
        let block = Bytes::from(lent::take(size * inputs.len())).try_into_mut();
        let mut block = block.unwrap_or_else(|none| BytesMut::from(&none[..]));
        let left = AtomicUsize::new(inputs.len());
        let slot = |input| {
            let pixels = block.split_to(size);
            Mutex::new(Slot { input: Some(input), pixels, ..Slot::default() })
        };
        Ok(Job { target, slots: inputs.into_iter().map(slot).collect(), left, shards, ahead })
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn is_done(&self) -> bool {
        self.left.load(Ordering::Acquire) == 0
    }

    /// Reads one sample; may wait for a disk or a network.
    pub fn read(&self, index: usize, options: &Options) {
        let mut slot = lock(&self.slots[index]);
        if let Some(input) = slot.input.take() {
            let read = caught(|| {
                Ok(match input {
                    Input::Row { shard, row } => from_row(&shard, row, &options.wanted),
                    Input::Record(record) => from_record(record, options),
                })
            });
            slot.read = Some(settled(read));
        }
    }

    /// Makes one sample of what was read; true if it was the last.
    pub fn make(&self, index: usize, options: &Options) -> bool {
        let mut slot = lock(&self.slots[index]);
        if let Some(read) = slot.read.take() {
            let pixels = &mut slot.pixels[..];
            slot.made =
                Some(settled(caught(|| Ok(read.map(|read| make(read, self.target, pixels, options))))));
        }
        drop(slot);
        self.left.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Wakes whoever waits for bytes of this batch.
    pub fn stop(&self) {
        self.ahead.stop();
        self.shards.iter().for_each(|shard| shard.stop());
    }

    /// Puts together what was made. The first sample that could not be read, in the batch's order, is the error.
    pub fn finish(&self, payloads: usize) -> Result<Batch> {
        let size = size(self.target);
        let mut batch = Batch { target: self.target, ..Batch::default() };
        batch.payloads = (0..payloads).map(|_| Vec::with_capacity(self.slots.len())).collect();
        batch.attributes.push(b'[');
        let mut block = BytesMut::new();
        let mut kept = Vec::with_capacity(self.slots.len());
        for (index, slot) in self.slots.iter().enumerate() {
            let Slot { pixels, made, .. } = std::mem::take(&mut *lock(slot));
            let made = made.unwrap_or_else(|| Err(Error::Storage("the stream was closed".into())))?;
            // Neighbours of one block: joined without a copy.
            block.unsplit(pixels);
            if let Some(failure) = made.failure {
                batch.failures.push((made.id, failure));
                continue;
            }
            kept.push(index);
            batch.ids.push(made.id);
            if batch.attributes.len() > 1 {
                batch.attributes.push(b',');
            }
            batch.attributes.extend_from_slice(&made.attributes);
            for (list, payload) in batch.payloads.iter_mut().zip(made.payloads) {
                list.push(payload);
            }
            batch.encoded.extend(made.encoded);
        }
        batch.attributes.push(b']');
        for (to, &from) in kept.iter().enumerate() {
            if to != from {
                block.copy_within(from * size..(from + 1) * size, to * size);
            }
        }
        block.truncate(kept.len() * size);
        batch.block = block.into();
        Ok(batch)
    }
}

fn size(target: Option<(u32, u32)>) -> usize {
    target.map_or(0, |(width, height)| width as usize * height as usize * 3)
}

/// Of a panic outside the decoders nothing is known but that it is our bug.
fn settled<T>(outcome: Verdict<Result<T>>) -> Result<T> {
    outcome.unwrap_or_else(|failure| Err(Error::Input(failure.detail)))
}

fn from_row(shard: &Shard, row: usize, wanted: &Wanted) -> Result<Read> {
    let stored = shard.row(row, wanted)?;
    Ok(Read { roles: vec![Role::Untouched; stored.payloads.len()], stored })
}

/// The bytes of a picture, and of the payloads wanted.
type Loads = (Vec<u8>, Vec<Option<Vec<u8>>>);

/// A record as a row. One that could not be read is an error: a later attempt might read it.
fn from_record(record: Record, options: &Options) -> Result<Read> {
    let wanted = &options.wanted;
    let mut roles = vec![Role::Untouched; wanted.payloads.len()];
    let load = |source: &Source| source.load(wanted.max_bytes).map(Loaded::into_vec);
    let mut all = || -> Verdict<Loads> {
        let image = load(&record.image)?;
        let mut payloads = vec![None; wanted.payloads.len()];
        for payload in &record.payloads {
            let Some(at) = wanted.payloads.iter().position(|name| *name == payload.name) else { continue };
            payloads[at] = Some(load(&payload.data)?);
            roles[at] = payload.role(&options.extra_images, options.encode);
        }
        Ok((image, payloads))
    };
    let loaded = all();
    // A picture that can not be used leaves its payloads unread.
    record.sources().for_each(Source::forget);
    let Record { sample_id: id, attributes, .. } = record;
    let stored = match loaded {
        Ok((data, payloads)) => {
            Stored { id, image: 0..data.len(), data, attributes, payloads, failure: None }
        }
        Err(failure) if failure.reason.retryable() => {
            return Err(Error::Storage(format!("sample {id}: {}", failure.detail)));
        }
        Err(failure) => Stored { id, failure: Some(failure), ..Stored::default() },
    };
    Ok(Read { stored, roles })
}

fn make(read: Read, target: Option<(u32, u32)>, pixels: &mut [u8], options: &Options) -> Made {
    let Read { stored: Stored { id, mut data, image, attributes, mut payloads, failure }, roles } = read;
    let outcome = match (failure, target) {
        (Some(failure), _) => Err(failure),
        (None, None) => Ok(()),
        (None, Some(target)) => caught(|| {
            let data = &data[image.clone()];
            if raw::is_npy(data) {
                return raw::pixels_into(data, target, options.limits, pixels);
            }
            let header = decode::header(data)?;
            decode::check(&header, options.limits)?;
            rgb_into(data, &header, target, options.limits, pixels)?;
            let shown = displayed(header.width, header.height, header.orientation);
            for ((payload, role), name) in payloads.iter_mut().zip(roles).zip(&options.wanted.payloads) {
                let Some(data) = payload else { continue };
                if let Some(fitted) = fitted(name, data, role, shown, target, options.limits)? {
                    *data = fitted;
                }
            }
            Ok(())
        }),
    };
    let failure = outcome.and_then(|()| check_attributes(&attributes)).err();
    let encoded = (target.is_none() && failure.is_none()).then(|| {
        data.truncate(image.end);
        data.split_off(image.start)
    });
    Made { id, attributes, payloads, encoded, failure }
}

fn check_attributes(text: &[u8]) -> Verdict<()> {
    // Parsed, and not skimmed: text that is no UTF-8, or nested without end, would fail all of the batch later.
    serde_json::from_slice::<Map<String, Value>>(text)
        .map(drop)
        .map_err(|cause| Failure::corrupt(format!("Its attributes are no JSON object: {cause}.")))
}

fn lock<T>(slot: &Mutex<T>) -> MutexGuard<'_, T> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}
