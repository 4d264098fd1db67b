//! The wire form of `/chat/completions`: what is sent, and what comes back.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::error::LlmError;

/// Fields that say how long an answer may be.
const LENGTHS: [&str; 2] = ["max_tokens", "max_completion_tokens"];
/// Fields that are ours to set, or that would make an answer cost what no budget has set aside.
const OURS: [&str; 11] = [
    "model",
    "messages",
    "stream",
    "tools",
    "tool_choice",
    "functions",
    "function_call",
    "best_of",
    "n_predict",
    "max_new_tokens",
    "prompt",
];

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
    /// Further fields of the request, over those above; `null` takes a field out. Which may stand there says [`Sampling::validate`].
    pub body: Map<String, Value>,
}

impl Sampling {
    /// Checks the fields of `body`.
    ///
    /// # Errors
    /// When one takes the place of what a job is made of, asks for several answers, or leaves an answer without a longest length.
    pub fn validate(&self) -> Result<(), LlmError> {
        let bad = |message: String| Err(LlmError::Setting(message));
        if let Some(name) = OURS.iter().find(|name| self.body.contains_key(**name)) {
            return bad(format!("the field `{name}` cannot be set in the body of a request: the job sets it, or a budget would not hold"));
        }
        if self.body.get("n").is_some_and(|count| !count.is_null() && *count != 1) {
            return bad(format!("the field `n` is {}: a job reads one answer to each request, leave it out", self.body["n"]));
        }
        for name in LENGTHS {
            if let Some(value) = self.body.get(name).filter(|value| !value.is_null() && value.as_u64().is_none_or(|it| it == 0)) {
                return bad(format!("the field `{name}` is {value}: expected a whole number from 1, or null"));
            }
        }
        if self.lengths().next().is_none() {
            return bad("the body takes `max_tokens` out and puts nothing in its place: set `max_completion_tokens`, without a longest answer no budget holds".into());
        }
        Ok(())
    }

    /// Tokens of an answer at most, as the request says it; the larger where it says two numbers.
    pub fn longest_answer(&self) -> u64 {
        self.lengths().max().unwrap_or(self.max_answer_tokens)
    }

    fn lengths(&self) -> impl Iterator<Item = u64> {
        LENGTHS.into_iter().filter_map(|name| match self.body.get(name) {
            Some(value) => value.as_u64(),
            None => (name == "max_tokens").then_some(self.max_answer_tokens),
        })
    }
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
    /// Of all that it took, as the endpoint says it; 0 where it does not. Some count tokens there that are of neither.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub total: u64,
}

impl Usage {
    /// What it costs: the larger of both counts.
    pub(crate) fn cost(self) -> u64 {
        self.prompt.saturating_add(self.answer).max(self.total)
    }
}

fn is_zero(count: &u64) -> bool {
    *count == 0
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
    #[serde(default)]
    total_tokens: Option<u64>,
}

impl Counted {
    /// What was counted. A prompt or an answer alone is no count, nor is nothing at all.
    fn usage(self) -> Option<Usage> {
        let both = self.prompt_tokens.is_some() && self.completion_tokens.is_some();
        let [prompt, answer, total] = [self.prompt_tokens, self.completion_tokens, self.total_tokens].map(Option::unwrap_or_default);
        let usage = Usage { prompt, answer, total };
        ((both || total > 0) && usage.cost() > 0).then_some(usage)
    }
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
    Ok(Reply {
        text: choice.message.content.or(choice.message.refusal).unwrap_or_default(),
        cut: choice.finish_reason.as_deref() == Some("length"),
        usage: response.usage.and_then(Counted::usage),
        logprob: logprob.filter(|it| it.is_finite()),
    })
}

