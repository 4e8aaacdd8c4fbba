// SPDX-License-Identifier: Apache-2.0
//
// Which NIXL is calling, told from the symbols it exports: version numbers do not tell its telemetry apart.
#pragma once

#include "platform.h"

#include <string>

#include <dlfcn.h>

namespace nixl_telemetry_impl {

/// What matters about the library that called into this plugin.
struct NIXL_TELEMETRY_HIDDEN host_traits {
    /// Path of the calling library, empty if unknown.
    std::string path;
    /// False only for a NIXL known to send events of another layout than the 16 bytes of 1.3 and later.
    bool sends_16_byte_events = true;
    /// False only for a NIXL known not to catch nixlTelemetryBindFailed.
    bool catches_bind_failed = true;
};

/// Looks at the library that holds `return_address`. Anything that is not recognised as NIXL gets the benefit of the
/// doubt: a foreign host is expected to keep to the newest interface.
[[nodiscard]] NIXL_TELEMETRY_HIDDEN inline host_traits
inspect_host(const void *return_address) {
    host_traits host;
    Dl_info info{};
    if (dladdr(return_address, &info) == 0 || info.dli_fname == nullptr) {
        return host;
    }
    host.path = info.dli_fname;
    // A search in the global scope would find nothing: Python loads NIXL with RTLD_LOCAL.
    void *library = dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
    if (library == nullptr) {
        return host;
    }
    const auto defines = [library](const char *symbol) { return dlsym(library, symbol) != nullptr; };

    if (defines("_ZN17nixlPluginManager19loadTelemetryPluginERKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE")) {
        // The collector's updateData(name, category, value), (type, category, value) and (type, value).
        const bool named = defines("_ZN13nixlTelemetry10updateDataERKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"
                                   "25nixl_telemetry_category_tm");
        const bool with_category =
            defines("_ZN13nixlTelemetry10updateDataE27nixl_telemetry_event_type_t25nixl_telemetry_category_tm");
        const bool type_only = defines("_ZN13nixlTelemetry10updateDataE27nixl_telemetry_event_type_tm");
        host.sends_16_byte_events = type_only || !(named || with_category);
        host.catches_bind_failed = defines("_ZTI23nixlTelemetryBindFailed");
    }
    dlclose(library);
    return host;
}

} // namespace nixl_telemetry_impl
