//! Files, by Rust's standard library.

use std::fs;
use std::io::{Error, Write};

#[petiole::task]
fn read_file(path: String) -> Result<String, String> {
    fs::read_to_string(path).map_err(text)
}

#[petiole::task]
fn write_file(path: String, content: String) -> Result<(), String> {
    fs::write(path, content).map_err(text)
}

/// Appends, and reads back.
#[petiole::task]
fn append_file(path: String, content: String) -> Result<String, String> {
    let mut file = fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .map_err(text)?;
    file.write_all(content.as_bytes()).map_err(text)?;
    fs::read_to_string(path).map_err(text)
}

/// The names in a folder, sorted.
#[petiole::task]
fn list_folder(path: String) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(text)? {
        names.push(
            entry
                .map_err(text)?
                .file_name()
                .to_string_lossy()
                .into_owned(),
        );
    }
    names.sort();
    Ok(names)
}

/// Makes a folder with a file in it, moves both, and removes all of it again.
#[petiole::task]
fn tidy(folder: String) -> Result<Vec<String>, String> {
    let (old, new) = (format!("{folder}/one"), format!("{folder}/two"));
    fs::create_dir(&old).map_err(text)?;
    fs::write(format!("{old}/file"), "x").map_err(text)?;
    fs::rename(&old, &new).map_err(text)?;
    let size = fs::metadata(format!("{new}/file")).map_err(text)?.len();
    fs::remove_file(format!("{new}/file")).map_err(text)?;
    fs::remove_dir(&new).map_err(text)?;
    Ok(vec![
        size.to_string(),
        fs::exists(new).map_err(text)?.to_string(),
    ])
}

/// Writes `bytes` to a file, `at_once` in each write; the error comes with how many went through.
#[petiole::task]
fn fill(path: String, bytes: u32, at_once: u32) -> Result<u32, String> {
    let mut file = fs::File::create(path).map_err(text)?;
    let chunk = vec![b'x'; at_once as usize];
    let mut written = 0;
    while written < bytes {
        let result = file.write_all(&chunk);
        result.map_err(|error| format!("{written} bytes, then {error}"))?;
        written += at_once;
    }
    Ok(written)
}

/// The error's kind, which is the same on each machine.
fn text(error: Error) -> String {
    format!("{:?}", error.kind())
}
