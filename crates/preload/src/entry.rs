// SPDX-License-Identifier: Apache-2.0

//! How objects come and go: what the exported constructors and destructors do. Each is told, as its sixth argument, where
//! the call returns to.
//!
//! What is not ours is NIXL's own, and the call goes on to NIXL's own function, with nothing in between that would notice
//! if that throws. No panic leaves a function: what panics costs what it was about to do.

use core::ffi::c_void;
use core::mem::transmute;
use core::ptr;
use std::any::Any;
use std::ffi::CString;
use std::panic::{AssertUnwindSafe, catch_unwind};

use nixl_telemetry_abi::raw::CxxString;
use nixl_telemetry_event::Generation;
use nixl_telemetry_log::{error, panic_text};
use nixl_telemetry_settings::Settings;

use crate::caller::{self, Nixl};
use crate::collector::{collect, search_path};
use crate::cxx::{self, Exception};
use crate::functions::Function;
use crate::object::{Agent, Object};

/// What becomes of an agent's wish for telemetry.
enum Decision {
    /// It is ours.
    Collect(Option<Agent>),
    /// NIXL's own function decides.
    Leave(*mut c_void),
    /// It is refused.
    Refuse(Exception),
}

/// `std::unique_ptr<nixlTelemetry> create(const std::string &agent)`; `slot` is where the result goes.
///
/// # Safety
/// As C++ calls it: `slot` is valid for writing a pointer, `agent` is a live string, `caller` is where the call returns to.
pub(crate) unsafe extern "C-unwind" fn create(
    slot: *mut *mut Object,
    agent: *const CxxString,
    _: usize,
    _: usize,
    _: usize,
    caller: *const c_void,
) -> *mut *mut Object {
    // SAFETY: the caller's promise is passed on.
    match unsafe { decide(Function::Create, agent, ptr::null(), caller) } {
        // SAFETY: `real` is NIXL's function, called with what it would have been called with.
        Decision::Leave(real) => unsafe { call_create(slot, agent, real) },
        // SAFETY: nothing was done with it yet, and the agent expects what NIXL's own `create` throws.
        Decision::Refuse(exception) => unsafe { exception.throw() },
        Decision::Collect(agent) => {
            let object = contain("create", || match agent {
                None => ptr::null_mut(),
                Some(agent) => allocate(agent, caller),
            });
            // SAFETY: the caller vouches for the slot.
            unsafe { slot.write(object.unwrap_or(ptr::null_mut())) };
            slot
        }
    }
}

/// The constructors. `detail` is the map of backends, which is not looked at, or the exporter's name.
///
/// # Safety
/// As C++ calls it: `this` is memory for the object, `agent` and the exporter's name are live strings, `caller` is where the
/// call returns to.
unsafe fn construct(
    function: Function,
    this: *mut Object,
    agent: *const CxxString,
    detail: *const c_void,
    caller: *const c_void,
) {
    let exporter = if function == Function::ConstructWithExporter { detail.cast() } else { ptr::null() };
    // SAFETY: the caller's promise is passed on.
    match unsafe { decide(function, agent, exporter, caller) } {
        // SAFETY: `real` is NIXL's function, called with what it would have been called with.
        Decision::Leave(real) => unsafe {
            let real: unsafe extern "C-unwind" fn(*mut Object, *const CxxString, *const c_void) = transmute(real);
            real(this, agent, detail);
        },
        // SAFETY: nothing was done with it yet, and the agent expects what NIXL's own constructor throws.
        Decision::Refuse(exception) => unsafe { exception.throw() },
        // SAFETY: the memory is the object's, and longer than four words.
        Decision::Collect(agent) => unsafe { Object::fill(this, agent) },
    }
}

/// # Safety
/// The strings are null or live.
unsafe fn decide(
    function: Function,
    agent: *const CxxString,
    exporter: *const CxxString,
    caller: *const c_void,
) -> Decision {
    let decision = contain(function.symbol(), || {
        let nixl = Nixl::at(caller);
        let settings = Settings::from_process();
        if let Some(nixl) = nixl
            && let Some(real) = nixl.real(function)
            && (nixl.generation.is_none() || function == Function::ConstructWithExporter)
        {
            return Decision::Leave(real);
        }
        // SAFETY: the caller vouches for the strings, which nobody changes during the call.
        let text = |string: *const CxxString| unsafe {
            string.as_ref().map(|string| String::from_utf8_lossy(string.as_bytes()).into_owned())
        };
        let (agent, exporter) = (text(agent).unwrap_or_default(), text(exporter));
        let path = search_path(&settings, caller::own_directory(), nixl.map(|nixl| nixl.path.as_path()));
        let generation = nixl.and_then(|nixl| nixl.generation).unwrap_or(Generation::V1_5);
        match collect(&agent, exporter.as_deref(), settings, path, generation) {
            Ok(agent) => Decision::Collect(agent),
            Err(refused) => {
                let text = CString::new(refused.to_string()).unwrap_or_default();
                match Exception::new(nixl.map_or(ptr::null_mut(), |nixl| nixl.scope), &text) {
                    Some(exception) => Decision::Refuse(exception),
                    None => {
                        error!("agent {agent}: {refused}; telemetry is off");
                        Decision::Collect(None)
                    }
                }
            }
        }
    });
    decision.unwrap_or(Decision::Collect(None))
}

