#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;

/// Of minisign's documentation: its key, and its signature of the file `test`.
const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
const OTHER: &str = "RWRqlnx3M3zDmWbVLYpJJ/ZC/LiKJ9LeBA8+wCQgZoM5wbmTrrkfN/L5";
const SIGNATURE: &str = "untrusted comment: signature from minisign secret key
RUQf6LRCGA9i559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF/z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=
trusted comment: timestamp:1633700835\tfile:test\tprehashed
wLMDjy9FLAuxZ3q4NlEvkgtyhrr0gtTu6KC4KBJdITbbOeAi1zBIYo0v4iTgt8jJpIidRJnp94ABQkJAgAooBQ==";
const LEGACY: &str = "untrusted comment: signature from minisign secret key
RWQf6LRCGA9i59SLOFxz6NxvASXDJeRtuZykwQepbDEGt87ig1BNpWaVWuNrm73YiIiJbq71Wi+dP9eKL8OC351vwIasSSbXxwA=
trusted comment: timestamp:1555779966\tfile:test
QtKMXWyYcwdpZAlPF7tE2ENJkRd1ujvKjlj1m9RtHTBnZPa5WKU5uWRs5GoP5M/VqE81QFuMKI5k/SfNQUaOAA==";

fn name() -> ModuleName {
    "my_app.tasks".parse().unwrap()
}

fn check(
    policy: &SigningPolicy,
    component: &[u8],
    manifest: &str,
    signature: Option<&str>,
) -> Result<Option<KeyId>, SigningError> {
    let name = name();
    let signed = Signed {
        name: &name,
        component,
        manifest,
    };
    policy.check(signed, signature)
}

#[test]
fn minisigns_own_signature_is_taken() {
    let file = format!("untrusted comment: minisign public key\n{KEY}\n");
    let policy = SigningPolicy::new([OTHER, file.as_str()], true).unwrap();
    let key = check(&policy, b"test", "", Some(SIGNATURE)).unwrap();
    assert_eq!(key.unwrap().to_string(), "E7620F1842B4E81F");
}

#[test]
fn everything_else_is_refused() {
    let policy = SigningPolicy::new([KEY], true).unwrap();
    let huge = format!("{SIGNATURE}{}", "\n".repeat(MAX_SIGNATURE));
    let other_comment = SIGNATURE.replace("file:test", "file:tesu");
    let other_signature = SIGNATURE.replace("RUQf6LRCGA9i559", "RUQf6LRCGA9i55a");
    let cut = &SIGNATURE[..SIGNATURE.len() - 30];
    let unknown = SigningPolicy::new([OTHER], true).unwrap();
    let table = [
        (&policy, &b"test"[..], "", None, "is not signed"),
        (
            &policy,
            b"tesu",
            "",
            Some(SIGNATURE),
            "not of this component",
        ),
        (
            &policy,
            b"test",
            "",
            Some(&*other_comment),
            "or was altered",
        ),
        (
            &policy,
            b"test",
            "",
            Some(&*other_signature),
            "or was altered",
        ),
        (&policy, b"test", "", Some(LEGACY), "legacy"),
        (&policy, b"test", "", Some(cut), "not in minisign's format"),
        (&policy, b"test", "", Some(""), "not in minisign's format"),
        (
            &policy,
            b"test",
            "",
            Some("\n\n\n\n"),
            "not in minisign's format",
        ),
        (
            &policy,
            b"test",
            "",
            Some("a\nRU\nb\nc"),
            "not in minisign's format",
        ),
        (&policy, b"test", "", Some(&*huge), "the limit is 4096"),
        (
            &policy,
            b"test",
            "[defaults]",
            Some(SIGNATURE),
            "does not cover the manifest",
        ),
        (
            &unknown,
            b"test",
            "",
            Some(SIGNATURE),
            "trusted are 99C37C33777C966A",
        ),
    ];
    for (policy, component, manifest, signature, reason) in table {
        let error = check(policy, component, manifest, signature).unwrap_err();
        assert!(error.to_string().contains(reason), "{reason}: {error}");
    }
}

#[test]
fn a_signature_that_comes_along_is_right_also_where_none_is_required() {
    let policy = SigningPolicy::new([KEY], false).unwrap();
    assert_eq!(check(&policy, b"test", "[defaults]", None), Ok(None));
    assert!(check(&policy, b"test", "", Some(SIGNATURE)).is_ok());
    assert!(check(&policy, b"tesu", "", Some(SIGNATURE)).is_err());
}

#[test]
fn what_a_comment_covers() {
    let name = name();
    let text = "[defaults]\ntime_limit = 1\n";
    let sha = Digest::of(text.as_bytes()).to_string();
    let upper = sha.to_uppercase();
    let table = [
        ("timestamp:1", "", true),
        ("", "", true),
        ("manifest-sha256:", "", false),
        ("manifest-sha256:abc", "", false),
        (&*format!("manifest-sha256:{sha}"), "", false),
        (&*format!("manifest-sha256:{sha}"), text, true),
        (&*format!("a:b\tmanifest-sha256:{upper}\tc"), text, true),
        (&*format!("xmanifest-sha256:{sha}"), text, false),
        (
            &*format!("manifest-sha256:{sha} manifest-sha256:{sha}"),
            text,
            false,
        ),
        ("module:my_app.tasks", "", true),
        ("module:other", "", false),
        ("module:", "", false),
        ("module:my_app.tasks module:other", "", false),
    ];
    for (comment, manifest, is_covered) in table {
        let signed = Signed {
            name: &name,
            component: b"",
            manifest,
        };
        assert_eq!(covers(comment, signed).is_ok(), is_covered, "{comment}");
    }
}

#[test]
fn what_is_no_key_is_told() {
    for text in [
        "",
        "RW",
        "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO",
        "key.pub",
    ] {
        let error = SigningPolicy::new([text], true).unwrap_err();
        assert!(matches!(error, SigningError::Key { .. }), "{text}: {error}");
    }
    assert_eq!(
        SigningPolicy::new([], true).unwrap_err(),
        SigningError::NoKeys
    );
}

#[test]
fn any_text_is_refused_without_a_panic() {
    let policy = SigningPolicy::new([KEY], true).unwrap();
    bolero::check!()
        .with_iterations(2_000)
        .for_each(|bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes);
            assert!(check(&policy, b"test", "", Some(&text)).is_err());
            // The same in place of one line of a good one.
            for line in 0..4 {
                let mut lines: Vec<_> = SIGNATURE.lines().collect();
                let good = std::mem::replace(&mut lines[line], &text);
                let taken = check(&policy, b"test", "", Some(&lines.join("\n")));
                assert!(taken.is_err() || line == 0 || *text == *good, "{taken:?}");
            }
        });
}
