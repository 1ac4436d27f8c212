use petiole_api::TokenEntry;
use petiole_modules::Digest;
use serde_json::json;

use super::output::{print_json, print_text};
use crate::cli::TokenArgs;
use crate::config::check_token_name;
use crate::exit::{Exit, Failure, Result};

/// `petiole token`
pub(super) fn run(args: TokenArgs) -> Result {
    let TokenArgs {
        name,
        mut scopes,
        json,
    } = args;
    check_token_name(&name).map_err(|reason| Failure::usage(anyhow::anyhow!(reason)))?;
    scopes.sort();
    scopes.dedup();
    let token = petiole_api::generate_token();
    let entry = TokenEntry {
        sha256: Digest::of(token.as_bytes()),
        name,
        scopes,
    };
    if json {
        let TokenEntry {
            name,
            sha256,
            scopes,
        } = entry;
        print_json(&json!({ "name": name, "token": token, "sha256": sha256, "scopes": scopes }))?;
        return Ok(Exit::Ok);
    }
    let toml =
        toml::to_string(&entry).map_err(|error| Failure::failed(anyhow::Error::from(error)))?;
    print_text(&format!(
        "{token}\n\nThat is the token: it is shown once, and kept nowhere. Clients send it as `authorization: Bearer TOKEN`; the\n\
         command line takes it from PETIOLE_TOKEN. For the worker's petiole.toml:\n\n[[http.tokens]]\n{toml}"
    ))?;
    Ok(Exit::Ok)
}
