// SPDX-License-Identifier: Apache-2.0
//
// The class a plugin derives from, the same for both API versions; only the event differs.
#pragma once

#include "platform.h"
#include "status.h"

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>

struct nixlTelemetryEvent;

/// What the host tells a new exporter. Owned by the host and valid only while the exporter is being constructed: copy
/// what is needed later.
struct nixlTelemetryExporterInitParams {
    /// Name of the agent, never empty. It may contain any byte: do not use it as a file name unchecked.
    std::string agentName;
    /// Events the host stages between two flushes at most (NIXL_TELEMETRY_BUFFER_SIZE, by default 4096).
    std::uint64_t maxEventsBuffered;
};
static_assert(std::is_standard_layout_v<nixlTelemetryExporterInitParams>);
static_assert(sizeof(nixlTelemetryExporterInitParams) == 40);
static_assert(offsetof(nixlTelemetryExporterInitParams, agentName) == 0);
static_assert(offsetof(nixlTelemetryExporterInitParams, maxEventsBuffered) == 32);

/// Turns the telemetry events of one agent into something outside the process.
///
/// Life: the host creates one exporter per telemetry-enabled agent, on the thread that constructs the agent; several
/// agents may be constructed at once. It then calls from one private thread per agent, strictly one call after the
/// other; exporters of different agents run concurrently. It destroys the exporter on the thread that destroys the
/// agent, after the private thread has been joined; what the agent recorded since its last flush
/// (NIXL_TELEMETRY_RUN_INTERVAL, by default 100 ms) is never delivered. An agent that is leaked, or alive at `_exit`,
/// never destroys its exporter.
///
/// A slow exporter delays the next flush, lets the host's queue overflow and holds up the agent's destruction: hand
/// slow work to a thread of your own, started in the constructor and joined in the destructor.
class nixlTelemetryExporter {
public:
    explicit nixlTelemetryExporter(const nixlTelemetryExporterInitParams &init_params) noexcept
        : maxEventsBuffered_(init_params.maxEventsBuffered) {}

    /// The same for constructors that take a pointer, as NIXL's first plugin guide did; it must not be null.
    explicit nixlTelemetryExporter(const nixlTelemetryExporterInitParams *init_params) noexcept
        : nixlTelemetryExporter(*init_params) {}

    nixlTelemetryExporter(const nixlTelemetryExporter &) = delete;
    nixlTelemetryExporter &
    operator=(const nixlTelemetryExporter &) = delete;

    // From here on the order of the virtual functions is the binary interface: each one is a slot of the vtable.

    virtual ~nixlTelemetryExporter() = default;

    /// Receives one event, valid only during the call. Hosts ignore the returned status.
    virtual nixl_status_t
    exportEvent(const nixlTelemetryEvent &event) = 0;

    /// Called before the first event of a flush by NIXL 1.5 and later; never by earlier releases, so an exporter must
    /// work without. Batches without events are normal: by default ten a second from an idle agent.
    virtual void
    onBatchBegin() noexcept {}

    /// Called after the last event of a flush, under the same conditions: the place to write what the batch gathered.
    virtual void
    onBatchEnd() noexcept {}

    /// Events the host stages between two flushes at most.
    [[nodiscard]] std::uint64_t
    getMaxEventsBuffered() const noexcept {
        return maxEventsBuffered_;
    }

private:
    // NIXL 0.9 to 1.0.1 read this word, at offset 8 of the object, at every flush and reserve memory for that many
    // events; it has to be the first member and to hold what the host passed in.
    const std::uint64_t maxEventsBuffered_;
};
static_assert(sizeof(nixlTelemetryExporter) == 16, "vtable pointer, maxEventsBuffered");
static_assert(alignof(nixlTelemetryExporter) == 8);

/// To be thrown from an exporter's constructor when its address, port or file is already taken by another process and
/// this process is to run without telemetry rather than not at all.
///
/// NIXL 1.5 and later catch it, log one warning and switch the agent's telemetry off. They recognise it by its name, so
/// the definition need not be theirs. Earlier releases do not know it; there it is an error like any other.
class nixlTelemetryBindFailed : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};
static_assert(sizeof(nixlTelemetryBindFailed) == 16);
