// SPDX-License-Identifier: Apache-2.0

//! Whom to trust, and what to show: the files of certificates, read and tried before anything is sent.

use std::fs;
use std::sync::Arc;

use nixl_telemetry_dial::{Certificates, Tls, Verify, certificates, roots};
use nixl_telemetry_sdk::Error;
use rustls::{crypto::ring, pki_types::CertificateDer};
use ureq::tls::{Certificate, ClientCert, PrivateKey, TlsConfig};

use crate::settings::Config;

/// How connections to the receiver are secured.
///
/// # Errors
/// If a file cannot be read, holds nothing of use, or a key does not belong to its certificate.
pub(crate) fn tls(config: &Config) -> Result<TlsConfig, Error> {
    let files = Certificates { ca: config.certificate.clone(), client: config.client.clone() };
    // Whoever connects takes for granted that they are of use, and fit.
    Tls::new(&files, Verify::Full)?;
    let roots = roots(files.ca.as_deref())?;
    let mut tls = TlsConfig::builder()
        .root_certs(roots.iter().map(certificate).collect::<Vec<_>>().into())
        .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()));
    if let Some((chain, key)) = &files.client {
        let key = fs::read(key).map_err(|error| format!("{}: {error}", key.display()))?;
        let chain: Vec<_> = certificates(chain)?.iter().map(certificate).collect();
        tls = tls.client_cert(Some(ClientCert::new_with_certs(&chain, PrivateKey::from_pem(&key)?)));
    }
    Ok(tls.build())
}

