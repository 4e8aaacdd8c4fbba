// SPDX-License-Identifier: Apache-2.0

//! What a plugin file owes the process it is loaded into.

use std::{
    fs,
    mem::MaybeUninit,
    path::Path,
    process::Command,
    ptr,
    time::{Duration, Instant},
};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW, Symbol};
use nixl_telemetry_abi::raw::{self, CxxString, Offer, RichEvent};
use nixl_telemetry_e2e::run_apart;
use nixl_telemetry_testkit as testkit;
use object::{Object as _, ObjectSymbol as _, read::elf::ElfFile64};

/// The exporters there are.
const EXPORTERS: [&str; 11] =
    ["csv", "flight", "jsonl", "nats", "otlp", "parquet", "postgres", "prometheus", "prometheus_mp", "sqlite", "tee"];

#[test]
fn it_exports_the_entry_points_and_nothing_else() {
    for exporter in EXPORTERS {
        let bytes = fs::read(testkit::plugin(exporter)).unwrap();
        let file = ElfFile64::<object::Endianness>::parse(&*bytes).unwrap();
        let mut exported: Vec<_> = file
            .dynamic_symbols()
            .filter(|symbol| symbol.is_definition() && symbol.is_global())
            .map(|symbol| symbol.name().unwrap().to_owned())
            .collect();
        exported.sort();
        assert_eq!(
            exported,
            ["nixl_telemetry_plugin_fini", "nixl_telemetry_plugin_init", "nixl_telemetry_plugin_negotiate"],
            "{exporter}"
        );

        let undefined = file.dynamic_symbols().filter(|symbol| symbol.is_undefined());
        let nixls: Vec<_> =
            undefined.filter_map(|symbol| symbol.name().ok()).filter(|name| name.contains("nixl")).collect();
        assert!(nixls.is_empty(), "{exporter}: {nixls:?}");
    }
}

#[test]
fn it_needs_libc_and_the_unwinder() {
    for exporter in EXPORTERS {
        let needed = nixl_telemetry_loader::inspect(testkit::plugin(exporter)).unwrap().needed;
        let allowed = ["libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2"];
        // What a plugin in C++ throws is caught by the C++ library of the process, which NIXL needs itself.
        let is_allowed = |library: &str| allowed.contains(&library) || exporter == "tee" && library == "libstdc++.so.6";
        assert!(needed.iter().all(|library| is_allowed(library)), "{exporter}: {needed:?}");
        assert!(needed.iter().any(|library| library == "libc.so.6"), "{exporter}: {needed:?}");
    }
}

/// Runs one of the ignored tests below in a process of its own, and returns what it logged.
fn run(test: &str, variables: &[(&str, &Path)]) -> String {
    let plugin = testkit::plugin("csv");
    run_apart(test, &[&[("CONTRACT_PLUGIN", plugin.as_path())], variables].concat())
}

fn load() -> Library {
    // SAFETY: the plugin was built by this test and has no initialisers but its language's.
    unsafe { Library::open(Some(std::env::var_os("CONTRACT_PLUGIN").expect("set by `run`")), RTLD_NOW | RTLD_LOCAL) }
        .expect("the plugin loads")
}

/// An exporter that takes rich events.
///
/// # Safety
/// The library must be a plugin of this project and stay open as long as the exporter.
unsafe fn create(library: &Library) -> *mut raw::Exporter {
    // SAFETY: the signatures are the interface's, the parameters live during the call.
    unsafe {
        let negotiate: Symbol<raw::NegotiateFn> = library.get(raw::NEGOTIATE_SYMBOL.as_bytes()).unwrap();
        let plugin = negotiate(&Offer { size: 8, rich_version: RichEvent::VERSION });
        assert_eq!((*plugin).api_version, raw::negotiated_api_version(RichEvent::VERSION));
        let mut params = MaybeUninit::<raw::InitParams>::zeroed();
        CxxString::emplace(&raw mut (*params.as_mut_ptr()).agent_name, "agentA");
        let mut exporter = ptr::null_mut();
        (*plugin).create.unwrap()(&raw mut exporter, params.as_ptr());
        assert!(!exporter.is_null());
        exporter
    }
}

