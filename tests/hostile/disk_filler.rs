//! Attack: fill the disk.

use std::io::Write;

#[petiole::task]
fn attack(folder: String) -> Result<(), petiole::Error> {
    let mut file = std::fs::File::create(format!("{folder}/full"))?;
    loop {
        file.write_all(&[1; 64 * 1024])?;
    }
}
