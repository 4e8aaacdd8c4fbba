// SPDX-License-Identifier: Apache-2.0

//! Which servers there are: those that are set, and those they tell of.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;

use nixl_telemetry_sdk::{Dialect, Malformed, Value};
use percent_encoding::percent_decode_str;

use crate::credentials::Login;

const PORT: u16 = 4222;

/// Servers of one cluster, in the order they are tried.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Servers(pub(crate) Vec<Server>);

/// A server, and who it is to take this side for. Prints as its address only.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Whether it is to be TLS, whatever the server wants.
    pub(crate) tls: bool,
    /// The name its certificate bears.
    pub(crate) certified: String,
    /// What its URL says.
    pub(crate) login: Option<Login>,
}

impl Servers {
    /// Takes up the addresses a server tells of, `10.0.0.7:4222`, that are not known yet.
    pub(crate) fn learn<'a>(&mut self, from: &Server, addresses: impl Iterator<Item = &'a str>) {
        for address in addresses {
            let Some((host, port)) = host_and_port(address) else { continue };
            if !self.0.iter().any(|server| (server.host.as_str(), server.port) == (host.as_str(), port)) {
                self.0.push(Server { host, port, ..from.clone() });
            }
        }
    }
}

impl Server {
    fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("nats", url));
        let tls = match scheme {
            "nats" => false,
            "tls" => true,
            _ => return None,
        };
        let (user, address) = rest.rsplit_once('@').map_or((None, rest), |(user, address)| (Some(user), address));
        let decoded = |text| percent_decode_str(text).decode_utf8().ok().map(Cow::into_owned);
        let login = match user.map(|user| user.split_once(':').ok_or(user)) {
            None => None,
            Some(Ok((user, password))) => Some(Login::User { user: decoded(user)?, password: decoded(password)? }),
            Some(Err(token)) => Some(Login::Token(decoded(token)?)),
        };
        let (host, port) = host_and_port(address.strip_suffix('/').unwrap_or(address))?;
        Some(Self { certified: host.clone(), host, port, tls, login })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, Self { host, port, .. }) = (if self.tls { "tls" } else { "nats" }, self);
        if host.contains(':') { write!(f, "{scheme}://[{host}]:{port}") } else { write!(f, "{scheme}://{host}:{port}") }
    }
}

impl Value for Servers {
    const TYPE: &'static str = "urls";
    const EXPECTED: &'static str =
        "nats:// or tls:// and a host, perhaps with a port, or several of them separated by commas";

    fn from_env(text: &OsStr, _: Dialect) -> Result<Self, Malformed> {
        let servers = text.to_str().and_then(|text| text.split(',').map(|url| Server::parse(url.trim())).collect());
        servers.map(Self).ok_or_else(Malformed::of::<Self>)
    }

    /// Without users and passwords, of what need not be a URL.
    fn show(text: &str) -> Cow<'_, str> {
        // A password may have a comma in it: everything between the first :// and the last @ of all.
        match text.rsplit_once('@') {
            None => text.into(),
            Some((before, after)) => {
                let scheme = before.find("://").map_or(0, |colon| colon + 3);
                format!("{}<secret>@{after}", &before[..scheme]).into()
            }
        }
    }
}

fn host_and_port(address: &str) -> Option<(String, u16)> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            (
                host,
                port.strip_prefix(':')
                    .or(port.is_empty().then_some(""))
                    .map(|port| if port.is_empty() { None } else { Some(port) })?,
            )
        }
        None => match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        },
    };
    let port = port.map_or(Some(PORT), |port| port.parse().ok().filter(|port| *port > 0))?;
    let is_host = !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._:%".contains(c));
    is_host.then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(text: &str) -> Option<Servers> {
        Servers::from_env(OsStr::new(text), Dialect::Current).ok()
    }

    #[test]
    fn urls() {
        let user = |user: &str, password: &str| Some(Login::User { user: user.into(), password: password.into() });
        for (text, shown, login) in [
            ("nats://a", "nats://a:4222", None),
            ("a", "nats://a:4222", None),
            ("a:1/", "nats://a:1", None),
            ("tls://a.b:7", "tls://a.b:7", None),
            ("nats://[::1]:7", "nats://[::1]:7", None),
            ("[::1]", "nats://[::1]:4222", None),
            ("nats://me:hunter2@a", "nats://a:4222", user("me", "hunter2")),
            ("nats://me:p%40%3A@a", "nats://a:4222", user("me", "p@:")),
            ("tls://secret@a", "tls://a:4222", Some(Login::Token("secret".into()))),
        ] {
            let Servers(servers) = servers(text).unwrap();
            assert_eq!(
                (servers.len(), servers[0].to_string(), &servers[0].login),
                (1, shown.to_owned(), &login),
                "{text}"
            );
        }
        let several = servers("nats://a:1, tls://b").unwrap();
        assert_eq!(several.0.iter().map(ToString::to_string).collect::<Vec<_>>(), ["nats://a:1", "tls://b:4222"]);
        for text in ["", "http://a", "nats://", "nats://a:0", "nats://a:b", "a,", "nats://a/b", "nats://[::1", "a b"] {
            assert!(servers(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn what_is_secret_is_not_shown() {
        for (text, shown) in [
            ("nats://a:1,b", "nats://a:1,b"),
            ("nats://me:hunter2@a", "nats://<secret>@a"),
            ("me:hunter2@a", "<secret>@a"),
            ("htps://me:hunter2@,hunter2@a", "htps://<secret>@a"),
            ("nats://me:hunter2@a,nats://me:hunter2@b", "nats://<secret>@b"),
        ] {
            assert_eq!(Servers::show(text), shown);
        }
    }

    #[test]
    fn servers_tell_of_others() {
        let mut all = servers("tls://me:x@a.example").unwrap();
        let first = all.0[0].clone();
        all.learn(&first, ["10.0.0.2:4223", "a.example:4222", "nonsense:x", "[fe80::1]:4222"].into_iter());
        let shown: Vec<_> = all.0.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["tls://a.example:4222", "tls://10.0.0.2:4223", "tls://[fe80::1]:4222"]);
        assert!(all.0.iter().all(|server| server.certified == "a.example" && server.login == first.login));
    }
}
