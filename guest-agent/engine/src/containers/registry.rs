//! Who is who: containers by id, by the beginning of an id, and by name.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::container::Container;
use super::names;
use crate::error::{Error, Result};

/// Every container of the engine.
#[derive(Default)]
pub(crate) struct Registry(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    containers: BTreeMap<String, Arc<Container>>,
    names: HashMap<String, String>,
}

impl Registry {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a name for an id, or makes one up.
    pub(crate) fn name(&self, wish: Option<&str>, id: &str) -> Result<String> {
        let wish = wish.filter(|name| !name.is_empty()).map(names::check).transpose()?;
        let mut inner = self.inner();
        let name = match wish {
            Some(name) => match inner.names.get(name) {
                Some(owner) => return Err(taken(name, owner)),
                None => name.to_owned(),
            },
            None => names::generate(|name| inner.names.contains_key(name))?,
        };
        inner.names.insert(name.clone(), id.to_owned());
        Ok(name)
    }

    /// Gives a name back.
    pub(crate) fn free_name(&self, name: &str, id: &str) {
        let mut inner = self.inner();
        if inner.names.get(name).is_some_and(|owner| owner == id) {
            inner.names.remove(name);
        }
    }

    pub(crate) fn insert(&self, container: Arc<Container>) {
        self.inner().containers.insert(container.id.clone(), container);
    }

    pub(crate) fn remove(&self, id: &str) {
        self.inner().containers.remove(id);
    }

    pub(crate) fn all(&self) -> Vec<Arc<Container>> {
        self.inner().containers.values().cloned().collect()
    }

    /// The container of that id, name or beginning of an id.
    pub(crate) fn get(&self, name: &str) -> Result<Arc<Container>> {
        let inner = self.inner();
        let missing = || Error::not_found(format_args!("No such container: {name}"));
        if let Some(container) = inner.containers.get(name) {
            return Ok(container.clone());
        }
        let bare = name.strip_prefix('/').unwrap_or(name);
        if let Some(id) = inner.names.get(bare) {
            return inner.containers.get(id).cloned().ok_or_else(missing);
        }
        if name.is_empty() {
            return Err(missing());
        }
        let mut matching = inner
            .containers
            .range(name.to_owned()..)
            .take_while(|(id, _)| id.starts_with(name))
            .map(|(_, c)| c);
        match (matching.next(), matching.next()) {
            (Some(container), None) => Ok(container.clone()),
            (Some(_), Some(_)) => {
                Err(Error::invalid(format_args!("multiple IDs found with provided prefix: {name}")))
            }
            (None, _) => Err(missing()),
        }
    }
}

fn taken(name: &str, owner: &str) -> Error {
    Error::conflict(format_args!(
        "Conflict. The container name \"/{name}\" is already in use by container \"{owner}\". You have to remove (or rename) that container to be able to reuse that name."
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_name_is_refused_until_it_is_given_back() {
        let registry = Registry::default();
        assert_eq!(registry.name(Some("/web"), "1").unwrap(), "web");
        let error = registry.name(Some("web"), "2").unwrap_err();
        assert!(
            error
                .message
                .starts_with("Conflict. The container name \"/web\" is already in use by container \"1\".")
        );
        registry.free_name("web", "2");
        assert!(registry.name(Some("web"), "2").is_err());
        registry.free_name("web", "1");
        assert!(registry.name(Some("web"), "2").is_ok());
    }

    #[test]
    fn nobody_is_found_in_docker_s_words() {
        let error = Registry::default().get("web").err().unwrap();
        assert_eq!(error.message, "No such container: web");
    }
}
