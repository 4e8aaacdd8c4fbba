// SPDX-License-Identifier: Apache-2.0
//
// The only place that calls into a plugin. Plugins are C++ or look like it: they may throw, and they return a
// std::unique_ptr by value. Only a C++ compiler catches the one and knows, on every machine, how the other travels.
//
// Each function here calls one of the plugin's and reports what became of it. None of them throws.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <typeinfo>

#include <cxxabi.h>

#if !_GLIBCXX_USE_CXX11_ABI
#error "NIXL's std::string is libstdc++'s of the C++11 ABI"
#endif

// The one name that must be upstream's: exceptions are matched by the name of their type, whoever defines it.
class nixlTelemetryBindFailed : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

namespace {

// The same objects as in the `raw` module of the abi crate, which documents them.

struct Exporter;

struct Total {
    std::uint32_t kind;
    std::uint32_t reserved;
    std::uint64_t count;
    std::uint64_t sum_low;
    std::uint64_t sum_high;
};

// Function pointers rather than virtual functions: no class here derives from an exporter's base, and a compiler that
// sees this would be free to conclude that no virtual call can ever happen.
struct Slots {
    void (*destroy)(Exporter *);
    void (*delete_this)(Exporter *);
    std::int32_t (*export_event)(Exporter *, const void *);
    void (*batch_begin)(Exporter *);
    void (*batch_end)(Exporter *);
    std::uint64_t (*take_lost)(Exporter *);
    std::uint64_t (*features)(Exporter *);
    std::int32_t (*export_total)(Exporter *, const Total *);
    std::uint64_t (*take_lost_totals)(Exporter *);
    void (*identify)(Exporter *, const void *);
};

struct Exporter {
    const Slots *slots;
    std::uint64_t max_events_buffered;
};

struct InitParams {
    std::string agent_name;
    std::uint64_t max_events_buffered;
};

// Leaves the exporter alone: its owner is on the Rust side.
struct KeepIt {
    void operator()(Exporter *) const noexcept {}
};

// What `create_exporter` returns. Not trivially copyable, hence returned through memory, as upstream's is; the deleter
// takes no part in that.
using Created = std::unique_ptr<Exporter, KeepIt>;
using Create = Created (*)(const InitParams &);

static_assert(sizeof(std::string) == 32);
static_assert(sizeof(InitParams) == 40 && offsetof(InitParams, max_events_buffered) == 32);
static_assert(sizeof(Created) == 8 && !std::is_trivially_copyable_v<Created>);
static_assert(sizeof(Slots) == 80 && sizeof(Total) == 32);

// How far a vtable is known to reach: `Slots` in guard.rs.
constexpr std::uint32_t WITH_HOOKS = 5, NEGOTIATED = 10;

// How a call ended; `raw::How` in guard.rs.
enum How : std::uint32_t { RETURNED = 0, REFUSED = 1, BIND_FAILED = 2, THREW = 3, LOST = 4 };

constexpr std::size_t TEXT_SIZE = 512;

// `Outcome` in guard.rs.
struct Outcome {
    std::uint32_t how;
    std::int32_t status;
    std::size_t len;
    char text[TEXT_SIZE];

    void set(How ending, const char *what) noexcept {
        how = ending;
        len = 0;
        if (what == nullptr) return;
        len = strnlen(what, TEXT_SIZE);
        // Text that was cut must not end within a character: a byte that continues one is never its first.
        if (len == TEXT_SIZE) {
            while (len > 0 && (static_cast<unsigned char>(what[len]) & 0xC0) == 0x80) --len;
        }
        std::memcpy(text, what, len);
    }

    // The exception being handled is no std::exception; its type is all there is to say.
    void set_type_of_current_exception() noexcept {
        const std::type_info *type = abi::__cxa_current_exception_type();
        if (type == nullptr) return set(THREW, "an exception of another language");
        int failed = 0;
        char *name = abi::__cxa_demangle(type->name(), nullptr, nullptr, &failed);
        char message[TEXT_SIZE];
        std::snprintf(message, sizeof message, "an exception of type %s", name != nullptr ? name : type->name());
        std::free(name);
        set(THREW, message);
    }
};

// Calls `call`, and describes in `outcome` what it throws, if anything. Returns whether it returned.
template <typename Call>
bool guarded(Outcome &outcome, Call call) noexcept {
    try {
        call();
        return true;
    } catch (const nixlTelemetryBindFailed &error) {
        outcome.set(BIND_FAILED, error.what());
    } catch (const std::exception &error) {
        outcome.set(THREW, error.what());
    } catch (...) {
        outcome.set_type_of_current_exception();
    }
    return false;
}

// `Input` in guard.rs.
struct Input {
    const unsigned char *events;
    std::size_t event_count;
    std::size_t stride;
    const Total *totals;
    std::size_t total_count;
    const void *id;
};

// `Batch` in guard.rs.
struct Batch {
    std::uint64_t accepted;
    std::uint64_t failed;
    std::uint64_t aggregated;
    std::uint64_t aggregates_failed;
    // The first thing that went wrong.
    Outcome first;

