// SPDX-License-Identifier: Apache-2.0

//! The AArch64 shim of `create_exporter`, assembled by the cross compiler, called by C++ as a host calls it, run under
//! qemu: what no x86-64 machine can see otherwise.

use std::{env, fs, path::Path, process::Command};

use nixl_telemetry_testkit as testkit;

const SHIM: &str = include_str!("../src/plugin/create_aarch64.s");

/// A host: calls through the plugin object's pointer with the true C++ signature, from a frame full of other values.
const CALLER: &str = r#"
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>

struct Params { std::string agent; std::uint64_t max_events; };
struct Exporter {
    virtual ~Exporter() { std::printf("deleted %p\n", static_cast<void *>(nullptr)); }
    std::uint64_t max_events = 0;
};

extern "C" std::unique_ptr<Exporter> create_exporter(const Params &);

extern "C" Exporter **create_into(Exporter **slot, const Params *params) {
    if (params->agent == "refused") {
        *slot = nullptr;
    } else {
        *slot = new Exporter;
        (*slot)->max_events = params->max_events;
    }
    return slot;
}

int main() {
    std::unique_ptr<Exporter> (*volatile create)(const Params &) = create_exporter;
    const Params params{"an agent with a name on the heap", 4096};
    const Params refused{"refused", 1};
    struct { std::uint64_t before; std::unique_ptr<Exporter> exporter; std::uint64_t after; } frame{11, nullptr, 22};
    frame.exporter = create(params);
    std::printf("%llu %llu %llu\n", (unsigned long long)frame.before, (unsigned long long)frame.exporter->max_events,
                (unsigned long long)frame.after);
    std::printf("refused: %s\n", create(refused) ? "made" : "null");
}
"#;

#[test]
fn a_cpp_host_on_aarch64_gets_its_exporter() {
    let test = "aarch64 create shim";
    let compiler = testkit::require(test, testkit::command("aarch64-linux-gnu-g++", "g++-aarch64-linux-gnu"));
    let emulator = testkit::require(test, testkit::command("qemu-aarch64", "qemu-user"));
    let (Some(compiler), Some(emulator)) = (compiler, emulator) else { return };

    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("aarch64-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let shim = format!(
        ".text\n.global create_exporter\n.type create_exporter, %function\ncreate_exporter:\n{}\n",
        SHIM.replace("{create}", "create_into")
    );
    fs::write(folder.join("shim.s"), shim).unwrap();
    fs::write(folder.join("caller.cc"), CALLER).unwrap();

    for optimisation in ["-O0", "-O2"] {
        let built = Command::new(&compiler)
            .args(["-std=c++17", "-static", optimisation, "caller.cc", "shim.s", "-o", "caller"])
            .current_dir(&folder)
            .output()
            .unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let run = Command::new(&emulator).arg(folder.join("caller")).output().unwrap();
        assert!(run.status.success(), "{}: {run:?}", env::consts::ARCH);
        let expected = "11 4096 22\nrefused: null\ndeleted (nil)\n";
        assert_eq!(String::from_utf8_lossy(&run.stdout), expected, "{optimisation}");
    }
    fs::remove_dir_all(&folder).unwrap();
}
