//! The errors for functions that can't be tasks. `TRYBUILD=overwrite` writes the texts anew.

#[test]
fn compile_errors_say_what_to_write() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/ui/good.rs");
    cases.compile_fail("tests/ui/bad_*.rs");
}
