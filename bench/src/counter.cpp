// SPDX-License-Identifier: Apache-2.0
//
// An exporter that counts: what a collector hands out, and what it says it has dropped. The counts are those of the
// process, for whoever measures in it.
#include "telemetry/telemetry_exporter.h"
#include "telemetry/telemetry_plugin.h"

#include <atomic>
#include <cstdint>

namespace {

std::atomic<std::uint64_t> exported;
std::atomic<std::uint64_t> dropped;

class Counter : public nixlTelemetryExporter {
public:
    using nixlTelemetryExporter::nixlTelemetryExporter;

    nixl_status_t
    exportEvent(const nixlTelemetryEvent &event) override {
        if (event.eventType_ == nixl_telemetry_event_type_t::AGENT_TELEMETRY_EVENTS_DROPPED) {
            dropped.fetch_add(event.value_, std::memory_order_relaxed);
        } else {
            exported.fetch_add(1, std::memory_order_relaxed);
        }
        return NIXL_SUCCESS;
    }
};

} // namespace

extern "C" NIXL_TELEMETRY_PLUGIN_EXPORT nixlTelemetryPlugin *
nixl_telemetry_plugin_init() {
    return nixlTelemetryPluginCreator<Counter>::create(NIXL_TELEMETRY_PLUGIN_API_VERSION, "counter", "1.0.0");
}

extern "C" NIXL_TELEMETRY_PLUGIN_EXPORT void
bench_counts(std::uint64_t *exported_events, std::uint64_t *dropped_events) {
    *exported_events = exported.load();
    *dropped_events = dropped.load();
}
