//! Attack: change a folder that one may only read.

use std::fs::{self, OpenOptions};
use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{DescriptorFlags, NewTimestamp, OpenFlags, PathFlags};

/// Returns the changes that succeeded.
#[petiole::task]
fn attack() -> Vec<String> {
    let mut changed = Vec::new();
    let mut tried = |what: &str, done: bool| {
        if done {
            changed.push(what.to_owned());
        }
    };
    tried("create", fs::write("/shelf/new", "x").is_ok());
    tried("overwrite", fs::write("/shelf/book", "x").is_ok());
    tried(
        "append",
        OpenOptions::new().append(true).open("/shelf/book").is_ok(),
    );
    tried(
        "truncate",
        OpenOptions::new()
            .write(true)
            .truncate(true)
            .open("/shelf/book")
            .is_ok(),
    );
    tried("remove", fs::remove_file("/shelf/book").is_ok());
    tried("rename", fs::rename("/shelf/book", "/shelf/moved").is_ok());
    tried("mkdir", fs::create_dir("/shelf/folder").is_ok());
    tried(
        "hard link",
        fs::hard_link("/shelf/book", "/shelf/link").is_ok(),
    );
    for (folder, name) in get_directories() {
        if !name.contains("shelf") {
            continue;
        }
        tried("symlink", folder.symlink_at("book", "link").is_ok());
        let now = NewTimestamp::Now;
        tried(
            "times",
            folder
                .set_times_at(PathFlags::empty(), "book", now, now)
                .is_ok(),
        );
        let flags =
            DescriptorFlags::READ | DescriptorFlags::WRITE | DescriptorFlags::MUTATE_DIRECTORY;
        tried(
            "reopen",
            folder
                .open_at(PathFlags::empty(), ".", OpenFlags::DIRECTORY, flags)
                .is_ok(),
        );
        let Ok(book) = folder.open_at(
            PathFlags::empty(),
            "book",
            OpenFlags::empty(),
            DescriptorFlags::READ,
        ) else {
            continue;
        };
        tried("write", book.write(b"x", 0).is_ok());
        tried(
            "stream",
            book.write_via_stream(0)
                .is_ok_and(|out| out.blocking_write_and_flush(b"x").is_ok()),
        );
        tried("size", book.set_size(0).is_ok());
        tried("own times", book.set_times(now, now).is_ok());
    }
    changed
}
