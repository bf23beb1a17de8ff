//! Requests to one registry: authorisation, redirects, patience.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, LOCATION, RANGE, RETRY_AFTER, USER_AGENT, WWW_AUTHENTICATE,
};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;

use super::auth::{self, Challenge};
use super::connect::{ConnectError, Connector};
use super::settings::{Credentials, RegistryConfig};
use crate::RegistryError;

/// As many as browsers follow at least.
const MAX_REDIRECTS: usize = 10;
/// Longer than any explanation.
const MAX_EXPLANATION: usize = 64 * 1024;
/// A registry that asks for more patience than this gets an error now instead.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// Tokens without a lifetime live this long, says the specification.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(60);

/// One registry, reached at one base URL, for one repository.
pub(crate) struct Session {
    pub(super) settings: Arc<RegistryConfig>,
    http: HttpClient<Connector, Full<Bytes>>,
    /// `https://host:port`, without a slash at the end.
    pub(super) base: String,
    pub(super) repository: String,
    credentials: Option<Credentials>,
    authorization: Mutex<Option<Authorization>>,
}

/// What is sent in `Authorization` until it expires.
#[derive(Clone)]
struct Authorization {
    value: String,
    expires: Option<Instant>,
}

/// What to ask for.
#[derive(Clone, Copy, Default)]
pub(super) struct Ask<'a> {
    pub(super) path: &'a str,
    pub(super) accept: Option<&'a str>,
    /// Only the bytes from here on.
    pub(super) from: Option<u64>,
}

#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    expires_in: Option<u64>,
}

impl Session {
    pub(crate) fn new(
        settings: Arc<RegistryConfig>,
        base: String,
        repository: String,
        credentials: Option<Credentials>,
    ) -> Session {
        let authorization = credentials
            .as_ref()
            .and_then(|credentials| credentials.registry_token.as_ref())
            .map(|token| Authorization { value: format!("Bearer {token}"), expires: None });
        Session {
            http: HttpClient::builder(TokioExecutor::new()).build(Connector::new(Arc::clone(&settings))),
            settings,
            base,
            repository,
            credentials,
            authorization: Mutex::new(authorization),
        }
    }

    /// A successful answer, or why there is none.
    pub(super) async fn get(&self, ask: Ask<'_>) -> Result<Response<Incoming>, RegistryError> {
        let mut wait = self.settings.retry_delay;
        let mut tries = 0;
        let mut authorised = false;
        loop {
            let (problem, patience) = match self.follow(ask).await {
                Ok(response) if response.status().is_success() => return Ok(response),
                Ok(response) if response.status() == StatusCode::UNAUTHORIZED && !authorised => {
                    authorised = true;
                    let challenges = challenges(response.headers());
                    let url = format!("{}{}", self.base, ask.path);
                    if self.authorise(&challenges).await? {
                        continue;
                    }
                    (explain(response, url).await, None)
                }
                Ok(response) => {
                    let patience = retry_after(response.headers());
                    (explain(response, format!("{}{}", self.base, ask.path)).await, patience)
                }
                Err(problem) => (problem, None),
            };
            let pause = patience.unwrap_or(wait);
            if tries >= self.settings.retries || pause > MAX_WAIT || !is_passing(&problem) {
                return Err(problem);
            }
            tracing::debug!(%problem, ?pause, "registry request is tried again");
            tokio::time::sleep(pause).await;
            tries += 1;
            wait *= 2;
        }
    }

