//! The `json-file` log: one JSON object per line, as every tool that reads docker's logs knows it.
//!
//! A batch of lines is one write and shares one time, that at which it was read. A line longer than 16 KiB
//! is several objects, of which only the last one's text ends in a newline.

use crate::containers::request::StdStream;
use crate::time::Time;

/// Longest text in one object; docker's own limit, so that its readers' buffers do.
pub(super) const PIECE: usize = 16 * 1024;

/// The end of each object of a batch.
pub(super) fn tail(stream: StdStream, attributes: &str) -> String {
    let stream = match stream {
        StdStream::Stdout => "stdout",
        StdStream::Stderr => "stderr",
    };
    let (name, comma) = if attributes.is_empty() { ("", "") } else { ("\"attrs\":", ",") };
    format!("\",\"stream\":\"{stream}\",{name}{attributes}{comma}\"time\":\"{}\"}}\n", Time::now())
}

/// The texts of the objects that bytes become.
pub(super) fn pieces(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split_inclusive(|byte| *byte == b'\n').flat_map(|line| {
        let mut rest = line;
        std::iter::from_fn(move || {
            let (piece, more) = rest.split_at(piece_length(rest));
            rest = more;
            (!piece.is_empty()).then_some(piece)
        })
    })
}

/// Appends one object.
pub(super) fn object(piece: &[u8], tail: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"log\":\"");
    escape(piece, out);
    out.extend_from_slice(tail.as_bytes());
}

/// How much of a line goes into one object: at most [`PIECE`] and no half character.
fn piece_length(line: &[u8]) -> usize {
    if line.len() <= PIECE + 1 && line.ends_with(b"\n") || line.len() <= PIECE {
        return line.len();
    }
    let mut end = PIECE;
    while end > PIECE - 4 && line[end] & 0xc0 == 0x80 {
        end -= 1;
    }
    end
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Writes text as the inside of a JSON string. Bytes that are no UTF-8 become U+FFFD, as in docker's logs.
fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    for chunk in bytes.utf8_chunks() {
        let text = chunk.valid().as_bytes();
        let mut clean = 0;
        for (index, byte) in text.iter().enumerate() {
            let short: &[u8] = match byte {
                b'"' => b"\\\"",
                b'\\' => b"\\\\",
                b'\n' => b"\\n",
                b'\r' => b"\\r",
                b'\t' => b"\\t",
                0..0x20 | 0x7f => {
                    out.extend_from_slice(&text[clean..index]);
                    // Programs do write megabytes of zeroes: no formatting machinery here.
                    let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
                    out.extend_from_slice(b"\\u00");
                    out.extend_from_slice(&digits);
                    clean = index + 1;
                    continue;
                }
                _ => continue,
            };
            out.extend_from_slice(&text[clean..index]);
            out.extend_from_slice(short);
            clean = index + 1;
        }
        out.extend_from_slice(&text[clean..]);
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(bytes: &[u8]) -> Vec<serde_json::Value> {
        let (mut content, tail) = (Vec::new(), tail(StdStream::Stdout, ""));
        for piece in pieces(bytes) {
            object(piece, &tail, &mut content);
        }
        let content = String::from_utf8(content).unwrap();
        content.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn attributes_stand_in_every_object() {
        let (mut content, tail) = (Vec::new(), tail(StdStream::Stderr, r#"{"a":"b"}"#));
        object(b"x", &tail, &mut content);
        let line: serde_json::Value = serde_json::from_slice(&content).unwrap();
        assert_eq!((&line["stream"], &line["attrs"]["a"]), (&"stderr".into(), &"b".into()));
    }

    #[test]
    fn every_line_is_one_object_and_comes_back_as_it_was() {
        let lines = written(b"a \"quoted\" \\ line\x1b[0m\r\n\ttab \xc3\xa9\nunfinished");
        let texts: Vec<&str> = lines.iter().map(|line| line["log"].as_str().unwrap()).collect();
        assert_eq!(texts, ["a \"quoted\" \\ line\x1b[0m\r\n", "\ttab é\n", "unfinished"]);
        assert_eq!(lines[0]["stream"], "stdout");
        assert!(Time::parse(lines[0]["time"].as_str().unwrap()).is_some());
    }

    #[test]
    fn what_is_no_utf_8_is_replaced() {
        assert_eq!(written(b"a\xffb\n")[0]["log"], "a\u{fffd}b\n");
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let line = "é".repeat(PIECE) + "\n";
        let lines = written(line.as_bytes());
        let whole: String = lines.iter().map(|line| line["log"].as_str().unwrap()).collect();
        assert_eq!(whole, line);
        assert!(lines.iter().all(|line| line["log"].as_str().unwrap().len() <= PIECE + 1));
    }
}
