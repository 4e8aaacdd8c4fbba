// SPDX-License-Identifier: Apache-2.0
//
// NIXL_TRACE, NIXL_DEBUG, NIXL_INFO, NIXL_WARN and NIXL_ERROR, streams that print one line each.
#pragma once

#include "../../common-impl/log.h"