fn certificate(der: &CertificateDer<'static>) -> Certificate<'static> {
    Certificate::from_der(der).to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nixl_telemetry_sdk::Settings;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
    use rustls::pki_types::{PrivateKeyDer, pem::PemObject as _};
    use rustls::server::WebPkiClientVerifier;
    use rustls::{RootCertStore, ServerConfig};
    use tempfile::TempDir;

    use super::*;
    use crate::receiver::Receiver;
    use crate::response::Verdict;
    use crate::transport::Transport;

    /// Who vouches for others.
    struct Authority(CertifiedIssuer<'static, KeyPair>);

    impl Authority {
        fn new(name: &str) -> Self {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
        }

        fn pem(&self) -> String {
            self.0.pem()
        }

        /// Certificate and key in PEM.
        fn issue(&self, name: &str, purpose: ExtendedKeyUsagePurpose) -> (String, String) {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new([name.to_owned()]).unwrap();
            params.extended_key_usages = vec![purpose];
            (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
        }

        /// A receiver at 127.0.0.1 that wants certificates of clients if there is somebody to vouch for them.
        fn receiver(&self, clients: Option<&Self>) -> Receiver {
            let (certificate, key) = self.issue("127.0.0.1", ExtendedKeyUsagePurpose::ServerAuth);
            let provider = Arc::new(ring::default_provider());
            let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
            let builder = builder.with_safe_default_protocol_versions().unwrap();
            let builder = match clients {
                Some(authority) => {
                    let mut roots = RootCertStore::empty();
                    roots.add(authority.0.der().clone()).unwrap();
                    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                    builder.with_client_cert_verifier(verifier.unwrap())
                }
                None => builder.with_no_client_auth(),
            };
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            Receiver::listen(
                "127.0.0.1:0".parse().unwrap(),
                Some(Arc::new(builder.with_single_cert(chain, key).unwrap())),
            )
        }
    }

    /// A folder with files of these names and contents, and settings that name them.
    fn files(receiver: &Receiver, contents: &[(&str, &str)]) -> (TempDir, Config) {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = vec![("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), format!("https://{}", receiver.address()))];
        for (name, content) in contents {
            let path = folder.path().join(name);
            fs::write(&path, content).unwrap();
            settings.push((format!("OTEL_EXPORTER_OTLP_{name}"), path.to_str().unwrap().to_owned()));
        }
        (folder, Config::new(&Settings::from_pairs(settings), "vm").unwrap().unwrap())
    }

    fn send(receiver: &Receiver, contents: &[(&str, &str)]) -> Verdict {
        let (_folder, config) = files(receiver, contents);
        Transport::new(&config).unwrap().send(b"", Duration::from_secs(10))
    }

    fn assert_fails(verdict: &Verdict, because: &str) {
        assert!(matches!(verdict, Verdict::Later { problem, .. } if problem.contains(because)), "{verdict:?}");
    }

    #[test]
    fn only_who_is_vouched_for_gets_anything() {
        let (ours, theirs) = (Authority::new("one"), Authority::new("other"));
        let receiver = ours.receiver(None);
        assert_fails(&send(&receiver, &[("CERTIFICATE", &theirs.pem())]), "UnknownIssuer");
        assert!(receiver.requests().is_empty());
        assert_eq!(send(&receiver, &[("CERTIFICATE", &ours.pem())]), Verdict::Accepted(Default::default()));
        // Several may vouch.
        let bundle = theirs.pem() + &ours.pem();
        assert_eq!(send(&receiver, &[("CERTIFICATE", &bundle)]), Verdict::Accepted(Default::default()));
        assert_eq!(receiver.requests().len(), 2);
    }

    #[test]
    fn certificates_may_be_replaced() {
        let (before, after) = (Authority::new("one"), Authority::new("other"));
        let receiver = after.receiver(None);
        let (folder, config) = files(&receiver, &[("CERTIFICATE", &before.pem())]);
        let transport = Transport::new(&config).unwrap();
        let send = || transport.send(b"", Duration::from_secs(10));
        for content in [before.pem(), "nothing".into()] {
            fs::write(folder.path().join("CERTIFICATE"), content).unwrap();
            transport.renew(&config);
            assert_fails(&send(), "UnknownIssuer");
        }
        fs::write(folder.path().join("CERTIFICATE"), after.pem()).unwrap();
        transport.renew(&config);
        assert_eq!(send(), Verdict::Accepted(Default::default()));
    }

    #[test]
    fn a_receiver_may_want_to_know_who_we_are() {
        let (servers, clients) = (Authority::new("one"), Authority::new("other"));
        let receiver = servers.receiver(Some(&clients));
        let ca = ("CERTIFICATE", servers.pem());
        let ca = (ca.0, ca.1.as_str());
        assert!(matches!(send(&receiver, &[ca]), Verdict::Later { .. }));
        let (wrong, wrong_key) = servers.issue("agent", ExtendedKeyUsagePurpose::ClientAuth);
        let verdict = send(&receiver, &[ca, ("CLIENT_CERTIFICATE", &wrong), ("CLIENT_KEY", &wrong_key)]);
        assert!(matches!(verdict, Verdict::Later { .. }), "{verdict:?}");
        assert!(receiver.requests().is_empty());
        let (certificate, key) = clients.issue("agent", ExtendedKeyUsagePurpose::ClientAuth);
        let verdict = send(&receiver, &[ca, ("CLIENT_CERTIFICATE", &certificate), ("CLIENT_KEY", &key)]);
        assert_eq!((verdict, receiver.requests().len()), (Verdict::Accepted(Default::default()), 1));
    }

    #[test]
    fn files_that_are_of_no_use_are_named() {
        let authority = Authority::new("one");
        let receiver = authority.receiver(None);
        let (certificate, _) = authority.issue("agent", ExtendedKeyUsagePurpose::ClientAuth);
        let (_, other_key) = authority.issue("other", ExtendedKeyUsagePurpose::ClientAuth);
        let ca = authority.pem();
        let table: [(&[(&str, &str)], &str); 4] = [
            (&[("CERTIFICATE", "nothing")], "/CERTIFICATE: no certificate in PEM"),
            (
                &[("CERTIFICATE", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")],
                "/CERTIFICATE: none of its certificates can vouch for anybody",
            ),
            (&[("CERTIFICATE", &ca), ("CLIENT_CERTIFICATE", &certificate), ("CLIENT_KEY", "nothing")], "/CLIENT_KEY: "),
            (
                &[("CERTIFICATE", &ca), ("CLIENT_CERTIFICATE", &certificate), ("CLIENT_KEY", &other_key)],
                "/CLIENT_KEY: ",
            ),
        ];
        for (contents, message) in table {
            let (folder, config) = files(&receiver, contents);
            let error = Transport::new(&config).err().unwrap().to_string();
            assert!(error.contains(message) && error.contains(folder.path().to_str().unwrap()), "{error}");
            // Without TLS nobody looks.
            let plain = Config { endpoint: "http://localhost/".parse().unwrap(), ..config };
            assert!(Transport::new(&plain).is_ok());
        }
    }
}
