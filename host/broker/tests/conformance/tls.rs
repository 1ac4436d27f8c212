//! `amqps://`: what is checked of the server, and what is shown to it.

use std::fs;
use std::path::Path;

use petiole_broker::BrokerError;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::rabbitmq::{Node, free_port, start_node_with};

/// A node that listens on a TLS port too, with certificates in its folder: `ca.pem`, the server's for the name
/// `localhost`, `client.pem` with its key for the user `fern`, and `other.pem`, an authority that signed nothing.
async fn node() -> (Node, u16) {
    let port = free_port();
    let node = tokio::task::spawn_blocking(move || {
        start_node_with(&["rabbitmq_auth_mechanism_ssl"], |folder| {
            write_certificates(folder);
            let folder = folder.display();
            format!(
                "listeners.ssl.1 = 127.0.0.1:{port}\n\
                 ssl_options.cacertfile = {folder}/ca.pem\n\
                 ssl_options.certfile = {folder}/server.pem\n\
                 ssl_options.keyfile = {folder}/server.key\n\
                 ssl_options.verify = verify_peer\n\
                 ssl_options.fail_if_no_peer_cert = false\n\
                 auth_mechanisms.1 = EXTERNAL\n\
                 auth_mechanisms.2 = PLAIN\n\
                 ssl_cert_login_from = common_name\n"
            )
        })
    });
    (node.await.unwrap(), port)
}

fn write_certificates(folder: &Path) {
    let authority = |name: &str| {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    };
    let write = |name: &str, text: String| fs::write(folder.join(name), text).unwrap();
    let (ours, other) = (authority("ours"), authority("other"));
    write("ca.pem", ours.pem());
    write("other.pem", other.pem());
    for (file, name) in [("server", "localhost"), ("client", "fern")] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &ours).unwrap();
        write(&format!("{file}.pem"), certificate.pem());
        write(&format!("{file}.key"), key.serialize_pem());
    }
}

async fn refusal(url: &str) -> String {
    let Err(error) = crate::connect(url).await else {
        panic!("{url}: it connects");
    };
    assert!(error.is_final(), "{error:?}");
    assert!(
        matches!(error, BrokerError::Unreachable { .. }),
        "{error:?}"
    );
    error.to_string()
}

async fn connects(url: &str) {
    let broker = crate::connect(url).await;
    let broker = broker.unwrap_or_else(|error| panic!("{url}: {error}"));
    broker.declare("over-tls").await.unwrap();
    assert_eq!(broker.length("over-tls").await, Ok(Some(0)));
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn amqps_checks_the_server_and_shows_a_certificate() {
    let (node, port) = node().await;
    let folder = node.folder.display();
    let trusting = format!("ssl_ca_certs={folder}/ca.pem");
    let mistaken = format!("ssl_ca_certs={folder}/other.pem");
    let showing = format!("ssl_certfile={folder}/client.pem&ssl_keyfile={folder}/client.key");

    connects(&format!("amqps://localhost:{port}?{trusting}")).await;
    for unchecked in ["CERT_NONE", "none"] {
        connects(&format!(
            "amqps://localhost:{port}?ssl_cert_reqs={unchecked}"
        ))
        .await;
    }
    for untrusting in [mistaken.as_str(), ""] {
        let message = refusal(&format!("amqps://guest:hush@localhost:{port}?{untrusting}")).await;
        assert!(message.contains("UnknownIssuer"), "{message}");
        assert!(message.contains("ssl_ca_certs=FILE"), "{message}");
        assert!(!message.contains("hush"), "{message}");
    }
    // The certificate is for `localhost`.
    let message = refusal(&format!("amqps://127.0.0.1:{port}?{trusting}")).await;
    assert!(message.contains("not valid for name"), "{message}");
    connects(&format!(
        "amqps://127.0.0.1:{port}?{trusting}&ssl_check_hostname=false"
    ))
    .await;
    let message = refusal(&format!(
        "amqps://127.0.0.1:{port}?{mistaken}&ssl_check_hostname=false"
    ))
    .await;
    assert!(message.contains("UnknownIssuer"), "{message}");

    let external = format!("amqps://localhost:{port}?{trusting}&{showing}&login_method=EXTERNAL");
    let message = refusal(&external).await;
    assert!(message.contains("ACCESS_REFUSED"), "{message}");
    node.ctl(&["add_user", "fern", "no password logs in"]).await;
    node.ctl(&["set_permissions", "fern", ".*", ".*", ".*"])
        .await;
    connects(&external).await;
}
