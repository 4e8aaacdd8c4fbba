// SPDX-License-Identifier: Apache-2.0

//! The producers of a thread, found by two loads.
//!
//! The run time's thread-locals cost a call in a shared library, which is more than recording does. So the thread
//! keeps, in memory at a fixed distance from its thread pointer, a few pointers to what its ordinary thread-local
//! [`HELD`] owns. A library that is preloaded has such memory for certain; one that is opened later, as by a program
//! that measures, gets it out of a reserve the loader keeps.

use core::arch::{asm, global_asm};
use core::cell::RefCell;
use core::num::NonZeroU64;
use core::ptr;

use nixl_telemetry_host::Producer;

use crate::object::Agent;

/// Agents a thread finds at once; a power of two.
const SHORTCUTS: usize = 4;
/// An agent that got no producer is asked for again after so many records.
const PATIENCE: u32 = 1024;

/// From an agent's number to its producer; zero at first, which is no agent's.
#[repr(C)]
struct Shortcut {
    agent: u64,
    producer: *mut Producer,
}

/// What a thread owns. Dropped with it, and with it the producers, so that their rings can be used again.
struct Held(Vec<Own>);

struct Own {
    agent: NonZeroU64,
    /// `None` if there was no room for one.
    producer: Option<Box<Producer>>,
    /// Records since then.
    refused: u32,
}

thread_local! {
    static HELD: RefCell<Held> = const { RefCell::new(Held(Vec::new())) };
}

const _: () = assert!(size_of::<Shortcut>() * SHORTCUTS == 64);

global_asm!(
    ".pushsection .tbss.nixl_telemetry_shortcuts, \"awT\", @nobits",
    ".balign 8",
    ".globl nixl_telemetry_shortcuts",
    ".hidden nixl_telemetry_shortcuts",
    ".type nixl_telemetry_shortcuts, @object",
    ".size nixl_telemetry_shortcuts, 64",
    "nixl_telemetry_shortcuts:",
    ".zero 64",
    ".popsection",
);

/// The calling thread's shortcuts.
#[inline]
fn shortcuts() -> *mut Shortcut {
    let first: *mut Shortcut;
    // SAFETY: reads the thread pointer and the distance of the symbol from it, which the loader has filled in.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!(
            "mov {first}, qword ptr [rip + nixl_telemetry_shortcuts@GOTTPOFF]",
            "add {first}, qword ptr fs:[0]",
            first = out(reg) first,
            options(pure, readonly, nostack),
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!(
            "mrs {first}, tpidr_el0",
            "adrp {distance}, :gottprel:nixl_telemetry_shortcuts",
            "ldr {distance}, [{distance}, :gottprel_lo12:nixl_telemetry_shortcuts]",
            "add {first}, {first}, {distance}",
            first = out(reg) first,
            distance = out(reg) _,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    first
}

/// The place of an agent's shortcut.
#[inline]
fn shortcut(agent: NonZeroU64) -> *mut Shortcut {
    // Only the low bits count.
    #[expect(clippy::cast_possible_truncation, reason = "all but the low bits are masked away")]
    let place = agent.get() as usize & (SHORTCUTS - 1);
    // SAFETY: within the thread's shortcuts.
    unsafe { shortcuts().add(place) }
}

/// Calls `use_it` with the calling thread's producer for the agent of this number, if it is at hand.
///
/// What is called must not record, and not end the thread.
// Always: it is most of what a transfer costs.
#[inline(always)]
pub(crate) fn at_hand<R>(agent: NonZeroU64, use_it: impl FnOnce(&mut Producer) -> R) -> Option<R> {
    let shortcut = shortcut(agent);
    // SAFETY: the memory is the thread's own. A shortcut with a number leads to a producer that `HELD` owns, in a box that
    // does not move: whoever takes it out of there takes the shortcut away first. Nobody else uses it, since only this
    // function and `with` hand it out, to calls that do not come here again.
    unsafe { ((*shortcut).agent == agent.get()).then(|| use_it(&mut *(*shortcut).producer)) }
}

/// Calls `use_it` with the calling thread's producer for this agent; `None` if there is none, because there is no room or
/// the thread is at its end.
#[cold]
#[inline(never)]
pub(crate) fn with<R>(agent: &Agent, use_it: impl FnOnce(&mut Producer) -> R) -> Option<R> {
    let found = HELD.try_with(|held| {
        // Taken while a producer is made, and by nobody who records from within that.
        let mut held = held.try_borrow_mut().ok()?;
        let producer = ptr::from_mut(held.producer(agent)?);
        // SAFETY: the memory is the thread's own.
        unsafe { shortcut(agent.id()).write(Shortcut { agent: agent.id().get(), producer }) };
        Some(())
    });
    found.ok()??;
    at_hand(agent.id(), use_it)
}

impl Held {
    fn producer(&mut self, agent: &Agent) -> Option<&mut Producer> {
        let place = match self.0.iter().position(|own| own.agent == agent.id()) {
            Some(place) => place,
            None => {
                self.0.retain(|own| !own.is_over());
                self.0.push(Own { agent: agent.id(), producer: None, refused: 0 });
                self.0.len() - 1
            }
        };
        let own = &mut self.0[place];
        if own.producer.is_none() {
            if own.refused == 0 {
                own.producer = agent.collector.producer().map(Box::new);
            }
            own.refused = (own.refused + 1) % PATIENCE;
        }
        own.producer.as_deref_mut()
    }
}

impl Own {
    /// Whether its agent has gone.
    fn is_over(&self) -> bool {
        self.producer.as_ref().is_none_or(|producer| producer.is_closed())
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let shortcut = shortcut(self.agent);
        // SAFETY: the memory is the thread's own.
        unsafe {
            if (*shortcut).agent == self.agent.get() {
                (*shortcut).agent = 0;
            }
        }
    }
}
