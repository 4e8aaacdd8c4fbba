// SPDX-License-Identifier: Apache-2.0

//! Recording a transfer: ours against the collector of a NIXL 1.5 wheel, in one run.
//!
//! Both keep four events for each transfer and discard them in their NOP exporter. Upstream's is called through its
//! exported symbols, with a buffer so large that nothing is dropped, and no flush within a round; ours runs at its
//! default settings, flushes included. Nothing may be dropped in either.
//!
//! `cargo run --release --bin collector -- FOLDER`, from the folder `bench`; FOLDER holds the unpacked 1.5.1 wheel.

use std::ffi::c_void;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::time::{Duration, Instant};
use std::{env, fs, process::Command, ptr, thread};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use nixl_telemetry_abi::raw::CxxString;
use nixl_telemetry_bench::median;
use nixl_telemetry_host::{Collector, Direction, Transfer};
use nixl_telemetry_settings::Settings;

const EACH: u64 = 100_000;
const ROUNDS: usize = 41;
const THREADS: [usize; 3] = [1, 2, 4];

/// Set for the process that measures; upstream reads its environment once.
const UPSTREAM: [(&str, &str); 4] = [
    ("NIXL_TELEMETRY_ENABLE", "y"),
    ("NIXL_TELEMETRY_EXPORTER", "NOP"),
    ("NIXL_TELEMETRY_BUFFER_SIZE", "2000000"),
    ("NIXL_TELEMETRY_RUN_INTERVAL", "3600000"),
];

fn main() {
    let folder = env::args().nth(1).expect("the folder of a NIXL 1.5.1 wheel");
    if env::var(UPSTREAM[0].0).is_err() {
        let mut child = Command::new(env::current_exe().expect("its own path"));
        let status = child.arg(folder).envs(UPSTREAM).status().expect("it runs itself");
        assert!(status.success());
        return;
    }
    let upstream = Upstream::load(&find(Path::new(&folder)).expect("a libnixl.so in the folder"));
    println!("| threads | upstream | ours | ratio |\n|---|---|---|---|");
    for threads in THREADS {
        let collector = collector();
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            times[0].push(upstream.round(threads));
            times[1].push(ours(&collector, threads));
        }
        // Wall time of all, for one call of one thread: what a caller waits.
        let [upstream, ours] = times.map(|times| median(&times).as_nanos() as f64 / EACH as f64);
        println!("| {threads} | {upstream:.1} ns | {ours:.1} ns | 1/{:.1} |", upstream / ours);
    }
}

/// Runs `record` on so many threads, each with the numbers 0 to `EACH`, and returns the mean time of a thread.
fn time(threads: usize, record: impl Fn(u64) + Sync) -> Duration {
    let barrier = Barrier::new(threads);
    let run = || {
        // What a thread needs once is not part of a call.
        record(0);
        barrier.wait();
        let start = Instant::now();
        (1..=EACH).for_each(&record);
        start.elapsed()
    };
    let total: Duration = thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        running.into_iter().map(|thread| thread.join().expect("it records")).sum()
    });
    total / u32::try_from(threads).expect("a small number")
}

/// One collector for all rounds, as an agent has it; its lanes go from the threads of one round to those of the next.
fn collector() -> Collector {
    let settings = Settings::from_pairs([("NIXL_TELEMETRY_ENABLE", "y"), ("NIXL_TELEMETRY_EXPORTER", "NOP")]);
    Collector::create("bench", &settings).expect("sound settings").expect("telemetry is on")
}

fn ours(collector: &Collector, threads: usize) -> Duration {
    let before = collector.counts().produced;
    let recorder = collector.recorder();
    let taken = time(threads, |i| {
        recorder.transfer(Transfer { direction: Direction::Write, bytes: 65536, post_time_us: 3, transfer_time_us: i });
    });
    assert!(collector.flush(Duration::from_secs(60)));
    let counts = collector.counts();
    assert_eq!(counts.drops(), []);
    assert_eq!(counts.produced - before, 4 * (EACH + 1) * threads as u64);
    assert_eq!(counts.exporters[0].exported, counts.produced);
    taken
}

/// The collector of the wheel.
struct Upstream {
    create: extern "C" fn(*mut *mut c_void, *const CxxString) -> *mut c_void,
    destroy: extern "C" fn(*mut c_void),
    add_xfer_stats: extern "C" fn(*mut c_void, i64, bool, u64, i64),
}

/// An agent's collector, used from several threads as NIXL does.
struct Held(*mut c_void);

// SAFETY: upstream's addXferStats takes a lock of its own.
unsafe impl Sync for Held {}

impl Upstream {
    fn load(library: &Path) -> Self {
        // SAFETY: the wheel's own library; the signatures are those of NIXL 1.5.
        unsafe {
            let library = Library::open(Some(library), RTLD_NOW | RTLD_GLOBAL).expect("libnixl.so loads");
            let create = *library
                .get(b"_ZN13nixlTelemetry6createERKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE\0")
                .expect("create");
            let destroy = *library.get(b"_ZN13nixlTelemetryD1Ev\0").expect("the destructor");
            let add_xfer_stats = *library
                .get(b"_ZN13nixlTelemetry12addXferStatsENSt6chrono8durationIlSt5ratioILl1ELl1000000EEEEbmS4_\0")
                .expect("addXferStats");
            std::mem::forget(library);
            Self { create, destroy, add_xfer_stats }
        }
    }

    fn round(&self, threads: usize) -> Duration {
        let mut name = std::mem::MaybeUninit::<CxxString>::zeroed();
        // SAFETY: the place is as large as a string; it never moves while it is one.
        unsafe { CxxString::emplace(name.as_mut_ptr(), "bench") };
        let mut made = ptr::null_mut();
        // A unique_ptr is returned through memory, whose address is the first argument on x86-64.
        (self.create)(&raw mut made, name.as_ptr());
        assert!(!made.is_null(), "upstream's telemetry is on");
        let held = Held(made);
        let taken = time(threads, |i| {
            let held = &held;
            (self.add_xfer_stats)(held.0, i.cast_signed(), true, 65536, 3);
        });
        // The object's memory is the C++ allocator's, and is left to the end of the process.
        (self.destroy)(held.0);
        taken
    }
}

fn find(folder: &Path) -> Option<PathBuf> {
    let entries: Vec<_> = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).collect();
    let own = entries.iter().find(|path| path.file_name().is_some_and(|name| name == "libnixl.so")).cloned();
    own.or_else(|| entries.iter().filter(|path| path.is_dir()).find_map(|path| find(path)))
}
