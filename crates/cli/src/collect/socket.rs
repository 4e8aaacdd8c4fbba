// SPDX-License-Identifier: Apache-2.0

//! The status socket: whoever connects is told the status, and that is all.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::fs::{Mode, fchmod};
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::geteuid;

/// A socket at a path, which is removed when this goes.
#[derive(Debug)]
pub(crate) struct Socket {
    path: PathBuf,
    identity: (u64, u64),
}

/// How long one client may take to be told.
const PATIENCE: Duration = Duration::from_secs(1);

/// Clients that may wait for their turn.
const WAITING: i32 = 128;

/// The most a status may be.
const LARGEST: u64 = 64 << 20;

impl Socket {
    /// Makes the socket, for its user alone, in place of one a process of his has left. From then on a thread answers
    /// with what `status` returns.
    ///
    /// # Errors
    /// If it cannot be made, or there is something else of that name.
    pub(crate) fn serve(path: &Path, status: impl Fn() -> String + Send + 'static) -> anyhow::Result<Self> {
        let listener = bind(path)?;
        let metadata = fs::symlink_metadata(path).with_context(|| format!("cannot look at {}", path.display()))?;
        let socket = Self { path: path.to_owned(), identity: identity(&metadata) };
        let serve = move || {
            for client in listener.incoming() {
                match client {
                    // A client that is not there any more has no use for it.
                    Ok(client) => drop(tell(&client, status().as_bytes())),
                    // Out of descriptors, mostly; the next may be luckier.
                    Err(_) => thread::sleep(Duration::from_millis(100)),
                }
            }
        };
        thread::Builder::new().name("status".to_owned()).spawn(serve).context("cannot start a thread")?;
        Ok(socket)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|metadata| identity(&metadata) == self.identity) {
            // There is nowhere to report a failure of this, and the next one makes it anew.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// What the one who serves this socket says.
pub(crate) fn ask(path: &Path) -> anyhow::Result<String> {
    let ask = || {
        let mut stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(5 * PATIENCE))?;
        let mut answer = String::new();
        (&mut stream).take(LARGEST).read_to_string(&mut answer)?;
        Ok::<_, io::Error>(answer)
    };
    ask().with_context(|| format!("nobody answers at {}", path.display()))
}

fn bind(path: &Path) -> anyhow::Result<UnixListener> {
    let bound = listen(path).or_else(|error| match error.kind() {
        io::ErrorKind::AddrInUse if is_stale(path) => {
            fs::remove_file(path)?;
            listen(path)
        }
        _ => Err(error),
    });
    match bound {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => bail!(
            "{} is there already, and is no socket that a process of this user has left: expected a free path",
            path.display()
        ),
        bound => bound.with_context(|| format!("cannot make the socket {}", path.display())),
    }
}

/// A listener to which only its user may connect, from its first moment.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let address = SocketAddrUnix::new(path)?;
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // The file is made with the mode of the socket. (The process's umask would be that of other threads' files, too.)
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    net::bind(&socket, &address)?;
    net::listen(&socket, WAITING)?;
    Ok(socket.into())
}

/// Whether it is a socket of ours at which nobody answers.
fn is_stale(path: &Path) -> bool {
    let is_ours = fs::symlink_metadata(path)
        .is_ok_and(|metadata| metadata.file_type().is_socket() && metadata.uid() == geteuid().as_raw());
    let nobody = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    is_ours && UnixStream::connect(path).is_err_and(|error| nobody(&error))
}

/// Writes all of it, in bounded time even to one who reads a byte now and then.
fn tell(mut client: &UnixStream, mut text: &[u8]) -> io::Result<()> {
    let end = Instant::now() + PATIENCE;
    while !text.is_empty() {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        client.set_write_timeout(Some(left))?;
        let written = client.write(text)?;
        text = &text[written..];
    }
    Ok(())
}

fn identity(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn only_a_stale_socket_is_replaced() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("status");
        let serve = |text: &'static str| Socket::serve(&path, move || text.to_owned());
        let socket = serve("first").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(ask(&path).unwrap(), "first");
        let problem = serve("second").unwrap_err().to_string();
        assert!(problem.contains("is there already, and is no socket that"), "{problem}");
        assert_eq!(ask(&path).unwrap(), "first");
        drop(socket);
        assert!(!path.exists());
        assert!(ask(&path).unwrap_err().to_string().starts_with("nobody answers at "));

        // One that was left.
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let socket = serve("third").unwrap();
        assert_eq!(ask(&path).unwrap(), "third");
        // What somebody else has put there stays.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "mine").unwrap();
        drop(socket);
        assert!(serve("fourth").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        let link = root.path().join("link");
        std::os::unix::fs::symlink(root.path().join("nowhere"), &link).unwrap();
        assert!(Socket::serve(&link, String::new).is_err());
    }

    #[test]
    fn a_client_that_does_not_read_keeps_nobody() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("status");
        let _socket = Socket::serve(&path, || "x".repeat(1 << 19)).unwrap();
        let _silent = UnixStream::connect(&path).unwrap();
        let begun = Instant::now();
        assert_eq!(ask(&path).unwrap().len(), 1 << 19);
        assert!(begun.elapsed() < 30 * PATIENCE);
    }
}
