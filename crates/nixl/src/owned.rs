// SPDX-License-Identifier: Apache-2.0

//! A handle of the C API that is destroyed when dropped.

use std::ptr::{self, NonNull};

use crate::error::{CapiStatus, Error, check};
use crate::sys::Status;

/// A handle with its destructor.
pub(crate) struct Owned<T> {
    handle: NonNull<T>,
    destroy: unsafe extern "C" fn(*mut T) -> Status,
}

impl<T> Owned<T> {
    /// Calls `create`, the C function named `function`, with a place for the handle.
    ///
    /// # Safety
    ///
    /// On success, `create` has written a handle that the caller may use until `destroy` is called with it, once, at
    /// any later time on any thread; or it has written nothing.
    pub(crate) unsafe fn create(
        function: &'static str,
        destroy: unsafe extern "C" fn(*mut T) -> Status,
        create: impl FnOnce(*mut *mut T) -> Status,
    ) -> Result<Owned<T>, Error> {
        let mut handle = ptr::null_mut();
        check(function, create(&mut handle))?;
        // No release reports success without a handle. If one did, this is what its functions answer to null.
        let handle = NonNull::new(handle).ok_or(Error::Call { function, status: CapiStatus::InvalidParameter })?;
        Ok(Owned { handle, destroy })
    }

    /// The handle, valid as long as `self`.
    pub(crate) fn get(&self) -> *mut T {
        self.handle.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: the handle came with this destructor, was not destroyed yet, and is not used after this. The answer
        // does not matter: the destructors fail only for null.
        unsafe { (self.destroy)(self.handle.as_ptr()) };
    }
}