/// How many threads of ours there are.
fn threads() -> usize {
    let names = fs::read_dir("/proc/self/task").unwrap();
    let names = names.filter_map(|task| fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.filter(|name| name.starts_with("nixl-tlm-")).count()
}

/// Whoever joins a thread may be told a moment before it is gone.
fn await_no_thread() {
    let deadline = Instant::now() + Duration::from_secs(60);
    while threads() > 0 && Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert_eq!(threads(), 0);
}

/// A thread names itself, a moment after it was started.
fn await_thread() {
    let deadline = Instant::now() + Duration::from_secs(60);
    while threads() == 0 && Instant::now() < deadline {
        std::thread::yield_now();
    }
}

#[test]
fn closing_leaves_no_thread() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.csv");
    run("open_and_close", &[("NIXL_TELEMETRY_CSV_FILE", &file)]);
    let text = fs::read_to_string(file).unwrap();
    assert_eq!(text, "timestamp_us,category,event_name,value\n9,1,agent_rx_bytes,5\n");
}

#[test]
#[ignore = "run by closing_leaves_no_thread"]
fn open_and_close() {
    let library = load();
    // SAFETY: the calls a host makes, in the order it makes them, with live parameters; the library stays open.
    unsafe {
        let exporter = create(&library);
        assert_eq!(threads(), 0, "a thread before the first event");

        // Outside a batch: a thread has to close it.
        let event = RichEvent { kind: 1, category: 0, value: 5, timestamp_us: 9, name: ptr::null(), name_len: 0 };
        let slots = (*exporter).slots;
        assert_eq!(((*slots).export_event)(exporter, ptr::from_ref(&event).cast()), 0);
        await_thread();
        assert_eq!(threads(), 1);
        ((*slots).delete)(exporter);
        let fini: Symbol<raw::FiniFn> = library.get(raw::FINI_SYMBOL.as_bytes()).unwrap();
        fini();
    }
    await_no_thread();
    library.close().unwrap();
    assert_eq!(threads(), 0);
}

#[test]
fn closing_leaves_no_thread_that_compresses() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.jsonl");
    fs::write(folder.path().join("events.jsonl.1"), "{}\n").unwrap();
    let plugin = testkit::plugin("jsonl");
    let variables = [
        ("CONTRACT_PLUGIN", plugin.as_path()),
        ("NIXL_TELEMETRY_JSONL_FILE", &file),
        ("NIXL_TELEMETRY_JSONL_MAX_SIZE", Path::new("1000")),
        ("NIXL_TELEMETRY_JSONL_COMPRESS", Path::new("zstd")),
    ];
    run("compress_and_close", &variables);
    let mut names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["events.jsonl", "events.jsonl.1.zst"]);
}

#[test]
#[ignore = "run by closing_leaves_no_thread_that_compresses"]
fn compress_and_close() {
    let library = load();
    // SAFETY: as in `open_and_close`.
    unsafe {
        let exporter = create(&library);
        await_thread();
        assert_eq!(threads(), 1);
        ((*(*exporter).slots).delete)(exporter);
        let fini: Symbol<raw::FiniFn> = library.get(raw::FINI_SYMBOL.as_bytes()).unwrap();
        fini();
    }
    await_no_thread();
    library.close().unwrap();
}

/// A forked child destroys its copy of an exporter whose thread lives in the parent: at once, and without a row.
#[test]
fn a_fork_leaves_the_parents_batch_alone() {
    // tee feeds csv, which lies beside it, on a thread that is the parent's as well.
    testkit::plugin("csv");
    for exporter in ["csv", "tee"] {
        let folder = tempfile::tempdir().unwrap();
        let (plugin, file) = (testkit::plugin(exporter), folder.path().join("events.csv"));
        let variables = [
            ("CONTRACT_PLUGIN", plugin.as_path()),
            ("NIXL_TELEMETRY_CSV_FILE", &file),
            ("NIXL_TELEMETRY_TEE", Path::new("csv")),
        ];
        run("fork_and_delete", &variables);
        let text = fs::read_to_string(file).unwrap();
        let rows = "9,1,agent_rx_bytes,5\n9,1,agent_rx_bytes,6\n";
        assert_eq!(text, format!("timestamp_us,category,event_name,value\n{rows}"), "{exporter}");
    }
}

