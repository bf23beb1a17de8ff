//! Query strings as dockerd reads them: any parameter may be missing, and truth has many spellings.

use engine::filters::Filters;
use engine::time::Time;

use crate::error::ApiError;

/// The parameters of one request, decoded, in their order.
#[derive(Debug, Default, Clone)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes the part of the target behind the question mark.
    pub(crate) fn parse(text: Option<&str>) -> Result<Query, ApiError> {
        let mut pairs = Vec::new();
        for pair in text.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            pairs.push((decode(name, true)?, decode(value, true)?));
        }
        Ok(Query(pairs))
    }

    /// The first value of a parameter, which may be empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The first value of a parameter unless it is empty.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// Every value of a parameter.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether a flag is on: anything but empty, `0`, `no`, `false` and `none`.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.flag_or(name, false)
    }

    /// As [`Query::flag`], with what a missing parameter means.
    pub(crate) fn flag_or(&self, name: &str, missing: bool) -> bool {
        self.get(name).map_or(missing, |value| {
            !matches!(value.trim().to_ascii_lowercase().as_str(), "" | "0" | "no" | "false" | "none")
        })
    }

    /// A whole number, if the parameter is given.
    pub(crate) fn number(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        text.trim().parse().map(Some).map_err(|_| {
            ApiError::invalid(format!("invalid value for \"{name}\": \"{text}\" is not a whole number"))
        })
    }

    /// A point in time, in any way that [`Time::parse_query`] reads.
    pub(crate) fn time(&self, name: &str) -> Result<Option<Time>, ApiError> {
        match self.text(name) {
            None => Ok(None),
            Some(text) => Time::parse_query(text).map(Some).ok_or_else(|| {
                ApiError::invalid(format!(
                    "invalid value for \"{name}\": failed to parse \"{text}\" as a time"
                ))
            }),
        }
    }

    /// The filters of this request.
    pub(crate) fn filters(&self) -> Result<Filters, ApiError> {
        Ok(Filters::parse(self.get("filters").unwrap_or_default())?)
    }
}

/// Undoes percent encoding; in a query a plus sign is a space.
pub(crate) fn decode(text: &str, plus_is_space: bool) -> Result<String, ApiError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match *first {
            b'+' if plus_is_space => bytes.push(b' '),
            b'%' => {
                let hex = |byte: u8| char::from(byte).to_digit(16);
                let [high, low, tail @ ..] = rest else {
                    return Err(bad_escape(text));
                };
                let (Some(high), Some(low)) = (hex(*high), hex(*low)) else {
                    return Err(bad_escape(text));
                };
                bytes.push((high * 16 + low) as u8);
                rest = tail;
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).map_err(|_| ApiError::invalid(format!("`{text}` is not UTF-8 when decoded")))
}

fn bad_escape(text: &str) -> ApiError {
    ApiError::invalid(format!("invalid URL escape in `{text}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query::parse(Some(text)).unwrap()
    }

    #[test]
    fn truth_has_dockers_spellings() {
        for text in ["1", "true", "True", "TRUE", "yes", "t", "on"] {
            assert!(query(&format!("all={text}")).flag("all"), "{text}");
        }
        for text in ["", "0", "false", "False", "no", "none", " 0 "] {
            assert!(!query(&format!("all={}", text.replace(' ', "%20"))).flag("all"), "{text}");
        }
        assert!(!query("").flag("all"));
        assert!(query("").flag_or("stream", true));
        assert!(!query("stream=0").flag_or("stream", true));
    }

    #[test]
    fn escapes_and_plus_are_decoded() {
        let query = query("filters=%7B%22label%22%3A%5B%22a%22%5D%7D&name=a+b&names=x&names=%C3%A4");
        assert_eq!(query.get("filters"), Some(r#"{"label":["a"]}"#));
        assert_eq!(query.get("name"), Some("a b"));
        assert_eq!(query.all("names").collect::<Vec<_>>(), ["x", "ä"]);
        assert_eq!(decode("a+b", false).unwrap(), "a+b");
    }

    #[test]
    fn broken_escapes_are_refused() {
        for text in ["a=%", "a=%2", "a=%zz", "%ff=1"] {
            assert!(Query::parse(Some(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_read_or_refused_by_name() {
        assert_eq!(query("since=1.5").time("since").unwrap(), Some(Time::from_unix_nanos(1_500_000_000)));
        assert_eq!(query("since=0").time("since").unwrap(), Some(Time::from_unix_nanos(0)));
        assert_eq!(query("since=").time("since").unwrap(), None);
        assert!(query("until=soon").time("until").unwrap_err().to_string().contains("\"until\""));
    }

    #[test]
    fn numbers_are_whole_or_refused() {
        assert_eq!(query("t=10").number("t").unwrap(), Some(10));
        assert_eq!(query("t=-1").number("t").unwrap(), Some(-1));
        assert_eq!(query("t=").number("t").unwrap(), None);
        assert!(query("t=ten").number("t").unwrap_err().to_string().contains("\"t\""));
    }
}
