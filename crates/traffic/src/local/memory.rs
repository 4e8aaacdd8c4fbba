// SPDX-License-Identifier: Apache-2.0

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use super::Error;

/// Main memory that agents can move bytes into and out of; clones share the same bytes.
///
/// A lock per buffer keeps the program and the worker threads of agents apart. While [`Memory::with`] or
/// [`Memory::with_mut`] runs, a transfer that needs the buffer waits.
#[derive(Clone)]
pub struct Memory(Arc<RwLock<Box<[u8]>>>);

/// What may be done with a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Only be the source of transfers.
    ReadOnly,
    /// Be source or destination.
    ReadWrite,
}

/// The type of memory a descriptor list is about, with NIXL's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum MemoryType {
    /// Main memory.
    Dram = 0,
    /// Memory of an accelerator; no backend here.
    Vram = 1,
    /// A block device; no backend here.
    Block = 2,
    /// An object store; no backend here.
    Object = 3,
    /// A file.
    File = 4,
}

/// The number of a region, unique within its agent and never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegionId(pub(super) u64);

/// Memory or a file that was registered with an agent: what descriptors point into.
///
/// A plain description; dropping it does not deregister anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// The agent it belongs to.
    pub(super) instance: u64,
    pub(super) id: RegionId,
    pub(super) memory_type: MemoryType,
    pub(super) length: u64,
    pub(super) access: Access,
}

/// A run of bytes in a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// The region.
    pub region: RegionId,
    /// Where the run begins in the region.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
}

/// One side of a request: descriptors into memory of one type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescriptorList {
    /// The type of all regions in the list.
    pub memory_type: MemoryType,
    /// The runs of bytes, in order.
    pub descriptors: Vec<Descriptor>,
}

/// Where the bytes of a region are.
#[derive(Clone)]
pub(super) enum Storage {
    Memory(Memory),
    File { file: Arc<File>, path: Arc<Path> },
}

impl Memory {
    /// A buffer of `length` zero bytes.
    pub fn zeroed(length: usize) -> Self {
        Self::from(vec![0; length])
    }

    /// The number of bytes.
    pub fn len(&self) -> usize {
        self.with(<[u8]>::len)
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Looks at the bytes; transfers into them wait until `look` returns.
    pub fn with<T>(&self, look: impl FnOnce(&[u8]) -> T) -> T {
        // Bytes have no invariant that a panic elsewhere could have broken.
        look(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the bytes; transfers out of them and into them wait until `change` returns.
    pub fn with_mut<T>(&self, change: impl FnOnce(&mut [u8]) -> T) -> T {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// A copy of the bytes.
    pub fn to_vec(&self) -> Vec<u8> {
        self.with(<[u8]>::to_vec)
    }
}

impl From<Vec<u8>> for Memory {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Arc::new(RwLock::new(bytes.into_boxed_slice())))
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the bytes, and not the lock: printing must neither flood nor wait.
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}

impl Region {
    /// Its number.
    pub const fn id(&self) -> RegionId {
        self.id
    }

    /// The type of its memory.
    pub const fn memory_type(&self) -> MemoryType {
        self.memory_type
    }

    /// Its bytes.
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// What may be done with it.
    pub const fn access(&self) -> Access {
        self.access
    }

    /// A list of one descriptor over `length` bytes from `offset` on; the request checks the bounds.
    pub fn range(&self, offset: u64, length: u64) -> DescriptorList {
        DescriptorList {
            memory_type: self.memory_type,
            descriptors: vec![Descriptor { region: self.id, offset, length }],
        }
    }

    /// A list of one descriptor over the whole region.
    pub fn whole(&self) -> DescriptorList {
        self.range(0, self.length)
    }
}

impl Storage {
    /// Opens a file: to read, or to read and write, then creating it if it is missing.
    pub(super) fn open(path: &Path, access: Access) -> Result<Self, Error> {
        let writes = access == Access::ReadWrite;
        match OpenOptions::new().read(true).write(writes).create(writes).truncate(false).open(path) {
            Ok(file) => Ok(Self::File { file: Arc::new(file), path: path.into() }),
            Err(error) => Err(match error.kind() {
                ErrorKind::NotFound => Error::NoFile { path: path.into() },
                ErrorKind::PermissionDenied => Error::Permission { path: path.into(), access },
                _ => io("open", path)(error),
            }),
        }
    }

    /// Fills `bytes` from `offset` on; the offset was checked against the region.
    pub(super) fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<(), Error> {
        match self {
            Self::Memory(memory) => {
                memory.with(|memory| bytes.copy_from_slice(&memory[index(offset)..][..bytes.len()]));
                Ok(())
            }
            Self::File { file, path } => {
                let mut done = 0;
                while done < bytes.len() {
                    match file.read_at(&mut bytes[done..], offset + done as u64) {
                        Ok(0) => {
                            let (end, expected) = (offset + done as u64, offset + bytes.len() as u64);
                            return Err(Error::ShortFile { path: PathBuf::from(&**path), end, expected });
                        }
                        Ok(read) => done += read,
                        Err(error) if error.kind() == ErrorKind::Interrupted => {}
                        Err(error) => return Err(io("read", path)(error)),
                    }
                }
                Ok(())
            }
        }
    }

    /// Stores `bytes` from `offset` on; the offset was checked against the region.
    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        match self {
            Self::Memory(memory) => {
                memory.with_mut(|memory| memory[index(offset)..][..bytes.len()].copy_from_slice(bytes));
                Ok(())
            }
            Self::File { file, path } => file.write_all_at(bytes, offset).map_err(io("write", path)),
        }
    }
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| Error::Io { action, path, source: Arc::new(source) }
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("an offset within memory fits an index")
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::ReadOnly => "read-only",
            Self::ReadWrite => "read-write",
        })
    }
}

impl fmt::Display for MemoryType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Dram => "DRAM",
            Self::Vram => "VRAM",
            Self::Block => "BLK",
            Self::Object => "OBJ",
            Self::File => "FILE",
        })
    }
}

impl fmt::Display for RegionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
