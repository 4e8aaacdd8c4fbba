// SPDX-License-Identifier: Apache-2.0
//
// A NIXL with a telemetry collector of its own, which does nothing, and one function more than any release has.

#include <cstdint>
#include <memory>
#include <string>

class nixlTelemetry {
public:
    static std::unique_ptr<nixlTelemetry> create(const std::string &agent);
    ~nixlTelemetry();
    void updateErrorCount(int status);
    void addPeer(std::uint64_t peers);
    std::uint64_t calls = 0;
    std::uint64_t members[45] = {};
};

enum nixl_telemetry_event_type_t : std::uint32_t {};

class nixlPluginManager {
public:
    void loadTelemetryPlugin(const std::string &name);
};

void nixlPluginManager::loadTelemetryPlugin(const std::string &) {}

std::unique_ptr<nixlTelemetry> nixlTelemetry::create(const std::string &) { return std::make_unique<nixlTelemetry>(); }
nixlTelemetry::~nixlTelemetry() {}
void nixlTelemetry::addPeer(std::uint64_t peers) { calls += peers; }

// What the agent calls has another name than its type here, for the sake of the mangled symbol.
extern "C" void error_count(nixlTelemetry *, int) asm("_ZN13nixlTelemetry16updateErrorCountE13nixl_status_t");
extern "C" void error_count(nixlTelemetry *self, int) { self->calls += 1; }
extern "C" void update_data(nixlTelemetry *, std::uint32_t, std::uint64_t) asm(
    "_ZN13nixlTelemetry10updateDataE27nixl_telemetry_event_type_tm");
extern "C" void update_data(nixlTelemetry *self, std::uint32_t, std::uint64_t value) { self->calls += value; }

// An agent: how often its collector was called.
extern "C" std::uint64_t run_agent() {
    auto telemetry = nixlTelemetry::create("agentA");
    if (!telemetry) return 0;
    error_count(telemetry.get(), -4);
    update_data(telemetry.get(), 0, 10);
    telemetry->addPeer(100);
    return telemetry->calls;
}
