// SPDX-License-Identifier: Apache-2.0

//! The functions hosts call. Nothing unwinds out of them.

use core::{ffi::c_void, ptr};
use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};

use nixl_telemetry_event::{Kind, Status, Total};
use nixl_telemetry_log as log;

use crate::{
    host::{self, Host},
    plugin::{
        CreateParams, Exporter as _, Plugin,
        identity::Identity,
        object::{ExporterObject, object_for},
        speaker::Speaker,
    },
    raw,
};

/// Body of `nixl_telemetry_plugin_init`, told where the call returns to.
///
/// Cheap and without side effects, since hosts up to 1.0.1 call it for every plugin file they see: it makes one plugin
/// object, starts nothing and calls nothing of NIXL. Returns null, after a log line, for a host it does not know.
pub extern "C" fn init<P: Plugin>(return_address: *const c_void) -> *const raw::Plugin {
    guard::<P, _>("nixl_telemetry_plugin_init", || host::detect(return_address).map(object_for::<P>))
        .flatten()
        .unwrap_or(ptr::null())
}

/// Body of `nixl_telemetry_plugin_negotiate`.
///
/// # Safety
/// `offer` must be null or point to an offer whose first field tells its size.
pub unsafe extern "C" fn negotiate<P: Plugin>(offer: *const raw::Offer) -> *const raw::Plugin {
    if offer.is_null() {
        return ptr::null();
    }
    // SAFETY: the caller vouches for an offer, of which the size comes first.
    let size = unsafe { (&raw const (*offer).size).read() };
    if (size as usize) < size_of::<raw::Offer>() {
        return ptr::null();
    }
    // SAFETY: by its size the offer has this field.
    let rich_version = unsafe { (&raw const (*offer).rich_version).read() };
    if rich_version < raw::RichEvent::VERSION {
        return ptr::null();
    }
    guard::<P, _>("nixl_telemetry_plugin_negotiate", || object_for::<P>(Host::Negotiated)).unwrap_or(ptr::null())
}

/// Body of `nixl_telemetry_plugin_fini`.
pub fn fini<P: Plugin>() {
    guard::<P, _>("nixl_telemetry_plugin_fini", P::fini);
}

/// `create_exporter`, as the host's compiler calls it.
///
/// # Safety
/// As [`create_into`].
#[cfg(target_arch = "x86_64")]
pub(crate) unsafe extern "C" fn create<P: Plugin, S: Speaker>(
    slot: *mut *mut raw::Exporter,
    params: *const raw::InitParams,
) -> *mut *mut raw::Exporter {
    // SAFETY: the caller's promise is passed on.
    unsafe { create_into::<P, S>(slot, params) }
}

/// `create_exporter`, as the host's compiler calls it.
///
/// # Safety
/// As [`create_into`], the slot in `x8` and the parameters in `x0`.
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn create<P: Plugin, S: Speaker>(
    slot: *mut *mut raw::Exporter,
    params: *const raw::InitParams,
) -> *mut *mut raw::Exporter {
    core::arch::naked_asm!(include_str!("create_aarch64.s"), create = sym create_into::<P, S>)
}

/// Creates an exporter into the slot a C++ caller provides for the returned `unique_ptr`, or null if the plugin
/// refuses. Returns the slot, as C++ wants it.
///
/// # Safety
/// `slot` must be valid for writing one pointer, `params` must point to live parameters.
unsafe extern "C" fn create_into<P: Plugin, S: Speaker>(
    slot: *mut *mut raw::Exporter,
    params: *const raw::InitParams,
) -> *mut *mut raw::Exporter {
    let exporter = guard::<P, _>("create_exporter", || {
        // SAFETY: the host's parameters live and stay unchanged during the call.
        let (agent_name, max_events_buffered) =
            unsafe { ((*params).agent_name.as_bytes(), (*params).max_events_buffered) };
        let exporter = P::create(CreateParams { host: S::HOST, agent_name, max_events_buffered })?;
        Some(ExporterObject::allocate::<P, S>(exporter, max_events_buffered))
    });
    let exporter = exporter.flatten().unwrap_or(ptr::null_mut());
    // SAFETY: the caller provides the slot. The base comes first in the object, so that its address is the object's.
    unsafe { slot.write(exporter.cast()) };
    slot
}

/// # Safety
/// `this` must be an exporter of plugin `P` that has not been deleted, and nobody else may use it during the call.
pub(crate) unsafe extern "C" fn destroy<P: Plugin>(this: *mut raw::Exporter) {
    // SAFETY: created by `create_into` as this type; the caller gives up the object but keeps the memory.
    guard::<P, _>("~nixlTelemetryExporter", || unsafe {
        ptr::drop_in_place(this.cast::<ExporterObject<P::Exporter>>())
    });
}

/// # Safety
/// As [`destroy`]; the object is freed.
pub(crate) unsafe extern "C" fn delete<P: Plugin>(this: *mut raw::Exporter) {
    // SAFETY: the pointer came from `Box::into_raw` in `create_into`, and the host deletes once.
    guard::<P, _>("~nixlTelemetryExporter", || unsafe {
        drop(Box::from_raw(this.cast::<ExporterObject<P::Exporter>>()));
    });
}

/// # Safety
/// As [`destroy`]; `event` must point to a live event of host `S`.
pub(crate) unsafe extern "C" fn export_event<P: Plugin, S: Speaker>(
    this: *mut raw::Exporter,
    event: *const c_void,
) -> i32 {
    // SAFETY: created by `create_into` as this type, alive, and used by this call alone.
    let object = unsafe { &mut *this.cast::<ExporterObject<P::Exporter>>() };
    // No panic ends here: neither reading nor folding has any.
    // SAFETY: the host keeps the event unchanged during the call.
    let read = unsafe { S::read(event) };
    if !object.inert && object.exporter.fold(&read) {
        return Status::Success.code();
    }
    // SAFETY: the same pointers, in the same call.
    unsafe { export_guarded::<P, S>(this, event) }
}

