#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn pauses_grow_and_end_and_loading_takes_a_tenth_of_the_time() {
    let s = Duration::from_secs;
    let mut backoff = BACKOFF;
    for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
        assert_eq!(pause(&mut backoff, Duration::from_millis(1)), s(expected));
    }
    for (took, expected) in [(60, 540), (600, 900)] {
        assert_eq!(pause(&mut BACKOFF.clone(), s(took)), s(expected));
    }
}

#[test]
fn a_reason_has_its_causes_and_an_end() {
    let long = InstallError::NotFollowed {
        module: "a".parse().unwrap(),
        version: 1,
        reason: "ä".repeat(2 * MAX_REASON),
    };
    let reason = reason(&long);
    assert!(
        reason.len() <= MAX_REASON + 3 && reason.ends_with("ä..."),
        "{reason}"
    );
}
