// SPDX-License-Identifier: Apache-2.0
//
// The NIXL types an exporter meets: nixl_status_t and nixlEnumStrings::statusStr.
#pragma once

#include "../common-impl/status.h"
