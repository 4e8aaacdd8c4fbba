// SPDX-License-Identifier: Apache-2.0

//! Registered memory and files, and the parts of them that transfers name.

use std::ffi::c_int;
use std::fmt;
use std::fs::File;
use std::mem;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::agent::Agent;
use crate::backend::Backend;
use crate::error::{Error, check};
use crate::owned::Owned;
use crate::sys;

const WORD: usize = size_of::<u64>();

/// Memory that is registered with a backend, made by [`Backend::register`].
///
/// Clones stand for the same memory. It is deregistered and freed when the last clone and the last transfer that names
/// it is gone.
///
/// Transfers may change it at any time. Reading and writing it from here meanwhile is allowed and gives old or new bytes
/// (whole, in groups of eight); after a transfer was seen complete, the bytes are those it moved.
#[derive(Clone)]
pub struct Region {
    words: Arc<[AtomicU64]>,
    registration: Arc<Registration>,
}

impl Region {
    pub(crate) fn create(backend: &Backend, length: usize) -> Result<Region, Error> {
        let words: Arc<[AtomicU64]> = (0..length.div_ceil(WORD)).map(|_| AtomicU64::new(0)).collect();
        let registration = Registration::create(backend, Storage::Memory(words.clone()), length)?;
        Ok(Region { words, registration: Arc::new(registration) })
    }

    /// Its length in bytes, never 0.
    #[expect(clippy::len_without_is_empty, reason = "a region is never empty")]
    pub fn len(&self) -> usize {
        self.registration.length
    }

    /// The backend it is registered with.
    pub fn backend(&self) -> &Backend {
        &self.registration.backend
    }

    /// A copy of some of its bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Range`] if they are not all within.
    pub fn read(&self, range: Range<usize>) -> Result<Vec<u8>, Error> {
        self.registration.within(&range)?;
        let mut bytes = Vec::with_capacity(range.len() + 2 * WORD);
        let first = range.start / WORD;
        for word in &self.words[first..range.end.div_ceil(WORD).max(first)] {
            // Relaxed: what orders this after a transfer is the call that saw the transfer complete.
            bytes.extend_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
        }
        bytes.drain(..(range.start % WORD).min(bytes.len()));
        bytes.truncate(range.len());
        Ok(bytes)
    }

    /// Copies `bytes` into it, from `offset` on.
    ///
    /// # Errors
    ///
    /// [`Error::Range`] if they do not fit; nothing is changed then.
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        self.registration.within(&(offset..offset.saturating_add(bytes.len())))?;
        let (mut position, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            let start = position % WORD;
            let (now, later) = rest.split_at(rest.len().min(WORD - start));
            let word = &self.words[position / WORD];
            if let Ok(whole) = now.try_into() {
                // Relaxed: what orders this before a transfer is the call that posts the transfer.
                word.store(u64::from_ne_bytes(whole), Ordering::Relaxed);
            } else {
                let change = |old: u64| {
                    let mut new = old.to_ne_bytes();
                    new[start..start + now.len()].copy_from_slice(now);
                    Some(u64::from_ne_bytes(new))
                };
                word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change).expect("the change never declines");
            }
            position += now.len();
            rest = later;
        }
        Ok(())
    }

    /// Sets every byte of it.
    pub fn fill(&self, byte: u8) {
        for word in &*self.words {
            word.store(u64::from_ne_bytes([byte; WORD]), Ordering::Relaxed);
        }
    }

    /// A part of it, for a transfer.
    ///
    /// # Errors
    ///
    /// [`Error::Range`] if it is not all within; [`Error::Empty`] if it has no bytes.
    pub fn slice(&self, range: Range<usize>) -> Result<Slice, Error> {
        self.registration.slice(range)
    }

    /// All of it, for a transfer.
    pub fn whole(&self) -> Slice {
        self.registration.whole()
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Region").field("length", &self.len()).field("backend", self.backend()).finish()
    }
}

/// A file that is registered with a backend, made by [`Backend::register_file`].
///
/// Clones stand for the same registration. It is deregistered and the file closed when the last clone and the last
/// transfer that names it is gone.
///
/// To NIXL, the memory of a file belongs to the agent that registered it: it is the `remote` side of a transfer whose
/// `local` side is memory of the same agent. [`Operation::Write`](crate::Operation::Write) writes the file.
#[derive(Clone)]
pub struct FileRegion {
    file: Arc<File>,
    registration: Arc<Registration>,
}

impl FileRegion {
    pub(crate) fn create(backend: &Backend, file: File, length: usize) -> Result<FileRegion, Error> {
        let file = Arc::new(file);
        let registration = Registration::create(backend, Storage::File(file.clone()), length)?;
        Ok(FileRegion { file, registration: Arc::new(registration) })
    }

    /// The file, to be read and written beside NIXL.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Its registered length in bytes, never 0.
    #[expect(clippy::len_without_is_empty, reason = "a region is never empty")]
    pub fn len(&self) -> usize {
        self.registration.length
    }

    /// The backend it is registered with.
    pub fn backend(&self) -> &Backend {
        &self.registration.backend
    }

