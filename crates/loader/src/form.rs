// SPDX-License-Identifier: Apache-2.0

use core::fmt;

use nixl_telemetry_event::{Event, Layout};

/// The bytes a plugin is given as an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// One of NIXL's own layouts.
    Layout(Layout),
    /// The form this project's host and plugins negotiate, in which nothing is lost.
    Rich,
}

impl Form {
    /// Whether the event fits; [`Exporter::export`](crate::Exporter::export) leaves out those that do not.
    ///
    /// Named events do not fit the 16-byte layouts of 1.2 and later, which have only numbers.
    pub fn holds(self, event: &Event<'_>) -> bool {
        match self {
            Self::Layout(Layout::L56 | Layout::L48) => true,
            Self::Layout(Layout::L16c | Layout::L16) => event.kind().is_some(),
            Self::Rich => event.kind().is_none_or(|kind| kind.code() != crate::encoder::NAMED),
        }
    }
}

/// The name of the layout, `L16` for instance, or `rich`.
impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Layout(Layout::L56) => "L56",
            Self::Layout(Layout::L48) => "L48",
            Self::Layout(Layout::L16c) => "L16c",
            Self::Layout(Layout::L16) => "L16",
            Self::Rich => "rich",
        })
    }
}
