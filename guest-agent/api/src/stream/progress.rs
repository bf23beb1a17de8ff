//! Progress as JSON lines: one document per line, each flushed as it comes.

use bytes::Bytes;
use engine::containers::request::BoxStream;
use engine::images::Progress;
use futures_util::{StreamExt, stream};
use serde::Serialize;

use crate::body::{self, Answer};
use crate::error::ApiError;

/// A document of a progress stream; the fields are docker's `jsonmessage`.
#[derive(Debug, Default, Serialize)]
struct Line<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a str>,
    #[serde(rename = "progressDetail", skip_serializing_if = "Option::is_none")]
    detail: Option<Detail>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aux: Option<&'a serde_json::Value>,
    #[serde(rename = "errorDetail", skip_serializing_if = "Option::is_none")]
    error_detail: Option<ErrorDetail<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct Detail {
    #[serde(skip_serializing_if = "zero")]
    current: u64,
    #[serde(skip_serializing_if = "zero")]
    total: u64,
}

#[derive(Debug, Serialize)]
struct ErrorDetail<'a> {
    message: &'a str,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn zero(value: &u64) -> bool {
    *value == 0
}

/// Answers with a progress stream; a failure before any progress is an error with its own status.
pub(crate) async fn answer(mut progress: BoxStream<Progress>) -> Result<Answer, ApiError> {
    let first = match progress.next().await {
        Some(Progress::Failed(error)) => return Err(error.into()),
        first => first,
    };
    let lines = stream::iter(first).chain(progress).map(|news| Ok(render(&news)));
    Ok(body::stream("application/json", lines))
}

/// dockerd ends lines of progress with a carriage return too: terminals that print them raw need it.
fn render(news: &Progress) -> Bytes {
    let line = match news {
        Progress::Status { id, status } => {
            Line { status: Some(status), id: id.as_deref(), ..Line::default() }
        }
        Progress::Layer { id, status, current, total } => Line {
            status: Some(status),
            id: Some(id),
            progress: (*current > 0).then(|| bar(*current, *total)),
            detail: Some(Detail { current: *current, total: *total }),
            ..Line::default()
        },
        Progress::Aux(document) => {
            Line { detail: Some(Detail { current: 0, total: 0 }), aux: Some(document), ..Line::default() }
        }
        Progress::Stream(text) => Line { stream: Some(text), ..Line::default() },
        Progress::Failed(error) => Line {
            error_detail: Some(ErrorDetail { message: &error.message }),
            error: Some(&error.message),
            ..Line::default()
        },
    };
    ended(&line, b"\r\n")
}

/// One document on a line, for streams that are no progress: events, statistics, the end of a wait.
pub(crate) fn line<T: Serialize>(value: &T) -> Bytes {
    ended(value, b"\n")
}

fn ended<T: Serialize>(value: &T, end: &[u8]) -> Bytes {
    let mut text = serde_json::to_vec(value).unwrap_or_else(|error| {
        tracing::error!(%error, "a line could not be written as JSON");
        b"{}".to_vec()
    });
    text.extend_from_slice(end);
    text.into()
}

/// `[=====>     ]  1.5MB/3MB`, for clients that print it rather than draw their own.
fn bar(current: u64, total: u64) -> String {
    const WIDTH: usize = 50;
    if total == 0 || current > total {
        return human(current);
    }
    let done = usize::try_from(u128::from(current) * WIDTH as u128 / u128::from(total)).unwrap_or(WIDTH);
    let arrow = if done < WIDTH { ">" } else { "" };
    let room = WIDTH.saturating_sub(done + arrow.len());
    format!("[{}{arrow}{}] {:>8}/{}", "=".repeat(done), " ".repeat(room), human(current), human(total))
}

/// Bytes with a decimal unit and four digits, as docker prints sizes.
fn human(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    #[expect(clippy::cast_precision_loss, reason = "four digits are printed")]
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = if value >= 1000.0 || unit == 0 {
        0
    } else if value >= 100.0 {
        1
    } else if value >= 10.0 {
        2
    } else {
        3
    };
    let mut digits = format!("{value:.decimals$}");
    if digits.contains('.') {
        digits.truncate(digits.trim_end_matches('0').trim_end_matches('.').len());
    }
    format!("{digits}{}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(news: &Progress) -> String {
        String::from_utf8(render(news).to_vec()).unwrap()
    }

    #[test]
    fn a_document_is_one_line() {
        let status = Progress::Status { id: None, status: "two\nlines".into() };
        assert_eq!(text(&status), "{\"status\":\"two\\nlines\"}\r\n");
    }

    #[test]
    fn a_layer_tells_how_far_it_is() {
        let layer = Progress::Layer {
            id: "abc".into(),
            status: "Downloading".into(),
            current: 1_500_000,
            total: 3_000_000,
        };
        let bar = format!("[{}>{}]    1.5MB/3MB", "=".repeat(25), " ".repeat(24));
        assert_eq!(
            text(&layer),
            format!(
                "{{\"status\":\"Downloading\",\"progressDetail\":{{\"current\":1500000,\"total\":3000000}},\"progress\":\"{bar}\",\"id\":\"abc\"}}\r\n"
            )
        );
        let done = Progress::Layer { id: "abc".into(), status: "Pull complete".into(), current: 0, total: 0 };
        assert_eq!(text(&done), "{\"status\":\"Pull complete\",\"progressDetail\":{},\"id\":\"abc\"}\r\n");
    }

    #[test]
    fn sizes_have_four_digits() {
        for (bytes, printed) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (32_700, "32.7kB"),
            (123_456_789, "123.5MB"),
            (2_000_000_000, "2GB"),
        ] {
            assert_eq!(human(bytes), printed);
        }
    }

    #[tokio::test]
    async fn a_failure_before_any_progress_has_its_own_status() {
        let failed = Progress::Failed(engine::Error::not_found("manifest unknown"));
        let error = answer(Box::pin(stream::iter([failed.clone()]))).await.map(drop).unwrap_err();
        assert_eq!((error.status.as_u16(), error.message.as_str()), (404, "manifest unknown"));

        let begun = Progress::Status { id: None, status: "Pulling".into() };
        assert_eq!(answer(Box::pin(stream::iter([begun, failed.clone()]))).await.unwrap().status(), 200);
        assert_eq!(
            text(&failed),
            "{\"errorDetail\":{\"message\":\"manifest unknown\"},\"error\":\"manifest unknown\"}\r\n"
        );
    }
}
