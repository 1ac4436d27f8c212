//! Circles between the files of a crate: files that need each other, which are understood together or not at all.
//!
//! An arrow goes from a file to each file whose items it names by a path: in `use` or in place, through re-exports to
//! where the item is defined. `mod` and `pub use` draw none: they say where a file stands, not what it needs. Tests of
//! a file are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Segments of a path, or of a module's place in its crate.
type Names = Vec<String>;

/// A module: that of a file, or one that is written within a file.
#[derive(Default)]
struct Module {
    file: PathBuf,
    /// Names that `use` brings in, and where they come from.
    imports: BTreeMap<String, Names>,
    globs: Vec<Names>,
    /// Paths that are named here, but for those of re-exports.
    named: Vec<Names>,
}

#[derive(Default)]
struct Crate {
    modules: BTreeMap<Names, Module>,
}

/// Files that can be reached from each other, of the crate with this root (`lib.rs`, `main.rs`), with their arrows.
pub(crate) fn circles(root: &Path) -> Vec<BTreeMap<PathBuf, BTreeSet<PathBuf>>> {
    let mut it = Crate::default();
    it.read(Vec::new(), root, root.parent().unwrap());
    let arrows = it.arrows();
    let reached: BTreeMap<_, _> = arrows
        .keys()
        .map(|file| (file, reach(&arrows, file)))
        .collect();
    let mut circles = BTreeSet::new();
    for (file, others) in &reached {
        let circle: BTreeSet<_> = others
            .iter()
            .filter(|other| reached[other].contains(*file))
            .cloned()
            .collect();
        circles.insert(circle);
    }
    let within = |circle: &BTreeSet<PathBuf>, file: &PathBuf| {
        arrows[file].intersection(circle).cloned().collect()
    };
    let circles = circles.iter().filter(|circle| circle.len() > 1);
    circles
        .map(|circle| {
            circle
                .iter()
                .map(|file| (file.clone(), within(circle, file)))
                .collect()
        })
        .collect()
}

fn reach(arrows: &BTreeMap<PathBuf, BTreeSet<PathBuf>>, from: &Path) -> BTreeSet<PathBuf> {
    let mut reached = BTreeSet::new();
    let mut next = vec![from];
    while let Some(file) = next.pop() {
        for other in &arrows[file] {
            if reached.insert(other.clone()) {
                next.push(other);
            }
        }
    }
    reached
}

impl Crate {
    /// Reads the module of a file, and those below it, whose files are in `folder`.
    fn read(&mut self, at: Names, file: &Path, folder: &Path) {
        let text =
            fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let tokens: TokenStream = text
            .parse()
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        self.module(at, file, folder, tokens);
    }

    fn module(&mut self, at: Names, file: &Path, folder: &Path, tokens: TokenStream) {
        self.modules.insert(
            at.clone(),
            Module {
                file: file.to_owned(),
                ..Module::default()
            },
        );
        self.walk(&at, file, folder, tokens);
    }

    fn walk(&mut self, at: &Names, file: &Path, folder: &Path, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut i = 0;
        let mut public = false;
        while i < tokens.len() {
            let rest = &tokens[i..];
            match rest {
                [TokenTree::Punct(hash), TokenTree::Group(attribute), ..]
                    if hash.as_char() == '#' && is_cfg_test(&attribute.stream()) =>
                {
                    i += item(&rest[2..]) + 2;
                }
                [TokenTree::Ident(word), TokenTree::Ident(name), end, ..] if word == "mod" => {
                    let at = [at.clone(), vec![name.to_string()]].concat();
                    let below = folder.join(name.to_string());
                    match end {
                        TokenTree::Group(group) => self.module(at, file, &below, group.stream()),
                        _ => {
                            let files = [below.with_extension("rs"), below.join("mod.rs")];
                            let file = files.iter().find(|file| file.exists());
                            self.read(at, file.unwrap_or(&files[0]), &below);
                        }
                    }
                    i += 3;
                }
                [TokenTree::Ident(word), ..] if word == "use" => {
                    let mut paths = Vec::new();
                    i += 1 + tree(&tokens[i + 1..], &Vec::new(), &mut paths);
                    self.import(at, paths, public);
                }
                [TokenTree::Ident(word), scope @ ..] if word == "pub" => {
                    public = true;
                    i += 1 + usize::from(is_scope(scope.first()));
                    continue;
                }
                [TokenTree::Ident(_), TokenTree::Punct(colon), ..] if colon.as_char() == ':' => {
                    let mut paths = Vec::new();
                    i += tree(rest, &Vec::new(), &mut paths).max(1);
                    let paths = paths
                        .into_iter()
                        .map(|(_, path)| path)
                        .filter(|path| path.len() > 1);
                    self.modules.get_mut(at).unwrap().named.extend(paths);
                }
                [TokenTree::Group(group), ..] => {
                    self.walk(at, file, folder, group.stream());
                    i += 1;
                }
                _ => i += 1,
            }
            public = false;
        }
    }

    fn import(&mut self, at: &Names, paths: Vec<(String, Names)>, public: bool) {
        let module = self.modules.get_mut(at).unwrap();
        for (name, mut path) in paths {
            if !public {
                module.named.push(path.clone());
            }
            if name == "*" {
                path.pop();
                module.globs.push(path);
            } else {
                module.imports.insert(name, path);
            }
        }
    }

    fn arrows(&self) -> BTreeMap<PathBuf, BTreeSet<PathBuf>> {
        let mut arrows: BTreeMap<PathBuf, BTreeSet<PathBuf>> = BTreeMap::new();
        for (at, module) in &self.modules {
            let to = arrows.entry(module.file.clone()).or_default();
            let named = module
                .named
                .iter()
                .filter_map(|path| self.home(at, path, 0));
            to.extend(named.filter(|file| **file != module.file).cloned());
        }
        arrows
    }

