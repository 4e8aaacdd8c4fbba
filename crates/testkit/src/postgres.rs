// SPDX-License-Identifier: Apache-2.0

//! A PostgreSQL server of a test's own, which may be stopped, killed and started again.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::{Missing, free_port, machine};

/// Debian's place for the programs of each version.
const VERSIONS: &str = "/usr/lib/postgresql";
/// `nobody` and `nogroup`: a server does not run as root.
const NOBODY: u32 = 65534;

/// Over TCP, members of `certified` log in with certificates, those of `plain` show the password as it is, and others prove that
/// they know it. `postgres` is the superuser, at the socket.
const HBA: &str = "local all postgres trust
local all all scram-sha-256
hostssl all +certified 127.0.0.1/32 cert
host all +plain 127.0.0.1/32 password
host all all 127.0.0.1/32 md5
";

/// A running server with a cluster of its own in a temporary folder, on a port of 127.0.0.1 the system chose.
///
/// Databases are in UTF-8. Every commit is on the disk, as by default. It is killed when this is dropped.
pub struct Postgres {
    folder: TempDir,
    programs: PathBuf,
    port: u16,
    server: Mutex<Option<Child>>,
}

impl Postgres {
    /// Makes a cluster, and starts its server.
    ///
    /// # Errors
    /// If PostgreSQL is not installed.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start() -> Result<Self, Missing> {
        Self::start_with(&[])
    }

    /// The same with more lines in `postgresql.conf`.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn start_with(configuration: &[&str]) -> Result<Self, Missing> {
        let missing = || Missing::new(format!("PostgreSQL in {VERSIONS}"), "Debian package postgresql");
        let programs = programs().ok_or_else(missing)?;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = free_port();
        let server = Self { folder, programs, port, server: Mutex::new(None) };
        server.give_away(server.folder.path());
        let mut initdb = server.command("initdb");
        initdb.args(["--no-sync", "--no-instructions", "--encoding=UTF8", "--locale=C", "--username=postgres", "-D"]);
        run(initdb.arg(server.data()));
        server.write(&server.data().join("pg_hba.conf"), HBA);
        let mut lines = fs::read_to_string(server.data().join("postgresql.conf")).expect("initdb writes it");
        lines += &format!(
            "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{}'\n",
            server.socket_directory().display()
        );
        lines.extend(configuration.iter().map(|line| format!("{line}\n")));
        server.write(&server.data().join("postgresql.conf"), &lines);
        server.start_again();
        server.psql("postgres", "CREATE ROLE certified; CREATE ROLE plain");
        Ok(server)
    }

    /// One that all tests of a process share as long as one of them has it, for those that leave it running. It does not wait
    /// for the disk.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn shared() -> Result<Arc<Self>, Missing> {
        static SHARED: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = shared.upgrade() {
            return Ok(server);
        }
        let server = Arc::new(Self::start_with(&["fsync = off"])?);
        *shared = Arc::downgrade(&server);
        Ok(server)
    }

    /// The port it has, also after another start.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The directory of its Unix socket.
    pub fn socket_directory(&self) -> &Path {
        self.folder.path()
    }

    /// Runs statements as superuser, by `psql`. Returns what they answer, a line a row, columns separated by `|`.
    ///
    /// # Panics
    /// If one fails.
    pub fn psql(&self, database: &str, sql: &str) -> String {
        run(self.psql_command(database).args(["-At", "-c", sql])).trim_end().to_owned()
    }

    /// `psql` as superuser, without what its user has configured, which ends at the first error. It may write also where a
    /// database is set to be read only.
    pub fn psql_command(&self, database: &str) -> Command {
        let mut command = Command::new(self.programs.join("psql"));
        command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database]);
        command
            .args(["-p", &self.port.to_string()])
            .arg("-h")
            .arg(self.socket_directory())
            .env("PGOPTIONS", "-c default_transaction_read_only=off");
        command
    }

    /// Turns TLS on with this certificate and key, in PEM, and with who vouches for clients. What was there is replaced, also
    /// for those who connect later only.
    ///
    /// # Panics
    /// If the server does not take them.
    pub fn use_certificate(&self, certificate: &str, key: &str, clients: &str) {
        for (name, pem) in [("server.crt", certificate), ("server.key", key), ("clients.crt", clients)] {
            self.write(&self.data().join(name), pem);
        }
        self.psql("postgres", "ALTER SYSTEM SET ssl_ca_file = 'clients.crt'");
        self.psql("postgres", "ALTER SYSTEM SET ssl = on");
        let loaded = self.psql("postgres", "SELECT pg_conf_load_time()");
        self.psql("postgres", "SELECT pg_reload_conf()");
        while self.psql("postgres", "SELECT pg_conf_load_time()") == loaded {
            thread::yield_now();
        }
    }

    /// Stops it, as an operator does: whoever is connected is told, and nothing is lost.
    ///
    /// # Panics
    /// If it does not stop.
    pub fn stop(&self) {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut child) = server.take() else { return };
        signal(&child, "INT");
        child.wait().expect("it ends");
    }

    /// Kills it, with all that it has under way.
    ///
    /// # Panics
    /// If it cannot be killed.
    pub fn kill(&self) {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut child) = server.take() else { return };
        // Its processes first, so that none goes on alone: those of a stopped parent are not restarted.
        signal(&child, "STOP");
        let pid = child.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        for process in children.split_whitespace() {
            let _ = Command::new("kill").args(["-KILL", process]).output();
        }
        child.kill().and_then(|()| child.wait()).expect("it ends");
    }

    /// Starts it again, on its port; returns when it answers.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start_again(&self) {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(server.is_none(), "it runs");
        let log = File::options().create(true).append(true).open(self.log_path()).expect("the folder is writable");
        for _ in 0..600 {
            let child = server.get_or_insert_with(|| {
                let output = log.try_clone().expect("a file");
                let mut command = self.command("postgres");
                command.arg("-D").arg(self.data()).stdout(output.try_clone().expect("a file")).stderr(output);
                command.spawn().expect("PostgreSQL runs")
            });
            // What is left of one that was killed may hold it up for a moment.
            if child.try_wait().expect("a child").is_some() {
                *server = None;
            } else if self
                .psql_command("postgres")
                .args(["-c", "SELECT 1"])
                .output()
                .is_ok_and(|output| output.status.success())
            {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("PostgreSQL does not start:\n{}", self.log());
    }

    /// A PgBouncer before it, with at most so many connections for each role, which it gives away for a `transaction` or for a
    /// `session`. Who connects is asked for the password that is given here for the role.
    ///
    /// # Errors
    /// If PgBouncer is not installed.
    ///
    /// # Panics
    /// If it does not start.
    pub fn pooler(&self, mode: &str, connections: usize, (role, password): (&str, &str)) -> Result<Pooler, Missing> {
        let (program, libraries) = machine::pgbouncer()?;
        let (port, folder) = (free_port(), tempfile::tempdir().expect("a temporary folder"));
        self.give_away(folder.path());
        let [user_list, ini, log] = ["users.txt", "pgbouncer.ini", "log"].map(|name| folder.path().join(name));
        let users = format!("\"{role}\" \"{}\"\n", password.replace('"', "\"\""));
        let configuration = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = md5\nauth_file = {}\npool_mode = {mode}\ndefault_pool_size = {connections}\n",
            self.port,
            user_list.display()
        );
        self.write(&user_list, &users);
        self.write(&ini, &configuration);
        let mut command = self.as_somebody(&program);
        command.arg(ini).env("LD_LIBRARY_PATH", libraries).stderr(File::create(&log).expect("the folder is writable"));
        let mut pooler = Pooler { _folder: folder, port, child: command.spawn().expect("PgBouncer runs") };
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let has_ended = pooler.child.try_wait().expect("a child").is_some();
            assert!(!has_ended, "PgBouncer does not start:\n{}", fs::read_to_string(&log).unwrap_or_default());
            thread::sleep(Duration::from_millis(5));
        }
        Ok(pooler)
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Writes a file which only the server may read.
    fn write(&self, path: &Path, text: &str) {
        fs::write(path, text).expect("the folder is writable");
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("it is ours");
        self.give_away(path);
    }

    /// To whom the server runs as.
    fn give_away(&self, path: &Path) {
        if is_root() {
            chown(path, Some(NOBODY), Some(NOBODY)).expect("root may");
        }
    }

    /// One of its programs, run by somebody who is not root.
    fn command(&self, program: &str) -> Command {
        self.as_somebody(&self.programs.join(program))
    }

    fn as_somebody(&self, program: &Path) -> Command {
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            command.args([&format!("--reuid={NOBODY}"), &format!("--regid={NOBODY}"), "--clear-groups"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.current_dir(self.folder.path()).env("LC_ALL", "C");
        command
    }
}

/// See [`Postgres::pooler`]. It is killed when this is dropped.
#[derive(Debug)]
pub struct Pooler {
    _folder: TempDir,
    port: u16,
    child: Child,
}

impl Pooler {
    /// Its port on 127.0.0.1.
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Where the programs of the newest version are.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir(VERSIONS).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let newest = versions.max_by_key(|version| version.parse::<u32>().ok())?;
    Some(Path::new(VERSIONS).join(newest).join("bin")).filter(|programs| programs.join("initdb").exists())
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(child.id().to_string()).status();
    assert!(sent.is_ok_and(|status| status.success()), "no signal for PostgreSQL");
}

fn run(command: &mut Command) -> String {
    let output = command.output().expect("a program of PostgreSQL runs");
    let arguments: Vec<&OsStr> = command.get_args().collect();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::require;

    #[test]
    fn a_server_keeps_what_it_has_said_it_keeps() {
        let Some(server) = require("a server", Postgres::start()) else { return };
        server.psql("postgres", "CREATE TABLE t AS SELECT 7 AS a, NULL AS b");
        server.kill();
        server.start_again();
        assert_eq!(server.psql("postgres", "SELECT * FROM t"), "7|");
        server.stop();
        server.start_again();
        assert_eq!(server.psql("postgres", "SELECT * FROM t"), "7|");
        assert!(server.log().contains("database system is ready"), "{}", server.log());
    }
}
