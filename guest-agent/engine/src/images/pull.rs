//! Pulling.

use super::registries::{Credentials, credentials};
use super::{Images, Progress, failure, parse_platform, shown};
use crate::containers::request::BoxStream;
use crate::error::{Error, Kind, Result};

/// `POST /images/create?fromImage=…`.
#[derive(Debug, Clone, Default)]
pub struct PullRequest {
    /// The repository, perhaps with tag or digest.
    pub image: String,
    /// Tag or digest, when it stands apart.
    pub tag: Option<String>,
    /// `os[/arch[/variant]]`.
    pub platform: Option<String>,
    /// Credentials.
    pub credentials: Option<Credentials>,
}

impl Images {
    /// Pulls; a failure before any progress is the call's own error.
    pub async fn pull(&self, request: PullRequest) -> Result<BoxStream<Progress>> {
        let text = match request.tag.as_deref().filter(|tag| !tag.is_empty()) {
            Some(digest) if digest.contains(':') => format!("{}@{digest}", request.image),
            Some(tag) => format!("{}:{tag}", request.image),
            None => request.image.clone(),
        };
        let reference: image::Reference = text.parse().map_err(Error::invalid)?;
        let platform = parse_platform(request.platform.as_deref())?;
        let auth = request.credentials.map(credentials);
        let registries = self.engine.inner().registries.clone();
        let name = reference.familiar();
        let events = self.store().pull(image::PullRequest { reference, platform, auth, registries });
        let images = self.clone();
        let error = |event: &image::PullEvent| match event {
            image::PullEvent::Error(error) => Some(refusal(error)),
            _ => None,
        };
        shown(events, error, move |event| match event {
            image::PullEvent::Status { id, status } => Some(Progress::Status { id, status }),
            image::PullEvent::Layer { id, stage } => Some(match stage.progress() {
                Some(progress) => Progress::Layer {
                    id,
                    status: stage.label().to_owned(),
                    current: progress.current,
                    total: progress.total,
                },
                None => Progress::Status { id: Some(id), status: stage.label().to_owned() },
            }),
            image::PullEvent::Done(_) => {
                images.event("pull", &name, &name);
                None
            }
            image::PullEvent::Error(error) => Some(Progress::Failed(refusal(&error))),
        })
        .await
    }
}

/// A pull's failure. dockerd answers 500 where a registry wants a login: at 401 docker's command would ask for one and wait.
fn refusal(error: &image::ImageError) -> Error {
    match failure(error) {
        error if error.kind == Kind::Unauthorized => Error::system(error.message),
        error => error,
    }
}
