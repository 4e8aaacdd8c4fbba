// SPDX-License-Identifier: Apache-2.0

//! Being a plugin, on every host, from one binary.
//!
//! A [`Plugin`] is described once. For each [`Host`] there is a plugin object with that host's API version, and behind
//! it a vtable whose `exportEvent` reads that host's event: which one is used is decided in `init`, when the host has
//! shown its face, and never asked again. Every entry is a thin shell: convert, catch panics, delegate.
//!
//! | entry | who calls it, on which thread |
//! |---|---|
//! | `init` | the thread that builds an agent, the plugin manager's lock held; hosts up to 1.0.1 call it unasked |
//! | `create_exporter` | the thread that builds an agent; agents may be built in parallel |
//! | `exportEvent`, `onBatchBegin`, `onBatchEnd` | the agent's flush thread, one call at a time |
//! | `features` | a host that has negotiated: the thread that built the agent, before anything else |
//! | `identify`, `export_total`, `take_lost`, `take_lost_totals` | a host that has negotiated: its flush thread, likewise |
//! | deleting destructor | the thread that destroys the agent, after the flush thread has ended; maybe never |
//! | `fini` | NIXL: at process exit, if at all, when exporters of leaked agents may still be alive; our loader: when nobody holds the plugin any more, and it may call `init` again later |

mod entry;
mod identity;
mod object;
mod speaker;

use nixl_telemetry_event::{BatchId, Event, Status, Total};

#[doc(hidden)]
pub use self::entry::{fini, init, negotiate};
pub use self::object::Objects;
use crate::host::Host;

/// A plugin as its author describes it; [`entry_points!`](crate::entry_points) gives it to the world.
pub trait Plugin: 'static {
    /// Name inside the plugin object. No host reads it; tools show it.
    const NAME: &'static str;
    /// Version inside the plugin object. No host reads it; tools show it.
    const VERSION: &'static str;
    /// What `create_exporter` creates.
    type Exporter: Exporter;

    /// Where this plugin keeps the objects hosts hold on to: a `static` of its own.
    fn objects() -> &'static Objects;

    /// Creates the exporter of one agent, or refuses. Hosts from 1.4 on answer a refusal by failing the agent.
    ///
    /// Runs on the thread that builds the agent; several may run at once. A panic counts as a refusal.
    fn create(params: CreateParams<'_>) -> Option<Self::Exporter>;

    /// Cleans up what the plugin keeps for the process. Exporters may still be alive. Does nothing by default.
    fn fini() {}
}

/// What a host says when it creates an exporter.
#[derive(Clone, Copy, Debug)]
pub struct CreateParams<'a> {
    /// Who asks.
    pub host: Host,
    /// The agent's name: any bytes, never empty.
    pub agent_name: &'a [u8],
    /// The host's `NIXL_TELEMETRY_BUFFER_SIZE`.
    pub max_events_buffered: u64,
}

/// What a host does with an exporter. Dropping it is the host's delete: the last chance to persist.
///
/// After a panic in any method the exporter is never called again, only dropped.
pub trait Exporter: Send + 'static {
    /// Takes one event. The host ignores the status.
    fn export(&mut self, event: &Event<'_>) -> Status;

    /// Takes one event if that is a matter of arithmetic alone; if not, false, and [`export`](Self::export) is called with
    /// it. By default it never is.
    ///
    /// This is called without a net: a panic in it ends the process. In exchange the host waits for nothing else.
    #[inline(always)]
    fn fold(&mut self, event: &Event<'_>) -> bool {
        let _ = event;
        false
    }

    /// A flush begins (hosts from 1.5 on, ten times a second by default, events or not).
    fn batch_begin(&mut self) {}

    /// A flush has ended; `id` says which batch it was, if the host did. The batches of a host that identifies them have
    /// at most [`BatchId::MOST_EVENTS`] events.
    fn batch_end(&mut self, id: Option<BatchId<'_>>) {
        let _ = id;
    }

    /// Events that [`export`](Self::export) took without an error and that were lost afterwards, since the last call.
    /// Asked after each batch by a host that has negotiated.
    fn take_lost(&mut self) -> u64 {
        0
    }

    /// Whether the host may call [`export_total`](Self::export_total). Asked once, by a host that has negotiated.
    fn takes_totals(&self) -> bool {
        false
    }

    /// Takes a total, after the events of a batch.
    fn export_total(&mut self, total: Total) -> Status {
        let _ = total;
        Status::NotSupported
    }

    /// Events behind the totals that [`export_total`](Self::export_total) took without an error and that were lost
    /// afterwards, since the last call.
    fn take_lost_totals(&mut self) -> u64 {
        0
    }
}

