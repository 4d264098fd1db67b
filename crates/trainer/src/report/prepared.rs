//! What was done before training and between rounds: pairs that were added, relabelled or left out, and rerankers that were trained.

use std::fmt::Write as _;

use serde_json::Value;

use super::text;

/// Events of the log, and what they are called here.
const PREPARED: [(&str, &str); 5] = [
    ("queries", "written queries"),
    ("relabelled", "relabelled pairs"),
    ("round_trip", "round trip"),
    ("augmented", "pseudo-labels"),
    ("reranker", "reranker trained"),
];

/// A table of them, in the order of the log; empty when there are none.
pub(super) fn prepared(events: &[Value]) -> String {
    let mut rows = String::new();
    for event in events {
        let Some((_, called)) = PREPARED.iter().find(|(name, _)| event["event"] == *name) else { continue };
        let numbers = event.as_object().into_iter().flatten().filter(|(key, value)| *key != "event" && *key != "step" && !value.is_null());
        let numbers: Vec<String> = numbers.map(|(key, value)| format!("{}: {}", key.replace('_', " "), text(value))).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(rows, "<tr><td>{called}</td><td>{}</td><td>{}</td></tr>", text(&event["step"]), numbers.join(", "));
    }
    match rows.is_empty() {
        true => rows,
        false => format!("<h2>Prepared</h2>\n<table><tr><th>what</th><th>step</th><th></th></tr>\n{rows}</table>\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_prepared_stands_there_with_its_numbers_and_nothing_else_does() {
        let events = [
            serde_json::json!({ "event": "step", "step": 0, "loss": 1.0 }),
            serde_json::json!({ "event": "round_trip", "step": 30, "depth": 1, "pairs": 240, "refused": 80 }),
            serde_json::json!({ "event": "augmented", "step": 30, "accepted": 7, "right": null }),
        ];
        let page = prepared(&events);
        assert!(page.contains("<td>round trip</td><td>30</td>") && page.contains("refused: 80"), "{page}");
        assert!(page.contains("accepted: 7") && !page.contains("right") && !page.contains("loss"), "{page}");
        assert!(prepared(&events[..1]).is_empty());
    }
}
