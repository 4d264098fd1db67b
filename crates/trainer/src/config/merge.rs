//! From what was written to a configuration: one text, the values of the command line, one TOML table; unknown keys are refused with the nearest
//! known one.

use std::path::Path;

use super::Config;
use crate::errors::Usage;

/// Merges a configuration text with values from the command line and checks the result.
///
/// `name` is how error messages call the text (a path, or `recipe ance`). `values` are `key.path=value` strings, applied in order;
/// each is checked on its own, so that a message names the one at fault.
pub(crate) fn merge(name: &str, text: &str, values: &[(String, String)]) -> Result<Config, Usage> {
    let mut table: toml::Table = text.parse().map_err(|error: toml::de::Error| located(name, text, &error))?;
    if let Some(toml::Value::String(recipe)) = table.remove("recipe") {
        let recipe = crate::recipes::find(&recipe).map_err(|error| Usage::new(format!("{name}: {error}")))?;
        let base = recipe.text.parse().map_err(|error: toml::de::Error| located(recipe.name, recipe.text, &error))?;
        let own = std::mem::replace(&mut table, base);
        overlay(&mut table, own);
        check(&table).map_err(|reason| Usage::new(format!("{name}{}: {reason}", line_of(text, &reason))))?;
    } else {
        toml::from_str::<Config>(text).map_err(|error| located(name, text, &error))?;
    }
    for (key, value) in values {
        insert(&mut table, key, parse_value(value)).map_err(|reason| Usage::new(format!("--set {key}={value}: {reason}")))?;
        check(&table).map_err(|reason| Usage::new(format!("--set {key}={value}: {reason}")))?;
    }
    let mut config = check(&table).map_err(|reason| Usage::new(format!("{name}: {reason}")))?;
    if config.recipe.is_some() {
        return Err(Usage::new("--set recipe: a recipe is named in the file, or by --recipe, before values change it"));
    }
    config.open_temperature = table.get("loss").is_none_or(|loss| loss.get("temperature").is_none());
    config.validate().map_err(|reason| Usage::new(format!("{name}: {reason}")))?;
    Ok(config)
}

/// Writes a configuration's values over those of the recipe that it names, key by key; a list, or a part of another `rule`, as a whole.
fn overlay(base: &mut toml::Table, own: toml::Table) {
    for (key, value) in own {
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(base)), toml::Value::Table(own))
                if own.get("rule").is_none_or(|rule| base.get("rule") == Some(rule)) =>
            {
                overlay(base, own);
            }
            (_, value) => _ = base.insert(key, value),
        }
    }
}

/// Reads a configuration file.
pub(crate) fn read(path: &Path) -> Result<String, Usage> {
    std::fs::read_to_string(path).map_err(|error| {
        let name = path.to_string_lossy();
        let hint =
            if crate::recipes::find(&name).is_ok() { format!("; the recipe of this name is --recipe {name}") } else { String::new() };
        Usage::new(format!("cannot read the configuration {name}: {error}{hint}"))
    })
}

/// Splits `key.path=value`. A blank at the end may be meant: `encoder.query_prompt=query: `.
pub(crate) fn split_set(argument: &str) -> Result<(String, String), Usage> {
    match argument.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.trim_start().to_owned())),
        _ => Err(Usage::new(format!("--set {argument}: expected KEY.PATH=VALUE, for instance --set train.steps=200"))),
    }
}

fn parse_value(text: &str) -> toml::Value {
    // A bare word such as `cls` or a path is a string; everything TOML can read is what TOML says.
    format!("value = {text}")
        .parse::<toml::Table>()
        .ok()
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| toml::Value::String(text.to_owned()))
}

