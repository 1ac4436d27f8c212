//! Attack: a file of a petabyte with nothing in it, one byte at the end of another, and that byte once more, where the
//! host may have forgotten by then what lies before it.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};

use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{Descriptor, DescriptorFlags, OpenFlags, PathFlags};

#[petiole::task]
fn attack(folder: String) -> Result<String, petiole::Error> {
    let sized = File::create(format!("{folder}/sized"))?.set_len(1 << 50);
    let mut file = File::create(format!("{folder}/sought"))?;
    file.seek(SeekFrom::Start(1 << 40))?;
    let sought = file.write_all(b"x");
    let folders = get_directories().into_iter();
    let again = folders.map(|(root, _)| write_again(&root)).next();
    Ok(format!("{} {} {again:?}", sized.is_ok(), sought.is_ok()))
}

/// True if any of several writes to one stream got through.
fn write_again(root: &Descriptor) -> Result<bool, String> {
    let file = root.open_at(
        PathFlags::empty(),
        "again",
        OpenFlags::CREATE,
        DescriptorFlags::WRITE,
    );
    let stream = file.and_then(|file| file.write_via_stream(1 << 40));
    let stream = stream.map_err(|error| error.name().to_owned())?;
    let written = (0..3).map(|_| stream.blocking_write_and_flush(b"x").is_ok());
    Ok(written.fold(false, |any, one| any | one))
}
