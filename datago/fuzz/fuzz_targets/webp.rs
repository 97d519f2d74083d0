#![no_main]

use _core::fuzz::Format;

libfuzzer_sys::fuzz_target!(|data: &[u8]| _core::fuzz::picture(Format::Webp, data));
