//! What is written for the vector registers of one kind of machine, and the proof that this is such a machine.
//!
//! The one place where code for a machine is called, which is unsafe in itself (docs/decisions/2026-11-28-code-for-one-kind-of-machine.md).

#![allow(unsafe_code)]

mod idct;
mod rgb;

use crate::idct::{Rows, Two};

/// A machine with AVX2.
#[derive(Clone, Copy)]
pub struct Wide(());

impl Wide {
    /// This machine, if it is one.
    pub fn here() -> Option<Wide> {
        is_x86_feature_detected!("avx2").then_some(Wide(()))
    }

    /// [`crate::idct::pair`], where pixels beyond the side are anything.
    pub fn pair(self, side: usize, coefficients: &Two<i16>, factors: &Two<i16>) -> Rows {
        // SAFETY: there is no `Wide` on a machine without the feature that the function is compiled for.
        unsafe { idct::pair(side, coefficients, factors) }
    }

    /// [`crate::ycc::rgb`] of as many whole blocks as there are; the number of pixels done.
    pub fn rgb(self, luma: &[u8], blue: &[u8], red: &[u8], out: &mut [u8]) -> usize {
        // SAFETY: as above.
        unsafe { rgb::blocks(luma, blue, red, out) }
    }
}
