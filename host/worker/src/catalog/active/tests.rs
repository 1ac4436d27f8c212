#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn pauses_grow_and_end_and_loading_takes_a_tenth_of_the_time() {
    let (ms, s) = (Duration::from_millis, Duration::from_secs);
    let table = [
        (1, ms(1), s(1)),
        (2, ms(1), s(2)),
        (7, ms(1), s(60)),
        (u32::MAX, ms(1), s(60)),
        (1, s(60), s(540)),
        (1, s(600), s(900)),
    ];
    for (attempts, took, expected) in table {
        assert_eq!(pause(attempts, took), expected, "{attempts} {took:?}");
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
