// SPDX-License-Identifier: Apache-2.0

//! Whom to trust, and what to show.

use std::fmt;
use std::io;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nixl_telemetry_log as log;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    StreamOwned,
};

use crate::Stream;

/// Files in PEM. By default the system's authorities are trusted, and nothing is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificates {
    /// Who vouches for servers, in place of the system's authorities.
    pub ca: Option<PathBuf>,
    /// What this side shows: the certificate, with those it derives from, and its private key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// How much of a server's certificate is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verify {
    /// Somebody who is trusted vouches for it, and it bears the host's name.
    #[default]
    Full,
    /// Somebody who is trusted vouches for it, whatever its name.
    Authority,
    /// Nothing: who listens in learns nothing, but whoever stands between may be the server.
    Nothing,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is of no use.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The system trusts nobody.
    #[error("the system has no certificates that can vouch for anybody: expected some, or a file of them")]
    NoRoots,
    /// What is in the files does not go together.
    #[error(transparent)]
    Tls(#[from] Error),
}

/// How TLS connections are made.
///
/// Files are read when it is made. Make one for each connection, and certificates that were renewed are taken up.
#[derive(Clone)]
pub struct Tls(Arc<ClientConfig>);

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// If one cannot be read, holds nothing of use, or the key is another's.
    pub fn new(files: &Certificates, verify: Verify) -> Result<Self, TlsError> {
        // Explicit: a default is the process' own, in which this is a guest.
        let provider = Arc::new(ring::default_provider());
        let builder =
            ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
        let builder = match verify {
            Verify::Full => builder.with_root_certificates(store(files.ca.as_deref())?),
            Verify::Authority | Verify::Nothing => {
                let authority = match verify {
                    Verify::Authority => {
                        let roots = Arc::new(store(files.ca.as_deref())?);
                        let verifier =
                            WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
                        Some(verifier.map_err(|error| Error::General(error.to_string()))?)
                    }
                    _ => None,
                };
                builder.dangerous().with_custom_certificate_verifier(Arc::new(Lenient { authority, provider }))
            }
        };
        let config = match &files.client {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let private = PrivateKeyDer::from_pem_file(key).map_err(|error| of_no_use(key, &error))?;
                builder.with_client_auth_cert(certificates(chain)?, private).map_err(|error| TlsError::File {
                    path: chain.clone(),
                    problem: format!("with {}: {error}", key.display()),
                })?
            }
        };
        Ok(Self(Arc::new(config)))
    }

    /// Goes on in TLS on a connection that is there, and completes the handshake. `host` is whose certificate is expected: a
    /// name or an address.
    ///
    /// # Errors
    /// If `host` can be in no certificate, the server's is not accepted, or the connection fails. That the server wants
    /// another certificate of ours may be told only by the first read.
    pub fn connect(&self, mut socket: TcpStream, host: &str) -> io::Result<Stream> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, format!("{host:?} is the name of no host")))?;
        let mut connection = ClientConnection::new(Arc::clone(&self.0), name).map_err(io::Error::other)?;
        while connection.is_handshaking() {
            if connection.complete_io(&mut socket)? == (0, 0) {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(Stream::Tls(Box::new(StreamOwned::new(connection, socket))))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

/// Those who vouch for servers: of the file, or the system's.
///
/// # Errors
/// If the file cannot be read, or none of the certificates is one.
pub fn roots(ca: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let roots = match ca {
        Some(path) => certificates(path)?,
        None => {
            let found = rustls_native_certs::load_native_certs();
            for error in found.errors {
                log::warn!("a certificate of the system cannot be read: {error}");
            }
            found.certs
        }
    };
    let (usable, _) = RootCertStore::empty().add_parsable_certificates(roots.iter().cloned());
    match (usable, ca) {
        (1.., _) => Ok(roots),
        (0, Some(path)) => Err(of_no_use(path, &"none of its certificates can vouch for anybody")),
        (0, None) => Err(TlsError::NoRoots),
    }
}

/// The certificates in a file, at least one.
///
/// # Errors
/// If it cannot be read, or has none.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    match CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>) {
        Ok(certificates) if certificates.is_empty() => Err(of_no_use(path, &"no certificate in PEM")),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(of_no_use(path, &error)),
    }
}

fn store(ca: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(roots(ca)?);
    Ok(store)
}

fn of_no_use(path: &Path, problem: &dyn fmt::Display) -> TlsError {
    TlsError::File { path: path.to_owned(), problem: problem.to_string() }
}

/// Looks at no name, and perhaps not at who vouches. That the server has its certificate's key is looked at always.
#[derive(Debug)]
struct Lenient {
    authority: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(authority) = &self.authority else { return Ok(ServerCertVerified::assertion()) };
        match authority.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            // The last thing looked at: all else was well.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            result => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
