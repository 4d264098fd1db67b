//! What models write, taken as JSON: strict about content, forgiving about the fence that they put around it.

use serde::de::DeserializeOwned;

use crate::session::Fault;

/// The answer as `T`. Blanks and one Markdown fence around the JSON are taken off; everything else must be JSON.
pub(crate) fn json<T: DeserializeOwned>(text: &str) -> Result<T, Fault> {
    serde_json::from_str(unfenced(text)).map_err(|error| Fault::Form(format!("it is not the JSON asked for ({error})")))
}

fn unfenced(text: &str) -> &str {
    let text = text.trim();
    let inside = text.strip_prefix("```").and_then(|rest| rest.strip_suffix("```")).and_then(|rest| rest.split_once('\n'));
    // The first line of a fence may name a language.
    inside.filter(|(language, _)| language.trim().chars().all(|it| it.is_ascii_alphanumeric())).map_or(text, |(_, inside)| inside.trim())
}

/// The answer as one line of text: quotation marks and a leading `Query:` are taken off.
pub(crate) fn line(text: &str) -> Result<String, Fault> {
    let text = unfenced(text);
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let (Some(first), None) = (lines.next(), lines.next()) else {
        let found = text.lines().filter(|line| !line.trim().is_empty()).count();
        return Err(Fault::Form(format!("it has {found} lines, not one")));
    };
    let bare = ["Query:", "Question:", "query:", "question:"].iter().find_map(|head| first.strip_prefix(head)).unwrap_or(first).trim();
    let quoted = [('"', '"'), ('“', '”'), ('`', '`')].into_iter().find_map(|(open, close)| bare.strip_prefix(open)?.strip_suffix(close));
    match quoted.unwrap_or(bare).trim() {
        "" => Err(Fault::Form("it is empty".into())),
        text => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_comes_with_or_without_a_fence_and_with_nothing_else() {
        for text in ["[1, 2]", " [1,2]\n", "```json\n[1, 2]\n```", "```\n[1,\n2]\n```\n"] {
            assert_eq!(json::<Vec<u32>>(text).unwrap(), [1, 2], "{text}");
        }
        for text in ["Here it is: [1, 2]", "[1, 2", "{\"a\": 1}", "", "```json\n[1, 2]\n``` done", "[1, 2] [3]"] {
            assert!(matches!(json::<Vec<u32>>(text), Err(Fault::Form(_))), "{text}");
        }
    }

    #[test]
    fn a_line_is_freed_of_its_wrapping() {
        for text in [
            "what is a fox",
            " \"what is a fox\" ",
            "Query: what is a fox",
            "Question: “what is a fox”",
            "\n\nwhat is a fox\n",
            "```\nwhat is a fox\n```",
        ] {
            assert_eq!(line(text).unwrap(), "what is a fox", "{text}");
        }
        assert!(matches!(line("one\ntwo"), Err(Fault::Form(problem)) if problem.contains("2 lines")));
        assert!(line("").is_err() && line("\"\"").is_err());
    }
}
