// SPDX-License-Identifier: Apache-2.0

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::Error;
use super::node::Node;

/// The network of the embedded agents: knows them by name, so that one can reach the memory of another.
///
/// Clones are the same fabric; agents of different fabrics cannot reach each other.
#[derive(Clone, Default)]
pub struct Fabric(Arc<Mutex<Directory>>);

#[derive(Default)]
struct Directory {
    nodes: HashMap<String, Weak<Node>>,
    instances: u64,
}

impl Fabric {
    /// A fabric without agents.
    pub fn new() -> Self {
        Self::default()
    }

    /// Enters the node that `make` makes from the number of its instance, unless its name is in use.
    pub(super) fn join(&self, name: &str, make: impl FnOnce(u64) -> Arc<Node>) -> Result<Arc<Node>, Error> {
        let mut directory = self.lock();
        if directory.nodes.contains_key(name) {
            return Err(Error::NameTaken { name: name.to_owned() });
        }
        directory.instances += 1;
        let node = make(directory.instances);
        directory.nodes.insert(name.to_owned(), Arc::downgrade(&node));
        Ok(node)
    }

    /// Frees the name; the node is no longer found.
    pub(super) fn leave(&self, name: &str) {
        self.lock().nodes.remove(name);
    }

    /// The node of this name and instance, or `None` if it has left.
    pub(super) fn find(&self, name: &str, instance: u64) -> Option<Arc<Node>> {
        let node = self.lock().nodes.get(name)?.upgrade()?;
        (node.instance() == instance).then_some(node)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Directory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Fabric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: Vec<_> = self.lock().nodes.keys().cloned().collect();
        names.sort();
        f.debug_struct("Fabric").field("agents", &names).finish()
    }
}
