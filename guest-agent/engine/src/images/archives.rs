//! Images to and from archives.

use super::{Images, Progress, failure, platform_document};
use crate::containers::request::BoxStream;
use crate::error::Result;

impl Images {
    /// Loads a docker archive or OCI layout.
    pub async fn load(
        &self,
        archive: impl tokio::io::AsyncRead + Send + Unpin + 'static,
        quiet: bool,
        platform: Option<&str>,
    ) -> Result<BoxStream<Progress>> {
        let events = tokio_stream::wrappers::ReceiverStream::new(
            self.store().load(archive, platform_document(platform)?),
        );
        let images = self.clone();
        Ok(Box::pin(futures_util::StreamExt::filter_map(events, move |event| {
            let shown = match &event {
                image::LoadEvent::Layer { .. } if quiet => None,
                image::LoadEvent::Layer { id, progress } => Some(Progress::Layer {
                    id: id.clone(),
                    status: "Loading layer".to_owned(),
                    current: progress.current,
                    total: progress.total,
                }),
                image::LoadEvent::Loaded { image, reference } => {
                    let name =
                        reference.as_ref().map_or_else(|| image.to_string(), image::Reference::familiar);
                    images.event("load", &image.to_string(), &name);
                    event.line().map(Progress::Stream)
                }
                image::LoadEvent::Done => None,
                image::LoadEvent::Error(error) => Some(Progress::Failed(failure(error))),
            };
            futures_util::future::ready(shown)
        })))
    }

    /// Writes images as a docker archive and OCI layout in one.
    pub async fn save(
        &self,
        names: Vec<String>,
        platform: Option<&str>,
    ) -> Result<BoxStream<std::io::Result<bytes::Bytes>>> {
        let platform = platform_document(platform)?;
        let failed = |error| failure(&error);
        for name in platform.iter().flat_map(|_| &names) {
            self.store().require_platform(name, platform.as_ref()).map_err(failed)?;
        }
        let content = self.store().save(&names).map_err(failed)?;
        for name in &names {
            if let Ok(image) = self.store().get(name) {
                self.event("save", &image.id.to_string(), name);
            }
        }
        Ok(Box::pin(tokio_stream::wrappers::ReceiverStream::new(content)))
    }
}
