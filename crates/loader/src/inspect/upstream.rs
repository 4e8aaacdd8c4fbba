// SPDX-License-Identifier: Apache-2.0

//! Recognising NIXL's own exporters by their symbols.
//!
//! API version 2 covers three event layouts and two vtables, and nothing a plugin exports on purpose tells them apart.
//! The signatures of NIXL's own classes do: they changed together with the events. The rules were read from the symbol
//! tables of the wheels 0.9.0, 0.10.1, 1.0.1, 1.1.0, 1.2.0, 1.3.2, 1.4.1 and 1.5.1, which the tests read again.

use nixl_telemetry_event::Layout;

/// One of NIXL's own exporters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Upstream {
    /// The name of the exporter: `prometheus`, `prometheus_mp` or `doca`.
    pub exporter: &'static str,
    /// The layout of its events, where its symbols tell.
    pub layout: Option<Layout>,
    /// The releases it may stem from, for people.
    pub releases: &'static str,
}

/// What the symbol table of a file says.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    class: Option<&'static Class>,
    vtable_size: u64,
    base_hooks: bool,
    counter: Option<Counter>,
    backend_events: bool,
    toml: bool,
}

/// Parameters of `registerCounter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counter {
    /// Name, help, category.
    ThreeStrings,
    /// Name, help.
    TwoStrings,
    /// Type, name, help.
    Type,
}

#[derive(Debug)]
struct Class {
    vtable: &'static str,
    exporter: &'static str,
}

const CLASSES: [Class; 3] = [
    Class { vtable: "_ZTV31nixlTelemetryPrometheusExporter", exporter: "prometheus" },
    Class { vtable: "_ZTV33nixlTelemetryPrometheusMpExporter", exporter: "prometheus_mp" },
    Class { vtable: "_ZTV25nixlTelemetryDocaExporter", exporter: "doca" },
];

/// Two words before the slots, 8 bytes per slot.
const VTABLE_OF_3: u64 = 40;
const VTABLE_OF_5: u64 = 56;

/// The empty default of the base class. It is emitted only where the base class has it as a virtual function.
const BASE_HOOK: &str = "_ZN21nixlTelemetryExporter12onBatchBeginEv";

const REGISTER_COUNTER: &str = "_ZN31nixlTelemetryPrometheusExporter15registerCounterE";
const THREE_STRINGS: &str = "RKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEES7_S7_";
const TWO_STRINGS: &str = "RKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEES7_";
const TYPE: &str = "27nixl_telemetry_event_type_tRK";
/// Part of the function for events of backends, which went with the timestamps.
const BACKEND_EVENT: &str = "_ZN31nixlTelemetryPrometheusExporter26createOrUpdateBackendEventE";
/// Part of the function by which the settings file is read.
const TOML: &str = "12findTomlNodeE";

impl Evidence {
    pub(super) fn defined(&mut self, name: &str, size: u64) {
        if let Some(class) = CLASSES.iter().find(|class| class.vtable == name) {
            (self.class, self.vtable_size) = (Some(class), size);
        }
        self.base_hooks |= name == BASE_HOOK;
        self.backend_events |= name.starts_with(BACKEND_EVENT);
        if let Some(parameters) = name.strip_prefix(REGISTER_COUNTER) {
            self.counter = match parameters {
                THREE_STRINGS => Some(Counter::ThreeStrings),
                TWO_STRINGS => Some(Counter::TwoStrings),
                _ if parameters.starts_with(TYPE) => Some(Counter::Type),
                _ => None,
            };
        }
    }

    pub(super) fn undefined(&mut self, name: &str) {
        self.toml |= name.contains(TOML);
    }

    pub(super) fn slots(&self) -> Option<u32> {
        match self.vtable_size {
            VTABLE_OF_3 => Some(3),
            VTABLE_OF_5 => Some(5),
            _ => self.base_hooks.then_some(5),
        }
    }

    pub(super) fn upstream(&self) -> Option<Upstream> {
        let exporter = self.class?.exporter;
        let (layout, releases) = match (exporter, self.counter, self.slots()) {
            ("prometheus", Some(Counter::ThreeStrings), _) if self.backend_events => {
                (Some(Layout::L56), "0.9.0 - 1.0.1")
            }
            ("prometheus", Some(Counter::ThreeStrings), _) if self.toml => (Some(Layout::L16c), "1.2.0"),
            ("prometheus", Some(Counter::ThreeStrings), _) => (Some(Layout::L48), "1.1.0"),
            ("prometheus", Some(Counter::TwoStrings), _) => (Some(Layout::L16), "1.3.0 - 1.3.2"),
            ("prometheus", Some(Counter::Type), Some(3)) => (Some(Layout::L16), "1.4.0 - 1.4.1"),
            ("prometheus", Some(Counter::Type), _) => (Some(Layout::L16), "1.5.0 and later"),
            ("prometheus", None, _) => (None, "unknown"),
            // Both have been L16 in every wheel that had them; the batch hooks tell the release.
            (_, _, Some(3)) => (Some(Layout::L16), "1.4.0 - 1.4.1"),
            _ => (Some(Layout::L16), "1.5.0 and later"),
        };
        Some(Upstream { exporter, layout, releases })
    }
}