    /// The file that defines what a path names in a module; none for another crate's.
    fn home(&self, at: &Names, path: &[String], depth: usize) -> Option<&PathBuf> {
        let (first, rest) = path.split_first()?;
        let below = [at.clone(), vec![first.clone()]].concat();
        let (mut at, mut rest) = match first.as_str() {
            "crate" => (Vec::new(), rest),
            "self" => (at.clone(), rest),
            "super" => (at[..at.len().checked_sub(1)?].to_vec(), rest),
            _ if self.modules.contains_key(&below) => (below, rest),
            _ => return None,
        };
        while let Some((name, after)) = rest.split_first() {
            let below = [at.clone(), vec![name.clone()]].concat();
            if name == "super" {
                at.pop();
            } else if self.modules.contains_key(&below) {
                at = below;
            } else {
                let module = &self.modules[&at];
                return self
                    .brought(&at, module, name, depth)
                    .or(Some(&module.file));
            }
            rest = after;
        }
        self.modules.get(&at).map(|module| &module.file)
    }

    /// The file that defines a name which a module has by `use`.
    fn brought(&self, at: &Names, module: &Module, name: &str, depth: usize) -> Option<&PathBuf> {
        if depth > 8 {
            return None;
        }
        if let Some(path) = module.imports.get(name) {
            return self.home(at, path, depth + 1);
        }
        module.globs.iter().find_map(|glob| {
            let path = [glob.clone(), vec![name.to_owned()]].concat();
            let file = self.home(at, &path, depth + 1)?;
            fs::read_to_string(file)
                .ok()?
                .contains(name)
                .then_some(file)
        })
    }
}

/// `#[cfg(test)]`, alone or with other conditions.
fn is_cfg_test(attribute: &TokenStream) -> bool {
    let text = attribute.to_string().replace(' ', "");
    text.starts_with("cfg(") && text.contains("test") && !text.contains("not(test)")
}

/// `(crate)` and the like after `pub`.
fn is_scope(token: Option<&TokenTree>) -> bool {
    matches!(token, Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis)
}

/// Tokens of the item that begins here: up to its `;` or its block.
fn item(tokens: &[TokenTree]) -> usize {
    let ends = |token: &TokenTree| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Punct(punct) => punct.as_char() == ';',
        _ => false,
    };
    tokens
        .iter()
        .position(ends)
        .map_or(tokens.len(), |at| at + 1)
}

/// The paths of a tree like `a::{b, c::d as e, f::*}`, each with the name that it brings in; gives the number of
/// tokens it takes.
fn tree(tokens: &[TokenTree], prefix: &Names, paths: &mut Vec<(String, Names)>) -> usize {
    let mut path = prefix.clone();
    let mut i = 0;
    loop {
        match &tokens[i..] {
            [TokenTree::Ident(name), ..] => {
                path.push(name.to_string());
                i += 1;
            }
            [TokenTree::Group(group), ..] if group.delimiter() == Delimiter::Brace => {
                let within: Vec<_> = group.stream().into_iter().collect();
                for one in within.split(
                    |token| matches!(token, TokenTree::Punct(comma) if comma.as_char() == ','),
                ) {
                    tree(one, &path, paths);
                }
                return i + 1;
            }
            [TokenTree::Punct(star), ..] if star.as_char() == '*' => {
                path.push("*".to_owned());
                i += 1;
            }
            _ => {}
        }
        match &tokens[i..] {
            [
                TokenTree::Punct(one),
                TokenTree::Punct(two),
                TokenTree::Ident(_) | TokenTree::Group(_),
                ..,
            ]
            | [
                TokenTree::Punct(one),
                TokenTree::Punct(two),
                TokenTree::Punct(_),
                ..,
            ] if one.as_char() == ':' && two.as_char() == ':' && !is_generic(tokens.get(i + 2)) => {
                i += 2;
            }
            _ => break,
        }
    }
    if path.last().is_some_and(|last| last == "self") && path.len() > 1 {
        path.pop();
    }
    let name = match &tokens[i..] {
        [TokenTree::Ident(word), TokenTree::Ident(alias), ..] if word == "as" => alias.to_string(),
        _ => path.last().cloned().unwrap_or_default(),
    };
    if path.len() > prefix.len() || !prefix.is_empty() && !tokens.is_empty() {
        paths.push((name, path));
    }
    i
}

fn is_generic(token: Option<&TokenTree>) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() != '*')
}

#[test]
fn a_circle_is_found_through_re_exports_and_not_in_tests() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write(
        "lib.rs",
        "mod a;\nmod b;\nmod c;\nmod d;\npub use a::{A, Other as Alias};\n",
    );
    write(
        "a.rs",
        "use crate::b::{self, B};\npub struct A(B);\npub struct Other;\n",
    );
    write("b.rs", "pub struct B;\nfn f() { super::c::g::<u8>() }\n");
    write("c.rs", "use crate::Alias;\npub fn g<T>() {}\n");
    write(
        "d.rs",
        "use crate::A;\n#[cfg(test)]\nmod tests { use crate::c; }\n",
    );
    let [circle] = circles(&folder.path().join("lib.rs")).try_into().unwrap();
    let names = circle
        .keys()
        .map(|file| file.file_name().unwrap().to_owned());
    assert_eq!(names.collect::<Vec<_>>(), ["a.rs", "b.rs", "c.rs"]);
}
