//! The wire form of `/chat/completions`: what is sent, and what comes back.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Who says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Standing instructions.
    System,
    /// The question.
    User,
    /// The model.
    Assistant,
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Message {
    /// Who.
    pub role: Role,
    /// What.
    pub content: String,
}

impl Message {
    pub(crate) fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into() }
    }
}

/// How a model is to answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sampling {
    /// Softmax temperature of the model.
    pub temperature: f64,
    /// Tokens of an answer at most.
    pub max_answer_tokens: u64,
    /// Ask for the log-probabilities of the answer's tokens.
    pub logprobs: bool,
    /// Further fields of the request, over those above; `null` takes a field out.
    pub body: Map<String, Value>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 0.7, max_answer_tokens: 512, logprobs: false, body: Map::new() }
    }
}

/// Tokens that an endpoint counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// Of the prompt.
    pub prompt: u64,
    /// Of the answer.
    pub answer: u64,
}

impl Usage {
    pub(crate) fn total(self) -> u64 {
        self.prompt.saturating_add(self.answer)
    }
}

/// An answer as the endpoint gave it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reply {
    pub(crate) text: String,
    /// Whether the answer ended because it was as long as it may be.
    pub(crate) cut: bool,
    pub(crate) usage: Option<Usage>,
    /// Mean natural log-probability of the answer's tokens.
    pub(crate) logprob: Option<f64>,
}

/// The body of a request. With `seed` endpoints that know it answer the same each time.
pub(crate) fn request(model: &str, messages: &[Message], sampling: &Sampling, seed: u32) -> String {
    let mut body = json!({
        "model": model, "messages": messages, "temperature": sampling.temperature, "max_tokens": sampling.max_answer_tokens,
        "seed": seed, "stream": false,
    });
    if sampling.logprobs {
        body["logprobs"] = true.into();
    }
    for (name, value) in &sampling.body {
        if value.is_null() {
            body.as_object_mut().expect("it was made one above").shift_remove(name);
        } else {
            body[name] = value.clone();
        }
    }
    body.to_string()
}

#[derive(Deserialize)]
struct Response {
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<Counted>,
}

#[derive(Deserialize)]
struct Choice {
    message: Said,
    #[serde(default)]
    finish_reason: Option<String>,
    #[serde(default)]
    logprobs: Option<Logprobs>,
}

#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    refusal: Option<String>,
}

#[derive(Deserialize)]
struct Counted {
    #[serde(default)]
    prompt_tokens: Option<u64>,
    #[serde(default)]
    completion_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct Logprobs {
    #[serde(default)]
    content: Option<Vec<Token>>,
}

#[derive(Deserialize)]
struct Token {
    logprob: f64,
}

/// Takes a response apart. An answer without text is an empty one.
pub(crate) fn reply(body: &str) -> Result<Reply, String> {
    let response: Response =
        serde_json::from_str(body).map_err(|error| format!("the response is not that of /chat/completions: {error}"))?;
    let choice = response.choices.into_iter().next().ok_or("the response has no choices")?;
    let logprob = choice
        .logprobs
        .and_then(|it| it.content)
        .filter(|tokens| !tokens.is_empty())
        .map(|tokens| tokens.iter().map(|token| token.logprob).sum::<f64>() / tokens.len() as f64);
    let usage = response.usage.and_then(|it| Some(Usage { prompt: it.prompt_tokens?, answer: it.completion_tokens? }));
    Ok(Reply {
        text: choice.message.content.or(choice.message.refusal).unwrap_or_default(),
        cut: choice.finish_reason.as_deref() == Some("length"),
        usage,
        logprob: logprob.filter(|it| it.is_finite()),
    })
}

/// The message of an error body, in whatever form it comes; short.
pub(crate) fn error_message(body: &str) -> String {
    let text = serde_json::from_str::<Value>(body).ok().and_then(|value| {
        let error = value.get("error").unwrap_or(&value);
        let found =
            [error.get("message"), error.get("detail"), error.get("msg"), Some(error)].into_iter().flatten().find_map(Value::as_str);
        found.map(str::to_owned)
    });
    let text = text.unwrap_or_else(|| body.to_owned());
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match flat.char_indices().nth(300) {
        Some((end, _)) => format!("{}…", &flat[..end]),
        None => flat,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_what_the_interface_names_and_what_was_added() {
        let mut sampling = Sampling { temperature: 0.0, max_answer_tokens: 9, logprobs: true, ..Sampling::default() };
        sampling.body = json!({ "max_tokens": null, "max_completion_tokens": 9 }).as_object().unwrap().clone();
        let sent: Value = serde_json::from_str(&request("m", &[Message::new(Role::User, "hi")], &sampling, 7)).unwrap();
        let expected = json!({ "model": "m", "messages": [{ "role": "user", "content": "hi" }], "temperature": 0.0, "seed": 7, "stream": false,
            "logprobs": true, "max_completion_tokens": 9 });
        assert_eq!(sent, expected);
    }

    #[test]
    fn a_response_is_taken_apart() {
        let body = r#"{"choices":[{"message":{"content":"a b"},"finish_reason":"length","logprobs":{"content":[{"logprob":-1},{"logprob":-2.0}]}}],
            "usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}"#;
        let expected = Reply { text: "a b".into(), cut: true, usage: Some(Usage { prompt: 3, answer: 2 }), logprob: Some(-1.5) };
        assert_eq!(reply(body).unwrap(), expected);
        let bare = reply(r#"{"choices":[{"message":{"content":null,"refusal":"no"}}]}"#).unwrap();
        assert_eq!(bare, Reply { text: "no".into(), cut: false, usage: None, logprob: None });
        assert!(reply(r#"{"choices":[]}"#).unwrap_err().contains("no choices"));
        assert!(reply("<html>").unwrap_err().contains("not that of"));
    }

    #[test]
    fn errors_are_read_in_every_usual_form() {
        assert_eq!(error_message(r#"{"error":{"message":"too  long","type":"x"}}"#), "too long");
        assert_eq!(error_message(r#"{"error":"bad model"}"#), "bad model");
        assert_eq!(error_message(r#"{"detail":"nothing here"}"#), "nothing here");
        assert_eq!(error_message("<p>502\n Bad</p>"), "<p>502 Bad</p>");
        assert_eq!(error_message(&"é".repeat(400)).chars().count(), 301);
    }
}
