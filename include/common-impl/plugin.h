// SPDX-License-Identifier: Apache-2.0
//
// The object a plugin's init function returns, and the template that makes one from an exporter class.
#pragma once

#include "exporter.h"
#include "host.h"
#include "log.h"
#include "platform.h"

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <type_traits>
#include <utility>

/// Revision of the plugin interface. A host accepts exactly one: NIXL 0.9 to 1.0.1 V1, NIXL 1.1 and later V2.
enum class nixlTelemetryPluginApiVersion : std::uint32_t {
    V1 = 1,
    V2 = 2,
};

/// What the host learns about a plugin. Owned by the plugin; it must neither move nor change for the life of the process.
struct nixlTelemetryPlugin {
    using create_exporter_fn = std::unique_ptr<nixlTelemetryExporter> (*)(const nixlTelemetryExporterInitParams &);

    /// The host refuses the plugin unless this is the version it was built with.
    nixlTelemetryPluginApiVersion api_version;
    /// Called on the thread that constructs an agent, possibly from several at once. The host owns the result. Null means
    /// failure: NIXL up to 1.3 then runs the agent without exporter, from 1.4 on the agent's constructor throws.
    create_exporter_fn create_exporter;
    /// Name and version are for people; no host reads them.
    std::string name;
    std::string version;
};
static_assert(std::is_standard_layout_v<nixlTelemetryPlugin>);
static_assert(sizeof(nixlTelemetryPlugin) == 80);
static_assert(alignof(nixlTelemetryPlugin) == 8);
static_assert(offsetof(nixlTelemetryPlugin, api_version) == 0);
static_assert(offsetof(nixlTelemetryPlugin, create_exporter) == 8);
static_assert(offsetof(nixlTelemetryPlugin, name) == 16);
static_assert(offsetof(nixlTelemetryPlugin, version) == 48);
static_assert(sizeof(std::unique_ptr<nixlTelemetryExporter>) == 8, "the host reads the result as one pointer");

// The two functions a plugin defines; declared here so that a wrong signature does not compile.
extern "C" {

/// Returns the plugin object, the same at every call, or null to refuse.
///
/// The host may call it more than once, and holds a lock: do not call into NIXL and start no threads. NIXL 0.9 to 1.0.1 call
/// it in every process, for every plugin file they find, whether or not telemetry is on.
NIXL_TELEMETRY_PLUGIN_EXPORT nixlTelemetryPlugin *
nixl_telemetry_plugin_init();

/// Called at most once, at process exit. Exporters of leaked agents may still be running: free nothing they need.
NIXL_TELEMETRY_PLUGIN_EXPORT void
nixl_telemetry_plugin_fini();

/// How many virtual functions an exporter of this plugin has. NIXL does not look for it; the hosts of this project do, and
/// call the batch hooks only of a plugin that says it has them, since older plugins end before those slots.
///
/// Weak rather than inline: g++ makes an inline variable unique in the process, and the library impossible to unload.
extern NIXL_TELEMETRY_PLUGIN_EXPORT __attribute__((weak)) const std::uint32_t nixl_telemetry_plugin_slots;
const std::uint32_t nixl_telemetry_plugin_slots = 5;

} // extern "C"

namespace nixl_telemetry_impl {

/// Stands between the host and the author's exporter: an exception that left `exportEvent` would end the process.
class NIXL_TELEMETRY_HIDDEN guarded_exporter final : public nixlTelemetryExporter {
public:
    guarded_exporter(const nixlTelemetryExporterInitParams &init_params,
                     std::unique_ptr<nixlTelemetryExporter> inner) noexcept
        : nixlTelemetryExporter(init_params),
          inner_(std::move(inner)) {}

    nixl_status_t
    exportEvent(const nixlTelemetryEvent &event) override {
        try {
            return inner_->exportEvent(event);
        }
        catch (const std::exception &e) {
            report(e.what());
        }
        catch (...) {
            report("an exception that is not a std::exception");
        }
        return NIXL_ERR_UNKNOWN;
    }

