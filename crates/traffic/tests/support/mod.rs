// SPDX-License-Identifier: Apache-2.0

//! A collector whose events a test can look at.

use std::time::Duration;

use nixl_telemetry_event::Kind;
use nixl_telemetry_host::{Collector, Recorder, RecordingSink};
use nixl_telemetry_settings::Settings;

pub(crate) struct Observer {
    collector: Collector,
    sink: RecordingSink,
}

impl Observer {
    /// Telemetry on, nothing of this process's environment, and everything recorded.
    pub(crate) fn new(agent: &str) -> Self {
        let sink = RecordingSink::new();
        let collector = Collector::builder(agent)
            .settings(Settings::from_pairs([
                ("NIXL_TELEMETRY_ENABLE", "on"),
                ("NIXL_TELEMETRY_BUFFER_SIZE", "1048576"),
                ("NIXL_TELEMETRY_RUN_INTERVAL", "5"),
            ]))
            .sink("recording", Box::new(sink.clone()))
            .build()
            .expect("the settings are valid")
            .expect("telemetry is on");
        Self { collector, sink }
    }

    pub(crate) fn recorder(&self) -> Option<Recorder> {
        Some(self.collector.recorder())
    }

    /// Everything recorded so far, in order.
    pub(crate) fn events(&self) -> Vec<(Kind, u64)> {
        assert!(self.collector.flush(Duration::from_secs(10)), "the recording sink keeps up");
        self.sink.events().iter().map(|event| (event.kind.expect("agents record kinds"), event.value)).collect()
    }
}