/// Exports a [`Plugin`] under the symbols hosts look for: init, fini, and the one that negotiates rich events.
///
/// `init` has to know who called it, so it is two instructions that pass the return address on; `negotiate` is a jump,
/// so that nothing unsafe is written where the macro is used.
#[macro_export]
macro_rules! entry_points {
    ($plugin:ty) => {
        /// Called by NIXL after loading.
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        pub extern "C" fn nixl_telemetry_plugin_init() -> *const $crate::raw::Plugin {
            #[cfg(target_arch = "x86_64")]
            ::core::arch::naked_asm!(
                "mov rdi, [rsp]",
                "jmp {init}",
                init = sym $crate::plugin::init::<$plugin>,
            );
            #[cfg(target_arch = "aarch64")]
            ::core::arch::naked_asm!(
                "mov x0, x30",
                "b {init}",
                init = sym $crate::plugin::init::<$plugin>,
            );
        }

        /// Called by NIXL at process exit.
        #[unsafe(no_mangle)]
        pub extern "C" fn nixl_telemetry_plugin_fini() {
            $crate::plugin::fini::<$plugin>();
        }

        /// Called by a host that speaks rich events.
        ///
        /// # Safety
        /// The offer must be null or point to one.
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        pub unsafe extern "C" fn nixl_telemetry_plugin_negotiate(
            offer: *const $crate::raw::Offer,
        ) -> *const $crate::raw::Plugin {
            #[cfg(target_arch = "x86_64")]
            ::core::arch::naked_asm!("jmp {negotiate}", negotiate = sym $crate::plugin::negotiate::<$plugin>);
            #[cfg(target_arch = "aarch64")]
            ::core::arch::naked_asm!("b {negotiate}", negotiate = sym $crate::plugin::negotiate::<$plugin>);
        }
    };
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("NIXL's plugin ABI is known for x86-64 and AArch64 only");

#[cfg(test)]
mod tests {
    use core::{ffi::c_void, mem::MaybeUninit, ptr, sync::atomic::Ordering::Relaxed};
    use std::sync::Mutex;

    use nixl_telemetry_event::{Category, Generation, Kind, MemoWords};

    use super::{object::object_for, *};
    use crate::raw::{self, CxxString, RichEvent};

    /// What the exporters of an agent were told, in order.
    static LOG: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

    fn told(agent: &str) -> Vec<String> {
        LOG.lock().unwrap().iter().filter(|(who, _)| who == agent).map(|(_, what)| what.clone()).collect()
    }

    struct Recorder;

    struct RecorderExporter {
        agent: String,
    }

    impl RecorderExporter {
        fn note(&self, what: impl Into<String>) {
            LOG.lock().unwrap().push((self.agent.clone(), what.into()));
        }
    }

    impl Plugin for Recorder {
        const NAME: &'static str = "recorder";
        const VERSION: &'static str = "1.2.3";
        type Exporter = RecorderExporter;

        fn objects() -> &'static Objects {
            static OBJECTS: Objects = Objects::new();
            &OBJECTS
        }

        fn create(params: CreateParams<'_>) -> Option<RecorderExporter> {
            let agent = String::from_utf8_lossy(params.agent_name).into_owned();
            assert_ne!(agent, "panics in create");
            let exporter = RecorderExporter { agent };
            exporter.note(format!("create {} {}", params.host, params.max_events_buffered));
            (exporter.agent != "refused").then_some(exporter)
        }
    }

    impl Exporter for RecorderExporter {
        fn export(&mut self, event: &Event<'_>) -> Status {
            assert_ne!(event.value(), 666, "an unlucky value");
            let when = event.timestamp_us().map_or(String::new(), |time| format!(" at {time}"));
            self.note(format!("{} {}{when}", event.name(), event.value()));
            Status::Success
        }

        fn batch_begin(&mut self) {
            self.note("begin");
        }

        fn batch_end(&mut self, id: Option<BatchId<'_>>) {
            let end = id.map_or("end".to_owned(), |id| {
                let memo = id.memo().map(|memo| {
                    let recalled = memo.recall::<2>();
                    memo.set([id.origin(), 5]);
                    recalled
                });
                format!("end {} {} {} {memo:?}", id.origin(), id.number(), id.is_repeated())
            });
            self.note(end);
            assert_ne!(self.agent, "panics in end");
        }

        fn takes_totals(&self) -> bool {
            assert_ne!(self.agent, "panics in features");
            self.agent.contains("totals")
        }

        fn export_total(&mut self, total: Total) -> Status {
            assert_ne!(total.count, 666, "an unlucky number");
            self.note(format!("{} {} times, {} in sum", total.kind, total.count, total.sum));
            Status::Success
        }

        fn take_lost_totals(&mut self) -> u64 {
            11
        }
    }

    impl Drop for RecorderExporter {
        fn drop(&mut self) {
            self.note("drop");
            assert_ne!(self.agent, "panics in drop");
        }
    }

    /// A host, as C++ would be one.
    struct Caller {
        plugin: *const raw::Plugin,
        exporter: *mut raw::Exporter,
    }

    impl Caller {
        /// On x86-64, where the slot is an ordinary argument.
        fn create(host: Host, agent: &str) -> Self {
            let plugin = object_for::<Recorder>(host);
            let mut params = MaybeUninit::<raw::InitParams>::zeroed();
            let mut exporter = ptr::dangling_mut();
            // SAFETY: the parameters are filled in place and live during the call; the object is one of ours.
            unsafe {
                (*params.as_mut_ptr()).max_events_buffered = 4096;
                CxxString::emplace(&raw mut (*params.as_mut_ptr()).agent_name, agent);
                let slot = (*plugin).create.unwrap()(&raw mut exporter, params.as_ptr());
                assert_eq!(slot, &raw mut exporter);
            }
            Self { plugin, exporter }
        }

        fn slots(&self) -> &raw::Slots {
            // SAFETY: the exporter was created and not yet deleted.
            unsafe { &*(*self.exporter).slots }
        }

        fn export(&self, event: *const c_void) -> i32 {
            // SAFETY: the test passes an event of the host's layout.
            unsafe { (self.slots().export_event)(self.exporter, event) }
        }

        fn batch(&self, events: impl FnOnce(&Self)) {
            // SAFETY: the exporter is alive.
            unsafe { (self.slots().batch_begin)(self.exporter) };
            events(self);
            // SAFETY: the exporter is alive.
            unsafe { (self.slots().batch_end)(self.exporter) };
        }

        fn identify(&self, id: *const raw::BatchId) {
            // SAFETY: the exporter is alive; the test passes null or an identity, and keeps its memo.
            unsafe { (self.slots().identify)(self.exporter, id) };
        }

        fn export_total(&self, kind: Kind, count: u64, sum: u128) -> i32 {
            let [sum_low, sum_high] = [sum & u128::from(u64::MAX), sum >> 64].map(|half| u64::try_from(half).unwrap());
            let total = raw::Total { kind: kind.code(), reserved: 0, count, sum_low, sum_high };
            // SAFETY: the exporter and the total are alive.
            unsafe { (self.slots().export_total)(self.exporter, &raw const total) }
        }

        /// What is asked: features and lost totals.
        fn answers(&self) -> (u64, u64) {
            // SAFETY: the exporter is alive.
            unsafe { ((self.slots().features)(self.exporter), (self.slots().take_lost_totals)(self.exporter)) }
        }

        fn delete(self) {
            // SAFETY: the exporter is alive, and `self` is gone afterwards.
            unsafe { (self.slots().delete)(self.exporter) };
        }
    }

    #[test]
    fn every_generation_is_read_in_its_own_layout() {
        for generation in Generation::ALL {
            let agent = format!("agent of {generation}");
            let caller = Caller::create(Host::Nixl(generation), &agent);
            // SAFETY: the plugin object and the exporter live.
            unsafe {
                assert_eq!((*caller.plugin).api_version, generation.plugin_api());
                assert_eq!((*caller.plugin).name.as_bytes(), b"recorder");
                assert_eq!((*caller.plugin).version.as_bytes(), b"1.2.3");
                assert_eq!((*caller.exporter).max_events_buffered, 4096);
            }
            caller.batch(|caller| {
                for kind in Kind::ALL {
                    let mut bytes = Vec::new();
                    let event = Event::new(kind, u64::from(kind.code()) + 1).at(77);
                    assert!(generation.layout().encode(&event, &mut bytes));
                    assert_eq!(caller.export(bytes.as_ptr().cast()), Status::Success.code());
                }
            });
            caller.delete();

            let at = if generation == Generation::V0_9 { " at 77" } else { "" };
            let mut expected = vec![format!("create NIXL {} 4096", generation.releases()), "begin".into()];
            expected.extend(Kind::ALL.map(|kind| format!("{kind} {}{at}", kind.code() + 1)));
            expected.extend(["end".into(), "drop".into()]);
            assert_eq!(told(&agent), expected);
        }
    }

    #[test]
    fn a_negotiated_host_tells_everything() {
        let caller = Caller::create(Host::Negotiated, "rich");
        let name = "a backend's event with a name of more than 31 bytes";
        let events = [
            RichEvent { kind: 6, category: 0, value: 5, timestamp_us: 9, name: ptr::null(), name_len: 0 },
            RichEvent {
                kind: RichEvent::NAMED,
                category: Category::BACKEND.code(),
                value: u64::MAX,
                timestamp_us: 0,
                name: name.as_ptr(),
                name_len: name.len(),
            },
            RichEvent { kind: 99, category: 0, value: 1, timestamp_us: 1, name: ptr::null(), name_len: 0 },
        ];
        for event in &events {
            assert_eq!(caller.export(ptr::from_ref(event).cast()), 0);
        }
        caller.delete();
        let named = format!("{name} {}", u64::MAX);
        let expected = [
            "create a host with rich events 4096",
            "agent_xfer_time 5 at 9",
            &named,
            "unknown_event_99 1 at 1",
            "drop",
        ];
        assert_eq!(told("rich"), expected);
    }

    #[test]
    fn totals_arrive_whole() {
        let caller = Caller::create(Host::Negotiated, "totals");
        assert_eq!(caller.answers(), (raw::FEATURE_TOTALS, 11));
        caller.batch(|caller| {
            assert_eq!(caller.export_total(Kind::TX_BYTES, 3, 12), 0);
            assert_eq!(caller.export_total(Kind::from_code(99), u64::MAX, u128::MAX - 1), 0);
        });
        caller.delete();
        let expected = [
            "create a host with rich events 4096",
            "begin",
            "agent_tx_bytes 3 times, 12 in sum",
            &format!("unknown_event_99 {} times, {} in sum", u64::MAX, u128::MAX - 1),
            "end",
            "drop",
        ];
        assert_eq!(told("totals"), expected);

        let caller = Caller::create(Host::Negotiated, "has other features");
        assert_eq!(caller.answers().0, 0);
        caller.delete();
    }

    #[test]
    fn an_identity_is_that_of_the_batch_it_announces() {
        let caller = Caller::create(Host::Negotiated, "identified");
        let words = MemoWords::default();
        let memo = words.as_ptr().cast::<u64>().cast_mut();
        let id = raw::BatchId { size: 40, flags: 0, origin: 7, number: 3, memo, memo_words: 8 };
        let end = |id: raw::BatchId| {
            caller.identify(&raw const id);
            caller.batch(|_| {});
            told("identified").pop().unwrap()
        };
        assert_eq!(end(id), "end 7 3 false Some(None)");
        // What was set is the host's to keep, and comes back with the batch.
        assert_eq!(words.each_ref().map(|word| word.load(Relaxed)), [3, 7, 5, 0, 0, 0, 0, 0]);
        assert_eq!(end(raw::BatchId { flags: 1, size: 64, ..id }), "end 7 3 true Some(Some([7, 5]))");
        assert_eq!(end(raw::BatchId { flags: !1, number: 4, memo_words: 9, ..id }), "end 7 4 false Some(None)");
        for (memo, memo_words) in [(ptr::null_mut(), 8), (memo, 7), (memo, 0)] {
            assert_eq!(end(raw::BatchId { memo, memo_words, ..id }), "end 7 3 false None");
        }
        // Nobody knows a shorter one, and the last word before a batch counts.
        assert_eq!(end(raw::BatchId { size: 39, ..id }), "end");
        caller.identify(&raw const id);
        caller.identify(ptr::null());
        caller.batch(|_| {});
        assert_eq!(told("identified").pop().unwrap(), "end");
        caller.identify(&raw const id);
        caller.batch(|_| {});
        caller.batch(|_| {});
        assert_eq!(told("identified").pop().unwrap(), "end", "of one batch, and not of the next");
        caller.delete();
    }

    #[test]
    fn a_plugin_object_is_made_once_for_each_host() {
        let first = object_for::<Recorder>(Host::Nixl(Generation::V1_5));
        assert_eq!(object_for::<Recorder>(Host::Nixl(Generation::V1_5)), first);
        assert_ne!(object_for::<Recorder>(Host::Nixl(Generation::V1_4)), first);
    }

    #[test]
    fn an_offer_is_checked_before_it_is_read() {
        let offer = |size: u32, rich_version| {
            let offer = raw::Offer { size, rich_version };
            // SAFETY: a live offer.
            unsafe { negotiate::<Recorder>(&raw const offer) }
        };
        let agreed = object_for::<Recorder>(Host::Negotiated);
        assert_eq!([offer(8, 1), offer(64, 2)], [agreed, agreed]);
        assert_eq!([offer(8, 0), offer(4, 1), offer(0, 1)], [ptr::null(); 3]);
        // SAFETY: null is allowed.
        assert!(unsafe { negotiate::<Recorder>(ptr::null()) }.is_null());
    }

    #[test]
    fn a_refusal_is_null() {
        for agent in ["refused", "panics in create"] {
            assert!(Caller::create(Host::Nixl(Generation::V1_5), agent).exporter.is_null(), "{agent}");
        }
    }

    #[test]
    fn after_a_panic_the_exporter_is_only_dropped() {
        let caller = Caller::create(Host::Nixl(Generation::V1_5), "panics");
        let export = |value| {
            let bytes = nixl_telemetry_event::layout::l16::encode(&Event::new(Kind::TX_BYTES, value)).unwrap();
            caller.export(bytes.as_ptr().cast())
        };
        assert_eq!([export(1), export(666), export(2)], [0, Status::Unknown.code(), Status::Unknown.code()]);
        caller.batch(|_| {});
        caller.delete();
        assert_eq!(told("panics"), ["create NIXL 1.5.0 - 1.5.1 4096", "agent_tx_bytes 1", "drop"]);

        let caller = Caller::create(Host::Nixl(Generation::V1_5), "panics in end");
        caller.batch(|_| {});
        caller.batch(|_| {});
        caller.delete();
        assert_eq!(told("panics in end"), ["create NIXL 1.5.0 - 1.5.1 4096", "begin", "end", "drop"]);

        let caller = Caller::create(Host::Negotiated, "panics in totals");
        let unknown = Status::Unknown.code();
        let total = |count| caller.export_total(Kind::TX_BYTES, count, 5);
        assert_eq!([total(1), total(666), total(2)], [0, unknown, unknown]);
        assert_eq!(caller.answers(), (0, 0));
        caller.delete();
        let expected = ["create a host with rich events 4096", "agent_tx_bytes 1 times, 5 in sum", "drop"];
        assert_eq!(told("panics in totals"), expected);

        let caller = Caller::create(Host::Negotiated, "panics in features");
        assert_eq!(caller.answers(), (0, 0));
        caller.delete();

        Caller::create(Host::Nixl(Generation::V1_5), "panics in drop").delete();
        assert_eq!(told("panics in drop"), ["create NIXL 1.5.0 - 1.5.1 4096", "drop"]);
    }

    #[test]
    fn the_complete_object_destructor_destroys_without_freeing() {
        let caller = Caller::create(Host::Nixl(Generation::V1_3), "destroyed");
        let memory = caller.exporter.cast::<object::ExporterObject<RecorderExporter>>();
        // SAFETY: the exporter is alive; afterwards only its memory is, which is given back as what it was made of.
        unsafe {
            (caller.slots().destroy)(caller.exporter);
            assert_eq!(told("destroyed").last().map(String::as_str), Some("drop"));
            drop(Box::from_raw(memory.cast::<MaybeUninit<object::ExporterObject<RecorderExporter>>>()));
        }
    }
}
