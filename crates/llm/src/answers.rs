//! What models write, taken as JSON: strict about content, forgiving about what they put around it: thoughts in front, a fence.

use serde::de::DeserializeOwned;

use crate::session::Fault;

/// The answer as `T`. Thoughts, blanks and a Markdown fence around the JSON are taken off, and what is said around one that stands alone; everything
/// else must be JSON.
pub(crate) fn json<T: DeserializeOwned>(text: &str) -> Result<T, Fault> {
    let text = without_thoughts(text)?;
    let whole = serde_json::from_str(unfenced(text));
    let found = whole.or_else(|error| only_fenced(text).ok_or(error).and_then(serde_json::from_str));
    found.map_err(|error| Fault::Form(format!("it is not the JSON asked for ({error})")))
}

/// What a model says after it has thought aloud, `<think>` … `</think>`; chat templates may have opened that for it.
pub(crate) fn without_thoughts(text: &str) -> Result<&str, Fault> {
    let text = text.trim();
    match (text.strip_prefix("<think>"), text.split_once("</think>")) {
        (Some(_), None) => Err(Fault::Form("its thoughts have no end: </think> is missing".into())),
        (None, Some((before, _))) if before.contains("<think>") => Ok(text),
        (_, Some((_, said))) => Ok(said.trim()),
        (None, None) => Ok(text),
    }
}

fn unfenced(text: &str) -> &str {
    let text = text.trim();
    let inside = text.strip_prefix("```").and_then(|rest| rest.strip_suffix("```")).and_then(|rest| rest.split_once('\n'));
    // The first line of a fence may name a language.
    inside.filter(|(language, _)| is_language(language)).map_or(text, |(_, inside)| inside.trim())
}

/// What stands inside the fence, if there is one and no second.
fn only_fenced(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("```")?;
    let (inside, rest) = rest.split_once("```")?;
    let (language, inside) = inside.split_once('\n')?;
    (is_language(language) && !rest.contains("```")).then(|| inside.trim())
}

fn is_language(line: &str) -> bool {
    line.trim().chars().all(|it| it.is_ascii_alphanumeric())
}

/// The answer as one line of text: quotation marks around all of it, a leading `Query:` and the mark of a list are taken off. Numbers stay: they may
/// be the query's.
pub(crate) fn line(text: &str) -> Result<String, Fault> {
    let text = unfenced(without_thoughts(text)?);
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let (Some(first), None) = (lines.next(), lines.next()) else {
        let found = text.lines().filter(|line| !line.trim().is_empty()).count();
        return Err(Fault::Form(format!("it has {found} lines, not one")));
    };
    let first = ["- ", "* ", "• "].iter().find_map(|mark| first.strip_prefix(mark)).unwrap_or(first).trim();
    let heads = ["**Query:**", "**Question:**", "Query:", "Question:", "query:", "question:"];
    let bare = heads.iter().find_map(|head| first.strip_prefix(head)).unwrap_or(first).trim();
    let whole = |open: char, close: char| bare.strip_prefix(open)?.strip_suffix(close).filter(|inside| !inside.contains([open, close]));
    let quoted = [('"', '"'), ('\'', '\''), ('“', '”'), ('`', '`'), ('‘', '’')].into_iter().find_map(|(open, close)| whole(open, close));
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
        for text in [
            "[1, 2]",
            " [1,2]\n",
            "```json\n[1, 2]\n```",
            "```\n[1,\n2]\n```\n",
            "Here it is:\n```json\n[1, 2]\n```\nI hope that it helps.",
            "<think>\nFirst [3], then\n```\n[4]\n```\n</think>\n\n[1, 2]",
            "and so on.\n</think>\n```json\n[1, 2]\n```",
        ] {
            assert_eq!(json::<Vec<u32>>(text).unwrap(), [1, 2], "{text}");
        }
        for text in ["Here it is: [1, 2]", "[1, 2", "{\"a\": 1}", "", "```\n[1]\n```\nor\n```\n[2]\n```", "[1, 2] [3]"] {
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
            "'what is a fox'",
            "* ‘what is a fox’",
            "\n\nwhat is a fox\n",
            "```\nwhat is a fox\n```",
            "<think>A fox.\nHm.</think>\nwhat is a fox",
        ] {
            assert_eq!(line(text).unwrap(), "what is a fox", "{text}");
        }
        // Quotes of parts are the query's own.
        for text in ["\"machine learning\" vs \"deep learning\"", "what is a \"fox\"", "'n' or 'm'", "1. FC Köln"] {
            assert_eq!(line(text).unwrap(), text);
        }
        assert_eq!(line("- **Query:** what is a fox").unwrap(), "what is a fox");
        assert!(matches!(line("one\ntwo"), Err(Fault::Form(problem)) if problem.contains("2 lines")));
        assert!(line("").is_err() && line("\"\"").is_err());
    }

    #[test]
    fn thoughts_without_an_end_are_no_answer() {
        for text in ["<think>what is a fox", "<think>\n```json\n[1, 2]\n```"] {
            assert!(matches!(line(text), Err(Fault::Form(problem)) if problem.contains("</think>")), "{text}");
            assert!(json::<Vec<u32>>(text).is_err(), "{text}");
        }
        assert_eq!(line("what does <think> and </think> mean").unwrap(), "what does <think> and </think> mean");
    }
}
