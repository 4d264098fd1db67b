//! What a JSON parser says about a row, in the words of a file rather than of a program.
//!
//! The parser knows types (`usize`, a struct, a sequence) and the end of its input; a person knows fields, lists, objects and lines.

use serde_json::error::Category;

use super::lines::Line;
use crate::error::{CorpusError, excerpt};

/// The error that a line is no JSON object at all, with what it looks like and how to convert it.
pub(super) fn no_object(line: Line<'_>, expected: &'static str) -> CorpusError {
    let start = line.text.trim_start();
    let problem = if start.starts_with('[') {
        "a JSON list, where each line is one object; convert it, for example with `jq -c '.[]' FILE`".to_owned()
    } else if start.contains(['\t', ',']) {
        let (kind, separator) = if start.contains('\t') { ("tab-separated", r"'\t'") } else { ("comma-separated", "','") };
        format!(
            "no JSON object but a {kind} row, `{}`; convert the file, for example with pandas: \
             `read_csv(FILE, sep={separator}).to_json(OUT, orient='records', lines=True)`",
            excerpt(line.text)
        )
    } else {
        format!("no JSON object: `{}`", excerpt(line.text))
    };
    CorpusError::Row { place: line.place(), problem, expected }
}

/// What is wrong with `text`, which the parser refused.
pub(super) fn problem(text: &str, error: &serde_json::Error) -> String {
    if error.classify() == Category::Eof {
        return cut_short(text);
    }
    // The last character that the parser looked at. A field is missing where an object ends, and then that end counts.
    let (at, said) = (error.column().saturating_sub(1), error.to_string());
    let before = if said.starts_with("missing field") { error.column() } else { at };
    let current = Keys::of(text.get(..before).unwrap_or(text)).current;
    let field = current.map(|key| format!("`{}`: ", excerpt(key))).unwrap_or_default();
    let token = token_at(text, at);
    let words = match said.as_str() {
        _ if !token.is_empty() && matches!(token.trim_start_matches('-'), "NaN" | "Infinity" | "nan" | "inf") => {
            format!("JSON has no `{token}`; write a number, or leave the field out of the row")
        }
        said if said.starts_with("expected value") || said.starts_with("expected ident") => format!("`{token}` is no JSON value"),
        said => plain(said),
    };
    format!("column {}: {field}{words}", error.column())
}

/// As [`problem`], where the text is no longer at hand.
pub(super) fn problem_of_stream(error: &serde_json::Error) -> String {
    match error.classify() {
        Category::Eof => "the file ends inside a JSON value; is it cut short?".to_owned(),
        _ => format!("column {}: {}", error.column(), plain(&error.to_string())),
    }
}

/// A line that ends before its object does: part of a document over several lines, or cut.
fn cut_short(text: &str) -> String {
    if text.trim_end().ends_with(['{', '[', ',', ':']) {
        return "the line ends inside a JSON object, so the file looks like one JSON document over several lines, where each line is one \
                object; convert it, for example with `jq -c . FILE` (`jq -c '.[]' FILE` for a list)"
            .to_owned();
    }
    "the line ends inside a JSON object; is the file cut short?".to_owned()
}

/// The word or sign at `at`, as far as it may be shown.
fn token_at(text: &str, at: usize) -> &str {
    let separator = |c: char| c.is_whitespace() || [',', ':', '[', ']', '{', '}'].contains(&c);
    let start = text.get(..at).unwrap_or_default().rfind(separator).map_or(0, |before| before + 1);
    let rest = text.get(start..).unwrap_or_default();
    let end = rest.find(separator).unwrap_or(rest.len());
    rest.char_indices().nth(24).map_or(&rest[..end], |(most, _)| &rest[..end.min(most)])
}

