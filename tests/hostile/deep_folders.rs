//! Attack: folders in folders, deeper than whoever cleans up after the task can go.

use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{DescriptorFlags, OpenFlags, PathFlags};

#[petiole::task]
fn attack(depth: u32) -> Result<u32, petiole::Error> {
    let folders = get_directories().into_iter();
    let mut here = folders.map(|(folder, _)| folder).next();
    let mut reached = 0;
    while let Some(folder) = here.take().filter(|_| reached < depth) {
        let flags = DescriptorFlags::READ | DescriptorFlags::MUTATE_DIRECTORY;
        here = folder.create_directory_at("d").ok().and_then(|()| {
            folder
                .open_at(PathFlags::empty(), "d", OpenFlags::DIRECTORY, flags)
                .ok()
        });
        reached += 1;
    }
    Ok(reached)
}
