//! The `filters` parameter: a JSON object from a filter's name to its values.
//!
//! Two spellings are in use: a list of values, and (older clients, docker's own command too) a map
//! from each value to `true`.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::ApiError;

/// Filter names with their values, in the order in which they were given.
pub(crate) type Filters = BTreeMap<String, Vec<String>>;

#[derive(Deserialize)]
#[serde(untagged)]
enum Values {
    List(Vec<String>),
    Map(BTreeMap<String, bool>),
    Nothing(()),
}

/// Parses the parameter's text; none or an empty one is no filter.
pub(crate) fn parse(text: Option<&str>) -> Result<Filters, ApiError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(Filters::new());
    };
    let parsed: Option<BTreeMap<String, Values>> =
        serde_json::from_str(text).map_err(|error| ApiError::invalid(format!("invalid filter: {error}")))?;
    Ok(parsed
        .unwrap_or_default()
        .into_iter()
        .map(|(name, values)| match values {
            Values::List(values) => (name, values),
            Values::Map(values) => {
                (name, values.into_iter().filter(|(_, wanted)| *wanted).map(|(value, _)| value).collect())
            }
            Values::Nothing(()) => (name, Vec::new()),
        })
        .filter(|(_, values)| !values.is_empty())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_and_a_map_mean_the_same() {
        let list = parse(Some(r#"{"label":["a=b","c"],"status":["running"]}"#)).unwrap();
        let map = parse(Some(r#"{"label":{"a=b":true,"c":true,"d":false},"status":{"running":true}}"#)).unwrap();
        assert_eq!(list, map);
        assert_eq!(list["label"], ["a=b", "c"]);
    }

    #[test]
    fn nothing_is_no_filter() {
        for text in [None, Some(""), Some("{}"), Some("null"), Some(r#"{"name":[]}"#)] {
            assert!(parse(text).unwrap().is_empty(), "{text:?}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["[", "[]", "7", r#"{"a":7}"#, r#"{"a":[1]}"#] {
            assert!(parse(Some(text)).unwrap_err().to_string().starts_with("invalid filter"), "{text}");
        }
    }
}