/// The rest of [`export_event`]. Apart, so that who has folded the event has not paid for it.
///
/// # Safety
/// As [`export_event`].
#[inline(never)]
unsafe extern "C" fn export_guarded<P: Plugin, S: Speaker>(this: *mut raw::Exporter, event: *const c_void) -> i32 {
    // SAFETY: both pointers come from the host in a call to this exporter; the host's calls are serial.
    let status = unsafe {
        call::<P, _>(this, "exportEvent", |exporter| {
            // SAFETY: the host keeps the event unchanged during the call.
            exporter.export(&S::read(event))
        })
    };
    status.unwrap_or(Status::Unknown).code()
}

/// # Safety
/// As [`destroy`].
pub(crate) unsafe extern "C" fn batch_begin<P: Plugin>(this: *mut raw::Exporter) {
    // SAFETY: the host's pointer, in one of its serial calls.
    unsafe { call::<P, _>(this, "onBatchBegin", P::Exporter::batch_begin) };
}

/// # Safety
/// As [`destroy`]; what the host said in [`identify`] since the last call must still be true.
pub(crate) unsafe extern "C" fn batch_end<P: Plugin>(this: *mut raw::Exporter) {
    // SAFETY: created by `create_into` as this type, alive, and used by this call alone.
    let identity = unsafe { (*this.cast::<ExporterObject<P::Exporter>>()).identity.take() };
    // SAFETY: the host keeps the memo until this call returns; those who share it read and write it atomically.
    let id = identity.as_ref().map(|identity| unsafe { identity.batch_id() });
    // SAFETY: the host's pointer, in one of its serial calls.
    unsafe { call::<P, _>(this, "onBatchEnd", |exporter| exporter.batch_end(id)) };
}

/// # Safety
/// As [`destroy`].
pub(crate) unsafe extern "C" fn take_lost<P: Plugin>(this: *mut raw::Exporter) -> u64 {
    // SAFETY: the host's pointer, in one of its serial calls.
    unsafe { call::<P, _>(this, "take_lost", P::Exporter::take_lost) }.unwrap_or(0)
}

/// # Safety
/// As [`destroy`].
pub(crate) unsafe extern "C" fn features<P: Plugin>(this: *mut raw::Exporter) -> u64 {
    // SAFETY: the host's pointer, in one of its serial calls.
    let takes_totals = unsafe { call::<P, _>(this, "features", |exporter| exporter.takes_totals()) };
    if takes_totals == Some(true) { raw::FEATURE_TOTALS } else { 0 }
}

/// # Safety
/// As [`destroy`]; `total` must point to a live total.
pub(crate) unsafe extern "C" fn export_total<P: Plugin>(this: *mut raw::Exporter, total: *const raw::Total) -> i32 {
    // SAFETY: the host keeps the total unchanged during the call.
    let &raw::Total { kind, count, sum_low, sum_high, .. } = unsafe { &*total };
    let sum = u128::from(sum_high) << 64 | u128::from(sum_low);
    let total = Total { kind: Kind::from_code(kind), count, sum };
    // SAFETY: the host's pointer, in one of its serial calls.
    let status = unsafe { call::<P, _>(this, "export_total", |exporter| exporter.export_total(total)) };
    status.unwrap_or(Status::Unknown).code()
}

/// # Safety
/// As [`destroy`].
pub(crate) unsafe extern "C" fn take_lost_totals<P: Plugin>(this: *mut raw::Exporter) -> u64 {
    // SAFETY: the host's pointer, in one of its serial calls.
    unsafe { call::<P, _>(this, "take_lost_totals", P::Exporter::take_lost_totals) }.unwrap_or(0)
}

/// Keeps what the host says for [`batch_end`]. Nothing of the plugin's author runs here.
///
/// # Safety
/// As [`destroy`]; `id` must be null or point to an identity whose first field tells its size, and whose memo stays until
/// [`batch_end`] has returned.
pub(crate) unsafe extern "C" fn identify<P: Plugin>(this: *mut raw::Exporter, id: *const raw::BatchId) {
    // SAFETY: created by `create_into` as this type, alive, and used by this call alone; the caller vouches for the
    // identity.
    unsafe { (*this.cast::<ExporterObject<P::Exporter>>()).identity = Identity::read(id) };
}

/// Calls a method of the exporter unless an earlier one panicked.
///
/// # Safety
/// As [`destroy`].
#[inline]
unsafe fn call<P: Plugin, R>(
    this: *mut raw::Exporter,
    entry: &str,
    method: impl FnOnce(&mut P::Exporter) -> R,
) -> Option<R> {
    // SAFETY: created by `create_into` as this type, alive, and used by this call alone.
    let object = unsafe { &mut *this.cast::<ExporterObject<P::Exporter>>() };
    if object.inert {
        return None;
    }
    let result = guard::<P, _>(entry, || method(&mut object.exporter));
    object.inert = result.is_none();
    result
}

/// Runs `body`; a panic ends here with a line in the log, and `None`.
#[inline]
fn guard<P: Plugin, R>(entry: &str, body: impl FnOnce() -> R) -> Option<R> {
    // What a panic leaves behind is never called again, only dropped, so that broken invariants stay unseen.
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(result) => Some(result),
        Err(payload) => {
            report(P::NAME, entry, payload);
            None
        }
    }
}

// Apart, so that it does not weigh on every entry.
#[cold]
fn report(plugin: &str, entry: &str, payload: Box<dyn Any + Send>) {
    log::error!("exporter {plugin} panicked in {entry}: {}", log::panic_text(payload));
}