#[test]
#[ignore = "run by a_fork_leaves_the_parents_batch_alone"]
fn fork_and_delete() {
    let library = load();
    // SAFETY: as in `open_and_close`. The child calls nothing but the plugin, as a host's destructor would, and leaves.
    unsafe {
        let exporter = create(&library);
        let slots = (*exporter).slots;
        let export = |value| {
            let event = RichEvent { kind: 1, category: 0, value, timestamp_us: 9, name: ptr::null(), name_len: 0 };
            assert_eq!(((*slots).export_event)(exporter, ptr::from_ref(&event).cast()), 0);
        };
        export(5);
        let child = libc::fork();
        if child == 0 {
            // Ends the child by a signal, which the parent sees, should it wait for a thread it does not have.
            libc::alarm(60);
            ((*slots).delete)(exporter);
            libc::_exit(7);
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 7, "{status:#x}");
        export(6);
        ((*slots).delete)(exporter);
    }
}

/// SQLite in a forked child takes the locks of its parent for its own. Of what the parent has not open it knows nothing.
#[test]
fn a_forked_child_leaves_its_parents_database_alone() {
    let test = "sqlite in a forked child";
    if testkit::require(test, testkit::command("sqlite3", "sqlite3")).is_none() {
        return;
    }
    let plugin = testkit::plugin("sqlite");
    for (name, expected) in [("events.db", &["5,6"][..]), ("events-{pid}.db", &["100", "5,6"])] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(name);
        let variables = [("CONTRACT_PLUGIN", plugin.as_path()), ("NIXL_TELEMETRY_SQLITE_FILE", &file)];
        let log = run("fork_and_write", &variables);
        let advice = "SQLite would take its locks for ours; expected {pid} in NIXL_TELEMETRY_SQLITE_FILE";
        assert_eq!(log.contains(advice), expected.len() == 1, "{log}");
        assert_eq!(log.contains("1 events are lost: 1 at the end"), expected.len() == 1, "{log}");
        assert_eq!(databases(folder.path()), expected, "{name}");
    }
}

/// The values in each of the databases of a folder.
fn databases(folder: &Path) -> Vec<String> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut values: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|ending| ending == "db"))
        .map(|path| {
            let output = Command::new("sqlite3")
                .args(["-batch", "-cmd", ".timeout 10000"])
                .arg(path)
                .arg("SELECT group_concat(value) FROM events")
                .output()
                .unwrap();
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        })
        .collect();
    values.sort();
    values
}

#[test]
#[ignore = "run by a_forked_child_leaves_its_parents_database_alone"]
fn fork_and_write() {
    let file = std::env::var_os("NIXL_TELEMETRY_SQLITE_FILE").unwrap();
    let folder = Path::new(&file).parent().unwrap();
    let until = |what: &str, so: &dyn Fn() -> bool| {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !so() {
            assert!(Instant::now() < deadline, "{what}");
        }
    };
    let library = load();
    // SAFETY: as in `open_and_close`. The child calls nothing but the plugin, and leaves.
    unsafe {
        let export = |exporter: *mut raw::Exporter, value| {
            let event = RichEvent { kind: 1, category: 0, value, timestamp_us: 9, name: ptr::null(), name_len: 0 };
            assert_eq!(((*(*exporter).slots).export_event)(exporter, ptr::from_ref(&event).cast()), 0);
        };
        let delete = |exporter: *mut raw::Exporter| ((*(*exporter).slots).delete)(exporter);
        let exporter = create(&library);
        export(exporter, 5);
        until("the event is there", &|| databases(folder) == ["5"]);
        until("the thread has nothing to do", &|| {
            let tasks = fs::read_dir("/proc/self/task").unwrap();
            let states = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("stat")).ok());
            states.into_iter().any(|state| state.contains("(nixl-tlm-sqlite) S"))
        });
        let child = libc::fork();
        if child == 0 {
            libc::alarm(60);
            delete(exporter);
            let own = create(&library);
            export(own, 100);
            delete(own);
            libc::_exit(7);
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 7, "{status:#x}");
        export(exporter, 6);
        delete(exporter);
    }
}

#[test]
fn an_unknown_host_is_told_what_is_missing() {
    let log = run("init_without_nixl", &[]);
    assert!(log.contains("is no NIXL with telemetry plugins, and none is loaded"), "{log}");
    assert!(log.contains("set NIXL_TELEMETRY_HOST_GENERATION to 0.9, 1.1, 1.2, 1.3, 1.4 or 1.5"), "{log}");
}

