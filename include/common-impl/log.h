// SPDX-License-Identifier: Apache-2.0
//
// Log lines that look like NIXL's own and obey the same NIXL_LOG_LEVEL.
//
//     NIXL_WARN << "queue holds " << n << " events";
//
// prints on standard error
//
//     W1123 10:36:19.824418    7911 my_exporter.cpp:42] queue holds 17 events
//
// that is: letter of the level, month and day, local time with microseconds, kernel thread id, file and line. TRACE,
// DEBUG and INFO all print the letter I, as NIXL 1.5.1 does. What stands right of `<<` is evaluated only if the level is
// on. A line leaves in one write, so lines of several threads do not mix; errno is left as it was.
#pragma once

#include "platform.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <sstream>
#include <string>

#include <strings.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NIXL_TRACE NIXL_TELEMETRY_LOG_LINE(trace)
#define NIXL_DEBUG NIXL_TELEMETRY_LOG_LINE(debug)
#define NIXL_INFO NIXL_TELEMETRY_LOG_LINE(info)
#define NIXL_WARN NIXL_TELEMETRY_LOG_LINE(warn)
#define NIXL_ERROR NIXL_TELEMETRY_LOG_LINE(error)

// One expression of type void, so that the macros are safe as the only statement of an `if` that has an `else`.
#define NIXL_TELEMETRY_LOG_LINE(level)                                                             \
    !::nixl_telemetry_impl::log_enabled(::nixl_telemetry_impl::log_level::level) ?                 \
        (void)0 :                                                                                  \
        ::nixl_telemetry_impl::log_discard{} &                                                     \
            ::nixl_telemetry_impl::log_line(                                                       \
                ::nixl_telemetry_impl::log_level::level, __FILE__, __LINE__)                       \
                .stream()

namespace nixl_telemetry_impl {

enum class log_level { trace, debug, info, warn, error, fatal };

/// The level that the text of NIXL_LOG_LEVEL asks for: an exact name in any case, otherwise WARN, NIXL's default.
///
/// NIXL itself complains about an unknown name when it is loaded, so it is not reported a second time here.
[[nodiscard]] NIXL_TELEMETRY_HIDDEN inline log_level
parse_log_level(const char *text) noexcept {
    constexpr const char *names[] = {"TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"};
    for (int i = 0; text != nullptr && i < 6; ++i) {
        if (strcasecmp(text, names[i]) == 0) {
            return static_cast<log_level>(i);
        }
    }
    return log_level::warn;
}

/// Whether lines of this level are printed. The environment is read once, at the first call.
[[nodiscard]] NIXL_TELEMETRY_HIDDEN inline bool
log_enabled(log_level level) noexcept {
    static const log_level lowest = parse_log_level(std::getenv("NIXL_LOG_LEVEL"));
    return level >= lowest;
}

/// One line being composed; written when the object dies, at the end of the statement.
class NIXL_TELEMETRY_HIDDEN log_line {
public:
    log_line(log_level level, const char *file, int line) : errno_(errno) {
        timespec now{};
        clock_gettime(CLOCK_REALTIME, &now);
        tm local{};
        localtime_r(&now.tv_sec, &local);

        const char *slash = std::strrchr(file, '/');
        char head[64];
        std::snprintf(head,
                      sizeof(head),
                      "%c%02d%02d %02d:%02d:%02d.%06ld %7ld ",
                      level == log_level::error ? 'E' :
                      level == log_level::warn  ? 'W' :
                                                  'I',
                      local.tm_mon + 1,
                      local.tm_mday,
                      local.tm_hour,
                      local.tm_min,
                      local.tm_sec,
                      now.tv_nsec / 1000,
                      // gettid() needs glibc 2.30; the wheels promise to run on 2.28.
                      syscall(SYS_gettid));
        text_ << head << (slash != nullptr ? slash + 1 : file) << ':' << line << "] ";
        errno = errno_;
    }

    log_line(const log_line &) = delete;
    log_line &
    operator=(const log_line &) = delete;

    ~log_line() {
        try {
            text_ << '\n';
            const std::string text = text_.str();
            for (std::size_t done = 0; done < text.size();) {
                const ssize_t n = ::write(STDERR_FILENO, text.data() + done, text.size() - done);
                if (n > 0) {
                    done += static_cast<std::size_t>(n);
                } else if (n == 0 || errno != EINTR) {
                    break; // standard error is gone; there is nowhere to say so
                }
            }
        }
        catch (...) {
            // Out of memory: the line is lost, the process is not.
        }
        errno = errno_;
    }

    std::ostream &
    stream() noexcept {
        return text_;
    }

private:
    const int errno_;
    std::ostringstream text_;
};

/// Turns a finished stream expression into void; `&` binds weaker than `<<` and stronger than `?:`.
struct NIXL_TELEMETRY_HIDDEN log_discard {
    void
    operator&(const std::ostream &) const noexcept {}
};

} // namespace nixl_telemetry_impl
