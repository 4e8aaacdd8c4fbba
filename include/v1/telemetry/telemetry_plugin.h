// SPDX-License-Identifier: Apache-2.0
//
// From an exporter class to a plugin of API V1, for NIXL 0.9 to 1.0.1.
#pragma once

#include "../../common-impl/plugin.h"
#include "telemetry_exporter.h"

/// The plugin API version these headers are for.
inline constexpr nixlTelemetryPluginApiVersion NIXL_TELEMETRY_PLUGIN_API_VERSION = nixlTelemetryPluginApiVersion::V1;

/// Makes the plugin object for an exporter class; `create` is the whole body of `nixl_telemetry_plugin_init`:
///
///     return nixlTelemetryPluginCreator<MyExporter>::create(NIXL_TELEMETRY_PLUGIN_API_VERSION, "mine", "1.0.0");
///
/// The class derives from nixlTelemetryExporter and has a public constructor that takes
/// `const nixlTelemetryExporterInitParams`, by reference or by pointer. What the constructor throws is logged as
/// "Failed to create exporter: ..." and the host told that there is no exporter, nixlTelemetryBindFailed excepted: that goes
/// to a host that catches it. What `exportEvent` throws is caught and logged once per exporter.
template<class Exporter>
using nixlTelemetryPluginCreator = nixl_telemetry_impl::plugin_creator<Exporter, NIXL_TELEMETRY_PLUGIN_API_VERSION>;
