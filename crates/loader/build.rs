// SPDX-License-Identifier: Apache-2.0

//! Compiles the exception guard.

fn main() {
    println!("cargo:rerun-if-changed=src/guard.cc");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .file("src/guard.cc")
        // Nothing of the guard may be mistaken for a plugin's or NIXL's own.
        .flag("-fvisibility=hidden")
        .flag("-fvisibility-inlines-hidden")
        .warnings(true)
        .extra_warnings(true)
        .compile("nixl_telemetry_guard");
}
