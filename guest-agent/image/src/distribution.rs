//! What a registry says of a reference, without pulling it.

use std::sync::Arc;

use crate::config::ImageConfig;
use crate::manifest::Document;
use crate::{Credentials, Digest, ImageError, Platform, Reference, RegistryConfig};

/// A reference as its registry describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution {
    /// What kind of document it names.
    pub media_type: String,
    /// The document's digest.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// Platforms that it offers.
    pub platforms: Vec<Platform>,
}

impl RegistryConfig {
    /// Asks the registry what `reference` is.
    pub async fn inspect(
        &self,
        reference: &Reference,
        credentials: Option<&Credentials>,
    ) -> Result<Distribution, ImageError> {
        let reference = reference.clone().or_latest();
        let settings = Arc::new(self.clone());
        let (session, found) = crate::pull::find(&reference, credentials, &settings)
            .await
            .map_err(|error| crate::pull::translate(error, &reference))?;
        let platforms = match Document::parse(&found.raw, found.media_type.as_deref())? {
            Document::Index(manifests) => {
                manifests.into_iter().filter_map(|manifest| manifest.platform).collect()
            }
            Document::Manifest(manifest) => {
                let raw = session.blob("config", &manifest.config).await?;
                vec![ImageConfig::parse(&raw)?.platform()]
            }
        };
        Ok(Distribution {
            media_type: found.media_type.unwrap_or_default(),
            digest: found.digest,
            size: found.raw.len() as u64,
            platforms,
        })
    }
}
