// SPDX-License-Identifier: Apache-2.0

//! What the exported functions do. Each is told, as its sixth argument, where the call returns to.
//!
//! An object of ours is recorded into. Any other is NIXL's own, and the call goes on to NIXL's own function, with nothing
//! in between that would notice if that throws. No panic leaves a function: what panics costs what it was about to do.

use core::ffi::c_void;
use core::mem::transmute;
use core::ptr;
use std::any::Any;
use std::ffi::CString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use nixl_telemetry_abi::raw::CxxString;
use nixl_telemetry_event::{Generation, Kind, Status};
use nixl_telemetry_host::{Direction, Producer, Recorder, Transfer};
use nixl_telemetry_log::{error, panic_text, warn};
use nixl_telemetry_settings::Settings;

use crate::caller::{self, Nixl};
use crate::collector::{collect, search_path, wants_ring};
use crate::cxx::{self, Exception};
use crate::functions::Function;
use crate::object::{Agent, Object, Owner};
use crate::producers;

/// How long a flush that a caller asks for may take.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

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
        // SAFETY: the memory is the object's, and longer than three words.
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
            && (nixl.generation.is_none() || function == Function::ConstructWithExporter || leaves_ring(&settings))
        {
            return Decision::Leave(real);
        }
        // SAFETY: the caller vouches for the strings, which nobody changes during the call.
        let text = |string: *const CxxString| unsafe {
            string.as_ref().map(|string| String::from_utf8_lossy(string.as_bytes()).into_owned())
        };
        let (agent, exporter) = (text(agent).unwrap_or_default(), text(exporter));
        let path = search_path(&settings, caller::own_directory(), nixl.map(|nixl| nixl.path.as_path()));
        match collect(&agent, exporter.as_deref(), settings, path) {
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

fn leaves_ring(settings: &Settings) -> bool {
    let wanted = wants_ring(settings);
    if wanted {
        use std::sync::Once;
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            warn!("the exporter is BUFFER, which is NIXL's own: NIXL's own telemetry collector stays in charge");
        });
    }
    wanted
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

