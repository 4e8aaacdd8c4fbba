// SPDX-License-Identifier: Apache-2.0

//! The C API as it is: handles, structures, numbers and the table of functions. No behaviour.
//!
//! Names leave out the prefix `nixl_capi_`. Signatures are the same in every release from 0.10.1 to 1.5.1; 1.5.0 added
//! functions, none of which is used here. Every function swallows C++ exceptions and returns a status.

use std::ffi::{c_char, c_int, c_void};
use std::marker::{PhantomData, PhantomPinned};

/// What every function returns: 0, 1 or a negative error. [`CapiStatus`](crate::CapiStatus) names them.
pub(crate) type Status = c_int;

pub(crate) const SUCCESS: Status = 0;
pub(crate) const IN_PROGRESS: Status = 1;

/// Ordinary memory, as type of a descriptor list. The "device" of its descriptors is 0.
pub(crate) const MEMORY_DRAM: c_int = 0;
/// A file, as type of a descriptor list. Addresses are offsets, the "device" is the file descriptor.
pub(crate) const MEMORY_FILE: c_int = 4;

pub(crate) const OPERATION_READ: c_int = 0;
pub(crate) const OPERATION_WRITE: c_int = 1;

pub(crate) const SYNC_STRICT: c_int = 1;
pub(crate) const SYNC_READ_WRITE: c_int = 2;

macro_rules! handles {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[repr(C)]
        pub(crate) struct $name {
            _data: [u8; 0],
            // Neither Send nor Sync nor Unpin: whoever wraps a handle has to argue.
            _marker: PhantomData<(*mut u8, PhantomPinned)>,
        }
    )*};
}

handles! {
    /// An agent; one allocation that owns the C++ object.
    Agent
    /// A wrapper around a backend, which itself belongs to the agent.
    Backend
    /// Parameters of a backend: a map of strings.
    Params
    /// Optional arguments of a call.
    OptArgs
    /// A list of strings.
    StringList
    /// Descriptors to register: address, length, device, metadata.
    RegDlist
    /// Descriptors to transfer: address, length, device.
    XferDlist
    /// A transfer request.
    XferReq
}

/// How an agent is created.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct AgentConfig {
    /// Offset 0.
    pub(crate) progress_thread: bool,
    /// Offset 1. Listens on every interface.
    pub(crate) listen_thread: bool,
    /// Offset 4.
    pub(crate) listen_port: c_int,
    /// Offset 8.
    pub(crate) thread_sync: c_int,
    /// Offset 12. Ignored since 1.0.0.
    pub(crate) workers: u32,
    /// Offset 16, microseconds.
    pub(crate) progress_delay_us: u64,
    /// Offset 24, microseconds.
    pub(crate) listen_delay_us: u64,
    /// Offset 32.
    pub(crate) capture_telemetry: bool,
}

const _: () = {
    assert!(size_of::<AgentConfig>() == 40);
    assert!(std::mem::offset_of!(AgentConfig, listen_port) == 4);
    assert!(std::mem::offset_of!(AgentConfig, thread_sync) == 8);
    assert!(std::mem::offset_of!(AgentConfig, workers) == 12);
    assert!(std::mem::offset_of!(AgentConfig, progress_delay_us) == 16);
    assert!(std::mem::offset_of!(AgentConfig, listen_delay_us) == 24);
    assert!(std::mem::offset_of!(AgentConfig, capture_telemetry) == 32);
};

/// What NIXL measured of one transfer; the caller allocates it.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct XferTelemetry {
    /// Offset 0, microseconds of the monotonic clock.
    pub(crate) start_us: u64,
    /// Offset 8, microseconds.
    pub(crate) post_us: u64,
    /// Offset 16, microseconds.
    pub(crate) xfer_us: u64,
    /// Offset 24.
    pub(crate) bytes: u64,
    /// Offset 32.
    pub(crate) descriptors: u64,
}

const _: () = assert!(size_of::<XferTelemetry>() == 40);

unsafe extern "C" {
    /// The C library's `free`, with which buffers made by the C API are given back.
    pub(crate) fn free(pointer: *mut c_void);
}

