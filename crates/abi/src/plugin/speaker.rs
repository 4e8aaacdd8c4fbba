// SPDX-License-Identifier: Apache-2.0

use core::{ffi::c_void, slice, str};

use nixl_telemetry_event::{Category, Event, Generation, Kind, layout};

use crate::{host::Host, raw::RichEvent};

/// How one host hands out events. A type, so that the choice is made once, when the host picks its vtable.
pub(crate) trait Speaker: 'static {
    const HOST: Host;

    /// Reads the host's event.
    ///
    /// # Safety
    /// `event` must point to a live event in this host's layout, unchanged while the result is used.
    unsafe fn read<'a>(event: *const c_void) -> Event<'a>;
}

macro_rules! nixl_speakers {
    ($($speaker:ident $host:expr, $layout:ident;)*) => {$(
        pub(crate) enum $speaker {}

        impl Speaker for $speaker {
            const HOST: Host = $host;

            #[inline]
            unsafe fn read<'a>(event: *const c_void) -> Event<'a> {
                // SAFETY: the caller vouches for an event of this size. Its padding may never have been written; the
                // reference only says where the fields are, and `decode` reads nothing else.
                layout::$layout::decode(unsafe { &*event.cast() })
            }
        }
    )*};
}

nixl_speakers! {
    V0_9 Host::Nixl(Generation::V0_9), l56;
    V1_1 Host::Nixl(Generation::V1_1), l48;
    V1_2 Host::Nixl(Generation::V1_2), l16c;
    V1_3 Host::Nixl(Generation::V1_3), l16;
    V1_4 Host::Nixl(Generation::V1_4), l16;
    V1_5 Host::Nixl(Generation::V1_5), l16;
    Newer Host::NewerNixl, l16;
}

pub(crate) enum Rich {}

impl Speaker for Rich {
    const HOST: Host = Host::Negotiated;

    #[inline]
    unsafe fn read<'a>(event: *const c_void) -> Event<'a> {
        // SAFETY: the caller vouches for a live event.
        let rich: &'a RichEvent = unsafe { &*event.cast() };
        let event = if rich.kind == RichEvent::NAMED {
            let name = if rich.name.is_null() {
                &[]
            } else {
                // SAFETY: the host promises `name_len` bytes at `name`, for as long as the event.
                unsafe { slice::from_raw_parts(rich.name, rich.name_len) }
            };
            Event::named(Category::from_code(rich.category), str::from_utf8(name).unwrap_or_default(), rich.value)
        } else {
            Event::new(Kind::from_code(rich.kind), rich.value)
        };
        if rich.timestamp_us == 0 { event } else { event.at(rich.timestamp_us) }
    }
}
