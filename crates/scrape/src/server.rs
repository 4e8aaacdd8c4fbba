// SPDX-License-Identifier: Apache-2.0

//! The server: its thread, and the handle that ends it.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use nixl_telemetry_thread::Thread;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use crate::{
    Limits, ListenError, Options, Role, Service, Stats,
    auth::Auth,
    connection::{Connection, Turn},
    listen::Listeners,
    site::Site,
    tls::Tls,
    transport::Transport,
};

/// Connections accepted at one address before those that are there have their turn.
const ACCEPTED_AT_ONCE: usize = 16;

/// How long nobody is accepted after the system could not.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A server that runs until it is dropped.
///
/// Dropping it closes the port and all connections, and waits for the thread; if a scrape is being answered, until the
/// service returns. In a forked child, which has no such thread, dropping does nothing.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    thread: Option<Thread<()>>,
}

/// A server cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is nowhere to listen.
    #[error("a server needs at least one address to listen at")]
    NoAddress,
    /// The system has no thread, or nothing to wake it by.
    #[error("cannot start the thread of a server: {0}")]
    Thread(#[source] io::Error),
    /// The system has no random numbers, without which verified passwords cannot be remembered safely.
    #[error("cannot start a server with users: the system has no random numbers")]
    Random,
}

/// What the thread and the handle share.
#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    /// Ends the thread's sleep, once and for all.
    wake: OwnedFd,
    /// Where it listens; empty while it does not.
    addresses: Mutex<Vec<SocketAddr>>,
    stats: Arc<Stats>,
}

impl Server {
    /// Starts a server. The service is asked, and the first attempt to listen made, before this returns, in the caller's
    /// thread. That the port cannot be had is no error: it is tried again until it can.
    ///
    /// # Errors
    /// If there is no address, or no thread.
    pub fn start(options: Options, service: impl Service) -> Result<Self, StartError> {
        let mut worker = Worker::new(options, service)?;
        worker.tick();
        let shared = Arc::clone(&worker.shared);
        let thread = nixl_telemetry_thread::spawn("nixl-tlm-scrape", move || worker.run());
        Ok(Self { shared, thread: Some(thread.map_err(StartError::Thread)?) })
    }

    /// Whether it listens at its first address, and so serves.
    pub fn is_listening(&self) -> bool {
        !self.addresses().is_empty()
    }

    /// Where it listens; empty while it does not, and in a forked child.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        // The thread may have held the lock when the process forked.
        if !self.is_here() {
            return Vec::new();
        }
        self.shared.addresses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What it has done so far.
    pub fn stats(&self) -> &Stats {
        &self.shared.stats
    }

    fn is_here(&self) -> bool {
        self.thread.as_ref().is_some_and(Thread::is_here)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A child shares what wakes the thread with its parent, whose server goes on.
        if self.is_here() {
            self.shared.stop.store(true, SeqCst);
            let _ = rustix::io::write(&self.shared.wake, &1_u64.to_ne_bytes());
        }
        if let Some(thread) = self.thread.take() {
            thread.join();
        }
    }
}

/// What the thread has.
struct Worker<S> {
    shared: Arc<Shared>,
    retry: Duration,
    tick: Option<Duration>,
    limits: Limits,
    tls: Option<Tls>,
    /// Before the service, which may leave the port to somebody else when it goes.
    listeners: Listeners,
    site: Site<S>,
    /// Why nobody listens, as the service was told.
    problem: Option<ErrorKind>,
    /// When the service is asked next whether to serve.
    next_tick: Option<Instant>,
    /// When connections are accepted again, if they are not.
    accept_after: Option<Instant>,
    /// Those that have something to do at once are marked.
    connections: Vec<(Connection, Turn)>,
    /// What poll said, in the order of what it was asked.
    ready: Vec<PollFlags>,
}

impl<S: Service> Worker<S> {
    fn new(options: Options, service: S) -> Result<Self, StartError> {
        let options = options.bounded();
        let listeners = Listeners::new(&options.addresses).ok_or(StartError::NoAddress)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let wake = wake.map_err(|error| StartError::Thread(error.into()))?;
        let stats = Arc::new(Stats::new());
        let (tls, users, headers) = options.web.into_parts();
        let auth = Auth::new(users).map_err(|_| StartError::Random)?;
        Ok(Self {
            shared: Arc::new(Shared {
                stop: AtomicBool::new(false),
                wake,
                addresses: Mutex::new(Vec::new()),
                stats: Arc::clone(&stats),
            }),
            retry: options.retry,
            tick: options.tick,
            limits: options.limits,
            tls,
            site: Site::new(service, stats, auth, headers),
            listeners,
            problem: None,
            next_tick: None,
            accept_after: None,
            connections: Vec::new(),
            ready: Vec::new(),
        })
    }