    void
    onBatchBegin() noexcept override {
        inner_->onBatchBegin();
    }

    void
    onBatchEnd() noexcept override {
        inner_->onBatchEnd();
    }

private:
    // Once per exporter: a sink that stays broken would otherwise log once per event.
    void
    report(const char *what) noexcept {
        if (!std::exchange(reported_, true)) {
            NIXL_ERROR << "Failed to export an event: " << what << " (reported once)";
        }
    }

    const std::unique_ptr<nixlTelemetryExporter> inner_;
    bool reported_ = false;
};

/// Makes the plugin object for an exporter class that takes its init parameters by reference or by pointer.
template<class Exporter, nixlTelemetryPluginApiVersion Api> class NIXL_TELEMETRY_HIDDEN plugin_creator {
    static constexpr bool by_reference =
        std::is_constructible_v<Exporter, const nixlTelemetryExporterInitParams &>;
    static constexpr bool by_pointer =
        std::is_constructible_v<Exporter, const nixlTelemetryExporterInitParams *>;

    static_assert(std::is_base_of_v<nixlTelemetryExporter, Exporter>,
                  "an exporter derives publicly from nixlTelemetryExporter");
    static_assert(by_reference || by_pointer,
                  "an exporter has a public constructor that takes const nixlTelemetryExporterInitParams, by reference or "
                  "by pointer, and implements exportEvent");

public:
    /// Returns the plugin object for `nixl_telemetry_plugin_init` to return; always the same one.
    ///
    /// Null, with an error in the log, if `api_version` is not the version these headers are for.
    [[nodiscard]] static nixlTelemetryPlugin *
    create(nixlTelemetryPluginApiVersion api_version, const char *name, const char *version) noexcept {
        try {
            if (api_version != Api) {
                NIXL_ERROR << "Telemetry plugin '" << name << "' asks for plugin API version "
                           << static_cast<std::uint32_t>(api_version) << ", but was built with headers for version "
                           << static_cast<std::uint32_t>(Api);
                return nullptr;
            }
            // Never destroyed: the host may look at the object until the very end of the process.
            alignas(nixlTelemetryPlugin) static unsigned char storage[sizeof(nixlTelemetryPlugin)];
            static nixlTelemetryPlugin *const plugin =
                new (storage) nixlTelemetryPlugin{api_version, create_exporter, name, version};
            return plugin;
        }
        catch (const std::exception &e) {
            NIXL_ERROR << "Failed to create telemetry plugin: " << e.what();
            return nullptr;
        }
    }

private:
    // Not inlined, so that the return address is the host's.
    [[gnu::noinline]] static std::unique_ptr<nixlTelemetryExporter>
    create_exporter(const nixlTelemetryExporterInitParams &init_params) {
        host_traits host;
        try {
            host = inspect_host(__builtin_return_address(0));
            if (Api == nixlTelemetryPluginApiVersion::V2 && !host.sends_16_byte_events) {
                NIXL_ERROR << "Failed to create exporter: this plugin reads the 16-byte events of NIXL 1.3 and later, but "
                           << host.path << " is a NIXL 1.1 or 1.2, which sends others under the same API version";
                return nullptr;
            }
            return std::make_unique<guarded_exporter>(init_params, construct(init_params));
        }
        catch (const nixlTelemetryBindFailed &e) {
            if (host.catches_bind_failed) {
                throw;
            }
            NIXL_ERROR << "Failed to create exporter: " << e.what();
        }
        catch (const std::exception &e) {
            NIXL_ERROR << "Failed to create exporter: " << e.what();
        }
        catch (...) {
            NIXL_ERROR << "Failed to create exporter: an exception that is not a std::exception";
        }
        return nullptr;
    }

    static std::unique_ptr<nixlTelemetryExporter>
    construct(const nixlTelemetryExporterInitParams &init_params) {
        if constexpr (by_reference) {
            return std::make_unique<Exporter>(init_params);
        } else {
            return std::make_unique<Exporter>(&init_params);
        }
    }
};

} // namespace nixl_telemetry_impl
