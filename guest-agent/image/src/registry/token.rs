//! Answering a registry's challenge: a name and password, or a token that another server gives for them.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request, Response};
use hyper::body::Incoming;
use serde::Deserialize;

use super::answer::explain;
use super::auth::{self, Challenge};
use super::client::{Session, malformed};
use super::settings::Credentials;
use super::url::resolve;
use crate::RegistryError;

/// Tokens without a lifetime live this long, says the specification.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(60);
/// Longer than any token.
const MAX_TOKEN: usize = 1 << 20;
/// How this engine is called where a token is given.
const CLIENT: &str = "sampan";

/// What is sent in `Authorization` until it expires.
#[derive(Clone)]
pub(super) struct Authorization {
    pub(super) value: String,
    pub(super) expires: Option<Instant>,
}

#[derive(Deserialize)]
pub(super) struct Token {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    pub(super) refresh_token: Option<String>,
    #[serde(default)]
    expires_in: Option<u64>,
}

impl Session {
    pub(super) fn current_authorization(&self) -> Option<String> {
        let authorization = self.authorization.lock().unwrap_or_else(PoisonError::into_inner);
        let current = authorization.as_ref()?;
        current.expires.is_none_or(|expires| Instant::now() < expires).then(|| current.value.clone())
    }

    pub(super) fn name_and_password(&self) -> Option<&Credentials> {
        self.credentials.as_ref().filter(|credentials| !credentials.username.is_empty())
    }

    /// Answers a challenge; false if there is nothing to answer with.
    pub(super) async fn authorise(&self, challenges: &[Challenge]) -> Result<bool, RegistryError> {
        let authorization = if let Some(bearer) = challenges.iter().find(|c| c.scheme == "bearer") {
            let scope = format!("repository:{}:pull", self.repository);
            let token = self.token(bearer, Some(&scope)).await?;
            authorization(&token).ok_or_else(|| malformed(&self.base, "no token"))?
        } else if challenges.iter().any(|c| c.scheme == "basic") {
            match self.name_and_password() {
                Some(credentials) => Authorization { value: auth::basic(credentials), expires: None },
                None => {
                    return Err(RegistryError::Unauthorized {
                        message: "no basic auth credentials".to_owned(),
                    });
                }
            }
        } else {
            return Ok(false);
        };
        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(authorization);
        Ok(true)
    }

    /// Asks for a token, for the scope that the challenge names, or else for this one. Without any scope the token is of
    /// no use but to learn whether the credentials are right, and then a refresh token is asked for, too.
    pub(super) async fn token(
        &self,
        challenge: &Challenge,
        scope: Option<&str>,
    ) -> Result<Token, RegistryError> {
        let realm = challenge.parameter("realm").unwrap_or_default();
        let realm =
            resolve(&self.base, realm).ok_or_else(|| malformed(&self.base, "a challenge without a realm"))?;
        let service = challenge.parameter("service").unwrap_or_default();
        let scope = challenge.parameter("scope").filter(|scope| !scope.is_empty()).or(scope);
        let identity =
            self.credentials.as_ref().and_then(|credentials| credentials.identity_token.as_deref());
        let response = match identity.filter(|token| !token.is_empty()) {
            Some(token) => self.exchange(&realm, service, scope.unwrap_or_default(), token).await?,
            None => self.ask_for_token(&realm, service, scope).await?,
        };
        if !response.status().is_success() {
            return Err(explain(response, &Method::GET, realm).await);
        }
        let body = self.read_all(response, &realm, MAX_TOKEN).await?;
        serde_json::from_slice(&body).map_err(|_| malformed(&realm, "a token that cannot be read"))
    }

    async fn ask_for_token(
        &self,
        realm: &str,
        service: &str,
        scope: Option<&str>,
    ) -> Result<Response<Incoming>, RegistryError> {
        let named = self.name_and_password();
        let mut query = vec![("service", service)];
        // A challenge lists several scopes between spaces; in a query each is a parameter.
        query.extend(scope.into_iter().flat_map(str::split_whitespace).map(|scope| ("scope", scope)));
        query.extend(named.map(|credentials| ("account", credentials.username.as_str())));
        if scope.is_none() {
            query.extend([("offline_token", "true"), ("client_id", CLIENT)]);
        }
        let separator = if realm.contains('?') { '&' } else { '?' };
        let url = format!("{realm}{separator}{}", auth::encode(&query));
        let mut request = Request::get(&url);
        if let Some(credentials) = named {
            request = request.header(AUTHORIZATION, auth::basic(credentials));
        }
        self.send(request, Bytes::new(), &url).await
    }

    async fn exchange(
        &self,
        realm: &str,
        service: &str,
        scope: &str,
        identity_token: &str,
    ) -> Result<Response<Incoming>, RegistryError> {
        let form = auth::encode(&[
            ("grant_type", "refresh_token"),
            ("service", service),
            ("scope", scope),
            ("client_id", CLIENT),
            ("refresh_token", identity_token),
        ]);
        let request = Request::builder()
            .method(Method::POST)
            .uri(realm)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(request, form.into(), realm).await
    }
}

pub(super) fn authorization(token: &Token) -> Option<Authorization> {
    let value = token.token.as_ref().or(token.access_token.as_ref()).filter(|token| !token.is_empty())?;
    let lifetime =
        token.expires_in.map_or(DEFAULT_LIFETIME, Duration::from_secs).max(Duration::from_secs(10));
    Some(Authorization {
        value: format!("Bearer {value}"),
        // A request that starts within the last moments would arrive too late.
        expires: Instant::now().checked_add(lifetime.saturating_sub(Duration::from_secs(5))),
    })
}
