// SPDX-License-Identifier: Apache-2.0

//! The ways out of a process that call nobody: `_exit`, `_Exit` and `quick_exit`, through which what was recorded is exported
//! first. `exit` calls the host by itself.
//!
//! A process that recorded nothing, or that was made by `vfork` and is about to be gone, leaves at once.

use core::ffi::{c_int, c_void};
use core::mem::transmute;
use std::panic::catch_unwind;

use nixl_telemetry_host::drain_before_exit;

/// `_exit`, which may be called in a signal handler.
#[unsafe(no_mangle)]
extern "C" fn _exit(status: c_int) -> ! {
    drain();
    leave(status)
}

/// `_Exit`, the same by the name the C standard has for it.
#[unsafe(no_mangle)]
extern "C" fn _Exit(status: c_int) -> ! {
    drain();
    leave(status)
}

/// `quick_exit`, which calls the handlers of `at_quick_exit`.
#[unsafe(no_mangle)]
extern "C" fn quick_exit(status: c_int) -> ! {
    drain();
    // SAFETY: the name is NUL-terminated.
    let next: *mut c_void = unsafe { libc::dlsym(libc::RTLD_NEXT, c"quick_exit".as_ptr()) };
    if !next.is_null() {
        // SAFETY: it is the function of that name of a library behind this one.
        unsafe {
            let next: extern "C" fn(c_int) -> ! = transmute(next);
            next(status)
        }
    }
    leave(status)
}

fn drain() {
    // There is nobody to tell of a panic any more.
    let _ = catch_unwind(drain_before_exit);
}

/// Ends the process as the C library does.
fn leave(status: c_int) -> ! {
    loop {
        // SAFETY: ends all threads; nothing comes after it.
        unsafe { libc::syscall(libc::SYS_exit_group, status) };
    }
}
