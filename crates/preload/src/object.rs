// SPDX-License-Identifier: Apache-2.0

//! What lies where an agent believes a `nixlTelemetry` to be.

use core::mem::offset_of;
use core::num::NonZeroU64;
use core::ptr;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use nixl_telemetry_host::{Collector, Direction, Recorder};

/// The first words of the memory of a collector, which is hundreds of bytes, whoever allocated it.
#[repr(C)]
pub(crate) struct Object {
    /// Null if the agent goes without telemetry, although it believes otherwise.
    agent: *mut Agent,
    /// [`tag`] in an object of ours. NIXL's own collector has members of its own here, none of which points to us.
    tag: usize,
    /// [`Agent::id`], where a call has it at hand.
    id: Option<NonZeroU64>,
    /// Whether anything of any transfer is recorded.
    keeps_transfers: bool,
}

/// Where [`TAG`] is in an object of ours, and where [`Object::keeps_transfers`], for code that is not Rust.
pub(crate) const TAG_AT: usize = offset_of!(Object, tag);
pub(crate) const KEEPS_TRANSFERS_AT: usize = offset_of!(Object, keeps_transfers);

/// The telemetry of one agent.
#[derive(Debug)]
pub(crate) struct Agent {
    /// A number no other agent of the process ever has.
    id: NonZeroU64,
    pub(crate) recorder: Recorder,
    pub(crate) collector: Collector,
}

impl Agent {
    pub(crate) fn new(collector: Collector) -> Self {
        static IDS: AtomicU64 = AtomicU64::new(0);
        let id = NonZeroU64::MIN.saturating_add(IDS.fetch_add(1, Ordering::Relaxed));
        Self { id, recorder: collector.recorder(), collector }
    }

    pub(crate) fn id(&self) -> NonZeroU64 {
        self.id
    }
}

impl Object {
    /// Fills the memory of an object.
    ///
    /// # Safety
    /// `place` is valid for writing four words.
    pub(crate) unsafe fn fill(place: *mut Self, agent: Option<Agent>) {
        let id = agent.as_ref().map(Agent::id);
        let recorder = agent.as_ref().map(|agent| &agent.recorder);
        let keeps_transfers = [Direction::Write, Direction::Read]
            .into_iter()
            .any(|direction| recorder.is_some_and(|recorder| recorder.keeps_transfers(direction)));
        let agent = agent.map_or(ptr::null_mut(), |agent| Box::into_raw(Box::new(agent)));
        // SAFETY: the caller vouches for the place.
        unsafe { place.write(Self { agent, tag: tag(), id, keeps_transfers }) };
    }

    /// The agent of an object of ours; `None` if it goes without telemetry.
    ///
    /// # Safety
    /// `this` is an object of ours, and is not destroyed while the result is in use.
    #[inline]
    pub(crate) unsafe fn agent<'a>(this: *const Self) -> Option<&'a Agent> {
        // SAFETY: the caller vouches for the object, whose pointer `fill` made.
        unsafe { (&raw const (*this).agent).read().as_ref() }
    }

    /// The number of the agent whose object this is; `None` if it goes without telemetry.
    ///
    /// # Safety
    /// As [`agent`](Self::agent).
    #[inline]
    pub(crate) unsafe fn agent_id(this: *const Self) -> Option<NonZeroU64> {
        // SAFETY: the caller vouches for the object.
        unsafe { (&raw const (*this).id).read() }
    }

    /// Whether it is an object of ours.
    ///
    /// # Safety
    /// `this` is null, or a collector that was constructed, by us or by NIXL.
    unsafe fn is_ours(this: *const Self) -> bool {
        // SAFETY: the caller vouches for the object. Every collector is longer than four words, and whatever NIXL's own has
        // there is read as the number it is.
        unsafe { !this.is_null() && (&raw const (*this).tag).read() == tag() }
    }

    /// Takes the agent out of an object of ours, which is then nobody's any more; `None` if the object is NIXL's.
    ///
    /// # Safety
    /// `this` is null, or a collector that was constructed, by us or by NIXL, and that nobody else uses any more.
    pub(crate) unsafe fn empty(this: *mut Self) -> Option<Option<Box<Agent>>> {
        // SAFETY: the caller vouches for the object. The pointer came from a box, and is taken once: without its tag, which
        // must not survive in freed memory either, the object is not ours.
        unsafe {
            if !Self::is_ours(this) {
                return None;
            }
            let agent = (*this).agent;
            this.write(Self { agent: ptr::null_mut(), tag: 0, id: None, keeps_transfers: false });
            Some((!agent.is_null()).then(|| Box::from_raw(agent)))
        }
    }
}

/// Something of ours, whose address is no other object's.
pub(crate) static TAG: AtomicUsize = AtomicUsize::new(0);

fn tag() -> usize {
    ptr::from_ref(&TAG).addr()
}
