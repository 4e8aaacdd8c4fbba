// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "telemetry/telemetry_exporter.h"

#include <fstream>

/// Appends every event to the CSV file that NIXL_TELEMETRY_CSV_FILE names, one line each:
/// `timestamp_us,category,event_name,value`.
///
/// All agents of a process share the file; a line is flushed as soon as it is written, so lines do not mix.
class CsvExporter : public nixlTelemetryExporter {
public:
    explicit CsvExporter(const nixlTelemetryExporterInitParams *init_params);

    nixl_status_t
    exportEvent(const nixlTelemetryEvent &event) override;

private:
    std::ofstream file_;
    bool failing_ = false;
};
