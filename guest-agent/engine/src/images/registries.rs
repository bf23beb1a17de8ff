//! What is asked of registries beside pulling and pushing.

use serde::{Deserialize, Serialize};

use super::{Images, failure};
use crate::containers::spec::record;
use crate::error::{Error, Result};
use crate::filters::Filters;

record! {
    /// The content of `X-Registry-Auth`.
    pub struct Credentials {
        /// User.
        #[serde(rename = "username")]
        pub username: String,
        /// Password.
        #[serde(rename = "password")]
        pub password: String,
        /// `base64(user:password)`, when the two are not given.
        #[serde(rename = "auth")]
        pub auth: String,
        /// Which registry.
        #[serde(rename = "serveraddress")]
        pub server_address: String,
        /// A refresh token.
        #[serde(rename = "identitytoken")]
        pub identity_token: String,
        /// A bearer token.
        #[serde(rename = "registrytoken")]
        pub registry_token: String,
    }
}

/// The answer to `POST /auth`.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct LoggedIn {
    /// A sentence.
    pub status: String,
    /// What to use instead of the password, or empty.
    pub identity_token: String,
}

/// The answer to `GET /distribution/{name}/json`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Described {
    /// The manifest or index.
    pub descriptor: Descriptor,
    /// Platforms that it is for.
    pub platforms: Vec<image::Platform>,
}

/// What a reference is in its registry.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Kind of the document.
    pub media_type: String,
    /// Its digest.
    pub digest: String,
    /// Its bytes.
    pub size: u64,
}

/// `GET /images/search`.
#[derive(Debug, Clone, Default)]
pub struct SearchOptions {
    /// What to look for; it may begin with a registry.
    pub term: String,
    /// Rows at most.
    pub limit: Option<i64>,
    /// `is-official`, `is-automated`, `stars`.
    pub filters: Filters,
    /// Credentials.
    pub credentials: Option<Credentials>,
}

impl Images {
    /// Whether a registry takes these credentials.
    pub async fn log_in(&self, own: Credentials) -> Result<LoggedIn> {
        let domain = registry_of(&own.server_address).to_owned();
        let registries = &self.engine.inner().registries;
        let found = registries.log_in(&domain, credentials(own)).await.map_err(|error| failure(&error))?;
        Ok(LoggedIn {
            status: "Login Succeeded".to_owned(),
            identity_token: found.identity_token.unwrap_or_default(),
        })
    }

    /// What a registry says of a reference.
    pub async fn describe(&self, name: &str, own: Option<Credentials>) -> Result<Described> {
        let reference: image::Reference = name.parse().map_err(Error::invalid)?;
        let auth = own.map(credentials);
        let registries = &self.engine.inner().registries;
        let found = registries.inspect(&reference, auth.as_ref()).await.map_err(|error| failure(&error))?;
        Ok(Described {
            descriptor: Descriptor {
                media_type: found.media_type,
                digest: found.digest.to_string(),
                size: found.size,
            },
            platforms: found.platforms,
        })
    }

    /// Repositories that fit a term.
    pub async fn search(&self, options: SearchOptions) -> Result<Vec<image::SearchResult>> {
        let SearchOptions { term, limit, filters, credentials: own } = options;
        filters.accept(&["is-official", "is-automated", "stars"])?;
        let (official, automated) = (filters.flag("is-official")?, filters.flag("is-automated")?);
        let stars = filters.values("stars").iter().map(|stars| {
            stars.parse::<i64>().map_err(|_| Error::invalid(format_args!("invalid filter 'stars=[{stars}]'")))
        });
        let stars = stars.collect::<Result<Vec<_>>>()?.into_iter().max().unwrap_or(0);
        let limit = limit.unwrap_or(0);
        let limit = match u32::try_from(limit) {
            Ok(0) => 25,
            Ok(limit @ 1..=100) => limit,
            _ => return Err(Error::invalid(format_args!("limit {limit} is outside the range of [1, 100]"))),
        };
        let registries = &self.engine.inner().registries;
        let found = registries.search(&term, limit, own.map(credentials)).await;
        let mut found = found.map_err(|error| failure(&error))?;
        found.retain(|row| {
            official.is_none_or(|wanted| row.is_official == wanted)
                && automated.is_none_or(|wanted| row.is_automated == wanted)
                && row.star_count >= stars
        });
        Ok(found)
    }
}

/// The registry that a login's address means: with or without a scheme and a path, old names included.
fn registry_of(address: &str) -> &str {
    let bare = address.trim_start_matches("https://").trim_start_matches("http://");
    match bare.split('/').next().unwrap_or_default() {
        "" | "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    }
}

pub(super) fn credentials(own: Credentials) -> image::Credentials {
    let some = |text: String| (!text.is_empty()).then_some(text);
    image::Credentials {
        username: own.username,
        password: own.password,
        identity_token: some(own.identity_token),
        registry_token: some(own.registry_token),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_registry_is_understood() {
        assert_eq!(registry_of("https://index.docker.io/v1/"), "docker.io");
        assert_eq!(registry_of(""), "docker.io");
        assert_eq!(registry_of("http://127.0.0.1:5000"), "127.0.0.1:5000");
        assert_eq!(registry_of("registry.example/v2/"), "registry.example");
    }
}