/// Member functions: what C++ passes them, how many argument registers are left before the sixth, and what they do.
macro_rules! members {
    ($($(#[$doc:meta])* $name:ident($($argument:ident: $type:ty),*) [$($rest:ident),*] = $function:ident, |$agent:ident| $body:expr;)+) => {$(
        $(#[$doc])*
        /// # Safety
        /// As C++ calls it: `this` is a collector, strings are live, `caller` is where the call returns to.
        pub(crate) unsafe extern "C-unwind" fn $name(
            this: *mut Object,
            $($argument: $type,)*
            $($rest: usize,)*
            caller: *const c_void,
        ) {
            $(let _ = $rest;)*
            // SAFETY: the caller vouches for the object, which is not destroyed during a call of its functions.
            match unsafe { Object::owner(this) } {
                Owner::We(Some($agent)) => {
                    contain(stringify!($name), || $body);
                }
                Owner::We(None) => {}
                Owner::Nixl => {
                    if let Some(real) = real(Function::$function, caller) {
                        // SAFETY: NIXL's own function for NIXL's own object, called with what it would have been called with.
                        unsafe {
                            let real: unsafe extern "C-unwind" fn(*mut Object $(, $type)*) = transmute(real);
                            real(this $(, $argument)*);
                        }
                    }
                }
            }
        }
    )+};
}

members! {
    add_post_time(us: i64) [_a, _b, _c] = AddPostTime, |agent| event(agent, Kind::XFER_POST_TIME, us.cast_unsigned());

    // A C++ bool is the lowest byte of its register.
    add_xfer_time(us: i64, is_write: usize, bytes: u64) [_a] = AddXferTime, |agent| {
        let (direction, us) = (direction(is_write), us.cast_unsigned());
        let record = |producer: &mut Producer| producer.transfer_after_post(direction, bytes, us);
        if producers::at_hand(agent.id(), record).or_else(|| producers::with(agent, record)).is_none() {
            agent.recorder.transfer_after_post(direction, bytes, us);
        }
    };

    add_xfer_stats_slowly(us: i64, is_write: usize, bytes: u64, post_us: i64) [] = AddXferStats, |agent| {
        let transfer = transfer(us, is_write, bytes, post_us);
        if producers::with(agent, |producer| producer.transfer(transfer)).is_none() {
            agent.recorder.transfer(transfer);
        }
    };

    // NIXL ends the process over a status that is no error; here it is not recorded.
    update_error_count(status: i32) [_a, _b, _c] = UpdateErrorCount,
        |agent| if let Some(status) = Status::from_code(status) { agent.recorder.error(status) };

    update_memory_registered(bytes: u64) [_a, _b, _c] = UpdateMemoryRegistered,
        |agent| agent.recorder.memory_registered(bytes);

    update_memory_deregistered(bytes: u64) [_a, _b, _c] = UpdateMemoryDeregistered,
        |agent| agent.recorder.memory_deregistered(bytes);

    update_data(kind: u32, value: u64) [_a, _b] = UpdateData,
        |agent| event(agent, Kind::from_code(kind), value);

    update_data_in_category(kind: u32, category: u32, value: u64) [_a] = UpdateDataInCategory,
        |agent| { let _ = category; event(agent, Kind::from_code(kind), value) };

    update_data_by_name(name: *const CxxString, category: u32, value: u64) [_a] = UpdateDataByName, |agent| {
        let _ = category;
        // SAFETY: C++ passes a reference to a string that lives during the call.
        by_name(&agent.recorder, unsafe { name.as_ref().map_or(&[], |name| name.as_bytes()) }, value);
    };

    update_tx_bytes(bytes: u64) [_a, _b, _c] = UpdateTxBytes, |agent| event(agent, Kind::TX_BYTES, bytes);

    update_rx_bytes(bytes: u64) [_a, _b, _c] = UpdateRxBytes, |agent| event(agent, Kind::RX_BYTES, bytes);

    update_tx_requests_num(requests: u32) [_a, _b, _c] = UpdateTxRequestsNum,
        |agent| event(agent, Kind::TX_REQUESTS_NUM, requests.into());

    update_rx_requests_num(requests: u32) [_a, _b, _c] = UpdateRxRequestsNum,
        |agent| event(agent, Kind::RX_REQUESTS_NUM, requests.into());

    flush_pending_events() [_a, _b, _c, _d] = FlushPendingEvents, |agent| agent.collector.flush(FLUSH_TIMEOUT);

    // Ours runs from the start.
    start_export_task() [_a, _b, _c, _d] = StartExportTask, |agent| { let _ = agent; };
}

/// `addXferStats(transfer time, is a write, bytes, post time)`, which is called for every transfer: what nothing stands in
/// the way of is done here.
///
/// # Safety
/// As the functions above.
pub(crate) unsafe extern "C-unwind" fn add_xfer_stats(
    this: *mut Object,
    us: i64,
    is_write: usize,
    bytes: u64,
    post_us: i64,
    caller: *const c_void,
) {
    let transfer = transfer(us, is_write, bytes, post_us);
    // SAFETY: the caller vouches for the object.
    let agent = unsafe { Object::agent_id(this) };
    if producers::at_hand(agent, |producer| producer.try_transfer(transfer)) != Some(true) {
        // SAFETY: the caller's promise is passed on.
        unsafe { add_xfer_stats_slowly(this, us, is_write, bytes, post_us, caller) }
    }
}

#[inline]
fn transfer(us: i64, is_write: usize, bytes: u64, post_us: i64) -> Transfer {
    let (transfer_time_us, post_time_us) = (us.cast_unsigned(), post_us.cast_unsigned());
    Transfer { direction: direction(is_write), bytes, post_time_us, transfer_time_us }
}

#[inline]
fn event(agent: &Agent, kind: Kind, value: u64) {
    let record = |producer: &mut Producer| producer.event(kind, value);
    if producers::at_hand(agent.id(), record).or_else(|| producers::with(agent, record)).is_none() {
        agent.recorder.event(kind, value);
    }
}

/// NIXL's own function, for an object that is NIXL's own.
fn real(function: Function, caller: *const c_void) -> Option<*mut c_void> {
    contain(function.symbol(), || Nixl::at(caller).and_then(|nixl| nixl.real(function))).flatten()
}

#[inline]
fn direction(is_write: usize) -> Direction {
    if is_write & 0xff == 0 { Direction::Read } else { Direction::Write }
}

/// Releases up to 1.1 call events, and statuses, by name.
fn by_name(recorder: &Recorder, name: &[u8], value: u64) {
    let name = String::from_utf8_lossy(name);
    match Kind::from_name(&name).or_else(|| Status::error_from_name(&name)?.kind()) {
        Some(kind) => recorder.event(kind, value),
        None => recorder.backend(&name, value),
    }
}

/// Runs `body`; a panic ends here with a line in the log, and `None`.
#[inline]
fn contain<R>(function: &str, body: impl FnOnce() -> R) -> Option<R> {
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
