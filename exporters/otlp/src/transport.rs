// SPDX-License-Identifier: Apache-2.0

//! How a request gets to the receiver and back: HTTP/1.1, one connection each, and no way around.

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use flate2::{Compression as Level, write::GzEncoder};
use nixl_telemetry_sdk::{Error, debug};
use ureq::http::Uri;
use ureq::http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};

use crate::response::{Answer, Verdict};
use crate::settings::{Compression, Config, Protocol};
use crate::tls::tls;

/// The way to the receiver; clones are the same way.
#[derive(Clone)]
pub(crate) struct Transport {
    agent: Arc<Mutex<ureq::Agent>>,
    endpoint: Uri,
    headers: HeaderMap,
    compression: Compression,
}

impl Transport {
    /// Makes ready to connect, and does not.
    ///
    /// # Errors
    /// If certificates are to be used, and cannot.
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        let content_type = match config.protocol {
            Protocol::Protobuf => "application/x-protobuf",
            Protocol::Json => "application/json",
        };
        let mut headers: HeaderMap = config.headers.iter().cloned().collect();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        if config.compression == Compression::Gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let (endpoint, compression) = (config.endpoint.clone(), config.compression);
        Ok(Self { agent: Arc::new(Mutex::new(agent(config)?)), endpoint, headers, compression })
    }

    /// Reads certificates anew, which may have been replaced since; those there are stay if that fails.
    pub(crate) fn renew(&self, config: &Config) {
        if is_secure(config) {
            match agent(config) {
                Ok(agent) => *self.lock() = agent,
                Err(error) => debug!("exporter otlp: certificates stay as they are: {error}"),
            }
        }
    }

    /// Sends a body, and waits for what becomes of it.
    pub(crate) fn send(&self, body: &[u8], timeout: Duration) -> Verdict {
        // Where the system has no room for another thread, looking up a name panics.
        let sent = catch_unwind(AssertUnwindSafe(|| self.try_send(body, timeout)));
        let problem = match sent {
            Ok(Ok(verdict)) => return verdict,
            Ok(Err(ureq::Error::Timeout(_))) => format!("no answer within {} ms", timeout.as_millis()),
            Ok(Err(ureq::Error::Io(error))) => error.to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no room for another thread".into(),
        };
        Verdict::Later { problem, retry_after: None }
    }

    /// Ends a request that is under way, as if the connection were lost; there will be no other.
    pub(crate) fn cut(&self) {
        self.lock().clone().shutdown();
    }

    fn lock(&self) -> MutexGuard<'_, ureq::Agent> {
        // It is only replaced as a whole.
        self.agent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_send(&self, body: &[u8], timeout: Duration) -> Result<Verdict, ureq::Error> {
        let compressed;
        let body = match self.compression {
            Compression::None => body,
            Compression::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Level::default());
                encoder.write_all(body)?;
                compressed = encoder.finish()?;
                &compressed
            }
        };
        let agent = self.lock().clone();
        let mut request = agent.post(&self.endpoint).config().timeout_global(Some(timeout)).build();
        if let Some(headers) = request.headers_mut() {
            headers.extend(self.headers.clone());
        }
        let mut response = request.send(body)?;
        let text = |name| response.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let (retry_after, content_type) =
            (text(RETRY_AFTER).map(str::to_owned), text(CONTENT_TYPE).unwrap_or_default());
        let (status, content_type) = (response.status().as_u16(), content_type.to_owned());
        // The status has said it all; what else there is to know may get lost.
        let body = response.body_mut().with_config().limit(1 << 16).read_to_vec().unwrap_or_default();
        let answer = Answer { status, retry_after: retry_after.as_deref(), content_type: &content_type, body: &body };
        Ok(answer.verdict(SystemTime::now()))
    }
}

fn agent(config: &Config) -> Result<ureq::Agent, Error> {
    let mut builder = ureq::Agent::config_builder()
        // Every status means something, and what leads elsewhere is not followed with somebody's secrets.
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        // What HTTP_PROXY says is meant for others.
        .proxy(None)
        // A connection that waits for a minute is as good as closed, and a failure when it is used again.
        .max_idle_connections(0)
        .accept("")
        .accept_encoding("")
        .user_agent(concat!("nixl-telemetry-otlp/", env!("CARGO_PKG_VERSION")));
    if is_secure(config) {
        builder = builder.tls_config(tls(config)?);
    }
    Ok(builder.build().new_agent())
}

fn is_secure(config: &Config) -> bool {
    config.endpoint.scheme_str() == Some("https")
}
