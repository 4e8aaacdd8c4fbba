// SPDX-License-Identifier: Apache-2.0

//! Calls into a plugin through `guard.cc`, which catches what it throws.
//!
//! Everything of a plugin runs inside one of these calls, except for what runs while a library is opened.

use core::ptr::{self, NonNull};

use nixl_telemetry_abi::raw;

use crate::Failure;

/// Bytes of an exception's text that are kept: `TEXT_SIZE` in `guard.cc`.
const TEXT_SIZE: usize = 512;

/// A call that did not return.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Caught {
    /// `nixlTelemetryBindFailed`, recognised by the name of the type.
    BindFailed(String),
    /// Any other exception: `what()` of a `std::exception`, the name of the type of another.
    Threw(String),
}

/// What became of a batch.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) accepted: u64,
    pub(crate) failed: u64,
    pub(crate) aggregated: u64,
    pub(crate) aggregates_failed: u64,
    pub(crate) first_failure: Option<Failure>,
}

/// Events as they lie in memory, one behind the other.
pub(crate) struct Events {
    pub(crate) first: *const u8,
    pub(crate) count: usize,
    pub(crate) stride: usize,
}

/// How far the vtable of an exporter is known to reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub(crate) enum Slots {
    /// To `exportEvent`.
    Events = 3,
    /// To the batch hooks of NIXL 1.5.
    Hooks = 5,
    /// To the end of what is negotiated.
    Negotiated = 10,
}

/// Calls `nixl_telemetry_plugin_init`.
///
/// # Safety
/// `init` is that function of a loaded library.
pub(crate) unsafe fn init(init: raw::InitFn) -> Result<Option<NonNull<raw::Plugin>>, Caught> {
    let mut outcome = Outcome::NEW;
    // SAFETY: the caller vouches for the function; the outcome is a valid place to write.
    let object = unsafe { nixl_telemetry_guard_init(init, &raw mut outcome) };
    outcome.into_result().map(|()| NonNull::new(object.cast_mut()))
}

/// Calls `nixl_telemetry_plugin_negotiate` with an offer of every version of [`raw::RichEvent`] there is.
///
/// # Safety
/// `negotiate` is that function of a loaded library.
pub(crate) unsafe fn negotiate(negotiate: raw::NegotiateFn) -> Result<Option<NonNull<raw::Plugin>>, Caught> {
    const { assert!(size_of::<raw::Offer>() == 8) };
    let offer = raw::Offer { size: 8, rich_version: raw::RichEvent::VERSION };
    let mut outcome = Outcome::NEW;
    // SAFETY: the caller vouches for the function; offer and outcome outlive the call.
    let object = unsafe { nixl_telemetry_guard_negotiate(negotiate, &raw const offer, &raw mut outcome) };
    outcome.into_result().map(|()| NonNull::new(object.cast_mut()))
}

/// Calls `nixl_telemetry_plugin_fini`.
///
/// # Safety
/// `fini` is that function of a loaded library whose init succeeded, and no exporter of it is left.
pub(crate) unsafe fn fini(fini: raw::FiniFn) -> Result<(), Caught> {
    let mut outcome = Outcome::NEW;
    // SAFETY: the caller vouches for the function; the outcome is a valid place to write.
    unsafe { nixl_telemetry_guard_fini(fini, &raw mut outcome) };
    outcome.into_result()
}

/// Calls `create_exporter`. `None`: it returned null.
///
/// # Safety
/// `create` comes from the plugin object of a library that was initialised and not finalised since.
pub(crate) unsafe fn create(
    create: raw::CreateFn,
    agent: &str,
    max_events: u64,
) -> Result<Option<NonNull<raw::Exporter>>, Caught> {
    let mut outcome = Outcome::NEW;
    // SAFETY: the caller vouches for the function, which the guard calls as the C++ function it is; the agent's name
    // is valid for its length, and the outcome is a valid place to write.
    let exporter =
        unsafe { nixl_telemetry_guard_create(create, agent.as_ptr(), agent.len(), max_events, &raw mut outcome) };
    outcome.into_result().map(|()| NonNull::new(exporter))
}

/// Asks a negotiated exporter for its features; one that throws has none.
///
/// # Safety
/// `exporter` came from [`create`] of a negotiated plugin, was not deleted, and nobody else uses it during the call.
pub(crate) unsafe fn features(exporter: NonNull<raw::Exporter>) -> u64 {
    // SAFETY: the caller vouches for the exporter.
    unsafe { nixl_telemetry_guard_features(exporter.as_ptr()) }
}

