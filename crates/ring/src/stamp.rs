// SPDX-License-Identifier: Apache-2.0

//! Numbers of events, in the padding of their slots.
//!
//! The stamp of the n-th event is n modulo 2^32, and that event lies in slot n modulo the capacity: so a run of slots with
//! stamps in order, each of them where it belongs, can have come about by nothing but our writer. A writer that begins
//! starts at a multiple of the capacity nobody can foresee, half of all numbers or more after those that the file had, so that
//! a file that was begun anew is not taken for one that goes on.

use nixl_telemetry_event::Layout;

/// Where in a slot its stamp is: in four bytes that no layout uses, but one has none.
pub(crate) const fn offset(layout: Layout) -> Option<usize> {
    match layout {
        Layout::L56 => Some(44),
        Layout::L48 => Some(36),
        Layout::L16c => None,
        Layout::L16 => Some(4),
    }
}

/// The stamp in a slot.
pub(crate) fn of(slot: &[u8], offset: usize) -> u32 {
    slot[offset..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// The number in the slot at `position` of a ring, if it is one that belongs there.
pub(crate) fn at(slot: &[u8], offset: usize, position: u64, mask: u64) -> Option<u32> {
    let stamp = of(slot, offset);
    ((u64::from(stamp) ^ position) & mask & u64::from(u32::MAX) == 0).then_some(stamp)
}
