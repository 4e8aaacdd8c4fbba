// SPDX-License-Identifier: Apache-2.0
#include "csv_exporter.h"
#include "telemetry/telemetry_plugin.h"

extern "C" NIXL_TELEMETRY_PLUGIN_EXPORT nixlTelemetryPlugin *
nixl_telemetry_plugin_init() {
    return nixlTelemetryPluginCreator<CsvExporter>::create(
        NIXL_TELEMETRY_PLUGIN_API_VERSION, "csv_cpp_v1", "1.0.0");
}

extern "C" NIXL_TELEMETRY_PLUGIN_EXPORT void
nixl_telemetry_plugin_fini() {
    // Nothing is shared between exporters, so nothing is left to release.
}
