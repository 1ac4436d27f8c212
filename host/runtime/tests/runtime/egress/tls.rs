//! Requests over TLS.

use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio_rustls::TlsAcceptor;

use super::*;

#[tokio::test]
async fn the_server_must_be_who_the_url_names() {
    let (acceptor, roots) = authority("api.test");
    let server = tls_server(acceptor).await;
    let names = Names::of(&[
        ("api.test", &[&["127.0.0.1"]]),
        ("other.test", &[&["127.0.0.1"]]),
    ]);
    let rules = [
        format!("https://*.test:{server}"),
        format!("https://127.0.0.1:{server}"),
    ];
    let task = Sandboxed::on(Network::new(names.clone(), roots).unwrap())
        .await
        .http(&rules)
        .networks(ALL_OF_THIS_MACHINE);
    let run = task
        .run(
            "fetch",
            json!(["GET", format!("https://api.test:{server}/")]),
        )
        .await;
    assert_eq!(run.outcome, Outcome::Success(json!([200, "over TLS"])));
    // certificates and all
    assert!(run.usage.bytes_in > 400, "{:?}", run.usage);
    for host in ["other.test", "127.0.0.1"] {
        let refused = task.get(&format!("https://{host}:{server}/")).await;
        assert_eq!(refused, Err("TlsCertificateError".to_owned()), "{host}");
    }

    let stranger = Sandboxed::new(&names)
        .await
        .http(&rules)
        .networks(ALL_OF_THIS_MACHINE);
    let refused = stranger.get(&format!("https://api.test:{server}/")).await;
    assert_eq!(refused, Err("TlsCertificateError".to_owned()));

    let clear = Server::answering("127.0.0.1:0", response("200 OK", "", "")).await;
    let task = task.http(&[format!("https://api.test:{}", clear.port)]);
    let refused = task
        .get_soon(&format!("https://api.test:{}/", clear.port))
        .await;
    assert!(refused.is_err(), "{refused:?}");
}

/// A certificate for a name, and the roots to trust it.
fn authority(name: &str) -> (TlsAcceptor, rustls::RootCertStore) {
    let certified = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let certificate = certified.cert.der().clone();
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    (TlsAcceptor::from(Arc::new(config)), roots)
}

async fn tls_server(acceptor: TlsAcceptor) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    return;
                };
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                let answer = response("200 OK", "", "over TLS");
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    port
}