    /// Follows redirects. Credentials are for the registry's own host and are sent nowhere else.
    async fn follow(&self, ask: Ask<'_>) -> Result<Response<Incoming>, RegistryError> {
        let mut url = format!("{}{}", self.base, ask.path);
        for _ in 0..=MAX_REDIRECTS {
            let uri: Uri = url.parse().map_err(|_| malformed(&url, "an invalid address"))?;
            let mut request = Request::get(uri.clone());
            if let Some(accept) = ask.accept {
                request = request.header(ACCEPT, accept);
            }
            if let Some(from) = ask.from {
                request = request.header(RANGE, format!("bytes={from}-"));
            }
            if same_host(&url, &self.base)
                && let Some(value) = self.current_authorization()
            {
                request = request.header(AUTHORIZATION, value);
            }
            let response = self.send(request, Bytes::new(), &url).await?;
            let redirected = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            let Some(location) = response.headers().get(LOCATION).filter(|_| redirected) else {
                return Ok(response);
            };
            let location = location.to_str().map_err(|_| malformed(&url, "a redirect without an address"))?;
            let target =
                resolve(&url, location).ok_or_else(|| malformed(&url, "a redirect to an invalid address"))?;
            if url.starts_with("https:") && target.starts_with("http:") {
                return Err(malformed(&url, "a redirect from https to http"));
            }
            url = target;
        }
        Err(malformed(&url, "too many redirects"))
    }

