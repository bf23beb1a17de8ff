//! Pruning images.

use std::collections::BTreeMap;

use super::view::ImagesPruned;
use super::{Images, failure};
use crate::error::{Error, Result};
use crate::filters::Filters;
use crate::time::Time;

impl Images {
    /// Removes images that no container uses.
    pub async fn prune(&self, filters: Filters) -> Result<ImagesPruned> {
        filters.accept(&["dangling", "label", "label!", "until"])?;
        let dangling = filters.flag("dangling")?.unwrap_or(true);
        let images = self.clone();
        let pruned = tokio::task::spawn_blocking(move || {
            let users = images.users();
            let admit = |image: &image::Image| {
                let labels =
                    image.config.config.as_ref().and_then(|config| config.labels.clone()).unwrap_or_default();
                filters.labels(&labels)
                    && filters.any("until", |text| {
                        Time::parse_query(text).is_some_and(|time| image.created_seconds() < time.unix())
                    })
            };
            images.store().prune(dangling, &admit, &|id| users(id))
        });
        let pruned = pruned.await.map_err(Error::system)?.map_err(|error| failure(&error))?;
        let removed = self.tell_removed("", pruned.removed);
        let attributes = BTreeMap::from([("reclaimed".to_owned(), pruned.space_reclaimed.to_string())]);
        let actor = crate::events::Actor { id: String::new(), attributes };
        self.engine.inner().events.publish("image", "prune", actor);
        Ok(ImagesPruned {
            images_deleted: (!removed.is_empty()).then_some(removed),
            space_reclaimed: pruned.space_reclaimed,
        })
    }
}