    fn run(mut self) {
        while !self.shared.stop.load(SeqCst) {
            if let Err(error) = self.sleep() {
                nixl_telemetry_log::error!("scrape: cannot wait for clients: {error}");
                std::thread::sleep(ACCEPT_PAUSE);
                continue;
            }
            self.serve();
            self.accept();
            if [self.next_tick, self.listeners.next_try()].into_iter().flatten().any(|time| time <= Instant::now()) {
                self.tick();
            }
        }
    }

    /// Waits until a socket is ready, a deadline has come, or the handle says so.
    fn sleep(&mut self) -> io::Result<()> {
        self.ready.clear();
        let now = Instant::now();
        let listening = if self.accept_after.is_none() { PollFlags::IN } else { PollFlags::empty() };
        let mut sources = vec![PollFd::new(&self.shared.wake, PollFlags::IN)];
        sources.extend(self.listeners.sockets().map(|socket| PollFd::new(socket, listening)));
        sources.extend(self.connections.iter().map(|(connection, _)| PollFd::new(connection, connection.interest())));

        let timeout = self
            .timeout(now)
            .map(|time| Timespec { tv_sec: time.as_secs().cast_signed(), tv_nsec: time.subsec_nanos().into() });
        match poll(&mut sources, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        self.ready.extend(sources.iter().map(PollFd::revents));
        Ok(())
    }

    /// How long nothing has to be done unless a socket is ready; `None` is for ever.
    fn timeout(&self, now: Instant) -> Option<Duration> {
        let deadlines = self.connections.iter().map(|(connection, turn)| match turn {
            Turn::Again => now,
            Turn::Wait | Turn::Close => connection.deadline(),
        });
        let others = [self.next_tick, self.listeners.next_try(), self.accept_after];
        let first = deadlines.chain(others.into_iter().flatten()).min()?;
        Some(first.saturating_duration_since(now))
    }

    /// Gives every connection its turn that has something to do.
    fn serve(&mut self) {
        let now = Instant::now();
        // Connections come last in what poll was asked, and nobody has been added since.
        let skipped = self.ready.len().saturating_sub(self.connections.len());
        let mut ready = self.ready.iter().skip(skipped);
        let (site, limits) = (&mut self.site, &self.limits);
        self.connections.retain_mut(|(connection, turn)| {
            let is_ready = ready.next().is_some_and(|events| !events.is_empty());
            if is_ready || *turn == Turn::Again {
                *turn = connection.turn(site, limits);
            } else if connection.deadline() <= now {
                *turn = connection.expire(site, limits);
            }
            *turn != Turn::Close
        });
    }

    /// Takes new connections, a few at a time, and looks at once whether they have sent their request: one of those that
    /// follow might take their place otherwise.
    fn accept(&mut self) {
        let now = Instant::now();
        if self.accept_after.is_some_and(|time| time > now) {
            return;
        }
        self.accept_after = None;
        let mut accepted = Vec::new();
        for socket in self.listeners.sockets() {
            for _ in 0..ACCEPTED_AT_ONCE {
                match socket.accept() {
                    Ok((client, _)) => accepted.push(client),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
                    Err(error) => {
                        nixl_telemetry_log::warn!("scrape: cannot accept a connection: {error}");
                        self.accept_after = Some(now + ACCEPT_PAUSE);
                        break;
                    }
                }
            }
        }
        for client in accepted {
            self.admit(client);
        }
    }

    fn admit(&mut self, client: TcpStream) {
        if self.connections.len() >= self.limits.connections && !self.make_room() {
            refuse(client, self.tls.is_none().then(|| self.site.full()));
            return;
        }
        let config = self.tls.as_mut().map(Tls::config);
        let Ok(transport) = Transport::new(client, config) else { return };
        let mut connection = Connection::new(transport, &self.limits);
        let turn = connection.turn(&mut self.site, &self.limits);
        if turn != Turn::Close {
            self.connections.push((connection, turn));
        }
    }

    /// Closes the connection that has been idle longest, if one is idle; either way somebody is turned away. One whose
    /// request has come in the meantime is not idle.
    fn make_room(&mut self) -> bool {
        for _ in 0..self.connections.len() {
            let idle = self.connections.iter().enumerate();
            let idle = idle.filter_map(|(index, (connection, _))| Some((connection.idle_since()?, index)));
            let Some((since, index)) = idle.min() else { break };
            let (connection, turn) = &mut self.connections[index];
            *turn = connection.turn(&mut self.site, &self.limits);
            if *turn == Turn::Close {
                self.connections.swap_remove(index);
                return true;
            }
            if connection.idle_since() == Some(since) {
                self.connections.swap_remove(index);
                self.site.stats().rejected_connection();
                return true;
            }
        }
        self.site.stats().rejected_connection();
        false
    }

    /// Asks the service whether to serve, and listens or does not.
    fn tick(&mut self) {
        let role = self.site.service.call(Service::tick).unwrap_or(Role::StandBy);
        self.site.is_ready = role == Role::Serve;
        match role {
            Role::Serve => {
                if let Err(error) = self.listeners.open(self.retry) {
                    self.tell_of(&error);
                }
            }
            Role::StandBy => {
                self.listeners.close();
                self.problem = None;
                self.connections.retain_mut(|(connection, _)| {
                    connection.leave();
                    connection.idle_since().is_none()
                });
            }
        }
        self.tell_addresses();
        let pause = if self.listeners.is_open() { self.tick } else { Some(self.retry) };
        self.next_tick = pause.map(|pause| Instant::now() + pause);
    }

    fn tell_of(&mut self, error: &ListenError) {
        if self.problem.replace(error.io_error().kind()) != self.problem {
            self.site.service.call(|service| service.not_listening(error));
        }
    }

    fn tell_addresses(&mut self) {
        let addresses = self.listeners.addresses();
        let has_changed = {
            let mut told = self.shared.addresses.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *told, addresses.clone()) != addresses
        };
        if has_changed && !addresses.is_empty() {
            self.problem = None;
            self.site.service.call(|service| service.listening(&addresses));
        }
    }
}

