use super::*;

fn read_all(pairs: &[(&str, &str)]) -> Result<Tls, String> {
    let mut options = TlsOptions::default();
    for (name, value) in pairs {
        assert!(options.take(name, value)?, "{name}");
    }
    options.tls()
}

#[test]
fn a_certificate_that_is_refused_is_told_from_a_server_that_is_away() {
    let refused = Error::InvalidCertificate(CertificateError::UnknownIssuer);
    let refused = io::Error::new(io::ErrorKind::InvalidData, refused);
    assert!(is_untrusted(&refused));
    let away = io::Error::from(io::ErrorKind::ConnectionRefused);
    assert!(!is_untrusted(&away));
    assert!(!is_untrusted(&io::Error::other(Error::DecryptError)));
}

#[test]
fn each_mode_says_what_is_checked() {
    for (pairs, check) in [
        (&[][..], Check::Whole),
        (&[("ssl_cert_reqs", "CERT_REQUIRED")], Check::Whole),
        (&[("ssl_cert_reqs", "required")], Check::Whole),
        (&[("ssl_cert_reqs", "CERT_OPTIONAL")], Check::Whole),
        (&[("ssl_cert_reqs", "optional")], Check::Whole),
        (&[("ssl_cert_reqs", "CERT_NONE")], Check::Nothing),
        (&[("ssl_cert_reqs", "none")], Check::Nothing),
        (&[("ssl_check_hostname", "true")], Check::Whole),
        (&[("ssl_check_hostname", "False")], Check::AnyHost),
        (
            &[("ssl_check_hostname", "true"), ("ssl_cert_reqs", "none")],
            Check::Nothing,
        ),
    ] {
        assert_eq!(read_all(pairs).unwrap().check, check, "{pairs:?}");
    }
    assert!(!TlsOptions::default().take("heartbeat", "1").unwrap());
}

#[test]
fn files_are_named_and_a_key_may_stand_beside_its_certificate() {
    let tls = read_all(&[
        ("ssl_ca_certs", "/ca"),
        ("ssl_certfile", "/c"),
        ("ssl_keyfile", "/k"),
    ]);
    let client = |keyfile: &str| {
        Some(ClientFiles {
            certfile: "/c".into(),
            keyfile: keyfile.into(),
        })
    };
    let tls = tls.unwrap();
    assert_eq!(tls.ca_certs, Some("/ca".into()));
    assert_eq!(tls.client, client("/k"));
    let both = read_all(&[("ssl_certfile", "/c")]).unwrap();
    assert_eq!(both.client, client("/c"));
}

#[test]
fn what_is_not_supported_is_named() {
    for (pairs, part) in [
        (&[("ssl_keyfile", "/k")], "needs its ssl_certfile"),
        (&[("ssl_cert_reqs", "maybe")], "\"maybe\" is not one of"),
        (&[("ssl_ciphers", "x")], "ssl_ciphers is not supported"),
    ] {
        let reason = read_all(pairs).unwrap_err();
        assert!(reason.contains(part), "{reason}");
    }
}

#[test]
fn a_file_without_what_it_should_have_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let certificate = write("cert.pem", &cert.pem());
    let both = write("both.pem", &(cert.pem() + &signing_key.serialize_pem()));
    let empty = write("empty.pem", "");
    let long = write("long.pem", &"x".repeat((1 << 20) + 1));

    for (pairs, part) in [
        (&[("ssl_ca_certs", &*empty)], "has no certificate in it"),
        (&[("ssl_ca_certs", "/no/such.pem")], "/no/such.pem: "),
        (&[("ssl_ca_certs", &long)], "more than 1048576 bytes"),
        (&[("ssl_certfile", &certificate)], "has no private key"),
    ] {
        let reason = read_all(pairs).unwrap().check_files().unwrap_err();
        assert!(reason.contains(part), "{reason}");
    }
    let tls = read_all(&[("ssl_ca_certs", &certificate), ("ssl_certfile", &both)]).unwrap();
    tls.check_files().unwrap();
    assert!(
        tls.read_config()
            .unwrap()
            .client_auth_cert_resolver
            .has_certs()
    );
}