/// One message of the parser, without its place.
pub(super) fn plain(message: &str) -> String {
    let message = message.rsplit_once(" at line ").map_or(message, |(message, _)| message);
    let mismatch = ["invalid type: ", "invalid value: "].iter().find_map(|start| message.strip_prefix(start)?.rsplit_once(", expected "));
    if let Some((found, wanted)) = mismatch {
        return format!("{} stands where {} belongs", found_words(found), wanted_words(wanted));
    }
    if message.starts_with("invalid length") {
        return "a list stands where an object belongs".to_owned();
    }
    if let Some((name, names)) = message.strip_prefix("unknown variant ").and_then(|rest| rest.split_once(", expected ")) {
        return format!("{name} stands where {names} belongs");
    }
    let known = [
        ("expected value", "no JSON value stands here"),
        ("expected ident", "no JSON value stands here"),
        ("expected `:`", "`:` is missing behind the name of a field"),
        ("expected `,` or `}`", "`,` or `}` is missing"),
        ("expected `,` or `]`", "`,` or `]` is missing"),
        ("trailing characters", "more follows behind the object; write one object on each line"),
        ("trailing comma", "a comma stands behind the last field or element"),
        ("key must be a string", "the name of a field is not in double quotes"),
        ("control character", "a string holds a tab or another control character; write it as in `\\t`"),
        ("recursion limit", "lists or objects are nested too deeply"),
        ("lone leading surrogate", "a string holds half of a pair of `\\u` escapes"),
        ("unexpected end of hex escape", "a string holds half of a pair of `\\u` escapes"),
        ("invalid escape", "a string holds a `\\` that JSON does not know; write `\\\\`"),
    ];
    match known.iter().find(|(start, _)| message.starts_with(start)) {
        Some((_, words)) => (*words).to_owned(),
        None => message.to_owned(),
    }
}

fn found_words(found: &str) -> String {
    if let Some(number) = found.strip_prefix("integer ").or_else(|| found.strip_prefix("floating point ")) {
        return format!("the number {number}");
    }
    if let Some(flag) = found.strip_prefix("boolean ") {
        return flag.to_owned();
    }
    if let Some(text) = found.strip_prefix("string ") {
        return format!("the string {}", cut(text));
    }
    match found {
        "sequence" => "a list".to_owned(),
        "map" => "an object".to_owned(),
        "null" | "unit value" => "null".to_owned(),
        other => cut(other),
    }
}

fn wanted_words(wanted: &str) -> &str {
    match wanted {
        "a sequence" => "a list",
        "a map" | "map" => "an object",
        "f32" | "f64" => "a number",
        "u8" | "u16" | "u32" | "u64" | "usize" | "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "a borrowed string" => "a string",
        "a boolean" => "true or false",
        wanted if wanted.starts_with("struct ") => "an object",
        wanted if wanted.starts_with("enum ") || wanted == "variant identifier" => "one of a few words",
        other => other,
    }
}

/// The parser shows whole texts, however long.
fn cut(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The names of the fields of an object, as far as its text goes; escapes in names are left as they are.
pub(super) struct Keys<'a> {
    /// In their order.
    pub(super) all: Vec<&'a str>,
    /// The one whose value the text ends in.
    current: Option<&'a str>,
}