/// Turns a client away with an answer, as far as that is possible without waiting for it.
fn refuse(mut client: TcpStream, answer: Option<Vec<u8>>) {
    let Some(answer) = answer.filter(|_| client.set_nonblocking(true).is_ok()) else { return };
    // What has come already is read, since a socket that is closed with something unread takes its answer back.
    let _ = client.read(&mut [0; 8192]);
    let _ = client.write(&answer);
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::{Refused, Request};

    struct Empty;

    impl Service for Empty {
        fn metrics(&mut self, _: &Request<'_>, _: &Stats, _: &mut Vec<u8>) -> Result<(), Refused> {
            Ok(())
        }
    }

    fn loopback() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    #[test]
    fn who_has_nothing_to_do_sleeps() {
        let mut idle = Worker::new(Options::new([loopback()]), Empty).unwrap();
        idle.tick();
        assert_eq!(idle.timeout(Instant::now()), None);

        let mut asked =
            Worker::new(Options { tick: Some(Duration::from_secs(7)), ..Options::new([loopback()]) }, Empty).unwrap();
        asked.tick();
        let timeout = asked.timeout(Instant::now()).unwrap();
        assert!(timeout > Duration::ZERO && timeout <= Duration::from_secs(7), "{timeout:?}");

        let other = TcpListener::bind(loopback()).unwrap();
        let mut waiting = Worker::new(Options::new([other.local_addr().unwrap()]), Empty).unwrap();
        waiting.tick();
        assert!(waiting.timeout(Instant::now()).unwrap() <= Duration::from_millis(250));
    }

    #[test]
    fn a_connection_is_waited_for_until_its_deadline() {
        let limits = Limits { head: Duration::from_secs(3), idle: Duration::from_secs(500), ..Limits::default() };
        let mut worker = Worker::new(Options { limits, ..Options::new([loopback()]) }, Empty).unwrap();
        worker.tick();
        let mut client = TcpStream::connect(worker.listeners.addresses()[0]).unwrap();
        worker.accept();
        assert_eq!(worker.connections.len(), 1);
        assert!(worker.timeout(Instant::now()).unwrap() <= Duration::from_secs(3));

        client.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        while worker.site.stats().scrapes() == 0 {
            worker.sleep().unwrap();
            worker.serve();
        }
        assert!(worker.timeout(Instant::now()).unwrap() > Duration::from_secs(3));

        drop(client);
        while !worker.connections.is_empty() {
            worker.sleep().unwrap();
            worker.serve();
        }
        assert_eq!(worker.timeout(Instant::now()), None);
    }
}
