//! As much as there is of everything.

use wasip2::filesystem::types::{DescriptorFlags, ErrorCode, OpenFlags, PathFlags};

use crate::raw::{create, root, text};

/// Makes this many entries: files, folders, symbolic and hard links in turn.
#[petiole::task]
fn make(name: String, count: u32) -> Result<(u32, String), String> {
    let root = root(&name)?;
    Ok(take(count, |n| {
        let path = n.to_string();
        match n % 4 {
            0 => create(&root, &path).map(drop),
            1 => root.create_directory_at(&path),
            2 => root.symlink_at("anywhere", &path),
            _ => root.link_at(PathFlags::empty(), "source", &root, &path),
        }
    }))
}

/// Makes folders in folders.
#[petiole::task]
fn go_deep(name: String, depth: u32) -> Result<(u32, String), String> {
    let mut deepest = root(&name)?;
    Ok(take(depth, |_| {
        deepest.create_directory_at("down")?;
        let flags = DescriptorFlags::READ | DescriptorFlags::MUTATE_DIRECTORY;
        deepest = deepest.open_at(PathFlags::empty(), "down", OpenFlags::DIRECTORY, flags)?;
        Ok(())
    }))
}

/// Opens a file this many times, or streams of it, or lists of its folder, and keeps all of them.
#[petiole::task]
fn keep(name: String, what: String, count: u32) -> Result<(u32, String), String> {
    let root = root(&name)?;
    let file = create(&root, "source").map_err(text)?;
    let (mut files, mut inputs, mut outputs, mut lists) = (vec![], vec![], vec![], vec![]);
    Ok(take(count, |_| {
        match what.as_str() {
            "files" => files.push(create(&root, "source")?),
            // the file itself is dropped, its stream stays
            "streams of dropped files" => {
                inputs.push(create(&root, "source")?.read_via_stream(0)?);
            }
            "output streams" => outputs.push(file.append_via_stream()?),
            _ => lists.push(root.read_directory()?),
        }
        Ok(())
    }))
}

/// Opens this many files, and computes until it is stopped.
#[petiole::task]
fn open_and_spin(name: String, count: u32) -> Result<(), String> {
    let root = root(&name)?;
    let mut files = Vec::new();
    for _ in 0..count {
        files.push(create(&root, "source").map_err(text)?);
    }
    loop {
        std::hint::spin_loop();
    }
}

/// Writes to the temporary folder, and waits.
#[petiole::task]
fn write_and_sleep(path: String, milliseconds: u32) -> Result<(), String> {
    std::fs::write(path, "x").map_err(|error| error.to_string())?;
    std::thread::sleep(std::time::Duration::from_millis(milliseconds.into()));
    Ok(())
}

/// Returns the number of successes, and the first error.
fn take(count: u32, mut one: impl FnMut(u32) -> Result<(), ErrorCode>) -> (u32, String) {
    for n in 0..count {
        if let Err(error) = one(n) {
            return (n, text(error));
        }
    }
    (count, "ok".to_owned())
}
