// SPDX-License-Identifier: Apache-2.0
//
// What these headers ask of the compiler, and how they keep their symbols to themselves.
#pragma once

#include <string>

#ifndef __GLIBCXX__
#error "NIXL is built with libstdc++; a plugin built with another standard library has a different std::string"
#endif
#if !_GLIBCXX_USE_CXX11_ABI
#error "NIXL is built with the C++11 std::string of libstdc++; compile with -D_GLIBCXX_USE_CXX11_ABI=1"
#endif
#if __cplusplus < 201703L
#error "these headers need C++17 or later"
#endif

static_assert(sizeof(void *) == 8, "NIXL is released for 64-bit platforms only");
static_assert(sizeof(std::string) == 32, "std::string of libstdc++ has 32 bytes");

/// Makes a function visible to the host, whatever `-fvisibility` says.
#define NIXL_TELEMETRY_PLUGIN_EXPORT __attribute__((visibility("default")))

// What carries state or code of these headers is hidden, whatever the flags: two plugins may hold exporter classes of one
// name, and the dynamic linker must not make them share a plugin object or a log level. The types an author derives from
// or keeps as members are left to `-fvisibility=hidden` (recommended): the compiler warns about a class that is more
// visible than its base.
#define NIXL_TELEMETRY_HIDDEN __attribute__((visibility("hidden")))
