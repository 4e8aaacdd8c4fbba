// SPDX-License-Identifier: Apache-2.0

//! What an agent has to remember of others, so that no request outlives the metadata it was made from.
//!
//! A request holds pointers into the remote agent's metadata. NIXL drops that metadata when told to, and when it finds
//! the remote agent disconnected; a request posted after that is refused. But releases before 1.4.0 go by the name
//! alone: once the metadata is loaded anew, they accept the old request with its dangling pointers. Therefore:
//!
//! - loading begins a new generation of the peer, and requests of an older one are not posted;
//! - metadata is not dropped while a request made from it is running.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use crate::error::Error;

/// The peers of one agent, by name.
#[derive(Default)]
pub(crate) struct Peers(RwLock<HashMap<CString, Arc<Peer>>>);

/// One remote agent, as one agent sees it.
#[derive(Default)]
pub(crate) struct Peer {
    /// Changed with the lock of `Peers` held for writing, read with it held for reading.
    generation: AtomicU64,
    /// Transfers that were posted and not seen to end. Raised with that lock held for reading.
    running: AtomicUsize,
}

impl Peers {
    /// Calls `load`, which loads metadata of `name`, while no request is made or posted.
    pub(crate) fn loading<T>(&self, name: &CStr, load: impl FnOnce() -> T) -> T {
        let mut peers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        peers.entry(name.to_owned()).or_default().generation.fetch_add(1, Ordering::Relaxed);
        load()
    }

    /// Calls `forget`, which drops metadata of `name`, unless a transfer to it is running.
    pub(crate) fn forgetting(&self, name: &CStr, forget: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
        let peers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // Acquire, with Release in `ended`: what the transfer did comes before what is done now.
        if peers.get(name).is_some_and(|peer| peer.running.load(Ordering::Acquire) > 0) {
            return Err(Error::StillRunning);
        }
        forget()
    }

    /// Calls `make`, which makes a request to `name`; the ticket is for posting it.
    pub(crate) fn preparing<T>(
        &self,
        name: &CStr,
        make: impl FnOnce() -> Result<T, Error>,
    ) -> Result<(T, Ticket), Error> {
        let peers = self.read();
        let request = make()?;
        let peer = peers.get(name).cloned().unwrap_or_default();
        let generation = peer.generation.load(Ordering::Relaxed);
        Ok((request, Ticket { peer, generation }))
    }

    /// Keeps metadata from being loaded and dropped as long as the guard lives.
    fn read(&self) -> RwLockReadGuard<'_, HashMap<CString, Arc<Peer>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which generation of which peer a request was made for.
pub(crate) struct Ticket {
    peer: Arc<Peer>,
    generation: u64,
}

impl Ticket {
    /// Calls `post`, which posts the request and says whether it is running now, if the peer is still of the generation
    /// it was made for.
    pub(crate) fn posting<T>(&self, peers: &Peers, post: impl FnOnce() -> (T, bool)) -> Result<T, Error> {
        let _unchanged = peers.read();
        if self.peer.generation.load(Ordering::Relaxed) != self.generation {
            return Err(Error::Stale);
        }
        let (result, running) = post();
        if running {
            self.peer.running.fetch_add(1, Ordering::Relaxed);
        }
        Ok(result)
    }

    /// Notes that a run which was running is over.
    pub(crate) fn ended(&self) {
        self.peer.running.fetch_sub(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &CStr = c"target";

    fn ticket(peers: &Peers) -> Ticket {
        peers.preparing(NAME, || Ok(())).unwrap().1
    }

    #[test]
    fn a_request_is_posted_in_its_own_generation_only() {
        let peers = Peers::default();
        peers.loading(NAME, || ());
        let old = ticket(&peers);
        assert_eq!(old.posting(&peers, || (7, false)).unwrap(), 7);
        peers.loading(c"another", || ());
        assert_eq!(old.posting(&peers, || (7, false)).unwrap(), 7);
        peers.loading(NAME, || ());
        let refused = old.posting(&peers, || -> ((), bool) { panic!("an old request was posted") });
        assert!(matches!(refused, Err(Error::Stale)));
        assert_eq!(ticket(&peers).posting(&peers, || (8, false)).unwrap(), 8);
    }

    #[test]
    fn a_peer_is_not_forgotten_while_a_transfer_runs() {
        let peers = Peers::default();
        peers.loading(NAME, || ());
        let (one, two) = (ticket(&peers), ticket(&peers));
        one.posting(&peers, || ((), true)).unwrap();
        two.posting(&peers, || ((), true)).unwrap();
        one.ended();
        let refused = peers.forgetting(NAME, || panic!("it was forgotten"));
        assert!(matches!(refused, Err(Error::StillRunning)));
        peers.forgetting(c"another", || Ok(())).unwrap();
        two.ended();
        peers.forgetting(NAME, || Ok(())).unwrap();
    }
}
