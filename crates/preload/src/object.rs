// SPDX-License-Identifier: Apache-2.0

//! What lies where an agent believes a `nixlTelemetry` to be.

use core::ptr;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use nixl_telemetry_host::{Collector, Recorder};

/// The first words of the memory of a collector, which is hundreds of bytes, whoever allocated it.
#[repr(C)]
pub(crate) struct Object {
    /// Null if the agent goes without telemetry, although it believes otherwise.
    agent: *mut Agent,
    /// [`tag`] in an object of ours. NIXL's own collector has members of its own here, none of which points to us.
    tag: usize,
    /// [`Agent::id`], where a call has it at hand.
    id: u64,
}

/// The telemetry of one agent.
#[derive(Debug)]
pub(crate) struct Agent {
    /// A number no other agent of the process ever has, and not 0.
    id: u64,
    pub(crate) recorder: Recorder,
    pub(crate) collector: Collector,
}

impl Agent {
    pub(crate) fn new(collector: Collector) -> Self {
        static IDS: AtomicU64 = AtomicU64::new(1);
        Self { id: IDS.fetch_add(1, Ordering::Relaxed), recorder: collector.recorder(), collector }
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }
}

/// Whose object it is.
pub(crate) enum Owner<'a> {
    /// Ours.
    We(Option<&'a Agent>),
    /// NIXL's own collector's, left in charge.
    Nixl,
}

impl Object {
    /// Fills the memory of an object.
    ///
    /// # Safety
    /// `place` is valid for writing three words.
    pub(crate) unsafe fn fill(place: *mut Self, agent: Option<Agent>) {
        let id = agent.as_ref().map_or(0, Agent::id);
        let agent = agent.map_or(ptr::null_mut(), |agent| Box::into_raw(Box::new(agent)));
        // SAFETY: the caller vouches for the place.
        unsafe { place.write(Self { agent, tag: tag(), id }) };
    }

    /// Whose object this is.
    ///
    /// # Safety
    /// `this` is null, or a collector that was constructed, by us or by NIXL, and is not destroyed while the result is in
    /// use.
    #[inline]
    pub(crate) unsafe fn owner<'a>(this: *const Self) -> Owner<'a> {
        // SAFETY: the caller vouches for the object. Every collector is longer than three words, and whatever NIXL's own has
        // there is read as the numbers they are. If the tag is ours, so is the pointer, which `fill` made.
        unsafe {
            if this.is_null() || (&raw const (*this).tag).read() != tag() {
                return Owner::Nixl;
            }
            Owner::We((&raw const (*this).agent).read().as_ref())
        }
    }

    /// The number of the agent whose object this is; 0 if the object is NIXL's, or its agent goes without telemetry.
    ///
    /// # Safety
    /// As [`owner`](Self::owner).
    #[inline]
    pub(crate) unsafe fn agent_id(this: *const Self) -> u64 {
        // SAFETY: as in `owner`; the number lies in memory of the object either way.
        unsafe {
            if this.is_null() || (&raw const (*this).tag).read() != tag() { 0 } else { (&raw const (*this).id).read() }
        }
    }

    /// Takes the agent out of an object of ours, which is then nobody's any more; `None` if the object is NIXL's.
    ///
    /// # Safety
    /// As [`owner`](Self::owner), and nobody else uses the object any more.
    pub(crate) unsafe fn empty(this: *mut Self) -> Option<Option<Box<Agent>>> {
        // SAFETY: the caller vouches for the object. The pointer came from a box, and is taken once: without its tag, which
        // must not survive in freed memory either, the object is not ours.
        unsafe {
            if matches!(Self::owner(this), Owner::Nixl) {
                return None;
            }
            let agent = (*this).agent;
            this.write(Self { agent: ptr::null_mut(), tag: 0, id: 0 });
            Some((!agent.is_null()).then(|| Box::from_raw(agent)))
        }
    }
}

/// A number that is no other object's: the address of something of ours.
#[inline]
fn tag() -> usize {
    static TAG: AtomicUsize = AtomicUsize::new(0);
    ptr::from_ref(&TAG).addr()
}
