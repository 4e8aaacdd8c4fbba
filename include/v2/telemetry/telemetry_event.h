// SPDX-License-Identifier: Apache-2.0
//
// The event of plugin API V2 in its 16-byte form: NIXL 1.3 and later. (NIXL 1.1 and 1.2 speak V2 with other events.)
#pragma once

#include "../../common-impl/platform.h"

#include <cstddef>
#include <cstdint>
#include <type_traits>

/// What was read. A host newer than these headers may send values that are not listed: ignore them or pass them on.
enum class nixl_telemetry_event_type_t : std::uint32_t {
    AGENT_TX_BYTES = 0, ///< bytes of one completed write
    AGENT_RX_BYTES = 1, ///< bytes of one completed read
    AGENT_TX_REQUESTS_NUM = 2, ///< completed writes, always 1
    AGENT_RX_REQUESTS_NUM = 3, ///< completed reads, always 1
    AGENT_MEMORY_REGISTERED = 4, ///< bytes registered by one call
    AGENT_MEMORY_DEREGISTERED = 5, ///< bytes deregistered by one call
    AGENT_XFER_TIME = 6, ///< microseconds from posting a transfer until its completion was seen
    AGENT_XFER_POST_TIME = 7, ///< microseconds spent in posting a transfer
    // Errors: the event type of a nixl_status_t is 7 minus the status; the value is 1.
    AGENT_ERR_NOT_POSTED = 8,
    AGENT_ERR_INVALID_PARAM = 9,
    AGENT_ERR_BACKEND = 10,
    AGENT_ERR_NOT_FOUND = 11,
    AGENT_ERR_MISMATCH = 12,
    AGENT_ERR_NOT_ALLOWED = 13,
    AGENT_ERR_REPOST_ACTIVE = 14,
    AGENT_ERR_UNKNOWN = 15,
    AGENT_ERR_NOT_SUPPORTED = 16,
    AGENT_ERR_REMOTE_DISCONNECT = 17,
    AGENT_ERR_CANCELED = 18,
    AGENT_ERR_NO_TELEMETRY = 19,
    AGENT_TELEMETRY_EVENTS_DROPPED = 20, ///< events the host's full queue dropped since the last flush; NIXL 1.4 and later
};

/// One reading of one agent. The bytes between the fields are uninitialised: never compare or hash an event as a whole.
///
/// It carries no time: an exporter that needs one takes it itself, which is at most one flush interval late.
struct nixlTelemetryEvent {
    nixl_telemetry_event_type_t eventType_;
    /// Bytes, a count, or microseconds, as the type says.
    std::uint64_t value_;
};
static_assert(std::is_trivially_copyable_v<nixlTelemetryEvent> && std::is_standard_layout_v<nixlTelemetryEvent>);
static_assert(sizeof(nixl_telemetry_event_type_t) == 4);
static_assert(sizeof(nixlTelemetryEvent) == 16);
static_assert(alignof(nixlTelemetryEvent) == 8);
static_assert(offsetof(nixlTelemetryEvent, eventType_) == 0);
static_assert(offsetof(nixlTelemetryEvent, value_) == 8);

namespace nixlEnumStrings {

/// Name of an event, such as `agent_tx_bytes`; `"unknown_event"` for a type not listed above. Never null, never freed.
[[nodiscard]] NIXL_TELEMETRY_HIDDEN constexpr const char *
telemetryEventTypeStr(nixl_telemetry_event_type_t type) noexcept {
    using t = nixl_telemetry_event_type_t;
    switch (type) {
    case t::AGENT_TX_BYTES: return "agent_tx_bytes";
    case t::AGENT_RX_BYTES: return "agent_rx_bytes";
    case t::AGENT_TX_REQUESTS_NUM: return "agent_tx_requests_num";
    case t::AGENT_RX_REQUESTS_NUM: return "agent_rx_requests_num";
    case t::AGENT_MEMORY_REGISTERED: return "agent_memory_registered";
    case t::AGENT_MEMORY_DEREGISTERED: return "agent_memory_deregistered";
    case t::AGENT_XFER_TIME: return "agent_xfer_time";
    case t::AGENT_XFER_POST_TIME: return "agent_xfer_post_time";
    case t::AGENT_ERR_NOT_POSTED: return "agent_err_not_posted";
    case t::AGENT_ERR_INVALID_PARAM: return "agent_err_invalid_param";
    case t::AGENT_ERR_BACKEND: return "agent_err_backend";
    case t::AGENT_ERR_NOT_FOUND: return "agent_err_not_found";
    case t::AGENT_ERR_MISMATCH: return "agent_err_mismatch";
    case t::AGENT_ERR_NOT_ALLOWED: return "agent_err_not_allowed";
    case t::AGENT_ERR_REPOST_ACTIVE: return "agent_err_repost_active";
    case t::AGENT_ERR_UNKNOWN: return "agent_err_unknown";
    case t::AGENT_ERR_NOT_SUPPORTED: return "agent_err_not_supported";
    case t::AGENT_ERR_REMOTE_DISCONNECT: return "agent_err_remote_disconnect";
    case t::AGENT_ERR_CANCELED: return "agent_err_canceled";
    case t::AGENT_ERR_NO_TELEMETRY: return "agent_err_no_telemetry";
    case t::AGENT_TELEMETRY_EVENTS_DROPPED: return "agent_telemetry_events_dropped";
    }
    return "unknown_event";
}

} // namespace nixlEnumStrings
