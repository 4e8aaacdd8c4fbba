// SPDX-License-Identifier: Apache-2.0

//! An agent: the party that transfers data.

use std::ffi::{CStr, CString, c_char};
use std::fmt;
use std::ptr;
use std::sync::Arc;

use crate::backend::Backend;
use crate::config::AgentConfig;
use crate::error::{Error, check};
use crate::metadata::Metadata;
use crate::owned::Owned;
use crate::peers::Peers;
use crate::region::Slice;
use crate::sys::{self, Functions};
use crate::transfer::{Operation, Transfer};

/// A NIXL agent.
///
/// Clones stand for the same agent. It is destroyed, and its telemetry with it, when the last clone and everything made
/// from it is gone: backends, memory and transfers. NIXL does not export what its collector still holds at that moment;
/// whoever wants the last events keeps the agent for one flush interval longer.
#[derive(Clone)]
pub struct Agent(Arc<Inner>);

struct Inner {
    name: CString,
    handle: Owned<sys::Agent>,
    functions: &'static Functions,
    peers: Peers,
}

// SAFETY: NIXL's agent is bound to no thread, and it was created with one of the modes in which it locks for itself, so
// calls may come from any thread at any time. What such calls must keep apart, a request and its status, is kept apart
// by `Transfer`.
unsafe impl Send for Inner {}
// SAFETY: as for Send.
unsafe impl Sync for Inner {}

impl Agent {
    pub(crate) fn create(functions: &'static Functions, name: &str, config: &AgentConfig) -> Result<Agent, Error> {
        let name = CString::new(name)?;
        let config = config.raw();
        // SAFETY: name and configuration outlive the call, which copies them. The agent is destroyed once, when nobody
        // uses it any more: whatever uses it holds `Inner`.
        let handle = unsafe {
            Owned::create("create_configured_agent", functions.destroy_agent, |out| {
                (functions.create_configured_agent)(name.as_ptr(), &config, out)
            })
        }?;
        Ok(Agent(Arc::new(Inner { name, handle, functions, peers: Peers::default() })))
    }

    /// The name it was created with.
    pub fn name(&self) -> &str {
        self.0.name.to_str().expect("it was made from a str")
    }

    /// Names of the backends this NIXL offers, in NIXL's order.
    ///
    /// Up to 1.0.1, where asking means loading them all, only those that can be loaded on this machine.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] if NIXL refuses.
    pub fn available_backends(&self) -> Result<Vec<String>, Error> {
        let functions = self.functions();
        // SAFETY: the agent is alive, and the list, which is a copy, is destroyed once.
        let list = unsafe {
            Owned::create("get_available_plugins", functions.destroy_string_list, |out| {
                (functions.get_available_plugins)(self.handle(), out)
            })
        }?;
        let mut size = 0;
        // SAFETY: the list is alive and `size` is a place for a size.
        check("string_list_size", unsafe { (functions.string_list_size)(list.get(), &mut size) })?;
        let mut names = Vec::new();
        for index in 0..size {
            let mut name: *const c_char = ptr::null();
            // SAFETY: the list is alive and `name` is a place for a pointer.
            check("string_list_get", unsafe { (functions.string_list_get)(list.get(), index, &mut name) })?;
            // SAFETY: the call succeeded, so this is a C string that lives as long as the list.
            names.push(unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned());
        }
        Ok(names)
    }

    /// Creates a backend, such as `UCX` or `POSIX`, loading its plugin.
    ///
    /// Parameters that are not given have the plugin's defaults, with which UCX listens on every network interface; see
    /// [`UCX_MEMORY`](crate::UCX_MEMORY) for the alternative.
    ///
    /// # Errors
    ///
    /// [`Error::Nul`] for impossible strings; [`Error::Call`] if NIXL refuses, as it does for a plugin that is not there
    /// or cannot be loaded on this machine, and for a second backend of the same name.
    pub fn backend(&self, plugin: &str, parameters: &[(&str, &str)]) -> Result<Backend, Error> {
        Backend::create(self, plugin, parameters)
    }

    /// What another agent has to know to reach this one: its backends and the memory registered so far.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] if NIXL refuses, as it does while the agent has no backend.
    pub fn metadata(&self) -> Result<Metadata, Error> {
        Metadata::of(self)
    }

    /// Makes the agent described by `metadata` known to this one, and returns its name.
    ///
    /// Transfers to it that were prepared before cannot be posted any more.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] if NIXL refuses, as it does if the two have no backend in common.
    pub fn load(&self, metadata: &Metadata) -> Result<String, Error> {
        self.0.peers.loading(metadata.agent(), || metadata.load_into(self))
    }

    /// Connects to the agent named `remote`, whose metadata was loaded. Otherwise the first transfer does it.
    ///
    /// # Errors
    ///
    /// [`Error::Nul`] for an impossible name; [`Error::Call`] if NIXL refuses, as it does for an unknown agent.
    pub fn connect(&self, remote: &str) -> Result<(), Error> {
        let remote = CString::new(remote)?;
        // SAFETY: the agent is alive, the name outlives the call, and null arguments mean every backend.
        check("agent_make_connection", unsafe {
            (self.functions().agent_make_connection)(self.handle(), remote.as_ptr(), ptr::null_mut())
        })
    }

    /// Forgets the metadata of the agent named `remote` and disconnects from it.
    ///
    /// Transfers to it that were prepared before are refused when posted, which counts as a `not found` error in the
    /// telemetry of this agent.
    ///
    /// # Errors
    ///
    /// [`Error::Nul`] for an impossible name; [`Error::StillRunning`] while a transfer to it is running; [`Error::Call`]
    /// if NIXL refuses, as it does for an unknown agent.
    pub fn invalidate(&self, remote: &str) -> Result<(), Error> {
        let remote = CString::new(remote)?;
        self.0.peers.forgetting(&remote, || {
            // SAFETY: the agent is alive and the name outlives the call. Requests made from this metadata are not
            // running, and are not posted again once the name stands for other metadata.
            check("invalidate_remote_md", unsafe {
                (self.functions().invalidate_remote_md)(self.handle(), remote.as_ptr())
            })
        })
    }

    /// Prepares a transfer between memory of this agent, `local`, and memory of another, `remote`.
    ///
    /// The nth slice of one side is copied to or from the nth of the other. [`Transfer::post`] starts it.
    ///
    /// # Errors
    ///
    /// [`Error::Slices`] if the slices do not fit together: none at all, different numbers or lengths, memory and files
    /// mixed on one side, or one side spread over several agents. [`Error::Call`] if NIXL refuses; if it does because
    /// the remote agent's metadata was not loaded, or was loaded before the memory was registered, this counts as a
    /// `not found` error in its telemetry.
    pub fn transfer(&self, operation: Operation, local: &[Slice], remote: &[Slice]) -> Result<Transfer, Error> {
        Transfer::create(self, operation, local, remote)
    }

    pub(crate) fn functions(&self) -> &'static Functions {
        self.0.functions
    }

    pub(crate) fn handle(&self) -> *mut sys::Agent {
        self.0.handle.get()
    }

    pub(crate) fn c_name(&self) -> &CStr {
        &self.0.name
    }

    pub(crate) fn peers(&self) -> &Peers {
        &self.0.peers
    }

    pub(crate) fn is(&self, other: &Agent) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Agent {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Agent").field(&self.name()).finish()
    }
}
