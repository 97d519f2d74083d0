//! Shards: the table of samples is read, and all that is stored of each.

use std::io::Write;

use crate::error::{Error, Result};
use crate::reason::{Reason, caught};
use crate::shard::read::{Place, Wanted};
use crate::shard::{self, Compression, ShardFormat, expanded, nameless};

/// Bytes of a picture or payload.
const MOST: u64 = 4096;
/// What is put before the pixels of an array.
const HEADER: u64 = 2048;
/// Bytes to which a compressed shard may expand.
const EXPANDED: u64 = 1 << 16;

/// Everything of a shard. The first byte of an MDS shard says how it is compressed.
pub fn shard(format: ShardFormat, data: &[u8]) {
    let (compression, data) = match (format, data.split_first()) {
        (ShardFormat::Mds, None) => return,
        (ShardFormat::Mds, Some((how, data))) => {
            ([None, Some(Compression::Zstd), Some(Compression::Gz)][usize::from(how % 3)], data)
        }
        _ => (None, data),
    };
    match all(format, compression, data) {
        Ok(()) => {}
        Err(Error::Damaged(text)) => assert!(text.starts_with("shard fuzzed is damaged: "), "{text}"),
        Err(other) => panic!("{other}"),
    }
}

/// Asks a reader. What the parquet crate gives up on is damaged to those who read the shard; our own readers give up on nothing.
fn read<T>(format: ShardFormat, work: impl FnOnce() -> Result<T>) -> Result<T> {
    match caught(|| Ok(work())) {
        Ok(found) => found,
        Err(_) if format == ShardFormat::Parquet => {
            Err(Error::Damaged("shard fuzzed is damaged: its reader gave up".to_owned()))
        }
        Err(failure) => panic!("{}", failure.detail),
    }
}

fn all(format: ShardFormat, compression: Option<Compression>, data: &[u8]) -> Result<()> {
    let folder = std::env::temp_dir();
    let mut file = nameless(&folder, "fuzzed")?;
    file.write_all(data).map_err(|e| Error::storage("write", &folder, &e))?;
    if let Some(compression) = compression {
        file = expanded(&file, compression, "fuzzed", EXPANDED)?;
    }
    let rows = read(format, || shard::read::open(Place::of(file, "fuzzed".to_owned())?, format))?;
    if let Ok(sizes) = read(format, || rows.sizes()) {
        assert_eq!(sizes.len(), rows.len());
    }
    let wanted = Wanted { payloads: vec!["mask".to_owned(), "depth".to_owned()], max_bytes: MOST };
    for row in 0..rows.len() {
        let Ok(stored) = read(format, || rows.row(row, &wanted)) else { continue };
        let Some(failure) = stored.failure else {
            assert!(stored.data.get(stored.image).is_some_and(|image| image.len() as u64 <= MOST + HEADER));
            assert_eq!(stored.payloads.len(), wanted.payloads.len());
            assert!(stored.payloads.iter().flatten().all(|payload| payload.len() as u64 <= MOST));
            continue;
        };
        assert!(matches!(failure.reason, Reason::TooLarge | Reason::Empty), "{}", failure.detail);
    }
    Ok(())
}
