//! Memory several processes map: zeroed words that anybody may change at any time, hence atomics only.
//!
//! Invariant: a mapping is at least as long as its file was when it was made, and no file is ever shortened.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// Plain atomics: valid for every bit pattern, and safe to share with whoever else maps them.
///
/// # Safety
///
/// Implementors are `#[repr(C)]` and consist of integers that are atomics.
pub(crate) unsafe trait Shareable: Sync {}

// SAFETY: an atomic integer.
unsafe impl Shareable for AtomicU32 {}
// SAFETY: an atomic integer.
unsafe impl Shareable for AtomicU64 {}

/// A mapped file without a name.
#[derive(Debug)]
pub(crate) struct SharedMemory {
    file: File,
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: what it hands out are references to atomics.
unsafe impl Send for SharedMemory {}
// SAFETY: as above.
unsafe impl Sync for SharedMemory {}

impl SharedMemory {
    /// New memory, all zero. Errors: those of memfd_create(2) and mmap(2).
    pub(crate) fn create(name: &str, bytes: usize) -> io::Result<Self> {
        let name = CString::new(name)?;
        // SAFETY: `name` is a string with its end that outlives the call.
        let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and nobody else owns it.
        let file = unsafe { File::from_raw_fd(fd) };
        file.set_len(bytes as u64)?;
        Self::map(file, bytes)
    }

    /// The memory another process made, by its [`SharedMemory::path`].
    pub(crate) fn open(path: &Path, bytes: usize) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        if file.metadata()?.len() < bytes as u64 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Self::map(file, bytes)
    }

    /// Where processes of the same user find it while this one lives.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()))
    }

    fn map(file: File, bytes: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let fd = file.as_raw_fd();
        // SAFETY: a fresh shared mapping of a file that is at least as long; nothing else is at its address.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, libc::MAP_SHARED, fd, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { file, base, bytes })
    }

    /// The value at an offset.
    ///
    /// # Panics
    ///
    /// When it is out of bounds or not aligned.
    pub(crate) fn at<T: Shareable>(&self, offset: usize) -> &T {
        assert!(offset + size_of::<T>() <= self.bytes && offset.is_multiple_of(align_of::<T>()));
        // SAFETY: in bounds and aligned (mappings begin at a page); any bits are a valid `T`, and others change
        // them atomically only.
        unsafe { self.base.add(offset).cast().as_ref() }
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `map`, to which no reference outlives `self`.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn what_one_mapping_stores_another_reads() {
        let one = SharedMemory::create("test", 4096).expect("memory");
        let other = SharedMemory::open(&one.path(), 4096).expect("the same memory");
        one.at::<AtomicU64>(64).store(7, Ordering::Relaxed);
        assert_eq!(other.at::<AtomicU64>(64).load(Ordering::Relaxed), 7);
        assert!(SharedMemory::open(&one.path(), 8192).is_err(), "more than there is");
    }

    #[test]
    #[should_panic(expected = "offset")]
    fn nothing_beyond_the_end_is_handed_out() {
        SharedMemory::create("test", 8).expect("memory").at::<AtomicU64>(8);
    }
}
