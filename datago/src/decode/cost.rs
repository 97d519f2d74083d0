//! What decoding a picture takes at most, told from its headers before anything is allocated.
//!
//! A verdict is a function of the bytes, so what is capped is work, not time: a clock would judge the machine.

use crate::reason::{Failure, Reason, Verdict};

/// Most bytes that one picture may take at any moment, its file included.
pub const MAX_MEMORY: u64 = 1 << 30;
/// Most work that decoding one picture may take. A unit is about a nanosecond of one core.
pub const MAX_WORK: u64 = 2_500_000_000;
/// Longest side: tables of resampling filters grow with it.
pub const MAX_SIDE: u32 = 1 << 20;
/// Most chunks, blocks or strips that may be looked at on the way to the first picture.
pub const MAX_PARTS: usize = 1 << 17;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Bytes at the peak.
    pub memory: u64,
    /// See [`MAX_WORK`].
    pub work: u64,
}

impl Cost {
    /// Of a file of `bytes` whose decoder holds at most `decoding` bytes, the finished pixels included.
    pub fn new(bytes: usize, pixels: u64, alpha: bool, orientation: u8, decoding: u64, work: u64) -> Self {
        let channels = if alpha { 4 } else { 3 };
        let turned = if orientation >= 5 { 2 * channels * pixels } else { 0 };
        // The pixels and their luma, and with alpha the same pixels over white.
        let measured = pixels * if alpha { 8 } else { 4 };
        Cost { memory: bytes as u64 + decoding.max(turned).max(measured), work }
    }

    pub fn check(self) -> Verdict<()> {
        if self.memory > MAX_MEMORY {
            let (needed, cap) = (self.memory >> 20, MAX_MEMORY >> 20);
            return Err(too_costly(format!(
                "Decoding would take {needed} MiB, more than the cap of {cap} MiB."
            )));
        }
        if self.work > MAX_WORK {
            let times = self.work as f64 / MAX_WORK as f64;
            return Err(too_costly(format!(
                "Decoding would take {times:.1} times the work that a picture may."
            )));
        }
        Ok(())
    }
}

pub fn too_costly(detail: impl Into<String>) -> Failure {
    Failure::new(Reason::TooCostly, detail)
}

/// Refuses a file of more parts than any picture needs.
pub fn check_parts(found: usize, what: &str) -> Verdict<()> {
    if found > MAX_PARTS {
        return Err(too_costly(format!(
            "More than {MAX_PARTS} {what} come before the end of the first picture."
        )));
    }
    Ok(())
}
