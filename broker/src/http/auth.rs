//! Who asks: an operator, or a tenant's client or worker, by certificate or by bearer token.
//!
//! Decides who it is, not what it may do: that is `access`'s table.

use std::{io, path::PathBuf, sync::Arc};

use arc_swap::ArcSwap;
use aws_lc_rs::{constant_time::verify_slices_are_equal, digest};
use axum::http::{HeaderMap, header::AUTHORIZATION};
use tollgate_certs::{Identity, Role};

use super::{
    config::{Config, TokenRole},
    problem::{Answer, Problem},
};

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Caller {
    /// Whoever runs the broker: everything.
    Operator,
    /// Somebody of one tenant.
    Tenant { id: String, role: TokenRole },
    /// Somebody who is known and has no business here.
    Other,
}

impl From<&Identity> for Caller {
    fn from(identity: &Identity) -> Caller {
        let tenant = |role| match identity.tenant() {
            Some(id) => Caller::Tenant { id: id.to_string(), role },
            None => Caller::Other,
        };
        match identity.role() {
            Role::Operator => Caller::Operator,
            Role::Client => tenant(TokenRole::Client),
            Role::TenantWorker => tenant(TokenRole::Worker),
            Role::PlatformWorker | Role::Gateway => Caller::Other,
        }
    }
}

/// Why the tokens can not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// A file can not be read.
    #[error("cannot read the token file {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A token that could be guessed, or that no header can carry.
    #[error(
        "the token file {0} must hold one line of {TOKEN_BYTES_MIN} to {TOKEN_BYTES_MAX} printable \
         ASCII characters without spaces, such as `openssl rand -hex 32` makes"
    )]
    Unfit(PathBuf),
    /// Two files hold the same token, so nobody could say whose it is.
    #[error("the token file {0} holds the token of another one")]
    Twice(PathBuf),
}

/// The bearer tokens; read again when the configuration is.
#[derive(Debug)]
pub(super) struct Tokens(ArcSwap<Vec<Token>>);

/// A token: only what it hashes to is kept.
#[derive(Debug)]
struct Token {
    hash: digest::Digest,
    caller: Caller,
}

impl Tokens {
    /// Reads the files that the configuration names.
    ///
    /// # Errors
    /// [`TokenError`], naming the file at fault.
    pub(super) fn load(config: &Config) -> Result<Tokens, TokenError> {
        Ok(Tokens(ArcSwap::from_pointee(read_all(config)?)))
    }

    /// Reads the files again.
    ///
    /// # Errors
    /// As [`load`](Self::load); the tokens stay as they were.
    pub(super) fn reload(&self, config: &Config) -> Result<(), TokenError> {
        self.0.store(Arc::new(read_all(config)?));
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.load().is_empty()
    }

    /// Whose token it is. Takes the same time whichever it is, and however much of it is right.
    fn caller(&self, token: &[u8]) -> Option<Caller> {
        let hash = hash(token);
        let mut found = None;
        for known in self.0.load().iter() {
            if verify_slices_are_equal(known.hash.as_ref(), hash.as_ref()).is_ok() {
                found = Some(known.caller.clone());
            }
        }
        found
    }
}

/// Who asks, as far as the request says.
pub(super) fn caller(
    headers: &HeaderMap,
    certificate: Option<&Identity>,
    tokens: &Tokens,
) -> Answer<Option<Caller>> {
    let Some(value) = headers.get(AUTHORIZATION) else {
        return Ok(certificate.map(Caller::from));
    };
    let bytes = value.as_bytes();
    let token = match bytes.iter().position(|b| *b == b' ') {
        Some(at) if bytes[..at].eq_ignore_ascii_case(b"bearer") => bytes[at + 1..].trim_ascii(),
        _ => return Err(Problem::unauthorized("only bearer tokens are read here")),
    };
    match tokens.caller(token) {
        Some(caller) => Ok(Some(caller)),
        None => Err(Problem::unauthorized("the token is not known")),
    }
}

/// Reads the files, and says everything that is wrong with them.
pub(super) fn mistakes(config: &Config) -> Vec<TokenError> {
    let (_, mistakes) = read_each(config);
    mistakes
}

