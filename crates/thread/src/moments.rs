// SPDX-License-Identifier: Apache-2.0

use std::io;

/// Has `handler` called in every child this process forks from now on, by the thread that forked, which is the child's
/// only one. Children made without the C library's `fork` do not call it.
///
/// The handler may do what a signal handler may: another thread of the parent may have held any lock at that moment.
///
/// # Errors
/// If there is no memory to remember it.
pub fn on_fork(handler: extern "C" fn()) -> io::Result<()> {
    // SAFETY: takes the addresses of functions, which stay as long as this library: it is taken off the list when that
    // is unloaded.
    match unsafe { libc::pthread_atfork(None, None, Some(handler)) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Has `handler` called when the process exits by `exit` or by returning from `main`, before what was registered earlier,
/// such as the destructors of libraries that were loaded before.
///
/// # Errors
/// If there is no memory to remember it.
pub fn on_exit(handler: extern "C" fn()) -> io::Result<()> {
    // SAFETY: takes the address of a function. If this library is unloaded, it is called then.
    match unsafe { libc::atexit(handler) } {
        0 => Ok(()),
        _ => Err(io::ErrorKind::OutOfMemory.into()),
    }
}