fn insert(table: &mut toml::Table, key: &str, value: toml::Value) -> Result<(), String> {
    let mut parts = key.split('.').peekable();
    let first = parts.next().unwrap_or_default();
    let Some(_) = parts.peek() else {
        table.insert(first.to_owned(), value);
        return Ok(());
    };
    let mut place = table.entry(first.to_owned()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        match place {
            toml::Value::Table(inner) => {
                if last {
                    inner.insert(part.to_owned(), value);
                    return Ok(());
                }
                place = inner.entry(part.to_owned()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            }
            toml::Value::Array(items) => {
                let length = items.len();
                let index: usize = part.parse().map_err(|_| format!("`{part}` must be a position in a list of {length}, from 0"))?;
                let item = items.get_mut(index).ok_or_else(|| format!("the list has {length} entries, there is no entry {index}"))?;
                if last {
                    *item = value;
                    return Ok(());
                }
                place = item;
            }
            _ => return Err(format!("`{part}` lies below a value that is no section")),
        }
    }
    Ok(())
}

pub(super) fn check(table: &toml::Table) -> Result<Config, String> {
    table.clone().try_into::<Config>().map_err(|error| with_nearest(error.message()))
}

fn located(name: &str, text: &str, error: &toml::de::Error) -> Usage {
    let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    Usage::new(format!("{name}, line {line}: {}", with_nearest(error.message())))
}

/// Where the key or value stands that a reason quotes first; nothing when it stands nowhere.
fn line_of(text: &str, reason: &str) -> String {
    let quoted = reason.split('`').nth(1).unwrap_or_default();
    let line = text.lines().position(|line| !quoted.is_empty() && line.split('#').next().is_some_and(|line| line.contains(quoted)));
    line.map_or_else(String::new, |line| format!(", line {}", line + 1))
}

/// serde lists the keys it knows; the one closest to what was written is what the user meant.
fn with_nearest(message: &str) -> String {
    let message = message.trim();
    let Some(rest) = message.split("unknown field `").nth(1).or_else(|| message.split("unknown variant `").nth(1)) else {
        return in_words(&message.replace('\n', "; "));
    };
    let Some((written, known)) = rest.split_once('`') else { return message.to_owned() };
    let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
    let what = if message.contains("unknown field") { "key" } else { "value" };
    let best = known.iter().map(|key| (strsim::jaro_winkler(written, key), *key)).max_by(|a, b| a.0.total_cmp(&b.0));
    match best {
        Some((closeness, key)) if closeness > 0.7 => format!("unknown {what} `{written}`; did you mean `{key}`?"),
        _ => format!("unknown {what} `{written}`; known here: {}", known.join(", ")),
    }
}

/// What serde expected, in the words of a configuration file instead of Rust's.
fn in_words(message: &str) -> String {
    let mismatch = ["invalid type: ", "invalid value: "].iter().find_map(|start| message.strip_prefix(start)?.rsplit_once(", expected "));
    let Some((got, expected)) = mismatch else { return message.to_owned() };
    let got = match got {
        "sequence" => "a list",
        "map" => "a table",
        "unit variant" => "another kind of value",
        got => got,
    };
    let expected = match expected {
        "usize" | "u64" | "u32" | "u8" => "a whole number, 0 or more",
        "f64" | "f32" => "a number",
        "a boolean" => "true or false",
        "a string" | "string only" | "path string" => "a text in quotes",
        "a sequence" => "a list, [...]",
        _ if ["struct ", "internally tagged enum ", "a map", "map"].iter().any(|start| expected.starts_with(start)) => "a table, {...}",
        _ => return message.to_owned(),
    };
    format!("expected {expected}, got {got}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_in_the_words_of_the_file() {
        for (message, expected) in [
            ("invalid type: string \"x\", expected f64", "expected a number, got string \"x\""),
            ("invalid value: integer `-3`, expected usize", "expected a whole number, 0 or more, got integer `-3`"),
            ("invalid type: integer `3`, expected a sequence", "expected a list, [...], got integer `3`"),
            ("invalid type: sequence, expected struct TrainConfig", "expected a table, {...}, got a list"),
            ("invalid type: string \"top\", expected internally tagged enum DrawConfig", "expected a table, {...}, got string \"top\""),
            ("invalid type: string \"roadmap, expected x\", expected f64", "expected a number, got string \"roadmap, expected x\""),
            ("missing field `from`", "missing field `from`"),
            ("unknown field `lr`, expected one of `queries`, `learning_rate`", "unknown key `lr`; did you mean `learning_rate`?"),
        ] {
            assert_eq!(with_nearest(message), expected);
        }
    }
}
