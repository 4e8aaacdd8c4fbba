// SPDX-License-Identifier: Apache-2.0

use crate::Kind;

/// Events of one kind that were not kept one by one: how many there were, and the exact sum of their values.
///
/// This project's host keeps totals where it has no room for detail. Of what they were added up from nothing else is
/// left: neither single values nor times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Total {
    /// What the events were readings of.
    pub kind: Kind,
    /// Number of events.
    pub count: u64,
    /// Sum of their values, in [`Kind::unit`]. No sum of as many as 2<sup>64</sup> values overflows it.
    pub sum: u128,
}
