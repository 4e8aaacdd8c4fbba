// SPDX-License-Identifier: Apache-2.0

//! Ports: taken, left to others, of IPv6, given back.

use std::{
    net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use nixl_telemetry_scrape::{Options, Role, Server, StartError};
use nixl_telemetry_testkit::{Missing, require};

use crate::support::{Client, Show, anywhere, options, serve, wait_until};

fn at(address: SocketAddr) -> Options {
    Options { retry: Duration::from_millis(5), ..Options::new([address]) }
}

#[test]
fn a_taken_port_is_served_as_soon_as_it_is_free() {
    let other = TcpListener::bind(anywhere()).unwrap();
    let address = other.local_addr().unwrap();
    let show = Show::new(Role::Serve);
    let server = Server::start(at(address), show.clone()).unwrap();
    assert!(!server.is_listening());
    assert_eq!(show.told(), ["not listening, taken: true"]);

    // Several attempts later it has not been told again.
    wait_until("tried again", || show.asked() > 5);
    assert_eq!(show.told().len(), 1);

    drop(other);
    wait_until("listening", || server.is_listening());
    assert_eq!(server.addresses(), [address]);
    assert_eq!(Client::connect(address).get("/metrics").text(), "text\n");
    assert_eq!(show.told(), ["not listening, taken: true", "listening at 1"]);
}

#[test]
fn of_two_servers_the_second_follows_when_the_first_has_gone() {
    let (first, address) = serve(options());
    let second = Server::start(at(address), Show::new(Role::Serve)).unwrap();
    assert!(first.is_listening() && !second.is_listening());
    let mut client = Client::connect(address);
    client.get("/metrics");
    drop(first);
    assert!(client.rest().is_empty());
    wait_until("taken over", || second.is_listening());
    assert_eq!(Client::connect(address).get("/metrics").status, 200);
}

#[test]
fn one_who_stands_by_leaves_the_port_alone_until_he_serves() {
    let show = Show::new(Role::StandBy);
    let options = Options { retry: Duration::from_millis(5), tick: Some(Duration::from_millis(5)), ..options() };
    let server = Server::start(options, show.clone()).unwrap();
    assert!(!server.is_listening() && show.told().is_empty());

    show.set_role(Role::Serve);
    wait_until("serving", || server.is_listening());
    let address = server.addresses()[0];
    let mut client = Client::connect(address);
    assert_eq!(client.get("/-/ready").status, 200);

    show.set_role(Role::StandBy);
    wait_until("standing by", || !server.is_listening());
    assert!(client.rest().is_empty());
    assert!(TcpStream::connect(address).is_err());

    show.set_role(Role::Serve);
    wait_until("serving", || server.is_listening());
    assert_eq!(Client::connect(server.addresses()[0]).get("/metrics").status, 200);
    assert_eq!(show.told(), ["listening at 1", "listening at 1"]);
}

#[test]
fn ipv6_is_served_beside_ipv4() {
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    let available = TcpListener::bind(v6).map_err(|_| Missing::new("IPv6", "a kernel with it"));
    let Some(_) = require("ipv6_is_served_beside_ipv4", available) else { return };
    let show = Show::new(Role::Serve);
    let server = Server::start(Options::new([anywhere(), v6]), show.clone()).unwrap();
    let addresses = server.addresses();
    assert_eq!(addresses.iter().map(SocketAddr::is_ipv6).collect::<Vec<_>>(), [false, true]);
    for address in addresses {
        assert_eq!(Client::connect(address).get("/metrics").text(), "text\n");
    }
    assert_eq!(show.told(), ["listening at 2"]);

    // The same port of both: they do not get in each other's way.
    let port = server.addresses()[0].port();
    let both = Server::start(Options::new([SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))]), Show::new(Role::Serve));
    assert!(both.unwrap().is_listening());
}

#[test]
fn a_further_address_that_cannot_be_had_is_no_failure() {
    let elsewhere = SocketAddr::from(([192, 0, 2, 1], 9090));
    let (server, address) = serve(Options::new([anywhere(), elsewhere]));
    assert_eq!(server.addresses(), [address]);
    assert_eq!(Client::connect(address).get("/metrics").status, 200);

    let show = Show::new(Role::Serve);
    let server = Server::start(at(elsewhere), show.clone()).unwrap();
    assert!(!server.is_listening());
    assert_eq!(show.told(), ["not listening, taken: false"]);
}

#[test]
fn a_server_that_is_dropped_is_gone() {
    let (server, address) = serve(options());
    let mut client = Client::connect(address);
    client.get("/metrics");
    drop(server);
    assert!(client.rest().is_empty());
    assert!(TcpListener::bind(address).is_ok());
    assert!(matches!(Server::start(Options::new([]), Show::new(Role::Serve)), Err(StartError::NoAddress)));
}
