//! Attack: fill the disk's time instead of its space: write the same bytes again and again.

use std::io::{Seek, Write};

#[petiole::task]
fn attack(folder: String) -> Result<(), petiole::Error> {
    let mut file = std::fs::File::create(format!("{folder}/again"))?;
    loop {
        file.rewind()?;
        file.write_all(&[1; 64 * 1024])?;
    }
}