    async fn send(
        &self,
        request: http::request::Builder,
        body: Bytes,
        url: &str,
    ) -> Result<Response<Incoming>, RegistryError> {
        let request = request
            .header(USER_AGENT, concat!("sampan/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(body))
            .map_err(|_| malformed(url, "an invalid address"))?;
        let limit = self.settings.read_timeout + self.settings.connect_timeout;
        match tokio::time::timeout(limit.min(self.patience()), self.http.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(self.translate(&error, url)),
            Err(_) => Err(timed_out(url, self.patience())),
        }
    }

    /// How long an answer may take to begin.
    fn patience(&self) -> Duration {
        self.settings.read_timeout
    }

    fn translate(&self, error: &hyper_util::client::legacy::Error, url: &str) -> RegistryError {
        let url = url.to_owned();
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
        let mut innermost = error.to_string();
        while let Some(error) = cause {
            innermost = error.to_string();
            match error.downcast_ref::<ConnectError>() {
                Some(ConnectError::Dial(error)) => {
                    let message = unreachable_words(&url, error);
                    return RegistryError::Unreachable { url, message };
                }
                Some(ConnectError::Tls(error)) => {
                    return RegistryError::Tls { url, message: error.to_string() };
                }
                Some(ConnectError::TimedOut) => return timed_out(&url, self.settings.connect_timeout),
                None => cause = error.source(),
            }
        }
        RegistryError::Broken { url, message: innermost }
    }

    fn current_authorization(&self) -> Option<String> {
        let authorization = self.authorization.lock().unwrap_or_else(PoisonError::into_inner);
        let current = authorization.as_ref()?;
        current.expires.is_none_or(|expires| Instant::now() < expires).then(|| current.value.clone())
    }

    /// Answers a challenge; false if there is nothing to answer with.
    async fn authorise(&self, challenges: &[Challenge]) -> Result<bool, RegistryError> {
        let authorization = if let Some(bearer) = challenges.iter().find(|c| c.scheme == "bearer") {
            self.token(bearer).await?
        } else if challenges.iter().any(|c| c.scheme == "basic") {
            match self.credentials.as_ref().filter(|credentials| !credentials.username.is_empty()) {
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

    async fn token(&self, challenge: &Challenge) -> Result<Authorization, RegistryError> {
        let realm = challenge.parameter("realm").unwrap_or_default();
        let realm =
            resolve(&self.base, realm).ok_or_else(|| malformed(&self.base, "a challenge without a realm"))?;
        let service = challenge.parameter("service").unwrap_or_default();
        let scope = format!("repository:{}:pull", self.repository);
        let scope = challenge.parameter("scope").filter(|scope| !scope.is_empty()).unwrap_or(&scope);
        let identity =
            self.credentials.as_ref().and_then(|credentials| credentials.identity_token.as_deref());
        let response = match identity.filter(|token| !token.is_empty()) {
            Some(token) => self.exchange(&realm, service, scope, token).await?,
            None => self.ask_for_token(&realm, service, scope).await?,
        };
        if !response.status().is_success() {
            return Err(explain(response, realm).await);
        }
        let body = self.read_all(response, &realm, 1 << 20).await?;
        let token: Token =
            serde_json::from_slice(&body).map_err(|_| malformed(&realm, "a token that cannot be read"))?;
        let lifetime =
            token.expires_in.map_or(DEFAULT_LIFETIME, Duration::from_secs).max(Duration::from_secs(10));
        let value = token.token.or(token.access_token).filter(|token| !token.is_empty());
        let value = value.ok_or_else(|| malformed(&realm, "no token"))?;
        Ok(Authorization {
            value: format!("Bearer {value}"),
            // A request that starts within the last moments would arrive too late.
            expires: Instant::now().checked_add(lifetime.saturating_sub(Duration::from_secs(5))),
        })
    }

    async fn ask_for_token(
        &self,
        realm: &str,
        service: &str,
        scope: &str,
    ) -> Result<Response<Incoming>, RegistryError> {
        let named = self.credentials.as_ref().filter(|credentials| !credentials.username.is_empty());
        let mut query = vec![("scope", scope), ("service", service)];
        query.extend(named.map(|credentials| ("account", credentials.username.as_str())));
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
            ("client_id", "sampan"),
            ("refresh_token", identity_token),
        ]);
        let request = Request::builder()
            .method(Method::POST)
            .uri(realm)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(request, form.into(), realm).await
    }

    /// A whole body of at most `limit` bytes.
    pub(super) async fn read_all(
        &self,
        response: Response<Incoming>,
        url: &str,
        limit: usize,
    ) -> Result<Vec<u8>, RegistryError> {
        let mut body = response.into_body();
        let mut content = Vec::new();
        while let Some(bytes) = self.next(&mut body, url).await? {
            if content.len() + bytes.len() > limit {
                return Err(malformed(url, &format!("more than {limit} bytes")));
            }
            content.extend_from_slice(&bytes);
        }
        Ok(content)
    }

    /// The next bytes of a body, or `None` at its end.
    pub(super) async fn next(&self, body: &mut Incoming, url: &str) -> Result<Option<Bytes>, RegistryError> {
        loop {
            match tokio::time::timeout(self.settings.read_timeout, body.frame()).await {
                Err(_) => return Err(timed_out(url, self.settings.read_timeout)),
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => {
                    return Err(RegistryError::Broken { url: url.to_owned(), message: error.to_string() });
                }
                Ok(Some(Ok(frame))) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }
}

/// Whether trying again may help.
fn is_passing(problem: &RegistryError) -> bool {
    match problem {
        RegistryError::RateLimited { .. } | RegistryError::Broken { .. } => true,
        RegistryError::Status { status, .. } | RegistryError::Answer { status, .. } => {
            matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
        }
        _ => false,
    }
}

pub(super) fn malformed(url: &str, what: &str) -> RegistryError {
    RegistryError::Malformed { url: url.to_owned(), what: what.to_owned() }
}

fn timed_out(url: &str, after: Duration) -> RegistryError {
    RegistryError::TimedOut { url: url.to_owned(), seconds: after.as_secs().max(1) }
}

fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    let values = headers.get_all(WWW_AUTHENTICATE).iter();
    values.filter_map(|value| Challenge::parse(value.to_str().ok()?)).collect()
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

#[derive(Deserialize)]
struct Explanation {
    #[serde(default)]
    errors: Vec<Problem>,
    #[serde(default, alias = "detail")]
    details: Option<String>,
}

#[derive(Deserialize)]
struct Problem {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// Turns an unsuccessful answer into an error in the registry's own words.
async fn explain(response: Response<Incoming>, url: String) -> RegistryError {
    let status = response.status();
    // RFC 6750: the header says it more precisely than the body.
    for challenge in challenges(response.headers()) {
        let described =
            |default: &str| challenge.parameter("error_description").unwrap_or(default).to_owned();
        match challenge.parameter("error") {
            Some("insufficient_scope") if status == StatusCode::UNAUTHORIZED => {
                let message = described("requested access to the resource is denied");
                return RegistryError::Answer { status: status.as_u16(), code: "DENIED".to_owned(), message };
            }
            Some("invalid_token") => {
                return RegistryError::Unauthorized { message: described("authentication required") };
            }
            _ => {}
        }
    }
    let body = http_body_util::Limited::new(response.into_body(), MAX_EXPLANATION).collect();
    let body = match tokio::time::timeout(Duration::from_secs(5), body).await {
        Ok(Ok(body)) => body.to_bytes(),
        _ => Bytes::new(),
    };
    let explanation = serde_json::from_slice::<Explanation>(&body).ok();
    let details = explanation.as_ref().and_then(|explanation| explanation.details.clone());
    let first = explanation.and_then(|explanation| explanation.errors.into_iter().next());
    let message =
        first.as_ref().map(|problem| problem.message.clone()).filter(|text| !text.is_empty()).or(details);
    match (status, first) {
        (StatusCode::TOO_MANY_REQUESTS, _) => {
            RegistryError::RateLimited { message: message.unwrap_or_else(|| "too many requests".to_owned()) }
        }
        (_, Some(problem)) if problem.code == "UNAUTHORIZED" => RegistryError::Unauthorized {
            message: message.unwrap_or_else(|| "authentication required".to_owned()),
        },
        (_, Some(problem)) if !problem.code.is_empty() => RegistryError::Answer {
            status: status.as_u16(),
            message: message.unwrap_or_else(|| problem.code.to_ascii_lowercase().replace('_', " ")),
            code: problem.code,
        },
        (StatusCode::UNAUTHORIZED, _) => RegistryError::Unauthorized {
            message: message.unwrap_or_else(|| "authentication required".to_owned()),
        },
        _ => RegistryError::Status { method: "Get", url, status: status.as_u16() },
    }
}

fn authority(url: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    Some((scheme, rest.split(['/', '?', '#']).next()?))
}

fn same_host(one: &str, other: &str) -> bool {
    authority(one).is_some() && authority(one) == authority(other)
}

/// An address as seen from `base`: absolute, without a scheme, or a path.
fn resolve(base: &str, location: &str) -> Option<String> {
    let (scheme, host) = authority(base)?;
    if location.starts_with("http://") || location.starts_with("https://") {
        return Some(location.to_owned());
    }
    if let Some(rest) = location.strip_prefix("//") {
        return Some(format!("{scheme}://{rest}"));
    }
    if location.starts_with('/') {
        return Some(format!("{scheme}://{host}{location}"));
    }
    if location.is_empty() || location.contains("://") {
        return None;
    }
    let path = base.split(['?', '#']).next()?;
    let end = path.rfind('/').filter(|end| *end > scheme.len() + 2).unwrap_or(path.len());
    Some(format!("{}/{location}", &path[..end]))
}

/// Why a connection was not made, in the words of Go's net package, which clients show and match.
fn unreachable_words(url: &str, error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    let authority = url.split("://").nth(1).and_then(|rest| rest.split('/').next()).unwrap_or(url);
    let reason = match error.kind() {
        ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
        ErrorKind::TimedOut => "i/o timeout".to_owned(),
        _ => error.to_string(),
    };
    format!("dial tcp {authority}: {reason}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_resolved_as_browsers_do() {
        let base = "https://a.example:5000/v2/x/blobs/y?z=1";
        assert_eq!(resolve(base, "/q").unwrap(), "https://a.example:5000/q");
        assert_eq!(resolve(base, "//b/q").unwrap(), "https://b/q");
        assert_eq!(resolve(base, "q").unwrap(), "https://a.example:5000/v2/x/blobs/q");
        assert_eq!(resolve(base, "http://c/").unwrap(), "http://c/");
        assert!(resolve(base, "ftp://c/").is_none());
    }

    #[test]
    fn another_port_is_another_host() {
        assert!(same_host("https://a:1/x", "https://a:1"));
        assert!(!same_host("https://a:2/x", "https://a:1"));
        assert!(!same_host("http://a:1/x", "https://a:1"));
    }
}
