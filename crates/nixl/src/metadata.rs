// SPDX-License-Identifier: Apache-2.0

//! What one agent has to know of another.

use std::ffi::{CStr, CString, c_void};
use std::fmt;
use std::ptr;
use std::slice;

use crate::agent::Agent;
use crate::error::{Error, check};
use crate::sys;

/// An agent's description of itself, made by [`Agent::metadata`] and read by [`Agent::load`].
///
/// It is a snapshot: memory registered later is not in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Metadata {
    agent: CString,
    bytes: Box<[u8]>,
}

impl Metadata {
    pub(crate) fn of(agent: &Agent) -> Result<Metadata, Error> {
        let mut data = ptr::null_mut();
        let mut length = 0;
        // SAFETY: the agent is alive, and both places take what the function writes.
        check("get_local_md", unsafe { (agent.functions().get_local_md)(agent.handle(), &mut data, &mut length) })?;
        let data = Malloced(data);
        // SAFETY: the call succeeded, so this is a buffer of that many bytes, at least one, which nobody else knows.
        let bytes = unsafe { slice::from_raw_parts(data.0.cast::<u8>(), length) };
        Ok(Metadata { agent: agent.c_name().to_owned(), bytes: bytes.into() })
    }

    pub(crate) fn load_into(&self, agent: &Agent) -> Result<String, Error> {
        let mut name = ptr::null_mut();
        // SAFETY: the agent is alive, the bytes outlive the call and were made by this very library, and `name` is a
        // place for a pointer.
        check("load_remote_md", unsafe {
            (agent.functions().load_remote_md)(agent.handle(), self.bytes.as_ptr().cast(), self.bytes.len(), &mut name)
        })?;
        let name = Malloced(name.cast());
        // SAFETY: the call succeeded, so this is a C string, which nobody else knows.
        Ok(unsafe { CStr::from_ptr(name.0.cast()) }.to_string_lossy().into_owned())
    }

    pub(crate) fn agent(&self) -> &CStr {
        &self.agent
    }

    /// The bytes, in NIXL's own format.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Metadata").field("agent", &self.agent).field("bytes", &self.bytes.len()).finish()
    }
}

/// A buffer that the C API allocated for its caller, not null.
struct Malloced(*mut c_void);

impl Drop for Malloced {
    fn drop(&mut self) {
        // SAFETY: it came from the C library's `malloc` or `strdup`, and is freed once.
        unsafe { sys::free(self.0) };
    }
}
