//! The table of limits in docs/operations.md, held against the code. `UPDATE_DOCS=1 cargo test -p petiole-permits --test
//! docs` writes it anew.

#![allow(clippy::unwrap_used)]

use std::fmt::Write;
use std::path::Path;

use petiole_permits::{Amounts, LIMITS, Limit, Limits};

const BEGIN: &str = "<!-- limits: written by host/permits/tests/docs.rs -->\n";
const END: &str = "<!-- end of limits -->\n";

fn table() -> String {
    let (defaults, ceilings) = (Limits::DEFAULTS.amounts(), Limits::CEILINGS.amounts());
    let code = |text: &str| format!("`{text}`");
    let mut table = "| Key | Counts | In a manifest | Flag | Default | Maximum | Exception |\n\
                     | --- | --- | --- | --- | --- | --- | --- |\n"
        .to_owned();
    for spec in LIMITS {
        let amount = |of: &Amounts| of.get(spec.name).map(ToString::to_string);
        let (counts, exception) = if spec.is_soft {
            let hard = code(spec.limit.name());
            (format!("{hard}, at which the task is told"), String::new())
        } else {
            (
                spec.doc.trim_end_matches('.').to_owned(),
                code(spec.limit.exception()),
            )
        };
        writeln!(
            table,
            "| {} | {counts} | {} | {} | {} | {} | {exception} |",
            code(spec.name),
            code(spec.manifest),
            spec.flag.map(code).unwrap_or_default(),
            amount(&defaults).unwrap_or_else(|| "none".to_owned()),
            amount(&ceilings).unwrap_or_default(),
        )
        .unwrap();
    }
    let stack = code(Limit::Stack.exception());
    table + &format!("| | The call stack | | | 1 MiB | | {stack} |\n")
}

#[test]
fn the_table_of_limits_is_that_of_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operations.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let expected = [before, BEGIN, "\n", &table(), "\n", END, after].concat();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).unwrap() == expected,
        "docs/operations.md is behind the code: UPDATE_DOCS=1 cargo test -p petiole-permits --test docs"
    );
}
