//! How much memory a target takes.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Bytes that may be held for each of the input.
const TIMES: usize = 64;
/// Bytes that may be held whatever the input is: blocks in which files are read, and what compressed input expands to.
const ALWAYS: usize = 4 << 20;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

struct Counted;

#[global_allocator]
static ALLOCATOR: Counted = Counted;

// SAFETY: all calls go to the system's allocator as they are.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        MOST.fetch_max(HELD.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, data: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(data, layout) }
    }
}

/// Does `work` on an input of this size. More memory than a small multiple of it is a finding.
pub fn within(size: usize, work: impl FnOnce()) {
    let before = HELD.load(Relaxed);
    MOST.store(before, Relaxed);
    work();
    let held = MOST.load(Relaxed).saturating_sub(before);
    assert!(held <= size * TIMES + ALWAYS, "{held} bytes were held for an input of {size}");
}