fn read_all(config: &Config) -> Result<Vec<Token>, TokenError> {
    let (tokens, mistakes) = read_each(config);
    mistakes.into_iter().next().map_or(Ok(tokens), Err)
}

fn read_each(config: &Config) -> (Vec<Token>, Vec<TokenError>) {
    let operator = config.operator_token_file.iter().map(|path| (path, Caller::Operator));
    let tenants = config.tokens.iter().map(|t| {
        let caller = Caller::Tenant { id: t.tenant.clone(), role: t.role };
        (&t.file, caller)
    });
    let (mut tokens, mut mistakes): (Vec<Token>, _) = (Vec::new(), Vec::new());
    for (path, caller) in operator.chain(tenants) {
        match read(path) {
            Ok(hash) if tokens.iter().any(|t| t.hash.as_ref() == hash.as_ref()) => {
                mistakes.push(TokenError::Twice(path.clone()));
            }
            Ok(hash) => tokens.push(Token { hash, caller }),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    (tokens, mistakes)
}

/// What the token in a file hashes to.
fn read(path: &PathBuf) -> Result<digest::Digest, TokenError> {
    let text =
        std::fs::read(path).map_err(|source| TokenError::Read { path: path.clone(), source })?;
    let token = text.trim_ascii();
    let fits = (TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&token.len());
    if !fits || !token.iter().all(u8::is_ascii_graphic) {
        return Err(TokenError::Unfit(path.clone()));
    }
    Ok(hash(token))
}

fn hash(token: &[u8]) -> digest::Digest {
    digest::digest(&digest::SHA256, token)
}

const TOKEN_BYTES_MIN: usize = 16;
const TOKEN_BYTES_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::{super::config::TokenOf, *};

    fn config(dir: &std::path::Path, operator: &str, tenant: &str) -> Config {
        let (a, b) = (dir.join("operator"), dir.join("acme"));
        std::fs::write(&a, operator).expect("written");
        std::fs::write(&b, tenant).expect("written");
        let of = TokenOf { tenant: "acme".into(), role: TokenRole::Client, file: b };
        Config { operator_token_file: Some(a), tokens: vec![of], ..Config::default() }
    }

    fn ask(tokens: &Tokens, header: &str) -> Result<Option<Caller>, ()> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_str(header).expect("a header"));
        caller(&headers, None, tokens).map_err(|_| ())
    }

    #[test]
    fn a_token_says_who_it_is() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = config(dir.path(), "0123456789abcdef\n", "fedcba9876543210");
        let tokens = Tokens::load(&config).expect("good tokens");
        let acme = Caller::Tenant { id: "acme".into(), role: TokenRole::Client };
        assert_eq!(ask(&tokens, "Bearer 0123456789abcdef"), Ok(Some(Caller::Operator)));
        assert_eq!(ask(&tokens, "bearer  fedcba9876543210"), Ok(Some(acme)));
        for wrong in ["Bearer", "Bearer ", "Bearer 0123456789abcde", "Basic 0123456789abcdef"] {
            assert_eq!(ask(&tokens, wrong), Err(()), "{wrong}");
        }
        std::fs::write(dir.path().join("operator"), "another-token-now").expect("written");
        tokens.reload(&config).expect("good tokens");
        assert_eq!(ask(&tokens, "Bearer 0123456789abcdef"), Err(()));
        assert_eq!(ask(&tokens, "Bearer another-token-now"), Ok(Some(Caller::Operator)));
    }

    #[test]
    fn tokens_that_are_none_are_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let load = |a, b| Tokens::load(&config(dir.path(), a, b));
        assert!(matches!(load("short", "fedcba9876543210"), Err(TokenError::Unfit(_))));
        assert!(matches!(load("", "fedcba9876543210"), Err(TokenError::Unfit(_))));
        assert!(matches!(load("two words of it..", "fedcba9876543210"), Err(TokenError::Unfit(_))));
        assert!(matches!(load("0123456789abcdef", "0123456789abcdef"), Err(TokenError::Twice(_))));
        let mut missing = config(dir.path(), "0123456789abcdef", "fedcba9876543210");
        missing.operator_token_file = Some(dir.path().join("nowhere"));
        assert!(matches!(Tokens::load(&missing), Err(TokenError::Read { .. })));
    }
}
