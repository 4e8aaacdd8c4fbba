// SPDX-License-Identifier: Apache-2.0
//
// A library that defines the symbols a NIXL of some generation defines, and calls a plugin's init from inside.

#define DEFINE(name, symbol) extern "C" void name() __asm__(symbol); void name() {}
#define STR "RKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"

#ifdef SYMBOL_HOST
DEFINE(host, "_ZN17nixlPluginManager19loadTelemetryPluginE" STR)
#endif
#ifdef SYMBOL_UPDATE_NAME
DEFINE(update_name, "_ZN13nixlTelemetry10updateDataE" STR "25nixl_telemetry_category_tm")
#endif
#ifdef SYMBOL_UPDATE_TYPE
DEFINE(update_type, "_ZN13nixlTelemetry10updateDataE27nixl_telemetry_event_type_tm")
#endif
#ifdef SYMBOL_DISCOVER
DEFINE(discover, "_ZN17nixlPluginManager23discoverPluginsFromListE" STR)
#endif
#ifdef SYMBOL_REQUEST_STATS
DEFINE(request_stats, "_ZN12nixlXferReqH18updateRequestStatsEP13nixlTelemetry28nixl_telemetry_stat_status_t")
#endif

extern "C" void *call_init(void *(*init)()) {
    void *plugin = init();
    // Not a tail call: the plugin looks at where it returns to.
    __asm__ volatile("" : : "r"(plugin) : "memory");
    return plugin;
}
