// SPDX-License-Identifier: Apache-2.0

//! What the other exported functions do, with an object of ours and with one that NIXL's own collector is.
//!
//! `exports.rs` has told which it is: each function of [`ours`] is called as C++ calls it, and each of [`theirs`] is told
//! besides, as its sixth argument, where the call returns to. No panic leaves a function: what panics costs what it was
//! about to do.

use core::ffi::c_void;
use core::mem::transmute;
use std::time::Duration;

use nixl_telemetry_abi::raw::CxxString;
use nixl_telemetry_event::{Kind, Status};
use nixl_telemetry_host::{Direction, Producer, Recorder, Transfer};

use crate::entry::{contain, real};
use crate::functions::Function;
use crate::object::{Agent, Object};
use crate::producers;

/// How long a flush that a caller asks for may take.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Each function: what C++ passes it, how many argument registers are left before the sixth, and what it does for an agent
/// of ours.
macro_rules! members {
    ($($name:ident($($argument:ident: $type:ty),*) [$($rest:ident),*] = $function:ident, |$agent:ident| $body:expr;)+) => {
        pub(crate) mod ours {
            use super::*;

            $(
                /// # Safety
                /// As C++ calls it: `this` is an object of ours, strings are live.
                pub(crate) unsafe extern "C-unwind" fn $name(this: *mut Object, $($argument: $type),*) {
                    // SAFETY: the caller vouches for the object, which is not destroyed during a call of its functions.
                    if let Some($agent) = unsafe { Object::agent(this) } {
                        contain(stringify!($name), || $body);
                    }
                }
            )+
        }

        pub(crate) mod theirs {
            use super::*;

            $(
                /// # Safety
                /// As C++ calls it: `this` is a collector of NIXL's, strings are live, `caller` is where the call returns to.
                pub(crate) unsafe extern "C-unwind" fn $name(
                    this: *mut Object,
                    $($argument: $type,)*
                    $($rest: usize,)*
                    caller: *const c_void,
                ) {
                    $(let _ = $rest;)*
                    if let Some(real) = real(Function::$function, caller) {
                        // SAFETY: NIXL's own function for NIXL's own object, called with what it would have been called with.
                        unsafe {
                            let real: unsafe extern "C-unwind" fn(*mut Object $(, $type)*) = transmute(real);
                            real(this $(, $argument)*);
                        }
                    }
                }
            )+
        }
    };
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

    add_xfer_stats(us: i64, is_write: usize, bytes: u64, post_us: i64) [] = AddXferStats, |agent| {
        let transfer = transfer(us, is_write, bytes, post_us);
        let record = |producer: &mut Producer| producer.transfer(transfer);
        if producers::at_hand(agent.id(), record).or_else(|| producers::with(agent, record)).is_none() {
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

/// [`ours::add_xfer_stats`], as it is exported, since it is called for every transfer: `(transfer time, is a write, bytes,
/// post time)`. What nothing stands in the way of is done here.
///
/// # Safety
/// As the functions of [`ours`].
pub(crate) unsafe extern "C-unwind" fn add_xfer_stats(
    this: *mut Object,
    us: i64,
    is_write: usize,
    bytes: u64,
    post_us: i64,
) {
    let transfer = transfer(us, is_write, bytes, post_us);
    // SAFETY: the caller vouches for the object.
    let agent = unsafe { Object::agent_id(this) };
    if agent.and_then(|agent| producers::at_hand(agent, |producer| producer.try_transfer(transfer))) != Some(true) {
        // SAFETY: the caller's promise is passed on.
        unsafe { ours::add_xfer_stats(this, us, is_write, bytes, post_us) }
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
