//! Building the hostile guests: every `tests/hostile/*.rs` and `*.wat` becomes a component of its name.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::guests;
use crate::step;

/// Builds them into a folder of their own, where nothing of an earlier build is left.
///
/// # Errors
/// If one of them does not compile.
pub(crate) fn build(root: &Path) -> Result<()> {
    step::run(
        step::command("cargo")
            .args(["build", "--quiet", "--package", "hostile", "--examples"])
            .args(["--release", "--target", guests::TARGET])
            .args(["--manifest-path", guests::MANIFEST])
            .current_dir(root),
    )?;
    let built = guests::folder(root);
    let folder = built.join("hostile");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    for source in sources(&root.join("tests/hostile"))? {
        let name = source.file_stem().context("a file without a name")?;
        let component = folder.join(name).with_extension("wasm");
        if component.exists() {
            bail!("two hostile guests are called {}", name.display());
        }
        if source.extension().is_some_and(|it| it == "wat") {
            fs::write(&component, wat::parse_file(&source)?)?;
        } else {
            let example = built.join("examples").join(name).with_extension("wasm");
            fs::copy(&example, &component)
                .with_context(|| format!("{} is no example of its crate", source.display()))?;
        }
    }
    Ok(())
}

fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut sources = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|it| it == "rs" || it == "wat") {
            sources.push(path);
        }
    }
    sources.sort();
    Ok(sources)
}
