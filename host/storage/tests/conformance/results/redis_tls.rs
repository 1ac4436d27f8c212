//! `rediss://`: checks of the server, and certificates shown to it.

use std::fs;

use petiole_celery::State;
use petiole_storage::results::{RESULT_EXPIRES, ResultError, Results};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::json;
use tempfile::TempDir;

use super::suite::{connect, meta};
use crate::redis_server::{RedisServer, free_port};

/// `ca.pem`, for the name `localhost` `server.pem` and `client.pem` with their keys, `both.pem` with the client's
/// certificate and key, and `other.pem`, an authority that signed nothing.
fn certificates() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let authority = |name: &str| {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    };
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    let (ours, other) = (authority("ours"), authority("other"));
    write("ca.pem", &ours.pem());
    write("other.pem", &other.pem());
    for name in ["server", "client"] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &ours).unwrap().pem();
        write(&format!("{name}.pem"), &certificate);
        write(&format!("{name}.key"), &key.serialize_pem());
        if name == "client" {
            write("both.pem", &(certificate + &key.serialize_pem()));
        }
    }
    folder
}

/// A server with a TLS port; `auth_clients` is redis-server's `tls-auth-clients`.
async fn server(auth_clients: &str) -> (RedisServer, u16) {
    let port = free_port();
    let server = RedisServer::start_in(
        certificates(),
        &[
            "--tls-port",
            &port.to_string(),
            "--tls-cert-file",
            "%d/server.pem",
            "--tls-key-file",
            "%d/server.key",
            "--tls-ca-cert-file",
            "%d/ca.pem",
            "--tls-auth-clients",
            auth_clients,
        ],
    )
    .await;
    (server, port)
}

async fn stores(url: &str) {
    let backend = connect(url, RESULT_EXPIRES).await;
    let meta = meta(State::Success, json!(1));
    backend.store(&meta).await.unwrap();
    let fetched = backend.fetch(&meta.task_id).await.unwrap();
    assert_eq!(fetched, Some(meta.to_json()), "{url}");
}

async fn refusal(url: &str) -> String {
    let error = Results::connect(&url.into(), RESULT_EXPIRES)
        .await
        .expect_err("connected");
    assert!(matches!(error, ResultError::Refused { .. }), "{error:?}");
    format!("{error} {error:?}")
}

#[tokio::test]
async fn rediss_checks_what_the_url_says() {
    let (server, port) = server("no").await;
    let folder = server.folder.path().display();
    let trusting = format!("ssl_ca_certs={folder}/ca.pem");
    let mistaken = format!("ssl_ca_certs={folder}/other.pem");
    for checked in ["CERT_REQUIRED", "required", "CERT_OPTIONAL", "optional"] {
        let url = format!("rediss://localhost:{port}/0?ssl_cert_reqs={checked}&{trusting}");
        stores(&url).await;
        let url = format!("rediss://:hush@localhost:{port}/0?ssl_cert_reqs={checked}&{mistaken}");
        let message = refusal(&url).await;
        assert!(message.contains("UnknownIssuer"), "{message}");
        assert!(!message.contains("hush"), "{message}");
    }
    for unchecked in ["CERT_NONE", "none"] {
        stores(&format!(
            "rediss://localhost:{port}?ssl_cert_reqs={unchecked}"
        ))
        .await;
    }
    // By default the server is checked: only the test trusts its authority.
    refusal(&format!("rediss://localhost:{port}")).await;
    // The certificate is for `localhost`.
    let message = refusal(&format!("rediss://127.0.0.1:{port}?{trusting}")).await;
    assert!(message.contains("not valid for name"), "{message}");
    stores(&format!(
        "rediss://127.0.0.1:{port}?{trusting}&ssl_check_hostname=false"
    ))
    .await;
    let url = format!("rediss://127.0.0.1:{port}?{mistaken}&ssl_check_hostname=false");
    assert!(refusal(&url).await.contains("UnknownIssuer"));
}

#[tokio::test]
async fn a_certificate_is_shown_to_a_server_that_asks_for_one() {
    let (server, port) = server("yes").await;
    let folder = server.folder.path().display();
    let url = format!("rediss://localhost:{port}?ssl_ca_certs={folder}/ca.pem");
    for shown in [
        format!("ssl_certfile={folder}/client.pem&ssl_keyfile={folder}/client.key"),
        format!("ssl_certfile={folder}/both.pem"),
        format!("ssl_certfile={folder}/both.pem&ssl_cert_reqs=none"),
    ] {
        stores(&format!("{url}&{shown}")).await;
    }
    assert!(
        Results::connect(&url.as_str().into(), RESULT_EXPIRES)
            .await
            .is_err()
    );
    let url = format!("{url}&ssl_certfile={folder}/client.pem");
    let error = Results::connect(&url.as_str().into(), RESULT_EXPIRES)
        .await
        .unwrap_err();
    assert!(error.is_configuration(), "{error:?}");
    assert!(error.to_string().contains("has no private key"), "{error}");
}
