//! Whether a registry takes these credentials.

use std::sync::Arc;

use http::StatusCode;

use super::client::{Ask, Session};
use super::{Credentials, RegistryConfig, answer, auth, fetch, token};
use crate::{ImageError, RegistryError};

/// A registry took the credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct LoggedIn {
    /// What to use instead of the password from now on, if the registry gave such a token.
    pub identity_token: Option<String>,
}

impl std::fmt::Debug for LoggedIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LoggedIn")
    }
}

impl RegistryConfig {
    /// Asks the registry at `domain` (`docker.io` is the default one) whether these credentials are right.
    pub async fn log_in(&self, domain: &str, credentials: Credentials) -> Result<LoggedIn, ImageError> {
        let settings = Arc::new(self.clone());
        let session = fetch::reachable(fetch::at(domain, "", Some(&credentials), &settings)).await?;
        session.log_in().await.map_err(ImageError::from)
    }
}

impl Session {
    async fn log_in(&self) -> Result<LoggedIn, RegistryError> {
        let ask = Ask { path: "/v2/", ..Ask::default() };
        let first = self.follow(&ask).await?;
        if first.status() != StatusCode::UNAUTHORIZED {
            // A registry that asks nobody takes everybody.
            return self.judge(first.status(), None);
        }
        let challenges = answer::challenges(first.headers());
        let (authorization, identity_token) = if let Some(bearer) =
            challenges.iter().find(|c| c.scheme == "bearer")
        {
            let given = self.token(bearer, None).await?;
            (token::authorization(&given), given.refresh_token)
        } else {
            let basic = self
                .name_and_password()
                .map(|credentials| token::Authorization { value: auth::basic(credentials), expires: None });
            (basic, None)
        };
        *self.authorization.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = authorization;
        let second = self.follow(&ask).await?;
        self.judge(second.status(), identity_token)
    }

    fn judge(&self, status: StatusCode, identity_token: Option<String>) -> Result<LoggedIn, RegistryError> {
        if status.is_success() {
            return Ok(LoggedIn { identity_token });
        }
        Err(RegistryError::LoginRefused {
            url: self.url("/v2/"),
            status: status.as_u16(),
            reason: status.canonical_reason().unwrap_or_default(),
        })
    }
}
