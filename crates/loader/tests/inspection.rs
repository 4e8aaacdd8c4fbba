// SPDX-License-Identifier: Apache-2.0

//! What plugin files say about themselves.

mod common;

use std::fs;
use std::process::Command;

use common::{Fixture, nixl_plugins};
use nixl_telemetry_event::Layout;
use nixl_telemetry_loader::{Form, Inspection, Language, SLOTS_SYMBOL, inspect, inspect_bytes};
use proptest::prelude::*;

#[test]
fn fixtures() {
    let check = |source: &str, macros: &[&str], expected: (Language, [bool; 3], Option<u32>, Option<Form>)| {
        let fixture = Fixture::new(source, macros, "x");
        let seen = inspect(&fixture.path).unwrap();
        let exports = [seen.exports_init, seen.exports_fini, seen.negotiates];
        assert_eq!((seen.language, exports, seen.slots, seen.form()), expected, "{source} {macros:?}");
        assert_eq!(seen.upstream, None);
        assert!(seen.compilers[0].starts_with("GCC: "), "{:?}", seen.compilers);
        // What the linker finds to be of no use is not needed.
        let needed: &[&str] = match (seen.language, source) {
            (Language::Cxx, _) => &["libstdc++.so.6", "libgcc_s.so.1", "libc.so.6"],
            (_, "no_init.cc") => &[],
            _ => &["libc.so.6"],
        };
        assert!(seen.needed.iter().all(|library| needed.contains(&library.as_str())), "{:?}", seen.needed);
        assert_eq!(seen.needed.last().map(String::as_str), needed.last().copied());
    };
    assert_eq!(SLOTS_SYMBOL, "nixl_telemetry_plugin_slots");
    // Compiled as C++, but nothing in the file tells.
    check("no_init.cc", &[], (Language::C, [false, false, false], None, None));
    check("init_null.cc", &[], (Language::Cxx, [true, false, false], None, None));
    check("recorder.cc", &["SLOTS=5"], (Language::Cxx, [true, true, false], None, None));
    check("recorder.cc", &["SLOTS=3", "TRAP"], (Language::Cxx, [true, true, false], None, None));
    check("recorder.cc", &["SLOTS=3", "MARKER=3"], (Language::Cxx, [true, true, false], Some(3), None));
    check("recorder.cc", &["SLOTS=5", "MARKER=5"], (Language::Cxx, [true, true, false], Some(5), None));
    check("bare_object.c", &[], (Language::C, [true, false, false], None, None));
    check("negotiated.c", &["NEEDS=1"], (Language::C, [true, true, true], None, Some(Form::Rich)));
}

#[test]
fn undefined_symbols_of_nixl() {
    let fixture = Fixture::new("needs_more.cc", &[], "x");
    assert_eq!(inspect(&fixture.path).unwrap().undefined_nixl, ["nixl_function_that_nobody_has"]);
}

#[test]
fn rust_is_recognised() {
    let directory = tempfile::tempdir().unwrap();
    let (source, library) = (directory.path().join("x.rs"), directory.path().join("x.so"));
    fs::write(&source, "#[unsafe(no_mangle)] pub extern \"C\" fn nixl_telemetry_plugin_init() {}").unwrap();
    let status = Command::new("rustc")
        .args(["--edition=2024", "--crate-type=cdylib", "-Clink-arg=-Wl,-soname,libx.so", "-o"])
        .args([&library, &source])
        .status();
    assert!(status.unwrap().success());
    let seen = inspect(&library).unwrap();
    assert_eq!((seen.language, seen.exports_init), (Language::Rust, true));
    assert_eq!(seen.soname.as_deref(), Some("libx.so"));
    // The linker leaves its name too, and C code of the compiler's that was linked in.
    let known = |compiler: &String| compiler.starts_with("rustc version ") || compiler.starts_with("GCC: ");
    assert!(seen.compilers.iter().all(known), "{:?}", seen.compilers);
}

