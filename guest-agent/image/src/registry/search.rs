//! Searching an index. Only the old protocol knows how, and few registries still speak it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::client::{Ask, malformed};
use super::{Credentials, RegistryConfig, auth, fetch};
use crate::{ImageError, RegistryError};

/// The index of the default registry.
const DEFAULT_INDEX: &str = "index.docker.io";
/// More than an index says of a hundred repositories.
const MAX_ANSWER: usize = 4 << 20;

/// One repository that fits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SearchResult {
    /// What it is for.
    pub description: String,
    /// Whether the index's owner vouches for it.
    pub is_official: bool,
    /// Always false by now.
    pub is_automated: bool,
    /// Its name.
    pub name: String,
    /// People who like it.
    pub star_count: i64,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    results: Vec<SearchResult>,
}

impl RegistryConfig {
    /// Searches the index that the term names, or else the default one.
    pub async fn search(
        &self,
        term: &str,
        limit: u32,
        credentials: Option<Credentials>,
    ) -> Result<Vec<SearchResult>, ImageError> {
        let named =
            term.split_once('/').filter(|(host, _)| host.contains(['.', ':']) || *host == "localhost");
        let (domain, rest) = match named {
            Some((host, rest)) if host != "docker.io" && host != DEFAULT_INDEX => (host, rest),
            Some((_, rest)) => (DEFAULT_INDEX, rest),
            None => (DEFAULT_INDEX, term),
        };
        let rest = if domain == DEFAULT_INDEX { rest.strip_prefix("library/").unwrap_or(rest) } else { rest };
        let settings = Arc::new(self.clone());
        let mut problem: RegistryError = malformed(domain, "no index to ask");
        for session in fetch::at(domain, "", credentials.as_ref(), &settings) {
            let query = auth::encode(&[("q", rest), ("n", &limit.to_string())]);
            let path = format!("/v1/search?{query}");
            match session.request(Ask { path: &path, ..Ask::default() }).await {
                Ok(answer) => {
                    let url = session.url(&path);
                    let body = session.read_all(answer, &url, MAX_ANSWER).await?;
                    let answer: Answer = serde_json::from_slice(&body)
                        .map_err(|_| malformed(&url, "a list that cannot be read"))?;
                    return Ok(answer.results);
                }
                Err(error) if fetch::is_about_the_way(&error) => problem = error,
                Err(error) => return Err(error.into()),
            }
        }
        Err(problem.into())
    }
}