#[test]
#[ignore = "run by an_unknown_host_is_told_what_is_missing"]
fn init_without_nixl() {
    let library = load();
    // SAFETY: the signature is the interface's; init may be called at any time.
    unsafe {
        let init: Symbol<raw::InitFn> = library.get(raw::INIT_SYMBOL.as_bytes()).unwrap();
        assert!(init().is_null());
        assert!(init().is_null());
    }
}

#[test]
fn a_host_without_symbols_can_be_named() {
    for (generation, api) in [("0.9", "1"), ("1.1", "2"), ("1.2", "2"), ("1.3", "2"), ("1.4", "2"), ("1.5", "2")] {
        let variables = [("NIXL_TELEMETRY_HOST_GENERATION", generation), ("CONTRACT_API", api)];
        run("init_of_a_named_host", &variables.map(|(name, value)| (name, Path::new(value))));
    }
    let log = run("init_without_nixl", &[("NIXL_TELEMETRY_HOST_GENERATION", Path::new("1.0"))]);
    let expected = "NIXL_TELEMETRY_HOST_GENERATION is \"1.0\": expected one of 0.9, 1.1, 1.2, 1.3, 1.4, 1.5";
    assert!(log.contains(expected), "{log}");
}

#[test]
#[ignore = "run by a_host_without_symbols_can_be_named"]
fn init_of_a_named_host() {
    let library = load();
    // SAFETY: as above; what init returns is null or a plugin object.
    let (first, again, api) = unsafe {
        let init: Symbol<raw::InitFn> = library.get(raw::INIT_SYMBOL.as_bytes()).unwrap();
        let plugin = init();
        assert!(!plugin.is_null());
        (plugin, init(), (*plugin).api_version)
    };
    assert_eq!(first, again, "the same object each time");
    assert_eq!(api.to_string(), std::env::var("CONTRACT_API").unwrap());
}

/// The caller is a NIXL nobody can tell: that another one is loaded as well must not decide for it.
#[test]
fn a_development_snapshot_is_refused_whatever_else_is_loaded() {
    let library = |name: &str, symbols: &[&str]| {
        let defined: Vec<_> = symbols.iter().map(|symbol| format!("-DSYMBOL_{symbol}")).collect();
        let arguments: Vec<_> = ["-shared"].into_iter().chain(defined.iter().map(String::as_str)).collect();
        testkit::compile_cpp(name, &[Path::new("e2e/tests/fake_nixl.cc")], &arguments)
    };
    let snapshot = library("libnixl.so.snapshot", &["HOST", "UPDATE_NAME", "REQUEST_STATS"]);
    let release = library("libnixl.so.release", &["HOST", "UPDATE_TYPE", "DISCOVER", "REQUEST_STATS"]);
    let log = run("init_by_two_hosts", &[("CONTRACT_SNAPSHOT", &snapshot), ("CONTRACT_RELEASE", &release)]);
    assert!(log.contains("is a development snapshot of NIXL"), "{log}");
    assert!(log.contains("set NIXL_TELEMETRY_HOST_GENERATION to 0.9 or 1.1"), "{log}");
}

#[test]
#[ignore = "run by a_development_snapshot_is_refused_whatever_else_is_loaded"]
fn init_by_two_hosts() {
    let library = load();
    // SAFETY: the fixtures are built by the test above; `call_init` calls what it is given and returns what that returns.
    unsafe {
        let init: Symbol<raw::InitFn> = library.get(raw::INIT_SYMBOL.as_bytes()).unwrap();
        let by = |variable: &str| {
            let host = Library::open(Some(std::env::var_os(variable).unwrap()), RTLD_NOW | RTLD_LOCAL).unwrap();
            let call: Symbol<unsafe extern "C" fn(raw::InitFn) -> *const raw::Plugin> = host.get(b"call_init").unwrap();
            let plugin = call(*init);
            std::mem::forget(host);
            plugin
        };
        let release = by("CONTRACT_RELEASE");
        assert_eq!((*release).api_version, 2);
        assert!(by("CONTRACT_SNAPSHOT").is_null());
        assert_eq!(by("CONTRACT_RELEASE"), release);
    }
}
