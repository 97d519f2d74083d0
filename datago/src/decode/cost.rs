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
        // The pixels and what they are measured in; with alpha at most the same pixels over white, too.
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

/// Pixels of a picture of any size that a header can claim, so few that sums of bytes for them do not overflow.
pub fn area(width: u32, height: u32) -> u64 {
    (u64::from(width) * u64::from(height)).min(1 << 48)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_of_a_picture_is_its_decoder_its_turn_or_its_figures() {
        let memory = |alpha, orientation, decoding| Cost::new(7, 100, alpha, orientation, decoding, 0).memory;
        assert_eq!(memory(false, 1, 300), 407);
        assert_eq!(memory(false, 6, 300), 607);
        assert_eq!(memory(true, 3, 300), 807);
        assert_eq!(memory(true, 1, 1000), 1007);
    }

    #[test]
    fn what_costs_more_than_the_caps_is_refused() {
        let reason = |cost: Cost| cost.check().err().map(|failure| failure.reason);
        assert_eq!(reason(Cost { memory: MAX_MEMORY, work: MAX_WORK }), None);
        assert_eq!(reason(Cost { memory: MAX_MEMORY + 1, work: 0 }), Some(Reason::TooCostly));
        assert_eq!(reason(Cost { memory: 0, work: MAX_WORK + 1 }), Some(Reason::TooCostly));
        let most = area(u32::MAX, u32::MAX);
        assert_eq!(reason(Cost::new(0, most, true, 6, most * 12, most * 300)), Some(Reason::TooCostly));
    }
}
