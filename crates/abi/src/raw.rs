// SPDX-License-Identifier: Apache-2.0

//! The objects that cross the seam, byte by byte: data only, no behaviour.
//!
//! NIXL's interface is C++ as g++ compiles it: Itanium vtables, libstdc++ strings of the C++11 ABI, and a
//! `std::unique_ptr` returned through memory. Sizes and offsets were read from NIXL's binaries and observed on every
//! release from 0.9.0 to 1.5.1; the assertions below keep them.

use core::{
    ffi::{c_char, c_void},
    mem::{offset_of, size_of},
};

/// Name of the function a plugin must export: `nixl_telemetry_plugin_init`.
pub const INIT_SYMBOL: &str = "nixl_telemetry_plugin_init";
/// Name of the function a plugin may export: `nixl_telemetry_plugin_fini`. NIXL calls it at process exit, if at all.
pub const FINI_SYMBOL: &str = "nixl_telemetry_plugin_fini";
/// Name of the function by which a plugin and this project's host agree on [`RichEvent`]s. NIXL never looks for it.
pub const NEGOTIATE_SYMBOL: &str = "nixl_telemetry_plugin_negotiate";

/// `nixl_telemetry_plugin_init`: returns a plugin object that lives as long as the process, or null.
pub type InitFn = unsafe extern "C" fn() -> *const Plugin;
/// `nixl_telemetry_plugin_fini`.
pub type FiniFn = unsafe extern "C" fn();
/// `nixl_telemetry_plugin_negotiate`: returns a plugin object that takes [`RichEvent`]s, or null if the offer holds
/// no version the plugin speaks.
pub type NegotiateFn = unsafe extern "C" fn(*const Offer) -> *const Plugin;

/// `create_exporter` as a C++ compiler calls it: the slot for the result is a hidden argument.
///
/// On x86-64 the slot travels in the first argument register, so that this signature is exact. On AArch64 it travels
/// in `x8`, outside the argument list, and only code that says so may be called or be called through this pointer.
pub type CreateFn = unsafe extern "C" fn(slot: *mut *mut Exporter, params: *const InitParams) -> *mut *mut Exporter;

/// What `init` returns: 80 bytes, valid and unmoved for the life of the process, owned by the plugin.
#[repr(C)]
pub struct Plugin {
    /// Plugin API version: 1 for hosts up to 1.0.1, 2 for later ones, compared for equality.
    pub api_version: u32,
    /// Creates one exporter; null counts as a failed creation.
    pub create: Option<CreateFn>,
    /// Name of the plugin. No host reads it on its way.
    pub name: CxxString,
    /// Version of the plugin. No host reads it on its way.
    pub version: CxxString,
}

/// libstdc++'s `std::string`: 32 bytes that may point into themselves, so that it must not be moved once filled.
#[repr(C)]
pub struct CxxString {
    /// The characters, NUL-terminated; `local` for up to 15 of them.
    pub data: *const c_char,
    /// Number of characters, without the NUL.
    pub len: usize,
    /// Characters in place, or the capacity of the heap block in the first 8 bytes.
    pub local: [u8; 16],
}

/// Argument of `create_exporter`, valid only during the call.
#[repr(C)]
pub struct InitParams {
    /// The agent's name: any bytes, never empty.
    pub agent_name: CxxString,
    /// The host's `NIXL_TELEMETRY_BUFFER_SIZE`.
    pub max_events_buffered: u64,
}

/// The part of an exporter every host knows: 16 bytes, the rest belongs to the plugin.
#[repr(C)]
pub struct Exporter {
    /// Address point of the vtable: its first slot.
    pub slots: *const Slots,
    /// [`InitParams::max_events_buffered`]. Hosts up to 1.0.1 size a vector with it at every flush.
    pub max_events_buffered: u64,
}

/// The virtual functions, in order. NIXL before 1.5 never touches the batch hooks, 1.5 calls them unconditionally.
///
/// What stands behind them is no part of NIXL's interface but of version 1 of [`RichEvent`]'s: only a host that has
/// negotiated calls it, and a plugin that has negotiated has all of it. A batch is [`identify`](Self::identify), if it
/// has an identity, `batch_begin`, its events, its totals, `batch_end`, and the questions what was lost.
#[repr(C)]
pub struct Slots {
    /// Complete-object destructor, D1: destroys without freeing. No host calls it.
    pub destroy: unsafe extern "C" fn(*mut Exporter),
    /// Deleting destructor, D0: destroys and frees. Called once.
    pub delete: unsafe extern "C" fn(*mut Exporter),
    /// `exportEvent(const nixlTelemetryEvent &)`: returns a `nixl_status_t` that every host ignores.
    pub export_event: unsafe extern "C" fn(*mut Exporter, *const c_void) -> i32,
    /// `onBatchBegin()`, which must not throw.
    pub batch_begin: unsafe extern "C" fn(*mut Exporter),
    /// `onBatchEnd()`, which must not throw.
    pub batch_end: unsafe extern "C" fn(*mut Exporter),
    /// How many of the events whose `export_event` returned no error have been lost since the last call of this: an
    /// exporter that collects a batch knows only at its end.
    pub take_lost: unsafe extern "C" fn(*mut Exporter) -> u64,
    /// What the exporter can do besides: [`FEATURE_TOTALS`] or nothing. Asked once, when it has been created.
    pub features: unsafe extern "C" fn(*mut Exporter) -> u64,
    /// Takes a total, valid during the call, after the events of a batch: only called with [`FEATURE_TOTALS`]. Returns a
    /// `nixl_status_t`.
    pub export_total: unsafe extern "C" fn(*mut Exporter, *const Total) -> i32,
    /// How many events stood behind the totals whose `export_total` returned no error and that have been lost since the
    /// last call of this. Only called with [`FEATURE_TOTALS`].
    pub take_lost_totals: unsafe extern "C" fn(*mut Exporter) -> u64,
    /// Which batch the next one is, said before it begins. The structure is valid during the call, the memo in it until
    /// `batch_end` has returned. A batch about which this is not called has no identity.
    pub identify: unsafe extern "C" fn(*mut Exporter, *const BatchId),
}

