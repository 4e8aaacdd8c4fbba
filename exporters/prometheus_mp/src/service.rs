// SPDX-License-Identifier: Apache-2.0

//! What the server of this process does: stands for election, and shows all ranks once it is elected.

use std::mem;
use std::net::SocketAddr;
use std::time::Duration;

use nixl_telemetry_metrics::encode::{Encoder, Format, Series};
use nixl_telemetry_scrape::{self as scrape, ListenError, Refused, Request, Role, Stats, endpoint};
use nixl_telemetry_sdk::metrics::{Family, Snapshot, Type};
use nixl_telemetry_sdk::{info, warn};

use crate::election::Election;
use crate::node;
use crate::ranks::Ranks;
use crate::store::{Detail, Moment};

/// How often whoever serves removes what is stale, whether or not somebody scrapes.
pub(crate) const TIDY: Duration = Duration::from_secs(5);

/// Serves the ranks of a directory, while it is this process's turn.
#[derive(Debug)]
pub(crate) struct Service {
    election: Election,
    ranks: Ranks,
    address: SocketAddr,
    port: Port,
    /// What went wrong the last time, so that it is said once.
    said: String,
}

/// How it stands with the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Port {
    /// Others serve, or nobody has been asked yet.
    Others,
    /// This process was elected, and could not get it.
    Refused,
    /// This process serves.
    Ours,
}

impl Service {
    pub(crate) fn new(election: Election, ranks: Ranks, address: SocketAddr) -> Self {
        Self { election, ranks, address, port: Port::Others, said: String::new() }
    }

    /// Looks at the stores; says why it cannot.
    fn look(&mut self, detail: Detail) -> Result<(), String> {
        let looked = self.ranks.look(Moment::now().monotonic_ns, detail);
        let problem = looked.map_err(|error| format!("{}: {error}", self.ranks.directory().display()));
        match &problem {
            Ok(()) => self.said.clear(),
            Err(problem) => self.say(problem),
        }
        problem
    }

    fn say(&mut self, what: &str) {
        if self.said != what {
            warn!("exporter prometheus_mp: {what}");
            what.clone_into(&mut self.said);
        }
    }
}

impl scrape::Service for Service {
    fn metrics(&mut self, request: &Request<'_>, stats: &Stats, body: &mut Vec<u8>) -> Result<(), Refused> {
        let view = View::of(request)?;
        // Only protobuf has exponential histograms.
        let detail = if request.format() == Format::Protobuf { Detail::Exponential } else { Detail::Classic };
        self.look(detail).map_err(Refused::unavailable)?;
        let mut encoder = Encoder::new(request.format(), body);
        endpoint::write_stats(stats, &mut encoder);
        match view {
            View::Ranks => {
                let series: Vec<_> = self.ranks.shown().map(|(labels, snapshot)| Series { labels, snapshot }).collect();
                encoder.families_where(&series, is_known);
            }
            View::Node => {
                let sums = node::sums(self.ranks.shown());
                let series: Vec<_> = sums.iter().map(|(labels, snapshot)| Series { labels, snapshot }).collect();
                encoder.families_where(&series, |family, sum| family.kind() != Type::Gauge && is_known(family, sum));
            }
        }
        encoder.finish();
        Ok(())
    }

    fn tick(&mut self) -> Role {
        match mem::replace(&mut self.port, Port::Others) {
            Port::Ours => {
                self.port = Port::Ours;
                // What is wrong has been said.
                let _ = self.look(Detail::Classic);
                Role::Serve
            }
            // For a moment somebody else may have luck.
            Port::Refused => Role::StandBy,
            Port::Others if self.election.stand() => Role::Serve,
            Port::Others => Role::StandBy,
        }
    }

    fn listening(&mut self, addresses: &[SocketAddr]) {
        self.port = Port::Ours;
        self.said.clear();
        let shown: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
        let (shown, directory) = (shown.join(", "), self.ranks.directory().display());
        info!("exporter prometheus_mp: serves http://{shown}/metrics, for all processes that share {directory}");
    }

    fn not_listening(&mut self, error: &ListenError) {
        self.port = Port::Refused;
        self.election.give_up();
        let address = self.address;
        if error.is_taken() {
            self.say(&format!(
                "was elected to serve {address}, but a process that does not share {} has it; waits until it is free",
                self.ranks.directory().display()
            ));
        } else {
            self.say(&format!("was elected to serve {address}, but cannot: {error}; tried again"));
        }
    }
}

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum View {
    /// Every agent of every process.
    Ranks,
    /// Their sums.
    Node,
}

impl View {
    fn of(request: &Request<'_>) -> Result<Self, Refused> {
        let mut view = Self::Ranks;
        for parameter in request.parameters() {
            view = match parameter {
                ("aggregate", "node") => Self::Node,
                (name, value) => {
                    let refusal = format!("unknown query {name}={value}: expected aggregate=node, or nothing");
                    return Err(Refused::bad_request(refusal));
                }
            };
        }
        Ok(view)
    }
}

/// Whether a store says something about a family: NIXL's own say nothing about the exporter. What they lack as well are
/// exponential histograms.
fn is_known(family: &Family, snapshot: &Snapshot) -> bool {
    family.is_of_agent() || snapshot.histograms.iter().all(|histogram| histogram.exponential.is_some())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use nixl_telemetry_scrape::Service as _;

    use super::*;
    use crate::store::Writer;
    use crate::store::tests::identity;

    #[test]
    fn who_serves_tidies_up_without_being_asked() {
        let folder = tempfile::tempdir().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 9));
        let service = || {
            let ranks = Ranks::new(folder.path().to_owned(), Duration::ZERO);
            Service::new(Election::new(folder.path(), address), ranks, address)
        };
        let (mut owner, mut other) = (service(), service());
        assert_eq!((owner.tick(), other.tick()), (Role::Serve, Role::StandBy));
        owner.listening(&[address]);
        let store = Writer::create(folder.path(), identity("a", 7, "")).unwrap();
        let path = store.path().to_owned();
        assert_eq!((owner.tick(), path.exists()), (Role::Serve, true));
        drop(store);
        assert_eq!((other.tick(), path.exists()), (Role::StandBy, true), "who stands by removes nothing");
        assert_eq!((owner.tick(), path.exists()), (Role::Serve, false));
        // It is its turn for as long as it serves, and somebody else's at once when it is gone.
        fs::remove_dir_all(folder.path()).unwrap();
        assert_eq!(owner.tick(), Role::Serve);
        fs::create_dir(folder.path()).unwrap();
        drop(owner);
        assert_eq!(other.tick(), Role::Serve);
    }

    #[test]
    fn queries_are_known_or_refused() {
        let view = |target| View::of(&Request::new(target, Format::Text)).map_err(|refused| refused.to_string());
        assert_eq!(view("/metrics"), Ok(View::Ranks));
        assert_eq!(view("/metrics?"), Ok(View::Ranks));
        assert_eq!(view("/metrics?aggregate=node"), Ok(View::Node));
        let refused = |query: &str| format!("400: unknown query {query}: expected aggregate=node, or nothing");
        assert_eq!(view("/metrics?aggregate=rank"), Err(refused("aggregate=rank")));
        assert_eq!(view("/metrics?aggregate=node&x"), Err(refused("x=")));
    }
}
