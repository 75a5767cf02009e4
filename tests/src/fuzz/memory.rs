//! How much memory a piece of code holds at most, so that an allocation by a declared length is seen at once.
//!
//! Counts the calling thread only. Without [`Counting`] as the global allocator everything measures 0.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Bytes allocated less bytes freed; below zero when another thread's were freed here.
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, counting. For `#[global_allocator]` of a binary or test.
#[derive(Debug)]
pub struct Counting;

fn count(delta: isize) {
    LIVE.set(LIVE.get().wrapping_add(delta));
    PEAK.set(PEAK.get().max(LIVE.get()));
}

// SAFETY: every call goes to the system's allocator with the caller's own arguments, and counting neither allocates
// nor panics: the cells need no initialisation and no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        unsafe { System.realloc(memory, layout, size) }
    }
}

/// What `work` returns, and the most bytes that were held at once beyond those held before. May be nested.
pub fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let (before, outer_peak) = (LIVE.get(), PEAK.get());
    PEAK.set(before);
    let result = work();
    let peak = PEAK.get();
    PEAK.set(peak.max(outer_peak));
    (result, usize::try_from(peak - before).unwrap_or(0))
}
