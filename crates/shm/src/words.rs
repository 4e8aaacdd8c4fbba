// SPDX-License-Identifier: Apache-2.0

use core::ffi::c_void;
use core::fmt;
use core::ops::Deref;
use core::ptr::{self, NonNull};
use core::slice;
use core::sync::atomic::AtomicU64;
use std::fs::File;
use std::io;

use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

/// A range of memory as atomic words, zero at first; dropping it gives the memory back.
///
/// Whatever else reads and writes it, threads or, if it is of a file, other processes, each word is read and written
/// whole.
pub struct Words {
    first: NonNull<AtomicU64>,
    words: usize,
}

// SAFETY: the memory belongs to the value and to no thread.
unsafe impl Send for Words {}
// SAFETY: it is only given out as atomics.
unsafe impl Sync for Words {}

const PROTECTION: ProtFlags = ProtFlags::READ.union(ProtFlags::WRITE);

impl Words {
    /// Memory of this process alone. A forked child has a copy. Up to a mebibyte it is there at once; what is larger comes
    /// page by page, as it is touched.
    ///
    /// # Errors
    /// If there is no memory, or `words` is 0.
    pub fn anonymous(words: usize) -> io::Result<Self> {
        let bytes = bytes(words)?;
        let at_once = if bytes <= 1 << 20 { MapFlags::POPULATE } else { MapFlags::empty() };
        // SAFETY: asks for memory at no particular place.
        let place = unsafe { mmap_anonymous(ptr::null_mut(), bytes, PROTECTION, MapFlags::PRIVATE | at_once) };
        Self::new(place?, words)
    }

    /// A part of a file, from `offset`, a multiple of the page size. What is written reaches the file, whatever becomes
    /// of this process.
    ///
    /// The file must be that long, and stay so: touching what it has not is a `SIGBUS`.
    ///
    /// # Errors
    /// If the file cannot be mapped so, or `words` is 0.
    pub fn of_file(file: &File, offset: u64, words: usize) -> io::Result<Self> {
        let bytes = bytes(words)?;
        // SAFETY: asks for a mapping at no particular place.
        let place = unsafe { mmap(ptr::null_mut(), bytes, PROTECTION, MapFlags::SHARED, file, offset) };
        Self::new(place?, words)
    }

    fn new(place: *mut c_void, words: usize) -> io::Result<Self> {
        let first = NonNull::new(place.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { first, words })
    }
}

fn bytes(words: usize) -> io::Result<usize> {
    words.checked_mul(size_of::<AtomicU64>()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

impl Deref for Words {
    type Target = [AtomicU64];

    #[inline]
    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is that long, aligned to a page, and lives as long as `self`. Any bytes are a word, and
        // nobody writes them but as atomics, or as another process, against which atomics are as good as here.
        unsafe { slice::from_raw_parts(self.first.as_ptr(), self.words) }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's, whose borrows have ended. Fails only for a range that is none.
        let _ = unsafe { munmap(self.first.as_ptr().cast(), self.words * size_of::<AtomicU64>()) };
    }
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Words").field("words", &self.words).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::Ordering::Relaxed;

    use super::*;

    #[test]
    fn memory_is_zero_and_keeps_what_is_written() {
        let words = Words::anonymous(1000).unwrap();
        assert_eq!(words.len(), 1000);
        assert!(words.iter().all(|word| word.load(Relaxed) == 0));
        words[999].store(7, Relaxed);
        assert_eq!(words[999].load(Relaxed), 7);
    }

    #[test]
    fn what_is_written_is_in_the_file() {
        let file = tempfile::tempfile().unwrap();
        crate::reserve(&file, 0, 8192).unwrap();
        let (one, two) = (Words::of_file(&file, 0, 1024).unwrap(), Words::of_file(&file, 4096, 512).unwrap());
        one[512].store(u64::MAX, Relaxed);
        assert_eq!(two[0].load(Relaxed), u64::MAX);
        drop((one, two));
        let mut bytes = [0; 8];
        std::os::unix::fs::FileExt::read_at(&file, &mut bytes, 4096).unwrap();
        assert_eq!(bytes, [0xff; 8]);
    }

    #[test]
    fn what_cannot_be_had_is_an_error() {
        assert!(Words::anonymous(0).is_err());
        assert!(Words::anonymous(usize::MAX).is_err());
        assert!(Words::anonymous(usize::MAX / 16).is_err());
        assert!(Words::of_file(&File::open("/proc/self/status").unwrap(), 0, 512).is_err());
    }
}
