// SPDX-License-Identifier: Apache-2.0
//
// The event of plugin API V1: NIXL 0.9 to 1.0.1.
#pragma once

#include "../../common-impl/platform.h"

#include <cstddef>
#include <cstdint>
#include <type_traits>

/// What an event is about.
enum nixl_telemetry_category_t : std::uint32_t {
    NIXL_TELEMETRY_MEMORY = 0, ///< memory registered and deregistered
    NIXL_TELEMETRY_TRANSFER = 1, ///< bytes and request counts
    NIXL_TELEMETRY_CONNECTION = 2, ///< never emitted
    NIXL_TELEMETRY_BACKEND = 3, ///< events of a backend's own; NIXL 0.9 and 0.10 only
    NIXL_TELEMETRY_ERROR = 4, ///< errors; the event's name is that of the status
    NIXL_TELEMETRY_PERFORMANCE = 5, ///< transfer time and post time
    NIXL_TELEMETRY_SYSTEM = 6, ///< never emitted
    NIXL_TELEMETRY_CUSTOM = 7, ///< never emitted
    NIXL_TELEMETRY_MAX = 8, ///< number of categories
};

/// Size of an event's name, the terminating NUL included.
inline constexpr std::size_t NIXL_TELEMETRY_EVENT_NAME_SIZE = 32;

/// One reading of one agent. The bytes between the fields are uninitialised: never compare or hash an event as a whole.
struct nixlTelemetryEvent {
    /// Wall-clock time, microseconds since the Unix epoch.
    std::uint64_t timestampUs_;
    nixl_telemetry_category_t category_;
    /// Such as `agent_tx_bytes`, or for an error `NIXL_ERR_NOT_FOUND`; always NUL-terminated.
    char eventName_[NIXL_TELEMETRY_EVENT_NAME_SIZE];
    /// Bytes, a count, or microseconds, as the name says; 1 for an error.
    std::uint64_t value_;
};
static_assert(std::is_trivially_copyable_v<nixlTelemetryEvent> && std::is_standard_layout_v<nixlTelemetryEvent>);
static_assert(sizeof(nixl_telemetry_category_t) == 4);
static_assert(sizeof(nixlTelemetryEvent) == 56);
static_assert(alignof(nixlTelemetryEvent) == 8);
static_assert(offsetof(nixlTelemetryEvent, timestampUs_) == 0);
static_assert(offsetof(nixlTelemetryEvent, category_) == 8);
static_assert(offsetof(nixlTelemetryEvent, eventName_) == 12);
static_assert(offsetof(nixlTelemetryEvent, value_) == 48);

namespace nixlEnumStrings {

/// Name of a category, spelt as its enumerator; `"BAD_CATEGORY"` for a value beyond. Never null, never freed.
[[nodiscard]] NIXL_TELEMETRY_HIDDEN constexpr const char *
telemetryCategoryStr(nixl_telemetry_category_t category) noexcept {
    switch (category) {
    case NIXL_TELEMETRY_MEMORY: return "NIXL_TELEMETRY_MEMORY";
    case NIXL_TELEMETRY_TRANSFER: return "NIXL_TELEMETRY_TRANSFER";
    case NIXL_TELEMETRY_CONNECTION: return "NIXL_TELEMETRY_CONNECTION";
    case NIXL_TELEMETRY_BACKEND: return "NIXL_TELEMETRY_BACKEND";
    case NIXL_TELEMETRY_ERROR: return "NIXL_TELEMETRY_ERROR";
    case NIXL_TELEMETRY_PERFORMANCE: return "NIXL_TELEMETRY_PERFORMANCE";
    case NIXL_TELEMETRY_SYSTEM: return "NIXL_TELEMETRY_SYSTEM";
    case NIXL_TELEMETRY_CUSTOM: return "NIXL_TELEMETRY_CUSTOM";
    case NIXL_TELEMETRY_MAX: return "NIXL_TELEMETRY_MAX";
    }
    return "BAD_CATEGORY";
}

} // namespace nixlEnumStrings
