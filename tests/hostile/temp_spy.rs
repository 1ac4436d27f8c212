//! Attack: read what the task before left in its temporary folder. The result is what was found; then a secret is left.

use std::fs;

#[petiole::task]
fn attack() -> Result<Vec<String>, petiole::Error> {
    let found = fs::read_dir("/tmp")?
        .map(|entry| entry.map(|entry| format!("{:?}", entry.path())))
        .collect::<Result<Vec<_>, _>>()?;
    fs::create_dir_all("/tmp/a/b")?;
    fs::write("/tmp/a/b/secret", "secret")?;
    Ok(found)
}