impl<'a> Keys<'a> {
    /// Needs no valid JSON: only quotes, brackets and commas are looked at.
    pub(super) fn of(text: &'a str) -> Self {
        let mut keys = Self { all: Vec::new(), current: None };
        let (mut depth, mut begun, mut escaped, mut awaited) = (0_usize, None, false, false);
        for (at, byte) in text.bytes().enumerate() {
            if let Some(start) = begun {
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' => escaped = true,
                    b'"' => {
                        begun = None;
                        if depth == 1 && std::mem::take(&mut awaited) {
                            let key = text.get(start..at).unwrap_or_default();
                            keys.all.push(key);
                            keys.current = Some(key);
                        }
                    }
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => begun = Some(at + 1),
                b'{' | b'[' => {
                    depth += 1;
                    awaited = depth == 1 && byte == b'{';
                }
                b'}' | b']' => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        keys.current = None;
                    }
                }
                b',' if depth == 1 => {
                    awaited = true;
                    keys.current = None;
                }
                _ => {}
            }
        }
        keys
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only what the parser says matters")]
    struct Row {
        text: String,
        #[serde(default)]
        scores: Vec<f32>,
        #[serde(default)]
        rank: u32,
        #[serde(default)]
        inner: Option<Box<Row>>,
    }

    #[test]
    fn no_word_of_a_program_is_left() {
        let cases = [
            (r#"{"text": 5}"#, "`text`: the number `5` stands where a string belongs"),
            (r#"{"text": "a", "scores": 1}"#, "`scores`: the number `1` stands where a list belongs"),
            (r#"{"text": "a", "scores": "none, expected soon"}"#, r#"the string "none, expected soon" stands where a list belongs"#),
            (r#"{"text": "a", "scores": ["x"]}"#, r#"`scores`: the string "x" stands where a number belongs"#),
            (r#"{"text": "a", "scores": [NaN]}"#, "`scores`: JSON has no `NaN`; write a number"),
            (r#"{"text": "a", "scores": [1, -Infinity]}"#, "`scores`: JSON has no `-Infinity`"),
            (r#"{"text": "a", "rank": -1}"#, "`rank`: the number `-1` stands where a whole number belongs"),
            (r#"{"text": "a", "rank": 1.5}"#, "`rank`: the number `1.5` stands where a whole number belongs"),
            (r#"{"text": "a", "rank": true}"#, "`rank`: `true` stands where a whole number belongs"),
            (r#"{"text": "a", "inner": "x"}"#, r#"`inner`: the string "x" stands where an object belongs"#),
            (r#"{"text": "a", "inner": {}}"#, "`inner`: missing field `text`"),
            (r#"{"text": null}"#, "`text`: null stands where a string belongs"),
            (r#"{"text": None}"#, "`text`: `None` is no JSON value"),
            (r#"{"text": 'a'}"#, "`text`: `'a'` is no JSON value"),
            (r#"{"text": nul}"#, "`text`: `nul` is no JSON value"),
            (r#"{'text': "a"}"#, "not in double quotes"),
            ("{\"text\": \"a\tb\"}", "`text`: a string holds a tab"),
            (r#"{"text": "a\x"}"#, "`text`: a string holds a `\\` that JSON does not know"),
            (r#"{"text": "a"} {"text": "b"}"#, "one object on each line"),
            (r#"{"text": "a",}"#, "a comma stands behind the last"),
            (r#"{"text": "a" "rank": 1}"#, "`,` or `}` is missing"),
            (r#"{"rank": 1}"#, "column 11: missing field `text`"),
            (r#"{"text": "a"#, "is the file cut short?"),
            ("{", "one JSON document over several lines"),
            (r#"{"text": "a","#, "one JSON document over several lines"),
        ];
        for (text, expected) in cases {
            let said = problem(text, &serde_json::from_str::<Row>(text).unwrap_err());
            assert!(said.contains(expected), "{text}: `{expected}` is missing in: {said}");
            for word in ["usize", "u32", "f32", "struct", "sequence", "EOF", "invalid type", "at line"] {
                assert!(!said.contains(word), "{text}: {said}");
            }
        }
        let long = format!(r#"{{"text": "a", "rank": "{}"}}"#, "word ".repeat(100));
        assert!(problem(&long, &serde_json::from_str::<Row>(&long).unwrap_err()).len() < 140);
    }

    #[test]
    fn keys_are_found_without_a_parser() {
        let keys = |text| Keys::of(text).all;
        assert_eq!(keys(r#"{"a": {"b": "c, \"d\": {"}, "e": ["f", {"g": 1}], "h": NaN}"#), ["a", "e", "h"]);
        assert_eq!(keys(r#"{"a": "x", "b"#), ["a"]);
        assert_eq!(keys(r#"["a", {"b": 1}]"#), [] as [&str; 0]);
        assert_eq!(Keys::of(r#"{"a": 1, "b": [1, "#).current, Some("b"));
        assert_eq!(Keys::of(r#"{"a": 1, "b": [1]}"#).current, None);
    }
}
