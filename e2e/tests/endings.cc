// SPDX-License-Identifier: Apache-2.0
//
// A program that uses NIXL's collector through its symbols, as NIXL 1.5 does, and ends in the way it is told to. What it
// records is 4 events a transfer; the number of bytes of each is its argument's.

#include <atomic>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace {

// What `create` returns: a std::unique_ptr is returned through memory, as is whatever has a destructor.
struct Created {
    void *object;
    ~Created() {}
};

struct Collector {
    void *object = nullptr;

    explicit Collector(const char *agent) {
        using Create = Created (*)(const std::string &);
        auto create = reinterpret_cast<Create>(find("6createERKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"));
        object = create(std::string(agent)).object;
        if (object == nullptr) std::abort();
    }

    void transfer(std::uint64_t bytes) const {
        using Add = void (*)(void *, std::int64_t, bool, std::uint64_t, std::int64_t);
        static auto add = reinterpret_cast<Add>(
            find("12addXferStatsENSt6chrono8durationIlSt5ratioILl1ELl1000000EEEEbmS4_"));
        add(object, 7, true, bytes, 3);
    }

    void destroy() const {
        reinterpret_cast<void (*)(void *)>(find("D1Ev"))(object);
        ::operator delete(object);
    }

private:
    static void *find(const char *member) {
        void *function = dlsym(RTLD_DEFAULT, (std::string("_ZN13nixlTelemetry") + member).c_str());
        if (function == nullptr) std::abort();
        return function;
    }
};

void record(const Collector &collector, std::uint64_t from, std::uint64_t to) {
    for (std::uint64_t bytes = from; bytes < to; ++bytes) collector.transfer(bytes);
}

void wait_for(pid_t child) {
    int status = 0;
    if (waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 7) std::abort();
}

const Collector *in_handler = nullptr;

} // namespace

int main(int count, char **arguments) {
    const std::string how = count > 1 ? arguments[1] : "";
    const Collector collector("parent");
    record(collector, 1, 101);
    if (how == "return") return 0;
    if (how == "many") {
        record(collector, 101, 5001);
        return 0;
    }
    if (how == "exit") std::exit(0);
    if (how == "_exit") _exit(0);
    if (how == "_Exit") std::_Exit(0);
    if (how == "quick_exit") {
        std::at_quick_exit([] { std::puts("handler"), std::fflush(stdout); });
        std::quick_exit(0);
    }
    if (how == "thread") {
        // Another thread ends the process while this one records.
        std::thread([] { _exit(0); }).detach();
        pause();
    }
    if (how == "signal") {
        // In a signal handler, whatever was interrupted.
        std::signal(SIGALRM, [](int) { _exit(0); });
        alarm(1);
        std::vector<std::string> memory;
        for (;;) memory.emplace_back(1000, 'x'), memory.resize(memory.size() % 1000);
    }
    if (how == "destroyed") {
        collector.destroy();
        _exit(0);
    }
    if (how == "killed") {
        std::raise(SIGKILL);
    }
    if (how == "aborted") {
        std::signal(SIGABRT, SIG_DFL);
        std::abort();
    }
    if (how == "exec") {
        // The parent's collector is none of the child's business, nor of a program it becomes.
        pid_t child = vfork();
        if (child == 0) _exit(7);
        wait_for(child);
        record(collector, 101, 201);
        return 0;
    }
    if (how == "fork") {
        // Several generations, each with what it records itself, while the parent goes on.
        pid_t child = fork();
        if (child == 0) {
            record(collector, 1001, 1101);
            pid_t grandchild = fork();
            if (grandchild == 0) {
                std::thread([&] { record(collector, 2001, 2101); }).join();
                std::exit(7);
            }
            wait_for(grandchild);
            record(collector, 1101, 1201);
            _exit(7);
        }
        record(collector, 101, 201);
        wait_for(child);
        return 0;
    }
    if (how == "fork_idle") {
        pid_t child = fork();
        if (child == 0) std::exit(7);
        wait_for(child);
        record(collector, 101, 201);
        return 0;
    }
    if (how == "fork_busy") {
        // Forks in the middle of recording, from another thread.
        std::atomic<bool> done{false};
        std::thread recorder([&] {
            std::uint64_t bytes = 101;
            for (; !done.load(); ++bytes) collector.transfer(bytes), usleep(10);
            std::printf("%llu\n", static_cast<unsigned long long>(bytes));
            std::fflush(stdout);
        });
        for (int i = 0; i < 20; ++i) {
            pid_t child = fork();
            if (child == 0) {
                record(collector, 1'000'000'000 + 10 * i, 1'000'000'000 + 10 * i + 10);
                collector.destroy();
                _exit(7);
            }
            wait_for(child);
        }
        done.store(true);
        recorder.join();
        return 0;
    }
    std::fprintf(stderr, "%s: no such ending\n", how.c_str());
    return 2;
}
