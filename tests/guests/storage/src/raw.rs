//! Files, by WASI's own functions: with paths as they are given, which the standard library would look at first.

use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{
    Descriptor, DescriptorFlags, ErrorCode, OpenFlags, PathFlags, filesystem_error_code,
};
use wasip2::io::streams::{OutputStream, StreamError};

/// Every folder that the task is given.
#[petiole::task]
fn roots() -> Vec<String> {
    get_directories()
        .into_iter()
        .map(|(_, name)| name)
        .collect()
}

pub(crate) fn root(name: &str) -> Result<Descriptor, String> {
    get_directories()
        .into_iter()
        .find(|(_, root)| root == name)
        .map(|(descriptor, _)| descriptor)
        .ok_or_else(|| format!("no {name}"))
}

pub(crate) fn create(root: &Descriptor, path: &str) -> Result<Descriptor, ErrorCode> {
    root.open_at(
        PathFlags::empty(),
        path,
        OpenFlags::CREATE,
        DescriptorFlags::READ | DescriptorFlags::WRITE,
    )
}

/// Tries everything that a path can be used for, and returns each outcome: `ok`, or the error.
#[petiole::task]
fn try_path(name: String, path: String) -> Result<Vec<(String, String)>, String> {
    let root = root(&name)?;
    let (follow, stay) = (PathFlags::SYMLINK_FOLLOW, PathFlags::empty());
    let (read, write) = (DescriptorFlags::READ, DescriptorFlags::WRITE);
    let open = |flags, how, access| done(root.open_at(flags, &path, how, access));
    let now = wasip2::filesystem::types::NewTimestamp::Now;
    let outcomes = [
        ("read", open(follow, OpenFlags::empty(), read)),
        ("read, no link", open(stay, OpenFlags::empty(), read)),
        ("list", open(follow, OpenFlags::DIRECTORY, read)),
        ("write", open(follow, OpenFlags::empty(), write)),
        ("create", open(follow, OpenFlags::CREATE, write)),
        (
            "create new",
            open(follow, OpenFlags::CREATE | OpenFlags::EXCLUSIVE, write),
        ),
        ("truncate", open(follow, OpenFlags::TRUNCATE, write)),
        ("stat", done(root.stat_at(follow, &path))),
        ("hash", done(root.metadata_hash_at(follow, &path))),
        ("touch", done(root.set_times_at(follow, &path, now, now))),
        ("make folder", done(root.create_directory_at(&path))),
        (
            "link from",
            done(root.link_at(stay, &path, &root, "linked-from-outside")),
        ),
        ("link to", done(root.link_at(stay, "mine", &root, &path))),
        (
            "rename from",
            done(root.rename_at(&path, &root, "renamed-from-outside")),
        ),
        ("rename to", done(root.rename_at("mine", &root, &path))),
        ("symlink at", done(root.symlink_at("mine", &path))),
        ("remove", done(root.unlink_file_at(&path))),
        ("remove folder", done(root.remove_directory_at(&path))),
    ];
    Ok(outcomes
        .into_iter()
        .map(|(what, outcome)| (what.to_owned(), outcome))
        .collect())
}

#[petiole::task]
fn make_symlink(name: String, target: String, path: String) -> Result<(), String> {
    root(&name)?.symlink_at(&target, &path).map_err(text)
}

/// Links or moves a file from one folder to another.
#[petiole::task]
fn bring(from: String, path: String, to: String, new_path: String) -> Result<Vec<String>, String> {
    let (from, to) = (root(&from)?, root(&to)?);
    Ok(vec![
        done(from.link_at(PathFlags::empty(), &path, &to, &new_path)),
        done(from.rename_at(&path, &to, &new_path)),
    ])
}

/// Writes `bytes` to a file in one of the ways that there are.
#[petiole::task]
fn write_by(name: String, path: String, way: String, bytes: u32) -> Result<u64, String> {
    let file = create(&root(&name)?, &path).map_err(text)?;
    let chunk = vec![b'x'; bytes as usize];
    match way.as_str() {
        "write" => file.write(&chunk, 0).map(drop).map_err(text)?,
        "hole" => file
            .write(b"x", u64::from(bytes) - 1)
            .map(drop)
            .map_err(text)?,
        "set-size" => file.set_size(bytes.into()).map_err(text)?,
        "stream" => through(&file.write_via_stream(0).map_err(text)?, &chunk)?,
        "append" => through(&file.append_via_stream().map_err(text)?, &chunk)?,
        "stream after a hole" => {
            let stream = file.write_via_stream(u64::from(bytes) - 1).map_err(text)?;
            // one that is refused is tried again
            through(&stream, b"x").or_else(|_| through(&stream, b"x"))?;
        }
        "blocking" => {
            let stream = file.write_via_stream(0).map_err(text)?;
            for chunk in chunk.chunks(4096) {
                stream.blocking_write_and_flush(chunk).map_err(failed)?;
            }
        }
        "zeroes" => {
            let stream = file.write_via_stream(0).map_err(text)?;
            for chunk in chunk.chunks(4096) {
                let zeroes = stream.blocking_write_zeroes_and_flush(chunk.len() as u64);
                zeroes.map_err(failed)?;
            }
        }
        "splice" => splice(&root(&name)?, &file, bytes)?,
        other => return Err(format!("no way {other}")),
    }
    Ok(file.stat().map_err(text)?.size)
}

fn through(stream: &OutputStream, mut bytes: &[u8]) -> Result<(), String> {
    while !bytes.is_empty() {
        stream.subscribe().block();
        let at_once = stream.check_write().map_err(failed)? as usize;
        let (chunk, rest) = bytes.split_at(at_once.min(bytes.len()));
        stream.write(chunk).map_err(failed)?;
        bytes = rest;
    }
    stream.blocking_flush().map_err(failed)
}

/// Copies from the file `source`.
fn splice(root: &Descriptor, file: &Descriptor, bytes: u32) -> Result<(), String> {
    let source = root.open_at(
        PathFlags::empty(),
        "source",
        OpenFlags::empty(),
        DescriptorFlags::READ,
    );
    let input = source.map_err(text)?.read_via_stream(0).map_err(text)?;
    let output = file.write_via_stream(0).map_err(text)?;
    let mut left = u64::from(bytes);
    while left > 0 {
        left -= output.blocking_splice(&input, left).map_err(failed)?;
    }
    Ok(())
}

fn failed(error: StreamError) -> String {
    match error {
        StreamError::Closed => "closed".to_owned(),
        StreamError::LastOperationFailed(error) => match filesystem_error_code(&error) {
            Some(code) => text(code),
            None => error.to_debug_string(),
        },
    }
}

fn done<T>(result: Result<T, ErrorCode>) -> String {
    result.map_or_else(text, |_| "ok".to_owned())
}

/// WIT's name of it.
pub(crate) fn text(code: ErrorCode) -> String {
    code.name().to_owned()
}
