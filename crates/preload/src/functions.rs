// SPDX-License-Identifier: Apache-2.0

//! The member functions of NIXL's collector, by their symbols, which are the same on x86-64 and AArch64.

macro_rules! functions {
    ($($(#[$doc:meta])* $name:ident = $symbol:literal,)+) => {
        /// A function of NIXL's collector that this library defines, too.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Function { $($(#[$doc])* $name),+ }

        impl Function {
            pub(crate) const ALL: &[Self] = &[$(Self::$name),+];

            pub(crate) const fn symbol(self) -> &'static str {
                match self { $(Self::$name => $symbol),+ }
            }
        }

        /// The symbol of a function as a literal, for attributes.
        macro_rules! symbol { $(($name) => { $symbol };)+ }
    };
}

functions! {
    /// 1.4 and later: `create(agent)`, which allocates; null is no telemetry.
    Create = "_ZN13nixlTelemetry6createERKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE",
    /// 1.0 to 1.3: a constructor from the agent's name.
    Construct = "_ZN13nixlTelemetryC1ERKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE",
    /// Up to 0.10: the same, and a map of backends.
    ConstructWithBackends = "_ZN13nixlTelemetryC1ERKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEERSt13unordered_mapIS5_P17nixlBackendEngineSt4hashIS5_ESt8equal_toIS5_ESaISt4pairIS6_SA_EEE",
    /// 1.4 and later: from the names of agent and exporter. Called by NIXL's own `create` only.
    ConstructWithExporter = "_ZN13nixlTelemetryC1ERKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEES7_",
    /// The destructor, which leaves the memory to its caller.
    Destroy = "_ZN13nixlTelemetryD1Ev",
    /// Up to 1.3: time until the post call returned.
    AddPostTime = "_ZN13nixlTelemetry11addPostTimeENSt6chrono8durationIlSt5ratioILl1ELl1000000EEEE",
    /// Up to 1.3: the rest of a transfer.
    AddXferTime = "_ZN13nixlTelemetry11addXferTimeENSt6chrono8durationIlSt5ratioILl1ELl1000000EEEEbm",
    /// 1.4 and later: a transfer.
    AddXferStats = "_ZN13nixlTelemetry12addXferStatsENSt6chrono8durationIlSt5ratioILl1ELl1000000EEEEbmS4_",
    UpdateErrorCount = "_ZN13nixlTelemetry16updateErrorCountE13nixl_status_t",
    UpdateMemoryRegistered = "_ZN13nixlTelemetry22updateMemoryRegisteredEm",
    UpdateMemoryDeregistered = "_ZN13nixlTelemetry24updateMemoryDeregisteredEm",
    /// 1.3 and later.
    UpdateData = "_ZN13nixlTelemetry10updateDataE27nixl_telemetry_event_type_tm",
    /// 1.2.
    UpdateDataInCategory = "_ZN13nixlTelemetry10updateDataE27nixl_telemetry_event_type_t25nixl_telemetry_category_tm",
    /// Up to 1.1.
    UpdateDataByName = "_ZN13nixlTelemetry10updateDataERKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE25nixl_telemetry_category_tm",
    UpdateTxBytes = "_ZN13nixlTelemetry13updateTxBytesEm",
    UpdateRxBytes = "_ZN13nixlTelemetry13updateRxBytesEm",
    UpdateTxRequestsNum = "_ZN13nixlTelemetry19updateTxRequestsNumEj",
    UpdateRxRequestsNum = "_ZN13nixlTelemetry19updateRxRequestsNumEj",
    /// 1.4 and later.
    FlushPendingEvents = "_ZN13nixlTelemetry18flushPendingEventsEv",
    /// 1.4 and later.
    StartExportTask = "_ZN13nixlTelemetry15startExportTaskEv",
}

#[expect(clippy::single_component_path_imports, reason = "gives a macro made by a macro a path")]
pub(crate) use symbol;

/// Functions that NIXL's collector calls of its own accord, never the agent.
const INTERNAL: [&str; 5] = [
    "_ZN13nixlTelemetry16writeEventHelperEv",
    "_ZN13nixlTelemetry19initializeTelemetryEv",
    "_ZN13nixlTelemetry20registerPeriodicTaskER12periodicTask",
    "_ZN13nixlTelemetry19exportDroppedEventsEv",
    "_ZNK13nixlTelemetry12makeExporterERKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE",
];

/// Whether this is a function of NIXL's collector that no known release has. An agent that calls it would call it on
/// an object that is not what it takes it for.
pub(crate) fn is_strange(symbol: &str) -> bool {
    // What follows the name of the class is the length of the function's name, or a constructor or destructor; other
    // symbols that begin alike belong to other classes.
    let Some(member) = symbol.strip_prefix("_ZN13nixlTelemetry").or_else(|| symbol.strip_prefix("_ZNK13nixlTelemetry"))
    else {
        return false;
    };
    // The second body of a constructor or destructor is for derived classes, of which there are none.
    let known = |function: &Function| {
        let own = function.symbol();
        symbol == own
            || (member.starts_with(['C', 'D']) && symbol == own.replacen("C1", "C2", 1).replacen("D1", "D2", 1))
    };
    !Function::ALL.iter().any(known) && !INTERNAL.contains(&symbol)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_noticed() {
        let table = [
            ("_ZN13nixlTelemetryD1Ev", false),
            ("_ZN13nixlTelemetryD2Ev", false),
            ("_ZN13nixlTelemetryC2ERKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEES7_", false),
            ("_ZN13nixlTelemetry19exportDroppedEventsEv", false),
            ("_ZN21nixlTelemetryExporter12onBatchBeginEv", false),
            ("_ZN17nixlPluginManager19loadTelemetryPluginEv", false),
            ("_ZN13nixlTelemetryC1Ev", true),
            ("_ZN13nixlTelemetryD0Ev", true),
            ("_ZN13nixlTelemetry13updateTxBytesEmm", true),
            ("_ZNK13nixlTelemetry4nameEv", true),
        ];
        for (symbol, strange) in table {
            assert_eq!(is_strange(symbol), strange, "{symbol}");
        }
    }
}
