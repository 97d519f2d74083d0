#![no_main]

use _core::fuzz::{ShardFormat, shard};

libfuzzer_sys::fuzz_target!(|data: &[u8]| datago_fuzz::within(data.len(), || shard(ShardFormat::Mds, data)));
