//! MDS shards that are compressed as a whole, as mosaicml-streaming reads them.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use xxhash_rust::xxh3::Xxh3;

use super::output::{Output, nameless};
use crate::error::{Error, Result};

/// What mosaicml-streaming takes `zstd` and `gz` to be, but for the level of `gz`: 9 is slower and hardly smaller.
const ZSTD_LEVEL: i32 = 3;
const GZ_LEVEL: flate2::Compression = flate2::Compression::new(6);
/// No MDS shard holds more.
pub const MOST: u64 = u32::MAX as u64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    Zstd,
    Gz,
}

impl Compression {
    pub fn named(name: &str) -> Result<Self> {
        match name {
            "zstd" => Ok(Compression::Zstd),
            "gz" => Ok(Compression::Gz),
            other => Err(Error::Config(format!("{other:?} is no compression of MDS shards"))),
        }
    }

    /// Also the extension.
    pub fn name(self) -> &'static str {
        match self {
            Compression::Zstd => "zstd",
            Compression::Gz => "gz",
        }
    }
}

/// Size and xxh128 of a file.
pub struct Measure {
    pub bytes: u64,
    pub xxh128: String,
}

/// What a compressor gets at a time: what comes out may depend on the pieces in which it comes in.
const STEP: usize = 128 << 10;

/// Where the bytes of an MDS shard go: to the file, or compressed to it.
pub enum Sink {
    Plain(Output),
    Compressed(Compressed),
}

pub struct Compressed {
    encoder: Encoder,
    /// Less than `STEP`.
    gathered: Vec<u8>,
    bytes: u64,
    xxh128: Box<Xxh3>,
}

enum Encoder {
    Zstd(zstd::Encoder<'static, Output>),
    Gz(GzEncoder<Output>),
}

impl Compressed {
    fn put(&mut self, mut data: &[u8]) -> io::Result<()> {
        self.bytes += data.len() as u64;
        while self.gathered.len() + data.len() >= STEP {
            let (piece, rest) = data.split_at(STEP - self.gathered.len());
            self.gathered.extend_from_slice(piece);
            self.send()?;
            data = rest;
        }
        self.gathered.extend_from_slice(data);
        Ok(())
    }

    fn send(&mut self) -> io::Result<()> {
        self.xxh128.update(&self.gathered);
        match &mut self.encoder {
            Encoder::Zstd(encoder) => encoder.write_all(&self.gathered)?,
            Encoder::Gz(encoder) => encoder.write_all(&self.gathered)?,
        }
        self.gathered.clear();
        Ok(())
    }

    fn finish(mut self) -> io::Result<(Output, Measure)> {
        self.send()?;
        let output = match self.encoder {
            Encoder::Zstd(encoder) => encoder.finish(),
            Encoder::Gz(encoder) => encoder.finish(),
        }?;
        let xxh128 = format!("{:032x}", self.xxh128.digest128());
        Ok((output, Measure { bytes: self.bytes, xxh128 }))
    }
}

impl Sink {
    /// `bytes` are so many as will be put.
    pub fn begin(output: Output, compression: Option<Compression>, bytes: u64) -> Result<Self> {
        let encoder = match compression {
            None => return Ok(Sink::Plain(output)),
            Some(Compression::Zstd) => Encoder::Zstd(zstd_encoder(output, bytes).map_err(|e| failed(&e))?),
            Some(Compression::Gz) => Encoder::Gz(GzEncoder::new(output, GZ_LEVEL)),
        };
        let gathered = Vec::with_capacity(STEP);
        Ok(Sink::Compressed(Compressed { encoder, gathered, bytes: 0, xxh128: Box::default() }))
    }

    pub fn put(&mut self, data: &[u8]) -> Result<()> {
        match self {
            Sink::Plain(output) => output.put(data),
            Sink::Compressed(compressed) => compressed.put(data).map_err(|e| failed(&e)),
        }
    }

    /// The file, and what was put.
    pub fn finish(self) -> Result<(Output, Measure)> {
        match self {
            Sink::Plain(mut output) => {
                let measure = output.measure();
                Ok((output, measure))
            }
            Sink::Compressed(compressed) => compressed.finish().map_err(|e| failed(&e)),
        }
    }
}

/// The reader wants to know the size beforehand.
fn zstd_encoder(output: Output, bytes: u64) -> io::Result<zstd::Encoder<'static, Output>> {
    let mut encoder = zstd::Encoder::new(output, ZSTD_LEVEL)?;
    encoder.set_pledged_src_size(Some(bytes))?;
    encoder.include_contentsize(true)?;
    Ok(encoder)
}

fn failed(cause: &io::Error) -> Error {
    Error::Storage(format!("could not write the MDS shard: {cause}"))
}

/// What a compressed shard holds, in a file without a name, and no more than `most` bytes.
pub fn expanded(mut file: &File, compression: Compression, shown: &str, most: u64) -> Result<File> {
    let damaged = |why: &str| Error::Damaged(format!("shard {shown} is damaged: {why}"));
    let start = |cause: io::Error| Error::Storage(format!("could not read {shown}: {cause}"));
    file.seek(SeekFrom::Start(0)).map_err(start)?;
    let mut decoder: Box<dyn Read> = match compression {
        Compression::Zstd => Box::new(zstd::Decoder::new(file).map_err(start)?),
        Compression::Gz => Box::new(MultiGzDecoder::new(file)),
    };
    let folder = std::env::temp_dir();
    let mut expanded = nameless(&folder, "shard.mds")?;
    let mut block = vec![0; 256 << 10];
    let mut held = 0;
    loop {
        let found = decoder.read(&mut block).map_err(|e| damaged(&format!("it can not be expanded: {e}")))?;
        held += found as u64;
        if held > most {
            return Err(damaged("it expands to more than an MDS shard can hold"));
        }
        if found == 0 {
            return Ok(expanded);
        }
        expanded.write_all(&block[..found]).map_err(|e| set_down(shown, &folder, &e))?;
    }
}

fn set_down(shown: &str, folder: &Path, cause: &io::Error) -> Error {
    Error::Storage(format!("could not set down {shown} in {}: {cause}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_that_expands_to_more_than_it_may_is_damaged() {
        let folder = std::env::temp_dir();
        let data = vec![0; 1000];
        let mut zipped = GzEncoder::new(nameless(&folder, "zipped").expect("file"), GZ_LEVEL);
        zipped.write_all(&data).expect("zipped");
        let zipped = zipped.finish().expect("zipped");
        let long = |most| {
            expanded(&zipped, Compression::Gz, "it", most).map(|file| file.metadata().map(|m| m.len()))
        };
        assert_eq!(long(1000).expect("expanded").expect("length"), 1000);
        assert!(matches!(long(999), Err(Error::Damaged(text)) if text.contains("more than")));
    }
}
