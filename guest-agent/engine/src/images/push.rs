//! Pushing.

use serde_json::json;

use super::registries::{Credentials, credentials};
use super::{Images, Progress, failure, platform_document, shown};
use crate::containers::request::BoxStream;
use crate::error::{Error, Result};

/// dockerd's `max-concurrent-uploads`.
const CONCURRENT_UPLOADS: usize = 5;

/// `POST /images/{name}/push`.
#[derive(Debug, Clone, Default)]
pub struct PushRequest {
    /// The repository, perhaps with a tag.
    pub image: String,
    /// The tag, when it stands apart; every tag of the repository without one.
    pub tag: Option<String>,
    /// The platform that the image must be for, as a JSON document.
    pub platform: Option<String>,
    /// Credentials.
    pub credentials: Option<Credentials>,
}

impl Images {
    /// Pushes.
    pub async fn push(&self, request: PushRequest) -> Result<BoxStream<Progress>> {
        let text = match request.tag.as_deref().filter(|tag| !tag.is_empty()) {
            Some(tag) => format!("{}:{tag}", request.image),
            None => request.image.clone(),
        };
        let reference: image::Reference = text.parse().map_err(Error::invalid)?;
        let name = reference.familiar();
        let events = self.store().push(image::PushRequest {
            reference,
            platform: platform_document(request.platform.as_deref())?,
            auth: request.credentials.map(credentials),
            registries: self.engine.inner().registries.clone(),
            concurrent_uploads: match self.engine.config().options.concurrent_uploads {
                0 => CONCURRENT_UPLOADS,
                given => given,
            },
        });
        let images = self.clone();
        shown(
            events,
            |_| None,
            move |event| match event {
                image::PushEvent::Status { id, status } => Some(Progress::Status { id, status }),
                image::PushEvent::Layer { id, progress } => Some(Progress::Layer {
                    id,
                    status: "Pushing".to_owned(),
                    current: progress.current,
                    total: progress.total,
                }),
                image::PushEvent::Pushed { tag, digest, size } => {
                    Some(Progress::Aux(json!({"Tag": tag, "Digest": digest, "Size": size})))
                }
                image::PushEvent::Done => {
                    images.event("push", &name, &name);
                    None
                }
                image::PushEvent::Error(error) => Some(Progress::Failed(failure(&error))),
            },
        )
        .await
    }
}
