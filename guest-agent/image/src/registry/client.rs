//! Requests to one registry: authorisation, redirects, patience.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, LOCATION, PROXY_AUTHORIZATION, RANGE, USER_AGENT,
};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::TokioExecutor;

use super::answer::{challenges, explain, retry_after};
use super::connect::{ConnectError, Connector};
use super::settings::{Credentials, RegistryConfig, host_of};
use super::token::Authorization;
use super::url::{resolve, same_host};
use crate::RegistryError;

/// As many as browsers follow at least.
const MAX_REDIRECTS: usize = 10;
/// A registry that asks for more patience than this gets an error now instead.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// Bytes a second that even a bad line uploads.
const SLOWEST: u64 = 16 * 1024;

/// One registry, reached at one base URL, for one repository.
pub(crate) struct Session {
    pub(super) settings: Arc<RegistryConfig>,
    http: HttpClient<Connector, Full<Bytes>>,
    /// `https://host:port`, without a slash at the end.
    pub(super) base: String,
    pub(super) repository: String,
    pub(super) credentials: Option<Credentials>,
    pub(super) authorization: Mutex<Option<Authorization>>,
}

/// What to ask for.
#[derive(Clone, Default)]
pub(super) struct Ask<'a> {
    /// `GET` by default.
    pub(super) method: Method,
    /// A path, or a whole address.
    pub(super) path: &'a str,
    pub(super) accept: Option<&'a str>,
    /// Only the bytes from here on.
    pub(super) from: Option<u64>,
    pub(super) body: Bytes,
    pub(super) content_type: Option<&'a str>,
    /// Which bytes of a blob the body is: first and last.
    pub(super) content_range: Option<(u64, u64)>,
    /// Whether trying again is for the caller to decide.
    pub(super) once: bool,
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
    pub(super) async fn request(&self, ask: Ask<'_>) -> Result<Response<Incoming>, RegistryError> {
        let mut wait = self.settings.retry_delay;
        let mut tries = 0;
        let mut authorised = false;
        let url = self.url(ask.path);
        loop {
            let (problem, patience) = match self.follow(&ask).await {
                Ok(response) if response.status().is_success() => return Ok(response),
                Ok(response) if response.status() == StatusCode::UNAUTHORIZED && !authorised => {
                    authorised = true;
                    let challenges = challenges(response.headers());
                    if self.authorise(&challenges).await? {
                        continue;
                    }
                    (explain(response, &ask.method, url.clone()).await, None)
                }
                Ok(response) => {
                    let patience = retry_after(response.headers());
                    (explain(response, &ask.method, url.clone()).await, patience)
                }
                Err(problem) => (problem, None),
            };
            let pause = patience.unwrap_or(wait);
            if ask.once || tries >= self.settings.retries || pause > MAX_WAIT || !is_passing(&problem) {
                return Err(problem);
            }
            tracing::debug!(%problem, ?pause, "registry request is tried again");
            tokio::time::sleep(pause).await;
            tries += 1;
            wait *= 2;
        }
    }

    /// The address of a path here; whole addresses stay what they are.
    pub(super) fn url(&self, path: &str) -> String {
        if path.starts_with('/') { format!("{}{path}", self.base) } else { path.to_owned() }
    }

    /// Follows redirects. Credentials are for the registry's own host and are sent nowhere else.
    pub(super) async fn follow(&self, ask: &Ask<'_>) -> Result<Response<Incoming>, RegistryError> {
        let mut url = self.url(ask.path);
        for _ in 0..=MAX_REDIRECTS {
            let uri: Uri = url.parse().map_err(|_| malformed(&url, "an invalid address"))?;
            let mut request = Request::builder().method(ask.method.clone()).uri(uri);
            if let Some(accept) = ask.accept {
                request = request.header(ACCEPT, accept);
            }
            if let Some(from) = ask.from {
                request = request.header(RANGE, format!("bytes={from}-"));
            }
            if let Some(kind) = ask.content_type {
                request = request.header(CONTENT_TYPE, kind);
            }
            if let Some((first, last)) = ask.content_range {
                request = request.header(CONTENT_RANGE, format!("{first}-{last}"));
            }
            if same_host(&url, &self.base)
                && let Some(value) = self.current_authorization()
            {
                request = request.header(AUTHORIZATION, value);
            }
            let response = self.send(request, ask.body.clone(), &url).await?;
            // Only these two say that what was sent is to be sent again elsewhere.
            let redirected = match response.status().as_u16() {
                307 | 308 => true,
                301..=303 => matches!(ask.method, Method::GET | Method::HEAD),
                _ => false,
            };
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

    pub(super) async fn send(
        &self,
        mut request: http::request::Builder,
        body: Bytes,
        url: &str,
    ) -> Result<Response<Incoming>, RegistryError> {
        // In a tunnel the proxy was told already, and the host must not be.
        let plain = request.uri_ref().filter(|uri| uri.scheme_str() == Some("http"));
        let proxy = plain.and_then(|uri| {
            let host = host_of(uri.host().unwrap_or_default());
            self.settings.proxies.of(false, host, uri.port_u16().unwrap_or(80))
        });
        if let Some(value) = proxy.and_then(|proxy| proxy.authorization) {
            request = request.header(PROXY_AUTHORIZATION, value);
        }
        // The answer begins when what is sent has arrived, and that may take its time, too.
        let sending = Duration::from_secs(body.len() as u64 / SLOWEST);
        let request = request
            .header(USER_AGENT, concat!("sampan/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(body))
            .map_err(|_| malformed(url, "an invalid address"))?;
        let patience = self.settings.read_timeout;
        match tokio::time::timeout(patience + sending, self.http.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(self.translate(&error, url)),
            Err(_) => Err(timed_out(url, patience)),
        }
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
