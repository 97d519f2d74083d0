//! Large buffers that a thread uses again: fresh pages from the system cost more than most of what is done with them.

use std::cell::RefCell;
use std::sync::{Mutex, PoisonError};

/// No more than this is kept from picture to picture.
pub const KEPT_BYTES: usize = 64 << 20;

thread_local! { static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) }; }

/// How many buffers a thread keeps: the pixels of a picture, and those of it turned.
const KEPT: usize = 2;

/// A buffer of `length` bytes with anything in it.
pub fn take(length: usize) -> Vec<u8> {
    let mut buffer = SPARE.with_borrow_mut(|kept| {
        let fitting = kept.iter().position(|b| b.capacity() >= length && b.capacity() / 8 <= length);
        fitting.map(|at| kept.swap_remove(at)).unwrap_or_default()
    });
    if buffer.capacity() == 0 {
        return vec![0; length];
    }
    buffer.resize(length, 0);
    buffer
}

/// Keeps a buffer for the next picture, unless it is too large to be kept.
pub fn give(buffer: Vec<u8>) {
    if buffer.capacity() <= KEPT_BYTES {
        SPARE.with_borrow_mut(|kept| {
            if kept.len() == KEPT {
                kept.remove(0);
            }
            kept.push(buffer);
        });
    }
}

/// Buffers that those who read fill and those who are done with what was read give back, on whatever thread.
#[derive(Default)]
pub struct Shelf(Mutex<Vec<Vec<u8>>>);

impl Shelf {
    /// A buffer with anything in it.
    pub fn take(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    pub fn give(&self, buffer: Vec<u8>) {
        if (1..=KEPT_BYTES).contains(&buffer.capacity()) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_and_a_much_larger_one_is_not_used_for_a_small_picture() {
        let first = take(1000);
        let place = first.as_ptr();
        give(first);
        let again = take(900);
        assert_eq!((again.as_ptr(), again.len()), (place, 900));
        give(again);
        let small = take(10);
        assert_ne!(small.as_ptr(), place);
        assert_eq!(small.len(), 10);
    }
}