/// The bit in [`Slots::features`] of an exporter that takes totals.
pub const FEATURE_TOTALS: u64 = 1;

/// A vtable as the Itanium C++ ABI lays it out: two words, then the slots an object points to.
#[repr(C)]
pub struct Vtable {
    /// Distance to the top of the object: 0.
    pub offset_to_top: isize,
    /// Run-time type information. No host uses it; null works.
    pub rtti: *const c_void,
    /// The virtual functions.
    pub slots: Slots,
}

/// What this project's host tells a plugin when it negotiates.
#[repr(C)]
pub struct Offer {
    /// Size of this structure in bytes, so that it may grow.
    pub size: u32,
    /// Highest version of [`RichEvent`] the host can send; it can send every lower one.
    pub rich_version: u32,
}

/// The event of a negotiated plugin, version 1: nothing is lost between recorder and exporter.
#[repr(C)]
pub struct RichEvent {
    /// Number of the kind, or [`RichEvent::NAMED`].
    pub kind: u32,
    /// Category of a named event, otherwise ignored.
    pub category: u32,
    /// The value.
    pub value: u64,
    /// When it was recorded, in microseconds since the Unix epoch; 0 if nobody knows.
    pub timestamp_us: u64,
    /// UTF-8 name of a named event, not NUL-terminated, valid during the call; otherwise null.
    pub name: *const u8,
    /// Bytes of the name.
    pub name_len: usize,
}

impl RichEvent {
    /// The version this structure describes.
    pub const VERSION: u32 = 1;
    /// [`RichEvent::kind`] of an event that has a name instead.
    pub const NAMED: u32 = u32::MAX;
}

/// Events of one kind that were not kept one by one, in version 1 of [`RichEvent`]'s interface.
#[repr(C)]
pub struct Total {
    /// Number of the kind.
    pub kind: u32,
    /// 0.
    pub reserved: u32,
    /// Number of events.
    pub count: u64,
    /// The lower half of the sum of their values.
    pub sum_low: u64,
    /// The upper half.
    pub sum_high: u64,
}

/// Which batch comes next, in version 1 of [`RichEvent`]'s interface. It holds 4096 events at most.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct BatchId {
    /// Size of this structure in bytes, so that it may grow.
    pub size: u32,
    /// [`BatchId::REPEATED`] or nothing; bits nobody knows are ignored.
    pub flags: u32,
    /// A number that tells the collector from others.
    pub origin: u64,
    /// The batch's number within its collector: 1, 2, 3, ….
    pub number: u64,
    /// Memory that outlives the process, aligned to 8, or null. It is the exporter's until `batch_end` has returned, to
    /// be read and written atomically; how its words are used is between an exporter and its successors.
    pub memo: *mut u64,
    /// Words of it: at least 8, if there is any.
    pub memo_words: u64,
}

impl BatchId {
    /// The flag of a batch that may have been exported already, wholly or in part, by a process that died in the middle
    /// of it.
    pub const REPEATED: u32 = 1;
}

/// [`Plugin::api_version`] of a plugin object that takes version `rich_version` of [`RichEvent`]; no NIXL uses the
/// numbers from here on.
pub const fn negotiated_api_version(rich_version: u32) -> u32 {
    0x5249_0000 | rich_version
}

const _: () = {
    assert!(size_of::<CxxString>() == 32);
    assert!(size_of::<Plugin>() == 80);
    assert!(offset_of!(Plugin, create) == 8);
    assert!(offset_of!(Plugin, name) == 16);
    assert!(offset_of!(Plugin, version) == 48);
    assert!(size_of::<InitParams>() == 40);
    assert!(offset_of!(InitParams, max_events_buffered) == 32);
    assert!(size_of::<Exporter>() == 16);
    assert!(offset_of!(Exporter, max_events_buffered) == 8);
    assert!(size_of::<Slots>() == 10 * 8);
    assert!(offset_of!(Slots, export_event) == 0x10);
    assert!(offset_of!(Slots, batch_begin) == 0x18);
    assert!(offset_of!(Slots, batch_end) == 0x20);
    assert!(offset_of!(Slots, take_lost) == 0x28);
    assert!(offset_of!(Slots, features) == 0x30);
    assert!(offset_of!(Slots, export_total) == 0x38);
    assert!(offset_of!(Slots, take_lost_totals) == 0x40);
    assert!(offset_of!(Slots, identify) == 0x48);
    assert!(offset_of!(Vtable, slots) == 16);
    assert!(size_of::<Offer>() == 8);
    assert!(size_of::<RichEvent>() == 40);
    assert!(size_of::<Total>() == 32);
    assert!(size_of::<BatchId>() == 40);
};
