// SPDX-License-Identifier: Apache-2.0

use core::ptr;
use std::sync::OnceLock;

use crate::{
    host::Host,
    plugin::{
        Plugin,
        entry::{self, create},
        identity::Identity,
        speaker::{Newer, Rich, Speaker, V0_9, V1_1, V1_2, V1_3, V1_4, V1_5},
    },
    raw::{self, CxxString},
};
use nixl_telemetry_event::Generation;

/// Where a plugin keeps its plugin objects, one for each host it has met.
///
/// A host keeps the pointer for the life of the process and never frees what it points to, so an object is made once
/// and stays. Several, because one process may hold two hosts.
#[derive(Default)]
pub struct Objects([OnceLock<Object>; 8]);

impl Objects {
    /// No objects yet.
    pub const fn new() -> Self {
        Self([const { OnceLock::new() }; 8])
    }
}

/// A plugin object on the heap, never moved and never freed.
struct Object(&'static raw::Plugin);

// SAFETY: the object is not changed after it was made, and its strings point into itself or to memory that stays.
unsafe impl Send for Object {}
// SAFETY: as above.
unsafe impl Sync for Object {}

/// The plugin object that speaks to this host.
pub(crate) fn object_for<P: Plugin>(host: Host) -> *const raw::Plugin {
    match host {
        Host::Nixl(Generation::V0_9) => object::<P, V0_9>(0),
        Host::Nixl(Generation::V1_1) => object::<P, V1_1>(1),
        Host::Nixl(Generation::V1_2) => object::<P, V1_2>(2),
        Host::Nixl(Generation::V1_3) => object::<P, V1_3>(3),
        Host::Nixl(Generation::V1_4) => object::<P, V1_4>(4),
        Host::Nixl(Generation::V1_5) => object::<P, V1_5>(5),
        Host::NewerNixl => object::<P, Newer>(6),
        Host::Negotiated => object::<P, Rich>(7),
    }
}

fn object<P: Plugin, S: Speaker>(index: usize) -> *const raw::Plugin {
    ptr::from_ref(P::objects().0[index].get_or_init(|| Object(make::<P, S>())).0)
}

fn make<P: Plugin, S: Speaker>() -> &'static raw::Plugin {
    let plugin: *mut raw::Plugin = Box::into_raw(Box::<raw::Plugin>::new_uninit()).cast();
    // SAFETY: the place is fresh, aligned, ours and never freed; zeros are a value of every field, and every field is
    // written, the strings where they stay.
    unsafe {
        ptr::write_bytes(plugin, 0, 1);
        (*plugin).api_version = S::HOST.plugin_api();
        (*plugin).create = Some(create::<P, S>);
        CxxString::emplace(&raw mut (*plugin).name, P::NAME);
        CxxString::emplace(&raw mut (*plugin).version, P::VERSION);
        &*plugin
    }
}

/// An exporter as hosts hold it: the part they know, then ours.
#[repr(C)]
pub(crate) struct ExporterObject<E> {
    pub(crate) base: raw::Exporter,
    pub(crate) exporter: E,
    /// Of the batch that is under way, if the host told.
    pub(crate) identity: Option<Identity>,
    /// A method panicked: the exporter is only to be dropped.
    pub(crate) inert: bool,
}

impl<E> ExporterObject<E> {
    /// On the heap, owned by whoever holds the pointer until the deleting destructor.
    pub(crate) fn allocate<P: Plugin<Exporter = E>, S: Speaker>(exporter: E, max_events_buffered: u64) -> *mut Self {
        let slots = &raw const Vtables::<P, S>::VTABLE.slots;
        let base = raw::Exporter { slots, max_events_buffered };
        Box::into_raw(Box::new(Self { base, exporter, identity: None, inert: false }))
    }
}

/// The vtable of a plugin's exporter for one host. All slots whatever the host, so that none can run off its end.
struct Vtables<P, S>(core::marker::PhantomData<(P, S)>);

impl<P: Plugin, S: Speaker> Vtables<P, S> {
    const VTABLE: &'static raw::Vtable = &raw::Vtable {
        offset_to_top: 0,
        rtti: ptr::null(),
        slots: raw::Slots {
            destroy: entry::destroy::<P>,
            delete: entry::delete::<P>,
            export_event: entry::export_event::<P, S>,
            batch_begin: entry::batch_begin::<P>,
            batch_end: entry::batch_end::<P>,
            take_lost: entry::take_lost::<P>,
            features: entry::features::<P>,
            export_total: entry::export_total::<P>,
            take_lost_totals: entry::take_lost_totals::<P>,
            identify: entry::identify::<P>,
        },
    };
}
