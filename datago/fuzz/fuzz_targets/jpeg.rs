#![no_main]

use datago_fuzz::decode::Format;

libfuzzer_sys::fuzz_target!(|data: &[u8]| datago_fuzz::picture(Format::Jpeg, data));
