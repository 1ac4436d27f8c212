//! Attack: leave the folder through symbolic links: those that are there, and those that one makes oneself.

use std::fs;
use std::path::Path;
use wasip2::filesystem::preopens::get_directories;

const TARGETS: [&str; 6] = [
    "..",
    "../canary",
    "/",
    "/etc/passwd",
    "inner/../../canary",
    "/proc/self/environ",
];

/// Returns what could be read outside. `way-out` and `file-out` are there already; the caller checks that nothing was
/// written outside.
#[petiole::task]
fn attack() -> Vec<String> {
    for (number, target) in TARGETS.into_iter().enumerate() {
        for (folder, _) in get_directories() {
            let _ = folder.symlink_at(target, &format!("made-{number}"));
            let _ = folder.symlink_at(&format!("made-{number}"), &format!("twice-{number}"));
        }
    }
    let made =
        (0..TARGETS.len()).flat_map(|number| [format!("made-{number}"), format!("twice-{number}")]);
    let links = ["way-out".to_owned(), "file-out".to_owned()]
        .into_iter()
        .chain(made);
    links
        .flat_map(|link| through(&Path::new("/box").join(link)))
        .collect()
}

fn through(link: &Path) -> Vec<String> {
    let mut seen = Vec::new();
    for path in [
        link.to_path_buf(),
        link.join("canary"),
        link.join("etc/passwd"),
    ] {
        let _ = fs::hard_link(&path, "/box/caught");
        for path in [path.as_path(), Path::new("/box/caught")] {
            if fs::read_to_string(path).is_ok_and(|text| text != "owned" && !text.is_empty()) {
                seen.push(format!("read {path:?}"));
            }
        }
        let mut names = fs::read_dir(&path)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name());
        if names.any(|name| name == "canary" || name == "etc") {
            seen.push(format!("list {path:?}"));
        }
        let _ = fs::write(&path, "owned");
        let _ = fs::create_dir(path.join("owned"));
        let _ = fs::remove_file("/box/caught");
    }
    seen
}