/// Release and exporter, then what is seen: layout, slots, and the releases it may stem from.
type Row = (&'static str, &'static str, Option<Layout>, u32, &'static str);

const WHEELS: [Row; 11] = [
    ("0.9.0", "prometheus", Some(Layout::L56), 3, "0.9.0 - 1.0.1"),
    ("0.10.1", "prometheus", Some(Layout::L56), 3, "0.9.0 - 1.0.1"),
    ("1.0.1", "prometheus", Some(Layout::L56), 3, "0.9.0 - 1.0.1"),
    ("1.1.0", "prometheus", Some(Layout::L48), 3, "1.1.0"),
    ("1.2.0", "prometheus", Some(Layout::L16c), 3, "1.2.0"),
    ("1.3.2", "prometheus", Some(Layout::L16), 3, "1.3.0 - 1.3.2"),
    ("1.4.1", "prometheus", Some(Layout::L16), 3, "1.4.0 - 1.4.1"),
    ("1.4.1", "doca", Some(Layout::L16), 3, "1.4.0 - 1.4.1"),
    ("1.5.1", "prometheus", Some(Layout::L16), 5, "1.5.0 and later"),
    ("1.5.1", "prometheus_mp", Some(Layout::L16), 5, "1.5.0 and later"),
    ("1.5.1", "doca", Some(Layout::L16), 5, "1.5.0 and later"),
];

#[test]
fn nixls_own_exporters_are_recognised() {
    for (release, exporter, layout, slots, releases) in WHEELS {
        let Some(plugins) = nixl_plugins(release) else { continue };
        let seen = inspect(plugins.join(format!("libtelemetry_exporter_{exporter}.so"))).unwrap();
        let upstream = seen.upstream.unwrap();
        assert_eq!(
            (upstream.exporter, upstream.layout, seen.slots, upstream.releases),
            (exporter, layout, Some(slots), releases),
            "{release} {exporter}"
        );
        assert_eq!(seen.form(), layout.map(Form::Layout));
        assert_eq!(seen.batch_hooks(), Some(slots == 5));
        assert_eq!(seen.language, Language::Cxx);
        assert_eq!((seen.exports_init, seen.exports_fini, seen.negotiates), (true, true, false));
        assert_eq!(seen.soname, Some(format!("libtelemetry_exporter_{exporter}.so")));
        // From 1.2 on, the settings file is read by a library of NIXL's.
        let toml = matches!(layout, Some(Layout::L16c | Layout::L16));
        assert_eq!(!seen.undefined_nixl.is_empty(), toml, "{:?}", seen.undefined_nixl);
        assert_eq!(seen.needed.contains(&"libnixl_common.so".to_owned()), toml, "{:?}", seen.needed);
    }
}

#[test]
fn build_ids() {
    let fixture = Fixture::new("no_init.cc", &[], "x");
    let output = Command::new("readelf").arg("-n").arg(&fixture.path).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let expected = text.lines().find_map(|line| line.trim().strip_prefix("Build ID: ")).map(str::to_owned);
    assert_eq!(inspect(&fixture.path).unwrap().build_id, expected);
}

/// A changed byte: mostly of the headers at the start, of the dynamic sections or of the section table at the end.
fn change(length: usize) -> impl Strategy<Value = (usize, u8)> {
    let offset = prop_oneof![0..1024_usize, 0..length, length.saturating_sub(3000)..length];
    let byte = prop_oneof![any::<u8>(), Just(0), Just(0xff), Just(0x7f), Just(0x80), Just(1)];
    (offset, byte)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, ..ProptestConfig::default() })]

    #[test]
    fn damaged_files_never_panic(
        changes in proptest::collection::vec(change(LENGTH_AT_LEAST), 0..24),
        cut in prop_oneof![4 => Just(usize::MAX), 1 => 0..LENGTH_AT_LEAST],
    ) {
        let mut bytes = sample().to_vec();
        for (offset, byte) in changes {
            bytes[offset] = byte;
        }
        bytes.truncate(cut);
        // Whatever it says, it says it calmly.
        let seen: Result<Inspection, _> = inspect_bytes(&bytes);
        if let Err(error) = seen {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn anything_at_all_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        prop_assert!(inspect_bytes(&bytes).is_err());
    }
}

/// Fixtures are all larger.
const LENGTH_AT_LEAST: usize = 12_000;

fn sample() -> &'static [u8] {
    static SAMPLE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    SAMPLE.get_or_init(|| {
        let fixture = Fixture::new("recorder.cc", &["SLOTS=5", "MARKER=5"], "x");
        let bytes = fs::read(&fixture.path).unwrap();
        assert!(bytes.len() >= LENGTH_AT_LEAST && inspect_bytes(&bytes).is_ok());
        bytes
    })
}
