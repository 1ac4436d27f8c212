use super::*;

#[test]
fn what_may_pass_is_not_the_components_fault() {
    let status = ExitStatus::from_raw(Signal::KILL.as_raw());
    let table = [
        (CompileError::NotWasm { start: vec![] }, true),
        (CompileError::CoreModule, true),
        (CompileError::TooLarge { size: 1 }, true),
        (
            CompileError::Invalid {
                reason: String::new(),
            },
            true,
        ),
        (
            CompileError::TooSlow {
                limit: Duration::ZERO,
            },
            false,
        ),
        (
            CompileError::Crashed {
                status,
                memory: 1,
                stderr: String::new(),
            },
            false,
        ),
        (CompileError::Busy, false),
        (CompileError::Host(Errno::MFILE.into()), false),
    ];
    for (error, is_of_component) in table {
        assert_eq!(error.is_of_component(), is_of_component, "{error}");
    }
}
