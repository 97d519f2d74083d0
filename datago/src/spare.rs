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

/// The most rooms of one kind that are kept.
const ROOMS: usize = 64;

/// Working memory for one picture each, that nobody uses. It outlives the threads of a call, which are gone with it. Who can not
/// look at once goes without: a forked child may never get the lock.
pub struct Rooms<T>(Mutex<Vec<T>>);

impl<T: Default> Rooms<T> {
    pub const fn new() -> Self {
        Rooms(Mutex::new(Vec::new()))
    }

    /// Lends one; it is kept if `keeps` says so. After a panic it is gone.
    pub fn with<R>(&self, keeps: impl FnOnce(&T) -> bool, work: impl FnOnce(&mut T) -> R) -> R {
        let mut room = self.0.try_lock().ok().and_then(|mut rooms| rooms.pop()).unwrap_or_default();
        let done = work(&mut room);
        if keeps(&room)
            && let Ok(mut rooms) = self.0.try_lock()
            && rooms.len() < ROOMS
        {
            rooms.push(room);
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_is_lent_again_if_it_is_to_be_kept() {
        let rooms = Rooms::<Vec<u8>>::new();
        rooms.with(|_| true, |room| room.push(1));
        rooms.with(|_| false, |room| assert_eq!(*room, [1]));
        rooms.with(|_| true, |room| assert!(room.is_empty()));
    }

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
