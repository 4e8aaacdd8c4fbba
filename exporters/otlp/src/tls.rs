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
    use nixl_telemetry_testkit::{Authority, Identity};
    use tempfile::TempDir;

    use super::*;
    use crate::receiver::Receiver;
    use crate::response::Verdict;
    use crate::transport::Transport;

    /// A receiver at 127.0.0.1 that wants certificates of clients if there is somebody to vouch for them.
    fn receiver(authority: &Authority, clients: Option<&Authority>) -> Receiver {
        let config = authority.issue(&["127.0.0.1"], 1).server(clients);
        Receiver::listen("127.0.0.1:0".parse().unwrap(), Some(config))
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
        let receiver = receiver(&ours, None);
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
        let receiver = receiver(&after, None);
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
        let receiver = receiver(&servers, Some(&clients));
        let ca = ("CERTIFICATE", servers.pem());
        let ca = (ca.0, ca.1.as_str());
        assert!(matches!(send(&receiver, &[ca]), Verdict::Later { .. }));
        let Identity { certificate: wrong, key: wrong_key } = servers.issue(&["agent"], 1);
        let verdict = send(&receiver, &[ca, ("CLIENT_CERTIFICATE", &wrong), ("CLIENT_KEY", &wrong_key)]);
        assert!(matches!(verdict, Verdict::Later { .. }), "{verdict:?}");
        assert!(receiver.requests().is_empty());
        let Identity { certificate, key } = clients.issue(&["agent"], 1);
        let verdict = send(&receiver, &[ca, ("CLIENT_CERTIFICATE", &certificate), ("CLIENT_KEY", &key)]);
        assert_eq!((verdict, receiver.requests().len()), (Verdict::Accepted(Default::default()), 1));
    }

    #[test]
    fn files_that_are_of_no_use_are_named() {
        let authority = Authority::new("one");
        let receiver = receiver(&authority, None);
        let Identity { certificate, .. } = authority.issue(&["agent"], 1);
        let other_key = authority.issue(&["other"], 1).key;
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
