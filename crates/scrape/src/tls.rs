// SPDX-License-Identifier: Apache-2.0

//! TLS as the configuration says, with the certificates that are in the files now.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{
    DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme, SupportedProtocolVersion,
    client::danger::HandshakeSignatureValid,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject as _},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

/// The least time between two looks at the files.
const LOOK: Duration = Duration::from_secs(1);

/// What TLS is made of.
#[derive(Debug)]
pub(crate) struct TlsSettings {
    pub(crate) certificate: Source,
    pub(crate) key: Source,
    /// Who vouches for clients.
    pub(crate) client_ca: Option<Source>,
    pub(crate) client_auth: ClientAuth,
    pub(crate) versions: Vec<&'static SupportedProtocolVersion>,
    /// With the cipher suites and groups that are allowed.
    pub(crate) provider: Arc<CryptoProvider>,
    /// Whether the server's order of cipher suites counts, rather than the client's.
    pub(crate) prefers_own_order: bool,
}

/// Where something is written, as PEM.
pub(crate) enum Source {
    /// In the configuration itself, under this key.
    Inline { key: String, pem: String },
    /// In a file, named under this key.
    File { key: String, path: PathBuf },
}

/// What is asked of clients, by Go's names, which the configuration has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientAuth {
    None,
    /// A certificate is asked for. If one is given, the client has to have its key; who made it does not matter.
    Request,
    /// As above, but one has to be given.
    RequireAny,
    /// A certificate is asked for. If one is given, the configured authority has to have made it.
    VerifyIfGiven,
    /// A certificate of the configured authority has to be given.
    RequireAndVerify,
}

/// A key of the configuration whose value is not good for TLS.
#[derive(Debug)]
pub(crate) struct TlsError {
    pub(crate) key: String,
    pub(crate) problem: String,
}

/// TLS that follows its files.
#[derive(Debug)]
pub(crate) struct Tls {
    settings: TlsSettings,
    config: Arc<ServerConfig>,
    seen: Vec<Stamp>,
    looked_at: Instant,
}

/// What tells one state of a file from another: device, inode, size, time of change in seconds and nanoseconds. `None` if
/// there is none.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

impl Tls {
    pub(crate) fn load(settings: TlsSettings) -> Result<Self, TlsError> {
        // Looked at before they are read: what changes in between is read again.
        let seen = settings.stamps();
        let config = settings.build()?;
        Ok(Self { settings, config, seen, looked_at: Instant::now() })
    }

    /// What a new connection is to use. If the files have changed they are read again; if they are no good, what was read
    /// before goes on.
    pub(crate) fn config(&mut self) -> Arc<ServerConfig> {
        if self.looked_at.elapsed() >= LOOK {
            self.looked_at = Instant::now();
            self.follow();
        }
        Arc::clone(&self.config)
    }

    fn follow(&mut self) {
        let now = self.settings.stamps();
        if now == self.seen {
            return;
        }
        self.seen = now;
        match self.settings.build() {
            Ok(config) => {
                nixl_telemetry_log::info!("scrape: certificates were read again");
                self.config = config;
            }
            Err(TlsError { key, problem }) => {
                nixl_telemetry_log::warn!("scrape: {key}: {problem}; the certificates read before stay in use");
            }
        }
    }
}

impl TlsSettings {
    fn stamps(&self) -> Vec<Stamp> {
        let sources = [Some(&self.certificate), Some(&self.key), self.client_ca.as_ref()];
        sources.into_iter().flatten().map(Source::stamp).collect()
    }

    fn build(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let chain = self.certificate.certificates()?;
        let key = PrivateKeyDer::from_pem_slice(&self.key.read()?);
        let key = key.map_err(|error| self.key.error(format!("no private key in PEM: {error}")))?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider));
        let versions = builder.with_protocol_versions(&self.versions);
        let versions = versions.map_err(|error| self.certificate.error(error.to_string()))?;
        let with_clients = match self.client_auth {
            ClientAuth::None => versions.with_no_client_auth(),
            _ => versions.with_client_cert_verifier(self.client_verifier()?),
        };
        let mut config = with_clients
            .with_single_cert(chain, key)
            .map_err(|error| self.certificate.error(format!("cannot be used with the key: {error}")))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.ignore_client_order = self.prefers_own_order;
        Ok(Arc::new(config))
    }

    fn client_verifier(&self) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
        let is_mandatory = match self.client_auth {
            ClientAuth::None | ClientAuth::Request => false,
            ClientAuth::RequireAny => true,
            ClientAuth::VerifyIfGiven | ClientAuth::RequireAndVerify => return self.authority(),
        };
        Ok(Arc::new(AnyCertificate { is_mandatory, provider: Arc::clone(&self.provider) }))
    }

    fn authority(&self) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
        let source = self.client_ca.as_ref();
        let source =
            source.ok_or_else(|| self.certificate.error("no client_ca_file to verify clients by".to_owned()))?;
        let mut roots = RootCertStore::empty();
        for certificate in source.certificates()? {
            roots.add(certificate).map_err(|error| source.error(format!("no certificate of an authority: {error}")))?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider));
        let builder = match self.client_auth {
            ClientAuth::VerifyIfGiven => builder.allow_unauthenticated(),
            _ => builder,
        };
        builder.build().map_err(|error| source.error(error.to_string()))
    }
}

