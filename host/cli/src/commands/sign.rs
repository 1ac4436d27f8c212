use std::fs::OpenOptions;
use std::io::{Cursor, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use jiff::Timestamp;
use minisign::{KeyPair, PublicKey, SecretKey, SecretKeyBox};
use petiole_modules::{Digest, MANIFEST_PART, MODULE_PART, Manifest, ModuleName};

use super::output::print_text;
use super::{component_file, signature_file};
use crate::cli::SignArgs;
use crate::exit::{Exit, Failure, Result};

/// The password of a secret key; asked for where it is not set.
const PASSWORD: &str = "PETIOLE_KEY_PASSWORD";

/// `petiole sign`
pub(super) fn run(args: SignArgs) -> Result {
    let SignArgs {
        file,
        key,
        manifest,
        name,
        generate: _,
        no_password,
    } = args;
    match file {
        Some(file) => sign(&file, &key, manifest.as_deref(), name.as_deref()),
        None => generate(&key, no_password),
    }
}

fn sign(file: &Path, key: &Path, manifest: Option<&Path>, name: Option<&str>) -> Result {
    let component = component_file::read(file)?;
    let comment = comment(manifest, name)?;
    let key = secret_key(key)?;
    let public = PublicKey::from_secret_key(&key).context("the secret key")?;
    let signature = minisign::sign(
        Some(&public),
        &key,
        Cursor::new(component),
        Some(&comment),
        Some("signature of a petiole module"),
    );
    let signature = signature.with_context(|| format!("can't sign {}", file.display()))?;
    let path = signature_file::path(file);
    std::fs::write(&path, signature.into_string())
        .with_context(|| format!("can't write {}", path.display()))?;
    print_text(&format!("{}\n", path.display()))?;
    Ok(Exit::Ok)
}

/// The trusted comment: what the signature covers beside the component.
fn comment(manifest: Option<&Path>, name: Option<&str>) -> Result<String> {
    let mut comment = format!("timestamp:{}", Timestamp::now().as_second());
    let manifest = component_file::manifest(manifest)?.unwrap_or_default();
    // A manifest that no worker takes is not worth a signature.
    Manifest::from_toml(&manifest).map_err(Failure::usage)?;
    if !manifest.is_empty() {
        let digest = Digest::of(manifest.as_bytes());
        comment.push_str(&format!("\t{MANIFEST_PART}{digest}"));
    }
    if let Some(name) = name {
        let name: ModuleName = name
            .parse()
            .map_err(|error: petiole_modules::NameError| Failure::usage(error))?;
        comment.push_str(&format!("\t{MODULE_PART}{name}"));
    }
    Ok(comment)
}

fn secret_key(path: &Path) -> Result<SecretKey> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("can't read the key {}", path.display()))
        .map_err(Failure::usage)?;
    let boxed = SecretKeyBox::from(text);
    if let Ok(key) = boxed.clone().into_unencrypted_secret_key() {
        return Ok(key);
    }
    // None asks for it on the terminal.
    let password = std::env::var(PASSWORD).ok();
    boxed
        .into_secret_key(password)
        .with_context(|| {
            let path = path.display();
            format!("can't read the key {path}: not a minisign secret key, or not its password ({PASSWORD})")
        })
        .map_err(Failure::usage)
}

fn generate(path: &Path, no_password: bool) -> Result {
    let public_path = PathBuf::from(format!("{}.pub", path.display()));
    for path in [path, &public_path] {
        if path.exists() {
            return Err(Failure::usage(anyhow!(
                "{} is there already: it is not replaced",
                path.display()
            )));
        }
    }
    let pair = match no_password {
        true => KeyPair::generate_unencrypted_keypair(),
        false => KeyPair::generate_encrypted_keypair(std::env::var(PASSWORD).ok()),
    };
    let KeyPair { pk, sk } = pair.context("can't make a key pair")?;
    let secret = sk.to_box(None).context("the secret key")?;
    let public = pk.to_box().context("the public key")?;
    write(path, 0o600, &secret.to_string())?;
    write(&public_path, 0o644, &public.to_string())?;
    print_text(&format!(
        "secret key: {}\npublic key: {}\n\nFor the petiole.toml of workers that take what is signed with it:\n\n\
         [signatures]\nkeys = [\"{}\"]\n",
        path.display(),
        public_path.display(),
        pk.to_base64()
    ))?;
    Ok(Exit::Ok)
}

fn write(path: &Path, mode: u32, text: &str) -> Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    Ok(written.with_context(|| format!("can't write {}", path.display()))?)
}
