//! Dockerfile instructions that change an image's config: what `commit` and `import` take as `changes`.

use std::collections::BTreeMap;

use image::{ContainerConfig, HealthConfig};
use serde_json::json;

use crate::error::{Error, Result};

/// Applies instructions, in their order.
pub(crate) fn apply(config: &mut ContainerConfig, changes: &[String]) -> Result<()> {
    let mut command_given = false;
    for line in changes.iter().flat_map(|change| change.lines()).map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let (name, rest) = (name.to_ascii_uppercase(), rest.trim());
        if rest.is_empty() {
            return Err(Error::invalid(format_args!("{name} requires at least one argument")));
        }
        one(config, &name, rest, &mut command_given)?;
    }
    Ok(())
}

fn one(config: &mut ContainerConfig, name: &str, rest: &str, command_given: &mut bool) -> Result<()> {
    match name {
        "CMD" => {
            config.cmd = Some(command(config, rest));
            *command_given = true;
        }
        "ENTRYPOINT" => {
            config.entrypoint = Some(command(config, rest));
            // The image's command was meant for its own entry point.
            if !*command_given {
                config.cmd = None;
            }
        }
        "ENV" => {
            let env = config.env.get_or_insert_default();
            for (key, value) in pairs(name, rest)? {
                env.retain(|pair| pair.split('=').next() != Some(&key));
                env.push(format!("{key}={value}"));
            }
        }
        "LABEL" => config.labels.get_or_insert_default().extend(pairs(name, rest)?),
        "EXPOSE" => {
            let ports = config.exposed_ports.get_or_insert_default();
            for port in words(rest) {
                let port = if port.contains('/') { port } else { format!("{port}/tcp") };
                crate::containers::ports::parse_port(&port)?;
                ports.insert(port, json!({}));
            }
        }
        "VOLUME" => {
            let paths = list(rest).unwrap_or_else(|| words(rest));
            let volumes = config.volumes.get_or_insert_default();
            volumes.extend(paths.into_iter().map(|path| (path, json!({}))));
        }
        "USER" => config.user = Some(rest.to_owned()),
        "WORKDIR" => {
            let before = config.working_dir.take().unwrap_or_default();
            let joined = std::path::Path::new("/").join(before).join(rest);
            config.working_dir = Some(crate::containers::mounts::clean(&joined.to_string_lossy()));
        }
        "STOPSIGNAL" => {
            crate::signal::parse(rest)?;
            config.stop_signal = Some(rest.to_owned());
        }
        "ONBUILD" => config.on_build.get_or_insert_default().push(rest.to_owned()),
        "HEALTHCHECK" => config.healthcheck = Some(healthcheck(rest)?),
        _ => return Err(Error::invalid(format_args!("{name} is not a valid change command"))),
    }
    Ok(())
}

/// A command in its JSON form, or a line for the shell.
fn command(config: &ContainerConfig, rest: &str) -> Vec<String> {
    list(rest).unwrap_or_else(|| {
        let standard = || vec!["/bin/sh".to_owned(), "-c".to_owned()];
        let mut words = config.shell.clone().filter(|shell| !shell.is_empty()).unwrap_or_else(standard);
        words.push(rest.to_owned());
        words
    })
}

fn list(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text).ok()
}