/// The message of an error body, in whatever form it comes; short. `hide` takes secrets out of it once it is decoded, before it is cut.
pub(crate) fn error_message(body: &str, hide: impl Fn(&str) -> String) -> String {
    let text = serde_json::from_str::<Value>(body).ok().and_then(|value| {
        let error = value.get("error").unwrap_or(&value);
        let found =
            [error.get("message"), error.get("detail"), error.get("msg"), Some(error)].into_iter().flatten().find_map(Value::as_str);
        found.map(str::to_owned)
    });
    let text = hide(&text.unwrap_or_else(|| body.to_owned()));
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
        let expected = Reply { text: "a b".into(), cut: true, usage: Some(Usage { prompt: 3, answer: 2, total: 5 }), logprob: Some(-1.5) };
        assert_eq!(reply(body).unwrap(), expected);
        let bare = reply(r#"{"choices":[{"message":{"content":null,"refusal":"no"}}]}"#).unwrap();
        assert_eq!(bare, Reply { text: "no".into(), cut: false, usage: None, logprob: None });
        assert!(reply(r#"{"choices":[]}"#).unwrap_err().contains("no choices"));
        assert!(reply("<html>").unwrap_err().contains("not that of"));
    }

    #[test]
    fn the_larger_count_is_the_cost_and_half_a_count_is_none() {
        let cost = |usage: Value| {
            let body = json!({ "choices": [{ "message": { "content": "a" } }], "usage": usage });
            reply(&body.to_string()).unwrap().usage.map(Usage::cost)
        };
        assert_eq!(cost(json!({ "prompt_tokens": 3, "completion_tokens": 2 })), Some(5));
        // Thoughts that are counted in the total alone.
        assert_eq!(cost(json!({ "prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 900 })), Some(900));
        assert_eq!(cost(json!({ "prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 4 })), Some(5));
        assert_eq!(cost(json!({ "total_tokens": 7 })), Some(7));
        for none in [
            json!(null),
            json!({}),
            json!({ "prompt_tokens": 3 }),
            json!({ "prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0 }),
        ] {
            assert_eq!(cost(none.clone()), None, "{none}");
        }
    }

    #[test]
    fn a_body_sets_neither_what_is_ours_nor_an_endless_answer() {
        let sampling = |body: Value| Sampling { max_answer_tokens: 100, body: body.as_object().unwrap().clone(), ..Sampling::default() };
        for (body, longest) in [
            (json!({}), 100),
            (json!({ "max_tokens": 7, "n": 1, "top_p": 0.5, "seed": null }), 7),
            (json!({ "max_completion_tokens": 2000 }), 2000),
            (json!({ "max_completion_tokens": 20 }), 100),
            (json!({ "max_tokens": null, "max_completion_tokens": 20 }), 20),
        ] {
            let sampling = sampling(body);
            sampling.validate().unwrap();
            assert_eq!(sampling.longest_answer(), longest, "{sampling:?}");
        }
        for (body, part) in [
            (json!({ "max_tokens": null }), "takes `max_tokens` out"),
            (json!({ "max_tokens": "many" }), "`max_tokens` is \"many\""),
            (json!({ "max_completion_tokens": 0 }), "`max_completion_tokens` is 0"),
            (json!({ "n": 2 }), "`n` is 2"),
            (json!({ "messages": [] }), "`messages`"),
            (json!({ "model": "other" }), "`model`"),
            (json!({ "stream": true }), "`stream`"),
            (json!({ "tools": [] }), "`tools`"),
        ] {
            let message = sampling(body).validate().unwrap_err().to_string();
            assert!(message.contains(part) && message.lines().count() == 1, "{message}");
        }
    }

    #[test]
    fn errors_are_read_in_every_usual_form() {
        let error_message = |body: &str| super::error_message(body, str::to_owned);
        assert_eq!(error_message(r#"{"error":{"message":"too  long","type":"x"}}"#), "too long");
        assert_eq!(error_message(r#"{"error":"bad model"}"#), "bad model");
        assert_eq!(error_message(r#"{"detail":"nothing here"}"#), "nothing here");
        assert_eq!(error_message("<p>502\n Bad</p>"), "<p>502 Bad</p>");
        assert_eq!(error_message(&"é".repeat(400)).chars().count(), 301);
    }
}