/// Hands over a batch: `identify` if there is an identity, `onBatchBegin`, `exportEvent` for each event, `export_total`
/// for each total, `onBatchEnd`, and the questions what was lost; of these, what `slots` holds.
///
/// # Safety
/// * `exporter` came from [`create`], was not deleted, and nobody else uses it during the call.
/// * Its vtable has these slots.
/// * `events` describes readable memory that holds events of the form the exporter takes.
/// * There are no totals unless [`features`] has them.
/// * The memo of `id` is null or stays during the call.
pub(crate) unsafe fn export(
    exporter: NonNull<raw::Exporter>,
    slots: Slots,
    events: &Events,
    totals: &[raw::Total],
    id: Option<&raw::BatchId>,
) -> Counts {
    let input = Input {
        events: events.first,
        event_count: events.count,
        stride: events.stride,
        totals: totals.as_ptr(),
        total_count: totals.len(),
        id: id.map_or(ptr::null(), ptr::from_ref),
    };
    let mut batch = Batch { accepted: 0, failed: 0, aggregated: 0, aggregates_failed: 0, first: Outcome::NEW };
    // SAFETY: the caller vouches for exporter, slots and what is handed over; the batch is a valid place to write.
    unsafe { nixl_telemetry_guard_export(exporter.as_ptr(), slots as u32, &raw const input, &raw mut batch) };
    let first_failure = match batch.first.how {
        How::RETURNED => None,
        How::REFUSED => Some(Failure::Refused(batch.first.status)),
        How::LOST => Some(Failure::Lost),
        _ => Some(Failure::Threw(batch.first.text())),
    };
    let Batch { accepted, failed, aggregated, aggregates_failed, .. } = batch;
    Counts { accepted, failed, aggregated, aggregates_failed, first_failure }
}

/// Deletes an exporter: calls its deleting destructor.
///
/// # Safety
/// `exporter` came from [`create`], was not deleted, and nobody uses it any more.
pub(crate) unsafe fn delete(exporter: NonNull<raw::Exporter>) -> Result<(), Caught> {
    let mut outcome = Outcome::NEW;
    // SAFETY: the caller vouches for the exporter; the outcome is a valid place to write.
    unsafe { nixl_telemetry_guard_delete(exporter.as_ptr(), &raw mut outcome) };
    outcome.into_result()
}

/// How a call ended.
struct How;

impl How {
    const RETURNED: u32 = 0;
    const REFUSED: u32 = 1;
    const BIND_FAILED: u32 = 2;
    const LOST: u32 = 4;
}

#[repr(C)]
struct Outcome {
    how: u32,
    status: i32,
    len: usize,
    text: [u8; TEXT_SIZE],
}

/// What is handed over.
#[repr(C)]
struct Input {
    events: *const u8,
    event_count: usize,
    stride: usize,
    totals: *const raw::Total,
    total_count: usize,
    id: *const raw::BatchId,
}

#[repr(C)]
struct Batch {
    accepted: u64,
    failed: u64,
    aggregated: u64,
    aggregates_failed: u64,
    first: Outcome,
}

impl Outcome {
    const NEW: Self = Self { how: How::RETURNED, status: 0, len: 0, text: [0; TEXT_SIZE] };

    fn into_result(self) -> Result<(), Caught> {
        match self.how {
            How::RETURNED => Ok(()),
            How::BIND_FAILED => Err(Caught::BindFailed(self.text())),
            _ => Err(Caught::Threw(self.text())),
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.text[..self.len.min(TEXT_SIZE)]).into_owned()
    }
}

unsafe extern "C" {
    fn nixl_telemetry_guard_init(init: raw::InitFn, outcome: *mut Outcome) -> *const raw::Plugin;
    fn nixl_telemetry_guard_negotiate(
        negotiate: raw::NegotiateFn,
        offer: *const raw::Offer,
        outcome: *mut Outcome,
    ) -> *const raw::Plugin;
    fn nixl_telemetry_guard_fini(fini: raw::FiniFn, outcome: *mut Outcome);
    fn nixl_telemetry_guard_create(
        create: raw::CreateFn,
        agent: *const u8,
        agent_len: usize,
        max_events: u64,
        outcome: *mut Outcome,
    ) -> *mut raw::Exporter;
    fn nixl_telemetry_guard_features(exporter: *mut raw::Exporter) -> u64;
    fn nixl_telemetry_guard_export(
        exporter: *mut raw::Exporter,
        known_slots: u32,
        input: *const Input,
        batch: *mut Batch,
    );
    fn nixl_telemetry_guard_delete(exporter: *mut raw::Exporter, outcome: *mut Outcome);
}