impl Source {
    fn stamp(&self) -> Stamp {
        let Self::File { path, .. } = self else { return None };
        let file = fs::metadata(path).ok()?;
        Some((file.dev(), file.ino(), file.size(), file.mtime(), file.mtime_nsec()))
    }

    fn read(&self) -> Result<Vec<u8>, TlsError> {
        match self {
            Self::Inline { pem, .. } => Ok(pem.clone().into_bytes()),
            Self::File { path, .. } => fs::read(path).map_err(|error: io::Error| self.error(error.to_string())),
        }
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let pem = self.read()?;
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        match certificates {
            Ok(certificates) if !certificates.is_empty() => Ok(certificates),
            Ok(_) => Err(self.error("no certificate in PEM".to_owned())),
            Err(error) => Err(self.error(format!("no certificate in PEM: {error}"))),
        }
    }

    fn error(&self, problem: String) -> TlsError {
        match self {
            Self::Inline { key, .. } => TlsError { key: key.clone(), problem },
            Self::File { key, path } => {
                TlsError { key: key.clone(), problem: format!("{}: {problem}", path.display()) }
            }
        }
    }
}

impl std::fmt::Debug for Source {
    /// Without the text, which may be a private key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Inline { key, .. } => write!(f, "{key} inline"),
            Self::File { path, .. } => path.fmt(f),
        }
    }
}

/// Takes every certificate whose key the client has.
#[derive(Debug)]
struct AnyCertificate {
    is_mandatory: bool,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        self.is_mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use nixl_telemetry_testkit::{Authority, Identity};

    use super::*;

    fn write_pair(folder: &Path) {
        let Identity { certificate, key } = Authority::new("ours").issue(&["localhost"], 1);
        fs::write(folder.join("crt"), certificate).unwrap();
        fs::write(folder.join("key"), key).unwrap();
    }

    fn load(folder: &Path) -> Tls {
        let source = |key: &str| Source::File { key: key.to_owned(), path: folder.join(key) };
        let settings = TlsSettings {
            certificate: source("crt"),
            key: source("key"),
            client_ca: None,
            client_auth: ClientAuth::None,
            versions: rustls::DEFAULT_VERSIONS.to_vec(),
            provider: Arc::new(rustls::crypto::ring::default_provider()),
            prefers_own_order: true,
        };
        Tls::load(settings).unwrap()
    }

    #[test]
    fn files_are_followed_and_bad_ones_are_not() {
        let folder = tempfile::tempdir().unwrap();
        write_pair(folder.path());
        let mut tls = load(folder.path());
        let first = tls.config();
        tls.follow();
        assert!(Arc::ptr_eq(&first, &tls.config()), "nothing has changed");

        let good = fs::read(folder.path().join("key")).unwrap();
        for bad in ["", "no key", &Authority::new("another").issue(&["localhost"], 1).key] {
            fs::write(folder.path().join("key"), bad).unwrap();
            tls.follow();
            assert!(Arc::ptr_eq(&first, &tls.config()), "{bad}");
        }
        fs::remove_file(folder.path().join("key")).unwrap();
        tls.follow();
        assert!(Arc::ptr_eq(&first, &tls.config()), "gone");

        fs::write(folder.path().join("key"), good).unwrap();
        tls.follow();
        let second = tls.config();
        assert!(!Arc::ptr_eq(&first, &second), "good again");
        write_pair(folder.path());
        tls.follow();
        assert!(!Arc::ptr_eq(&second, &tls.config()), "new");
    }

    #[test]
    fn files_are_not_looked_at_for_every_connection() {
        let folder = tempfile::tempdir().unwrap();
        write_pair(folder.path());
        let mut tls = load(folder.path());
        let first = tls.config();
        write_pair(folder.path());
        tls.looked_at = Instant::now() + LOOK;
        assert!(Arc::ptr_eq(&first, &tls.config()));
        tls.looked_at -= 2 * LOOK;
        assert!(!Arc::ptr_eq(&first, &tls.config()));
    }
}
