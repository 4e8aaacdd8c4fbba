// SPDX-License-Identifier: Apache-2.0
//
// nixlTelemetryExporter, the class a plugin derives from, and what it is given: init parameters and events.
#pragma once

#include "../../common-impl/exporter.h"
#include "../nixl_types.h"
#include "telemetry_event.h"
