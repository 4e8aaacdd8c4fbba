// SPDX-License-Identifier: Apache-2.0

//! The server of this process, which its agents share.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, Weak};

use nixl_telemetry_scrape::{ListenError, Options, Refused, Request, Server, Service, Stats};
use nixl_telemetry_sdk::metrics::{Buckets, Live};
use nixl_telemetry_sdk::{Error, info, lock_shared, warn};

use crate::page::{Page, Shown};

/// An agent's place on the page. When the last one is given up, the server ends, and the port is free.
pub(crate) struct Place {
    shown: Arc<Shown>,
    /// There until the place is given up.
    site: Option<Arc<Site>>,
}

/// A server and what it shows.
struct Site {
    page: Arc<Page>,
    addresses: Vec<SocketAddr>,
    _server: Server,
}

/// The site of this process, and the process that has it: a forked child has none.
static SITE: Mutex<Option<(u32, Weak<Site>)>> = Mutex::new(None);

impl Place {
    /// Puts an agent on the page, and serves it if nobody does yet.
    ///
    /// # Errors
    /// If the server cannot be started, or the labels cannot be. That the port is taken is no error: it is served as soon
    /// as it is free.
    pub(crate) fn take(
        options: Options,
        labels: Vec<(String, String)>,
        instance: u64,
        live: Arc<Live>,
        buckets: &Arc<Buckets>,
    ) -> Result<Self, Error> {
        let site = Site::of_process(options)?;
        let shown = site.page.add(labels, instance, live, buckets)?;
        Ok(Self { shown, site: Some(site) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(site) = self.site.take() else { return };
        site.page.remove(&self.shown);
        // Who comes at this moment finds the server going on, or the port free.
        let _known = lock_shared(&SITE);
        drop(site);
    }
}

impl Site {
    fn of_process(options: Options) -> Result<Arc<Self>, Error> {
        let pid = std::process::id();
        let mut known = lock_shared(&SITE)?;
        let site = known.as_ref().filter(|(owner, _)| *owner == pid).and_then(|(_, site)| site.upgrade());
        if let Some(site) = site {
            if site.addresses != options.addresses {
                let (now, wanted) = (site.addresses[0], options.addresses[0]);
                warn!("exporter prometheus: this process is served at {now} already, and not at {wanted} as well");
            }
            return Ok(site);
        }
        let page = Arc::new(Page::default());
        let addresses = options.addresses.clone();
        let server = Server::start(options, Door { page: Arc::clone(&page), was_closed: false })?;
        let site = Arc::new(Self { page, addresses, _server: server });
        *known = Some((pid, Arc::downgrade(&site)));
        Ok(site)
    }
}

/// What the server's thread has of the page.
struct Door {
    page: Arc<Page>,
    /// Whether it has been said that nobody can come in.
    was_closed: bool,
}

impl Service for Door {
    fn metrics(&mut self, request: &Request<'_>, stats: &Stats, body: &mut Vec<u8>) -> Result<(), Refused> {
        if let Some((name, value)) = request.parameters().next() {
            let known = "expected none; prometheus_mp knows aggregate=node";
            return Err(Refused::bad_request(format!("unknown query {name}={value}: {known}")));
        }
        self.page.write(request.format(), stats, body);
        Ok(())
    }

    fn listening(&mut self, addresses: &[SocketAddr]) {
        let addresses: Vec<String> = addresses.iter().map(|address| format!("http://{address}/metrics")).collect();
        let addresses = addresses.join(", ");
        // Who was told that it does not work hears, too, that it does.
        if self.was_closed {
            warn!("exporter prometheus: serves {addresses} now");
        } else {
            info!("exporter prometheus: serves {addresses}");
        }
        self.was_closed = false;
    }

    fn not_listening(&mut self, error: &ListenError) {
        self.was_closed = true;
        warn!("exporter prometheus: {error}; metrics are kept, and served as soon as it can be listened there");
    }
}
