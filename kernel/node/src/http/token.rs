//! The bearer token.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::Response;

use super::Door;
use super::answer::Refusal;
use crate::error::Error;

const TOKEN_CHARS_MIN: usize = 16;
const TOKEN_CHARS_MAX: u64 = 4_096;

/// The secret a client must show. Only its hash is kept; comparing hashes takes the same time for every guess.
#[derive(Clone)]
pub struct Token {
    hash: blake3::Hash,
}

impl Token {
    /// From the secret itself.
    pub fn new(secret: &str) -> Result<Self, Error> {
        if secret.len() < TOKEN_CHARS_MIN || !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::BadDirectory {
                what: format!("the token needs at least {TOKEN_CHARS_MIN} printable ASCII characters without spaces"),
            });
        }
        Ok(Token { hash: blake3::hash(secret.as_bytes()) })
    }

    /// From a file that nobody but its owner can read.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let name = path.display().to_string();
        let file = std::fs::File::open(path).map_err(Error::io("cannot open the token file", &name))?;
        let mode = file.metadata().map_err(Error::io("cannot read", &name))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(Error::BadDirectory {
                what: format!(
                    "the token file {name} can be read by others (mode {:o}): chmod 600 {name}",
                    mode & 0o777
                ),
            });
        }
        let mut secret = String::new();
        file.take(TOKEN_CHARS_MAX).read_to_string(&mut secret).map_err(Error::io("cannot read", &name))?;
        Token::new(secret.trim_end())
    }

    fn matches(&self, shown: &str) -> bool {
        // blake3::Hash compares in constant time.
        blake3::hash(shown.as_bytes()) == self.hash
    }
}

/// Lets a request through only with the token.
pub(super) async fn require(State(door): State<Door>, request: Request, next: Next) -> Result<Response, Refusal> {
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let shown =
        header.and_then(|value| value.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    if shown.is_some_and(|(_, token)| door.token.matches(token.trim())) {
        return Ok(next.run(request).await);
    }
    Err(Refusal::unauthorized())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_files_are_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "0123456789abcdef\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Token::read(&path), Err(Error::BadDirectory { .. })));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let token = Token::read(&path).unwrap();
        assert!(token.matches("0123456789abcdef"));
        assert!(!token.matches("0123456789abcdeF"));
        assert!(Token::new("short").is_err());
    }
}
