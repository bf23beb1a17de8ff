//! The `filters` parameter: a name, and the values of which one (for labels: each) must fit.
//!
//! Two spellings are read: `{"label":["a","b"]}` and the older `{"label":{"a":true}}`.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::error::{Error, Result};

/// Parsed filters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    /// Reads the query parameter; empty is no filter.
    pub fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Ok(Filters::default());
        }
        let invalid = || Error::invalid(format_args!("invalid filter: {text}"));
        let names: BTreeMap<String, Value> = serde_json::from_str(text).map_err(|_| invalid())?;
        let mut filters = BTreeMap::new();
        for (name, values) in names {
            let values = match values {
                Value::Array(values) => values
                    .into_iter()
                    .map(|value| value.as_str().map(str::to_owned).ok_or_else(invalid))
                    .collect::<Result<Vec<_>>>()?,
                Value::Object(values) => values
                    .into_iter()
                    .filter(|(_, on)| on != &Value::Bool(false))
                    .map(|(value, _)| value)
                    .collect(),
                Value::Null => Vec::new(),
                _ => return Err(invalid()),
            };
            filters.insert(name, values);
        }
        Ok(Filters(filters))
    }

    /// One more value.
    pub fn add(&mut self, name: &str, value: impl Into<String>) {
        self.0.entry(name.to_owned()).or_default().push(value.into());
    }

    /// Whether nothing is filtered.
    pub fn is_empty(&self) -> bool {
        self.0.values().all(Vec::is_empty)
    }

    /// The values of one filter.
    pub fn values(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether a filter of that name is given.
    pub fn has(&self, name: &str) -> bool {
        !self.values(name).is_empty()
    }

    /// Refuses filters whose name is not among `accepted`, in dockerd's words.
    pub fn accept(&self, accepted: &[&str]) -> Result<()> {
        match self.0.keys().find(|name| !accepted.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) => Err(Error::invalid(format_args!("invalid filter '{name}'"))),
        }
    }

    /// No filter of that name, or one of its values is `value`.
    pub fn exact(&self, name: &str, value: &str) -> bool {
        let values = self.values(name);
        values.is_empty() || values.iter().any(|wanted| wanted == value)
    }

    /// No filter of that name, or one of its values fits.
    pub fn any(&self, name: &str, mut fits: impl FnMut(&str) -> bool) -> bool {
        let values = self.values(name);
        values.is_empty() || values.iter().any(|wanted| fits(wanted))
    }

    /// A filter that says yes or no: `1`, `true`, `0`, `false`.
    pub fn flag(&self, name: &str) -> Result<Option<bool>> {
        let values = self.values(name);
        let yes =
            values.iter().any(|value| matches!(value.as_str(), "1" | "true" | "True" | "TRUE" | "t" | "T"));
        let no = values
            .iter()
            .any(|value| matches!(value.as_str(), "0" | "false" | "False" | "FALSE" | "f" | "F"));
        match (values.is_empty(), yes, no) {
            (true, ..) => Ok(None),
            (false, true, false) => Ok(Some(true)),
            (false, false, true) => Ok(Some(false)),
            _ => Err(Error::invalid(format_args!("invalid filter '{name}={values:?}'"))),
        }
    }

    /// Every `label` filter (`name` or `name=value`) fits, and no `label!` filter does.
    pub fn labels(&self, labels: &BTreeMap<String, String>) -> bool {
        let fits = |wanted: &String| match wanted.split_once('=') {
            None => labels.contains_key(wanted),
            Some((name, value)) => labels.get(name).is_some_and(|found| found == value),
        };
        self.values("label").iter().all(fits) && !self.values("label!").iter().any(fits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_say_the_same() {
        let list = Filters::parse(r#"{"label":["a","b=c"]}"#).unwrap();
        let map = Filters::parse(r#"{"label":{"a":true,"b=c":true,"d":false}}"#).unwrap();
        assert_eq!(list, map);
    }

    #[test]
    fn labels_are_all_demanded() {
        let filters = Filters::parse(r#"{"label":["a","b=c"]}"#).unwrap();
        let labels = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        assert!(filters.labels(&labels(&[("a", "x"), ("b", "c")])));
        assert!(!filters.labels(&labels(&[("a", "x"), ("b", "d")])));
        assert!(!filters.labels(&labels(&[("b", "c")])));
    }

    #[test]
    fn an_unknown_filter_is_refused_by_name() {
        let error = Filters::parse(r#"{"colour":["red"]}"#).unwrap().accept(&["label"]).unwrap_err();
        assert_eq!(error.message, "invalid filter 'colour'");
    }

    #[test]
    fn a_flag_that_is_neither_is_refused() {
        assert_eq!(Filters::parse(r#"{"dangling":["1"]}"#).unwrap().flag("dangling").unwrap(), Some(true));
        assert!(Filters::parse(r#"{"dangling":["maybe"]}"#).unwrap().flag("dangling").is_err());
    }
}