fn healthcheck(rest: &str) -> Result<HealthConfig> {
    let mut health = HealthConfig::default();
    let mut rest = rest;
    while let Some(option) = rest.strip_prefix("--") {
        let (option, more) = option.split_once(char::is_whitespace).unwrap_or((option, ""));
        let unknown = || Error::invalid(format_args!("unknown flag: {option}"));
        let (name, value) = option.split_once('=').ok_or_else(unknown)?;
        let span = || crate::time::go_duration(value).ok_or_else(unknown);
        match name {
            "interval" => health.interval = Some(span()?),
            "timeout" => health.timeout = Some(span()?),
            "start-period" => health.start_period = Some(span()?),
            "start-interval" => health.start_interval = Some(span()?),
            "retries" => health.retries = Some(value.parse().map_err(|_| unknown())?),
            _ => return Err(unknown()),
        }
        rest = more.trim_start();
    }
    let (kind, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let command = command.trim();
    let test = match kind.to_ascii_uppercase().as_str() {
        "NONE" if command.is_empty() => vec!["NONE".to_owned()],
        "CMD" if !command.is_empty() => match list(command) {
            Some(words) => std::iter::once("CMD".to_owned()).chain(words).collect(),
            None => vec!["CMD-SHELL".to_owned(), command.to_owned()],
        },
        other => {
            return Err(Error::invalid(format_args!("Unknown type \"{other}\" in HEALTHCHECK (try CMD)")));
        }
    };
    health.test = Some(test);
    Ok(health)
}

/// `key=value …` with quotes, or the older `key the rest`.
fn pairs(name: &str, rest: &str) -> Result<BTreeMap<String, String>> {
    let words = words(rest);
    if words.first().is_some_and(|word| !word.contains('=')) {
        let (key, value) = rest
            .split_once(char::is_whitespace)
            .ok_or_else(|| Error::invalid(format_args!("{name} must have two arguments")))?;
        return Ok([(key.to_owned(), value.trim().to_owned())].into());
    }
    words
        .into_iter()
        .map(|word| match word.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => Err(Error::invalid(format_args!(
                "Syntax error - can't find = in \"{word}\". Must be of the form: name=value"
            ))),
        })
        .collect()
}

/// Words as a shell splits them: by spaces, with quotes and backslashes.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut begun) = (Vec::new(), String::new(), false);
    let mut quote = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            ('\\', None | Some('"')) => word.extend(letters.next()),
            ('"' | '\'', None) => (quote, begun) = (Some(letter), true),
            (_, Some(open)) if letter == open => quote = None,
            (_, None) if letter.is_whitespace() => {
                if begun || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            _ => word.push(letter),
        }
    }
    if begun || !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(changes: &[&str]) -> Result<ContainerConfig> {
        let mut config = ContainerConfig { cmd: Some(vec!["old".into()]), ..ContainerConfig::default() };
        let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
        apply(&mut config, &changes)?;
        Ok(config)
    }

    #[test]
    fn every_instruction_changes_its_field() {
        let config = applied(&[
            "CMD [\"a\", \"b c\"]",
            "ENTRYPOINT exec x",
            "env A=1 B=\"two words\"",
            "ENV C the rest",
            "LABEL l='v' m=\\ n",
            "EXPOSE 80 53/udp",
            "VOLUME /data /more",
            "WORKDIR /a\nWORKDIR b",
            "USER crew",
            "STOPSIGNAL SIGINT",
            "ONBUILD RUN x",
            "HEALTHCHECK --interval=5s --retries=2 CMD curl x",
        ])
        .unwrap();
        assert_eq!(config.cmd.unwrap(), ["a", "b c"]);
        assert_eq!(config.entrypoint.unwrap(), ["/bin/sh", "-c", "exec x"]);
        assert_eq!(config.env.unwrap(), ["A=1", "B=two words", "C=the rest"]);
        assert_eq!(config.labels.unwrap()["m"], " n");
        assert!(config.exposed_ports.unwrap().contains_key("80/tcp"));
        assert_eq!(config.volumes.unwrap().len(), 2);
        assert_eq!((config.working_dir.unwrap(), config.user.unwrap()), ("/a/b".into(), "crew".into()));
        let health = config.healthcheck.unwrap();
        assert_eq!(health.test.unwrap(), ["CMD-SHELL", "curl x"]);
        assert_eq!((health.interval, health.retries), (Some(5_000_000_000), Some(2)));
    }

    #[test]
    fn an_entry_point_takes_the_old_command_away() {
        assert_eq!(applied(&["ENTRYPOINT [\"x\"]"]).unwrap().cmd, None);
    }

    #[test]
    fn what_would_need_a_build_is_refused() {
        assert_eq!(applied(&["RUN x"]).unwrap_err().message, "RUN is not a valid change command");
        assert!(applied(&["ENV A=1 B"]).is_err());
        assert!(applied(&["CMD"]).is_err());
    }
}
