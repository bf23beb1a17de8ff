//! Importing: a root file system's archive becomes an image of one layer.

use bytes::Bytes;

use super::{Images, Progress, failure, parse_platform};
use crate::containers::request::BoxStream;
use crate::error::{Error, Result};
use crate::instructions;
use crate::time::Time;

/// `POST /images/create?fromSrc=…`.
#[derive(Debug, Clone, Default)]
pub struct ImportRequest {
    /// `-` is the request's body; anything else is an address.
    pub source: String,
    /// The new image's repository; empty for none.
    pub repository: String,
    /// Its tag.
    pub tag: String,
    /// Its comment.
    pub message: String,
    /// Dockerfile instructions.
    pub changes: Vec<String>,
    /// `os[/arch[/variant]]`.
    pub platform: Option<String>,
}

impl Images {
    /// Imports. The answer's only line is the new image's id.
    pub async fn import(
        &self,
        request: ImportRequest,
        body: BoxStream<std::io::Result<Bytes>>,
    ) -> Result<BoxStream<Progress>> {
        let reference = match (request.repository.as_str(), request.tag.as_str()) {
            ("", _) => None,
            (repository, "") => Some(repository.to_owned()),
            (repository, tag) => Some(format!("{repository}:{tag}")),
        };
        let reference: Option<image::Reference> =
            reference.map(|text| text.parse()).transpose().map_err(Error::invalid)?;
        if reference.as_ref().is_some_and(|reference| reference.digest().is_some()) {
            return Err(Error::invalid("cannot import digest reference"));
        }
        let platform = parse_platform(request.platform.as_deref())?.unwrap_or_else(image::Platform::host);
        if platform.os != "linux" {
            return Err(Error::invalid(format_args!("unsupported operating system: {}", platform.os)));
        }
        let mut config = image::ContainerConfig::default();
        instructions::apply(&mut config, &request.changes)?;
        let mut lines = Vec::new();
        let content: BoxStream<std::io::Result<Bytes>> = if request.source == "-" {
            body
        } else {
            let registries = &self.engine.inner().registries;
            let found = registries.download(&request.source).await.map_err(|error| failure(&error))?;
            lines.push(Progress::Status { id: None, status: format!("Downloading from {}", request.source) });
            Box::pin(tokio_stream::wrappers::ReceiverStream::new(found))
        };
        let comment = match request.message.as_str() {
            "" => format!("Imported from {}", request.source),
            message => message.to_owned(),
        };
        let created = Some(Time::now().to_string());
        let image = image::ImageConfig {
            architecture: platform.architecture,
            os: platform.os,
            variant: platform.variant,
            created: created.clone(),
            comment: Some(comment.clone()),
            config: Some(config),
            history: vec![image::History { created, comment: Some(comment), ..image::History::default() }],
            ..image::ImageConfig::default()
        };
        let (store, source) = (self.store().clone(), crate::pipe::consume(content));
        let made = tokio::task::spawn_blocking(move || {
            let layer = store.commit_layer(source)?;
            store.create_image(image, &[layer], None, reference)
        });
        let id = made.await.map_err(Error::system)?.map_err(|error| failure(&error))?.to_string();
        self.event("import", &id, &id);
        lines.push(Progress::Status { id: None, status: id });
        Ok(Box::pin(futures_util::stream::iter(lines)))
    }
}