macro_rules! functions {
    ($($(#[$doc:meta])* fn $name:ident($($argument:ident: $type:ty),* $(,)?);)*) => {
        /// The functions of one loaded library.
        pub(crate) struct Functions {
            $($(#[$doc])* pub(crate) $name: unsafe extern "C" fn($($argument: $type),*) -> Status,)*
        }

        impl Functions {
            /// Looks every function up. On failure gives back the name of the first that is missing.
            ///
            /// # Safety
            ///
            /// The library is a `libnixl_capi.so`, so that its functions of these names have these signatures, and it
            /// stays loaded as long as the table is used.
            pub(crate) unsafe fn load(library: &libloading::Library) -> Result<Functions, &'static str> {
                Ok(Functions {
                    $($name: {
                        const SYMBOL: &str = concat!("nixl_capi_", stringify!($name));
                        // SAFETY: the caller says that a symbol of this name is a function of this signature.
                        *unsafe { library.get(SYMBOL) }.map_err(|_| SYMBOL)?
                    },)*
                })
            }
        }
    };
}

functions! {
    /// Creates an agent; throws inside, hence status -2, on any bad telemetry setting.
    fn create_configured_agent(name: *const c_char, config: *const AgentConfig, agent: *mut *mut Agent);
    /// Runs the agent's destructor: stops telemetry, then destroys the backends.
    fn destroy_agent(agent: *mut Agent);

    /// Names of the backends that could be created.
    fn get_available_plugins(agent: *mut Agent, list: *mut *mut StringList);
    fn string_list_size(list: *mut StringList, size: *mut usize);
    /// The string belongs to the list.
    fn string_list_get(list: *mut StringList, index: usize, string: *mut *const c_char);
    fn destroy_string_list(list: *mut StringList);

    fn create_params(params: *mut *mut Params);
    fn params_add(params: *mut Params, key: *const c_char, value: *const c_char);
    fn destroy_params(params: *mut Params);

    /// The parameters must not be null.
    fn create_backend(agent: *mut Agent, plugin: *const c_char, params: *mut Params, backend: *mut *mut Backend);
    /// Frees the wrapper only; the backend goes with the agent.
    fn destroy_backend(backend: *mut Backend);

    fn create_opt_args(args: *mut *mut OptArgs);
    fn opt_args_add_backend(args: *mut OptArgs, backend: *mut Backend);
    fn destroy_opt_args(args: *mut OptArgs);

    fn create_reg_dlist(memory: c_int, list: *mut *mut RegDlist);
    fn reg_dlist_add_desc(
        list: *mut RegDlist, address: usize, length: usize, device: u64, metadata: *const c_void, metadata_length: usize,
    );
    fn destroy_reg_dlist(list: *mut RegDlist);
    fn register_mem(agent: *mut Agent, list: *mut RegDlist, args: *mut OptArgs);
    fn deregister_mem(agent: *mut Agent, list: *mut RegDlist, args: *mut OptArgs);

    /// The buffer comes from `malloc`.
    fn get_local_md(agent: *mut Agent, data: *mut *mut c_void, length: *mut usize);
    /// The name comes from `strdup`.
    fn load_remote_md(agent: *mut Agent, data: *const c_void, length: usize, name: *mut *mut c_char);
    fn invalidate_remote_md(agent: *mut Agent, remote: *const c_char);
    fn agent_make_connection(agent: *mut Agent, remote: *const c_char, args: *mut OptArgs);

    fn create_xfer_dlist(memory: c_int, list: *mut *mut XferDlist);
    fn xfer_dlist_add_desc(list: *mut XferDlist, address: usize, length: usize, device: u64);
    fn destroy_xfer_dlist(list: *mut XferDlist);

    fn create_xfer_req(
        agent: *mut Agent, operation: c_int, local: *mut XferDlist, remote: *mut XferDlist, peer: *const c_char,
        request: *mut *mut XferReq, args: *mut OptArgs,
    );
    fn post_xfer_req(agent: *mut Agent, request: *mut XferReq, args: *mut OptArgs);
    fn get_xfer_status(agent: *mut Agent, request: *mut XferReq);
    fn get_xfer_telemetry(agent: *mut Agent, request: *mut XferReq, telemetry: *mut XferTelemetry);
    /// Must succeed before `destroy_xfer_req`.
    fn release_xfer_req(agent: *mut Agent, request: *mut XferReq);
    fn destroy_xfer_req(request: *mut XferReq);
}
