// SPDX-License-Identifier: Apache-2.0
#include "csv_exporter.h"

#include "common/nixl_log.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace {

std::string
csv_file_path() {
    const char *path = std::getenv("NIXL_TELEMETRY_CSV_FILE");
    if (path == nullptr || *path == '\0') {
        throw std::runtime_error("NIXL_TELEMETRY_CSV_FILE is not set: expected the path of the CSV file to append to");
    }
    return path;
}

} // namespace

CsvExporter::CsvExporter(const nixlTelemetryExporterInitParams *init_params) : nixlTelemetryExporter(init_params) {
    const std::string path = csv_file_path();
    file_.open(path, std::ios::app | std::ios::ate);
    if (!file_) {
        throw std::runtime_error("cannot open the CSV file '" + path + "' for appending");
    }
    if (file_.tellp() == 0) {
        file_ << "timestamp_us,category,event_name,value\n" << std::flush;
    }
    NIXL_INFO << "agent " << init_params->agentName << " exports its telemetry to " << path;
}

nixl_status_t
CsvExporter::exportEvent(const nixlTelemetryEvent &event) {
    file_ << event.timestampUs_ << ',' << static_cast<unsigned>(event.category_) << ',' << event.eventName_ << ','
          << event.value_ << '\n'
          << std::flush;
    const bool failed = !file_;
    if (failed) {
        if (!failing_) {
            NIXL_ERROR << "cannot write to the CSV file; events may be lost until it can be written again";
        }
        file_.clear(); // try again with the next event: a full disk may have room by then
    }
    failing_ = failed;
    return failed ? NIXL_ERR_UNKNOWN : NIXL_SUCCESS;
}