    /// A part of it, for a transfer.
    ///
    /// # Errors
    ///
    /// [`Error::Range`] if it is not all within; [`Error::Empty`] if it has no bytes.
    pub fn slice(&self, range: Range<usize>) -> Result<Slice, Error> {
        self.registration.slice(range)
    }

    /// All of it, for a transfer.
    pub fn whole(&self) -> Slice {
        self.registration.whole()
    }
}

impl fmt::Debug for FileRegion {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("FileRegion")
            .field("file", &self.file)
            .field("length", &self.len())
            .field("backend", self.backend())
            .finish()
    }
}

/// A part of a [`Region`] or a [`FileRegion`], as transfers take it. It keeps the whole of it registered.
#[derive(Clone)]
pub struct Slice {
    registration: Arc<Registration>,
    range: Range<usize>,
}

impl Slice {
    /// Its length in bytes, never 0.
    #[expect(clippy::len_without_is_empty, reason = "a slice is never empty")]
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// The agent its memory is registered with.
    pub fn agent(&self) -> &Agent {
        self.registration.backend.agent()
    }

    pub(crate) fn memory_type(&self) -> c_int {
        self.registration.storage.memory_type()
    }

    /// Where it begins, as NIXL names places: an address, or an offset in a file.
    pub(crate) fn address(&self) -> usize {
        self.registration.storage.address() + self.range.start
    }

    pub(crate) fn device(&self) -> u64 {
        self.registration.storage.device()
    }

    /// Keeps its memory, or its file, for as long as the process runs.
    pub(crate) fn keep_for_ever(&self) {
        mem::forget(self.registration.storage.clone());
    }
}

impl fmt::Debug for Slice {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Slice").field("range", &self.range).field("backend", &self.registration.backend).finish()
    }
}

/// What is registered. Shared, so that nothing moves or frees it while NIXL knows its address.
#[derive(Clone)]
enum Storage {
    Memory(Arc<[AtomicU64]>),
    File(Arc<File>),
}

impl Storage {
    fn memory_type(&self) -> c_int {
        match self {
            Storage::Memory(_) => sys::MEMORY_DRAM,
            Storage::File(_) => sys::MEMORY_FILE,
        }
    }

    fn address(&self) -> usize {
        match self {
            Storage::Memory(words) => words.as_ptr().expose_provenance(),
            Storage::File(_) => 0,
        }
    }

    fn device(&self) -> u64 {
        match self {
            Storage::Memory(_) => 0,
            Storage::File(file) => u64::try_from(file.as_raw_fd()).expect("an open file's number is not negative"),
        }
    }
}

/// A registration with a backend, undone when dropped.
struct Registration {
    storage: Storage,
    length: usize,
    /// The list it was registered by, which is also what deregisters it.
    list: Owned<sys::RegDlist>,
    // Declared after the list, though the list does not need it: a backend outlives what was made for it.
    backend: Backend,
}

// SAFETY: the list is bound to no thread. It is only read, by calls on the agent, which locks.
unsafe impl Send for Registration {}
// SAFETY: as for Send.
unsafe impl Sync for Registration {}

impl Registration {
    fn create(backend: &Backend, storage: Storage, length: usize) -> Result<Registration, Error> {
        if length == 0 {
            return Err(Error::Empty);
        }
        let agent = backend.agent();
        let functions = agent.functions();
        // SAFETY: the list is destroyed once, with the registration.
        let list = unsafe {
            Owned::create("create_reg_dlist", functions.destroy_reg_dlist, |out| {
                (functions.create_reg_dlist)(storage.memory_type(), out)
            })
        }?;
        // SAFETY: the list is alive, and there is no metadata to point to.
        check("reg_dlist_add_desc", unsafe {
            (functions.reg_dlist_add_desc)(list.get(), storage.address(), length, storage.device(), ptr::null(), 0)
        })?;
        // SAFETY: agent, list and arguments are alive. The memory is `length` bytes at that address, or a file open
        // under that number, and stays so until it is deregistered: `storage` is dropped after that.
        check("register_mem", unsafe { (functions.register_mem)(agent.handle(), list.get(), backend.arguments()) })?;
        Ok(Registration { storage, length, list, backend: backend.clone() })
    }

    fn within(&self, range: &Range<usize>) -> Result<(), Error> {
        if range.start <= range.end && range.end <= self.length {
            Ok(())
        } else {
            Err(Error::Range { start: range.start, end: range.end, length: self.length })
        }
    }

    fn slice(self: &Arc<Self>, range: Range<usize>) -> Result<Slice, Error> {
        self.within(&range)?;
        if range.is_empty() {
            return Err(Error::Empty);
        }
        Ok(Slice { registration: self.clone(), range })
    }

    fn whole(self: &Arc<Self>) -> Slice {
        Slice { registration: self.clone(), range: 0..self.length }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let agent = self.backend.agent();
        // SAFETY: agent, list and arguments are alive. No transfer names this memory any more: a transfer that is not
        // over holds the registration.
        let status =
            unsafe { (agent.functions().deregister_mem)(agent.handle(), self.list.get(), self.backend.arguments()) };
        if status != sys::SUCCESS {
            // Something still knows the address.
            mem::forget(self.storage.clone());
        }
    }
}
