// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "telemetry/telemetry_exporter.h"

#include <cstdint>
#include <fstream>

/// Appends every event to the CSV file that NIXL_TELEMETRY_CSV_FILE names, one line each:
/// `timestamp_us,event_name,value`.
///
/// Events carry no time, so the exporter takes the wall clock, in microseconds since the Unix epoch: once per flush where
/// the host announces flushes (NIXL 1.5 and later), otherwise at each event. It writes to the file as often.
/// All agents of a process share the file.
class CsvExporter : public nixlTelemetryExporter {
public:
    explicit CsvExporter(const nixlTelemetryExporterInitParams &init_params);

    nixl_status_t
    exportEvent(const nixlTelemetryEvent &event) override;

    void
    onBatchBegin() noexcept override;

    void
    onBatchEnd() noexcept override;

private:
    nixl_status_t
    flush() noexcept;

    std::ofstream file_;
    std::uint64_t batch_time_us_ = 0;
    bool in_batch_ = false;
    bool failing_ = false;
};
