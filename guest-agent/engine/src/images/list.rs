//! The list of images and its filters.

use std::collections::HashSet;

use super::view::ImageSummary;
use super::{Images, failure, size};
use crate::error::Result;
use crate::filters::Filters;
use crate::time::Time;

const ACCEPTED: [&str; 8] =
    ["dangling", "label", "label!", "before", "since", "reference", "until", "is-manifest-list"];

/// `GET /images/json`.
#[derive(Debug, Clone, Default)]
pub struct ImageListOptions {
    /// Intermediate images, too: those without a name that others were committed from.
    pub all: bool,
    /// Filters.
    pub filters: Filters,
    /// Count what is shared.
    pub shared_size: bool,
}

impl Images {
    /// The list.
    pub async fn list(&self, options: ImageListOptions) -> Result<Vec<ImageSummary>> {
        let filters = &options.filters;
        filters.accept(&ACCEPTED)?;
        let dangling = filters.flag("dangling")?;
        let created = |name: &str| -> Result<Option<i64>> {
            let image = filters.values(name).first().map(|name| self.store().get(name)).transpose();
            Ok(image.map_err(|error| failure(&error))?.map(|image| image.created_seconds()))
        };
        let (before, since) = (created("before")?, created("since")?);
        let containers = self.engine.inner().registry.all();
        let used = |id: &str| containers.iter().filter(|container| container.now().image_id == id).count();
        let images = self.store().list();
        let parents: HashSet<_> = images.iter().filter_map(|image| image.parent).collect();
        let is_shown = |image: &image::Image| {
            let nameless = image.is_dangling() && image.repo_digests.is_empty();
            !nameless || options.all || !parents.contains(&image.id)
        };
        let fits = |image: &image::Image| {
            let labels =
                image.config.config.as_ref().and_then(|config| config.labels.clone()).unwrap_or_default();
            is_shown(image)
                && dangling.is_none_or(|wanted| wanted == image.is_dangling())
                && filters.labels(&labels)
                && before.is_none_or(|time| image.created_seconds() < time)
                && since.is_none_or(|time| image.created_seconds() > time)
                && filters.any("until", |text| {
                    Time::parse_query(text).is_some_and(|time| image.created_seconds() < time.unix())
                })
                && filters.any("reference", |pattern| {
                    image.repo_tags.iter().any(|tag| reference_fits(pattern, tag))
                })
        };
        Ok(images
            .iter()
            .filter(|image| fits(image))
            .map(|image| {
                let id = image.id.to_string();
                ImageSummary {
                    containers: if options.shared_size { size(used(&id) as u64) } else { -1 },
                    id,
                    parent_id: image.parent.map(|parent| parent.to_string()).unwrap_or_default(),
                    // Of an image's names only those are listed that were asked for.
                    repo_tags: image
                        .repo_tags
                        .iter()
                        .filter(|tag| filters.any("reference", |pattern| reference_fits(pattern, tag)))
                        .cloned()
                        .collect(),
                    repo_digests: image.repo_digests.clone(),
                    created: image.created_seconds(),
                    size: size(image.size),
                    shared_size: if options.shared_size { shared(image, &images) } else { -1 },
                    labels: image.config.config.as_ref().and_then(|config| config.labels.clone()),
                }
            })
            .collect())
    }
}

/// Bytes of the layers that another image has too.
fn shared(image: &image::Image, images: &[std::sync::Arc<image::Image>]) -> i64 {
    let elsewhere = |layer: &image::LayerInfo| {
        images
            .iter()
            .filter(|other| other.id != image.id)
            .any(|other| other.layers.iter().any(|own| own.diff_id == layer.diff_id))
    };
    image.layers.iter().filter(|layer| elsewhere(layer)).map(|layer| size(layer.size)).sum()
}

/// Whether `repository:tag` fits a pattern with `*`; a pattern without a tag fits every tag.
fn reference_fits(pattern: &str, tag: &str) -> bool {
    let whole = pattern.rsplit('/').next().is_some_and(|last| last.contains(':'));
    let subject = if whole { tag } else { tag.rsplit_once(':').map_or(tag, |(repository, _)| repository) };
    glob(pattern.as_bytes(), subject.as_bytes())
}

fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        // A star doesn't cross a slash, as in paths.
        Some((b'*', rest)) => {
            glob(rest, text) || text.first().is_some_and(|byte| *byte != b'/') && glob(pattern, &text[1..])
        }
        Some((b'?', rest)) => text.first().is_some_and(|byte| *byte != b'/') && glob(rest, &text[1..]),
        Some((byte, rest)) => text.first() == Some(byte) && glob(rest, &text[1..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_pattern_fits_with_or_without_tag() {
        assert!(reference_fits("busybox", "busybox:latest"));
        assert!(reference_fits("busybox:la*", "busybox:latest"));
        assert!(reference_fits("localhost:5000/*", "localhost:5000/busybox:1"));
        assert!(!reference_fits("busybox:1", "busybox:latest"));
        assert!(!reference_fits("busy", "busybox:latest"));
        assert!(!reference_fits("*", "team/busybox:1"));
    }
}