    // Where the next thing that goes wrong is described: in `first` unless that is taken.
    Outcome &slot(Outcome &spare) noexcept { return first.how == RETURNED ? first : spare; }
};

// Calls `call`, which takes something and returns a status, and describes what went wrong. Returns whether it was taken.
template <typename Call>
bool taken(Outcome &slot, Call call) noexcept {
    std::int32_t status = 0;
    if (!guarded(slot, [&] { status = call(); })) return false;
    if (status >= 0) return true;
    slot.set(REFUSED, nullptr);
    slot.status = status;
    return false;
}

// Asks `call` how much of what was taken has been lost since, and moves that from one count to the other.
template <typename Call>
void take_back(Outcome &slot, Call call, std::uint64_t &kept, std::uint64_t &failed) noexcept {
    std::uint64_t lost = 0;
    guarded(slot, [&] { lost = call(); });
    // More than was taken is no answer.
    lost = std::min(lost, kept);
    kept -= lost;
    failed += lost;
    if (lost > 0 && slot.how == RETURNED) slot.set(LOST, nullptr);
}

} // namespace

extern "C" {

const void *nixl_telemetry_guard_init(const void *(*init)(), Outcome *outcome) noexcept {
    const void *object = nullptr;
    guarded(*outcome, [&] { object = init(); });
    return object;
}

const void *nixl_telemetry_guard_negotiate(const void *(*negotiate)(const void *), const void *offer,
                                           Outcome *outcome) noexcept {
    const void *object = nullptr;
    guarded(*outcome, [&] { object = negotiate(offer); });
    return object;
}

void nixl_telemetry_guard_fini(void (*fini)(), Outcome *outcome) noexcept {
    guarded(*outcome, [&] { fini(); });
}

Exporter *nixl_telemetry_guard_create(Create create, const char *agent, std::size_t agent_len, std::uint64_t max_events,
                                      Outcome *outcome) noexcept {
    Exporter *exporter = nullptr;
    guarded(*outcome, [&] {
        const InitParams params{std::string(agent, agent_len), max_events};
        exporter = create(params).release();
    });
    return exporter;
}

std::uint64_t nixl_telemetry_guard_features(Exporter *exporter) noexcept {
    Outcome unheard;
    std::uint64_t features = 0;
    guarded(unheard, [&] { features = exporter->slots->features(exporter); });
    return features;
}

void nixl_telemetry_guard_export(Exporter *exporter, std::uint32_t known_slots, const Input *input, Batch *batch) noexcept {
    Outcome spare;
    spare.how = RETURNED;
    const Slots &slots = *exporter->slots;
    const bool negotiated = known_slots >= NEGOTIATED;
    if (negotiated && input->id != nullptr) {
        guarded(batch->slot(spare), [&] { slots.identify(exporter, input->id); });
    }
    if (known_slots >= WITH_HOOKS) guarded(batch->slot(spare), [&] { slots.batch_begin(exporter); });
    for (std::size_t i = 0; i < input->event_count; ++i) {
        const unsigned char *event = input->events + i * input->stride;
        bool ok = taken(batch->slot(spare), [&] { return slots.export_event(exporter, event); });
        ++(ok ? batch->accepted : batch->failed);
    }
    for (std::size_t i = 0; negotiated && i < input->total_count; ++i) {
        const Total &total = input->totals[i];
        bool ok = taken(batch->slot(spare), [&] { return slots.export_total(exporter, &total); });
        (ok ? batch->aggregated : batch->aggregates_failed) += total.count;
    }
    if (known_slots >= WITH_HOOKS) guarded(batch->slot(spare), [&] { slots.batch_end(exporter); });
    if (!negotiated) return;
    take_back(batch->slot(spare), [&] { return slots.take_lost(exporter); }, batch->accepted, batch->failed);
    if (input->total_count == 0) return;
    take_back(batch->slot(spare), [&] { return slots.take_lost_totals(exporter); }, batch->aggregated,
              batch->aggregates_failed);
}

void nixl_telemetry_guard_delete(Exporter *exporter, Outcome *outcome) noexcept {
    guarded(*outcome, [&] { exporter->slots->delete_this(exporter); });
}

} // extern "C"
