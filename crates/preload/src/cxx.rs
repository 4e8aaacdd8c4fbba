// SPDX-License-Identifier: Apache-2.0

//! What C++ callers expect to be given by C++: memory, and exceptions. Its run time is asked for by name when it is
//! needed, so that nothing here demands more of a process than it has.

use core::ffi::{CStr, c_char, c_void};
use core::mem::transmute;

/// A place where symbols are looked for besides the global scope: a library's handle, or null.
pub(crate) type Scope = *mut c_void;

/// Memory of the C++ `operator new`, or null.
pub(crate) fn allocate(scope: Scope, size: usize) -> *mut c_void {
    // What throws when there is none.
    let new = find(scope, c"_ZnwmRKSt9nothrow_t");
    let nothrow = find(scope, c"_ZSt7nothrow");
    if new.is_null() || nothrow.is_null() {
        return core::ptr::null_mut();
    }
    // SAFETY: the name is that of `operator new(size_t, const std::nothrow_t &)`, wherever it is defined, and it is
    // given the object of that type.
    unsafe {
        let new: unsafe extern "C" fn(usize, *const c_void) -> *mut c_void = transmute(new);
        new(size, nothrow)
    }
}

/// A `std::runtime_error`, ready to be thrown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exception {
    object: *mut c_void,
    type_info: *mut c_void,
    destructor: *mut c_void,
    throw: *mut c_void,
}

impl Exception {
    /// An exception with this text, or `None` if there is no C++ in this process.
    pub(crate) fn new(scope: Scope, text: &CStr) -> Option<Self> {
        let find = |name| Some(find(scope, name)).filter(|address| !address.is_null());
        let allocate = find(c"__cxa_allocate_exception")?;
        let construct = find(c"_ZNSt13runtime_errorC1EPKc")?;
        let destructor = find(c"_ZNSt13runtime_errorD1Ev")?;
        let type_info = find(c"_ZTISt13runtime_error")?;
        let throw = find(c"__cxa_throw")?;
        /// A `std::runtime_error` is a vtable pointer and a reference-counted text.
        const SIZE: usize = 16;
        // SAFETY: the names are those of the C++ run time's functions with these signatures. The memory is fresh and
        // large enough; the constructor copies the text. Should it throw for want of memory, that passes through here.
        let object = unsafe {
            let allocate: unsafe extern "C" fn(usize) -> *mut c_void = transmute(allocate);
            let construct: unsafe extern "C-unwind" fn(*mut c_void, *const c_char) = transmute(construct);
            let object = allocate(SIZE);
            construct(object, text.as_ptr());
            object
        };
        Some(Self { object, type_info, destructor, throw })
    }

    /// Throws it.
    ///
    /// # Safety
    /// Once, from a function whose callers expect C++ exceptions.
    pub(crate) unsafe fn throw(self) -> ! {
        // SAFETY: `__cxa_throw` takes the object that `__cxa_allocate_exception` gave, its type and its destructor; the
        // caller vouches for the rest.
        unsafe {
            let throw: unsafe extern "C-unwind" fn(*mut c_void, *mut c_void, *mut c_void) -> ! = transmute(self.throw);
            throw(self.object, self.type_info, self.destructor)
        }
    }
}

/// A symbol, in the order in which the library of the scope resolves its own.
fn find(scope: Scope, name: &CStr) -> *mut c_void {
    // SAFETY: the name is NUL-terminated; a scope is a handle that stays open.
    unsafe {
        let global = libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr());
        if global.is_null() && !scope.is_null() { libc::dlsym(scope, name.as_ptr()) } else { global }
    }
}
