//! The memory that there is for this process.

use std::fs::read_to_string;
use std::path::{Path, PathBuf};

/// The machine's memory in bytes, or what a cgroup of this process leaves of it; none where the system does not tell.
pub(super) fn memory() -> Option<u64> {
    memory_below(Path::new("/"))
}

fn memory_below(root: &Path) -> Option<u64> {
    let groups = read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let limits = groups.lines().flat_map(|group| limits(root, group));
    limits.chain(total(root)).min()
}

/// `MemTotal:       24000000 kB` (proc_meminfo(5)).
fn total(root: &Path) -> Option<u64> {
    let text = read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib.saturating_mul(1024))
}

/// The limits of a group, `0::/path` of version 2 or `4:memory:/path` of version 1 (cgroups(7)), and of those it is
/// in. In a container the path may be the host's, of which only the root is there to be seen.
fn limits(root: &Path, group: &str) -> Vec<u64> {
    let mut fields = group.splitn(3, ':').skip(1);
    let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
        return Vec::new();
    };
    let (mount, file) = match controllers {
        "" => ("sys/fs/cgroup", "memory.max"),
        _ if controllers.split(',').any(|one| one == "memory") => {
            ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
        }
        _ => return Vec::new(),
    };
    let group = PathBuf::from(path.trim_start_matches('/'));
    let limit = |group: &Path| {
        let text = read_to_string(root.join(mount).join(group).join(file)).ok()?;
        // version 2 writes `max` for none
        text.trim().parse().ok()
    };
    group.ancestors().filter_map(limit).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal:        1024 kB\nMemFree:  1 kB\n");
    const KIB: u64 = 1024;

    #[test]
    fn the_lowest_limit_counts() {
        let none = &u64::MAX.to_string();
        for (files, memory) in [
            (&[][..], Some(1024 * KIB)),
            (&[("sys/fs/cgroup/memory.max", "max\n")], Some(1024 * KIB)),
            (&[("sys/fs/cgroup/memory.max", "524288\n")], Some(512 * KIB)),
            (
                &[
                    ("proc/self/cgroup", "0::/a.slice/b.service\n"),
                    ("sys/fs/cgroup/a.slice/b.service/memory.max", "max\n"),
                    ("sys/fs/cgroup/a.slice/memory.max", "262144\n"),
                ],
                Some(256 * KIB),
            ),
            (
                &[
                    ("proc/self/cgroup", "5:cpu:/x\n4:hugetlb,memory:/x\n"),
                    (
                        "sys/fs/cgroup/memory/x/memory.limit_in_bytes",
                        none.as_str(),
                    ),
                    ("sys/fs/cgroup/memory/memory.limit_in_bytes", "131072"),
                ],
                Some(128 * KIB),
            ),
            (&[("proc/meminfo", "")], None),
            (&[("proc/self/cgroup", "\n::\n0:\n")], Some(1024 * KIB)),
        ] {
            let root = tempfile::tempdir().unwrap();
            let whole = [MEMINFO, ("proc/self/cgroup", "0::/\n")];
            for (path, text) in whole.iter().chain(files) {
                let path = root.path().join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            assert_eq!(memory_below(root.path()), memory, "{files:?}");
        }
    }
}