/// An object on the heap of C++, where its agent gives it back to; null, after a log line, if there is none.
fn allocate(agent: Agent, caller: *const c_void) -> *mut Object {
    let nixl = Nixl::at(caller);
    // The agent gives the memory back with its size, on which some allocators rely: those of NIXL 1.4.1 and 1.5.1.
    let size = match nixl.and_then(|nixl| nixl.generation) {
        Some(Generation::V1_4) => 0x148,
        _ => 0x178,
    };
    let object: *mut Object = cxx::allocate(nixl.map_or(ptr::null_mut(), |nixl| nixl.scope), size).cast();
    if object.is_null() {
        error!("agent {}: there is no C++ operator new, or no memory; telemetry is off", agent.collector.agent());
    } else {
        // SAFETY: fresh memory, long enough and aligned for anything.
        unsafe { Object::fill(object, Some(agent)) };
    }
    object
}

/// Calls NIXL's own `create`.
///
/// # Safety
/// As [`create`]; `real` is that function.
#[cfg(target_arch = "x86_64")]
unsafe fn call_create(slot: *mut *mut Object, agent: *const CxxString, real: *mut c_void) -> *mut *mut Object {
    // SAFETY: the place for the result is the first argument there.
    unsafe {
        let real: unsafe extern "C-unwind" fn(*mut *mut Object, *const CxxString) -> *mut *mut Object = transmute(real);
        real(slot, agent)
    }
}

/// Calls NIXL's own `create`.
///
/// # Safety
/// As [`create`]; `real` is that function.
#[cfg(target_arch = "aarch64")]
unsafe fn call_create(slot: *mut *mut Object, agent: *const CxxString, real: *mut c_void) -> *mut *mut Object {
    /// The place for the result goes into `x8`, outside the argument list.
    #[unsafe(naked)]
    unsafe extern "C-unwind" fn call(slot: *mut *mut Object, agent: *const CxxString, real: *mut c_void) {
        core::arch::naked_asm!("mov x8, x0", "mov x0, x1", "br x2")
    }
    // SAFETY: the caller's promise is passed on.
    unsafe { call(slot, agent, real) };
    slot
}

macro_rules! constructors {
    ($($name:ident = $function:ident),+) => {$(
        /// # Safety
        /// As [`construct`].
        pub(crate) unsafe extern "C-unwind" fn $name(
            this: *mut Object,
            agent: *const CxxString,
            detail: *const c_void,
            _: usize,
            _: usize,
            caller: *const c_void,
        ) {
            // SAFETY: the caller's promise is passed on.
            unsafe { construct(Function::$function, this, agent, detail, caller) }
        }
    )+};
}

constructors! {
    construct_0_9 = ConstructWithBackends,
    construct_1_0 = Construct,
    construct_1_4 = ConstructWithExporter
}

/// The destructor, which leaves the memory to its caller.
///
/// # Safety
/// As C++ calls it: `this` is a collector that nobody uses any more.
pub(crate) unsafe extern "C-unwind" fn destroy(
    this: *mut Object,
    _: usize,
    _: usize,
    _: usize,
    _: usize,
    caller: *const c_void,
) {
    // SAFETY: the caller vouches for the object.
    match unsafe { Object::empty(this) } {
        Some(agent) => {
            contain("~nixlTelemetry", || drop(agent));
        }
        None => {
            if let Some(real) = real(Function::Destroy, caller) {
                // SAFETY: NIXL's own function for NIXL's own object.
                unsafe {
                    let real: unsafe extern "C-unwind" fn(*mut Object) = transmute(real);
                    real(this);
                }
            }
        }
    }
}

/// NIXL's own function, for an object that is NIXL's own.
pub(crate) fn real(function: Function, caller: *const c_void) -> Option<*mut c_void> {
    contain(function.symbol(), || Nixl::at(caller).and_then(|nixl| nixl.real(function))).flatten()
}

/// Runs `body`; a panic ends here with a line in the log, and `None`.
#[inline]
pub(crate) fn contain<R>(function: &str, body: impl FnOnce() -> R) -> Option<R> {
    // Recorders and collectors guard themselves against what a panic leaves half done.
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(result) => Some(result),
        Err(payload) => {
            report(function, payload);
            None
        }
    }
}

// Apart, so that it does not weigh on every function.
#[cold]
fn report(function: &str, payload: Box<dyn Any + Send>) {
    error!("{function} panicked: {}", panic_text(payload));
}
