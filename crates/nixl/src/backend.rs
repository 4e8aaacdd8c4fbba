// SPDX-License-Identifier: Apache-2.0

//! A backend: what moves the bytes.

use std::ffi::CString;
use std::fmt;
use std::fs::File;
use std::sync::Arc;

use crate::agent::Agent;
use crate::error::{Error, check};
use crate::owned::Owned;
use crate::region::{FileRegion, Region};
use crate::sys;

/// Parameters for the `UCX` backend that keep it within this machine's memory: it listens nowhere and uses no network.
///
/// Left to itself, UCX listens on every interface, and NIXL asks it for transports that notice a peer's death, which
/// shared memory does not. Observed to work with every release from 0.10.1 to 1.5.1; most transfers are complete when
/// posted.
pub const UCX_MEMORY: &[(&str, &str)] = &[("engine_config", "TLS=sm"), ("ucx_error_handling_mode", "none")];

/// Parameters for the `UCX` backend that send everything through TCP on the loopback interface, listening nowhere else.
///
/// Such transfers take their time, so they are seen running. With 0.10.1, whose UCX does not reach itself this way, the
/// backend cannot be created; observed to work from 1.0.1 to 1.5.1.
pub const UCX_LOOPBACK: &[(&str, &str)] = &[("engine_config", "NET_DEVICES=lo,TLS=tcp")];

/// A backend of an agent, made by [`Agent::backend`].
///
/// Clones stand for the same backend. It lives as long as its agent, which it keeps alive.
#[derive(Clone)]
pub struct Backend(Arc<Inner>);

struct Inner {
    plugin: String,
    /// Names this backend in calls that could mean several. Made once and never changed.
    arguments: Owned<sys::OptArgs>,
    // Declared after the arguments, which point to the backend, and before the agent, which owns it.
    _handle: Owned<sys::Backend>,
    agent: Agent,
}

// SAFETY: the handles are bound to no thread. They are only read, by calls on the agent, which locks.
unsafe impl Send for Inner {}
// SAFETY: as for Send.
unsafe impl Sync for Inner {}

impl Backend {
    pub(crate) fn create(agent: &Agent, plugin: &str, parameters: &[(&str, &str)]) -> Result<Backend, Error> {
        let functions = agent.functions();
        let name = CString::new(plugin)?;
        // SAFETY: the parameters are destroyed once, after `create_backend` has copied them.
        let params =
            unsafe { Owned::create("create_params", functions.destroy_params, |out| (functions.create_params)(out)) }?;
        for (key, value) in parameters {
            let (key, value) = (CString::new(*key)?, CString::new(*value)?);
            // SAFETY: the parameters are alive, and both strings outlive the call, which copies them.
            check("params_add", unsafe { (functions.params_add)(params.get(), key.as_ptr(), value.as_ptr()) })?;
        }
        // SAFETY: agent, name and parameters are alive. What is destroyed later is a wrapper of its own; the backend
        // behind it belongs to the agent.
        let handle = unsafe {
            Owned::create("create_backend", functions.destroy_backend, |out| {
                (functions.create_backend)(agent.handle(), name.as_ptr(), params.get(), out)
            })
        }?;
        // SAFETY: the arguments are destroyed once, with the backend.
        let arguments = unsafe {
            Owned::create("create_opt_args", functions.destroy_opt_args, |out| (functions.create_opt_args)(out))
        }?;
        // SAFETY: arguments and backend are alive.
        check("opt_args_add_backend", unsafe { (functions.opt_args_add_backend)(arguments.get(), handle.get()) })?;
        Ok(Backend(Arc::new(Inner { plugin: plugin.to_owned(), arguments, _handle: handle, agent: agent.clone() })))
    }

    /// The name of its plugin, such as `UCX`.
    pub fn plugin(&self) -> &str {
        &self.0.plugin
    }

    /// The agent it belongs to.
    pub fn agent(&self) -> &Agent {
        &self.0.agent
    }

    /// Allocates `length` bytes, all zero, and registers them with this backend.
    ///
    /// # Errors
    ///
    /// [`Error::Empty`] for a length of 0; [`Error::Call`] if NIXL refuses, as it does if the backend does not take
    /// ordinary memory.
    pub fn register(&self, length: usize) -> Result<Region, Error> {
        Region::create(self, length)
    }

    /// Registers the first `length` bytes of a file with this backend, which the `POSIX` backend takes.
    ///
    /// The file must be open for reading if it is read by transfers, and for writing if it is written. It need not have
    /// that length yet.
    ///
    /// # Errors
    ///
    /// [`Error::Empty`] for a length of 0; [`Error::Call`] if NIXL refuses, as it does if the backend does not take
    /// files.
    pub fn register_file(&self, file: File, length: usize) -> Result<FileRegion, Error> {
        FileRegion::create(self, file, length)
    }

    pub(crate) fn arguments(&self) -> *mut sys::OptArgs {
        self.0.arguments.get()
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Backend").field("plugin", &self.plugin()).field("agent", &self.agent().name()).finish()
    }
}
