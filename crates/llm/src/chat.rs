//! The wire form of `/chat/completions`: what is sent, and what comes back.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{answers, error::LlmError};

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
    /// Tokens of the prompt that the endpoint had cached, where it says so: part of its count with some, beside it with others.
    pub(crate) cached: u64,
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

/// What a response holds in the place of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NoAnswer {
    pub(crate) why: Why,
    /// For people, without secrets.
    pub(crate) message: String,
    /// Tokens that were counted all the same.
    pub(crate) usage: Option<Usage>,
}

/// Why it is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// It is not what `/chat/completions` responds.
    Shape,
    /// It is that and ends in the middle.
    BrokenOff,
    /// An error in the place of the whole response, with the status that it would have had, where it says one.
    Error(Option<u16>),
    /// An error while the model was at work.
    ErrorAtWork(Option<u16>),
    /// A moderation took the answer away.
    Filtered,
    /// The model said nothing, or called a tool that it was not given.
    Empty,
}

/// Takes a response apart: strict about the answer itself, forgiving about what is told beside it. Counts and log-probabilities that are none
/// count as not given. `hide` takes secrets out of messages.
pub(crate) fn reply(body: &str, hide: impl Fn(&str) -> String) -> Result<Reply, NoAnswer> {
    let body = body.trim_start_matches('\u{feff}');
    let response: Value = serde_json::from_str(body).map_err(|error| {
        let broken_off = error.is_eof() && body.trim_start().starts_with('{');
        let (why, what) = if broken_off { (Why::BrokenOff, "broke off") } else { (Why::Shape, "is not that of /chat/completions") };
        NoAnswer { why, message: hide(&format!("the response {what}: {error}")), usage: None }
    })?;
    let usage = usage(&response["usage"]);
    let none = |why, message: String| Err(NoAnswer { why, message, usage });
    let told = |error: &Value| error_message(&json!({ "error": error }).to_string(), &hide);
    if let Some(error) = Some(&response["error"]).filter(|it| says_something(it)) {
        return none(Why::Error(status_of(error)), told(error));
    }
    let choice = &response["choices"][0];
    if let Some(error) = Some(&choice["error"]).filter(|it| says_something(it)) {
        return none(Why::ErrorAtWork(status_of(error)), told(error));
    }
    if !choice.is_object() {
        return none(Why::Shape, "the response is not that of /chat/completions: it has no choices".into());
    }
    let reason = choice["finish_reason"].as_str();
    let finished = hide(&reason.map_or_else(|| "no finish_reason".to_owned(), |reason| format!("finish_reason {reason}")));
    match reason {
        Some("error") => return none(Why::ErrorAtWork(None), format!("the answer ended with an error ({finished})")),
        Some("content_filter") => return none(Why::Filtered, format!("a moderation took the answer away ({finished})")),
        _ => {}
    }
    let message = &choice["message"];
    if !message.is_object() {
        return none(Why::Shape, "the response is not that of /chat/completions: its first choice has no message".into());
    }
    let text = said(&message["content"]).unwrap_or_default();
    let refusal = said(&message["refusal"]).filter(|text| !text.trim().is_empty());
    // Thoughts with nothing behind them are no answer.
    let silent = answers::without_thoughts(&text).is_ok_and(str::is_empty);
    if silent && let Some(refusal) = refusal.or_else(|| refused(&message["content"])) {
        return none(Why::Filtered, format!("the model refuses: {}", hide(refusal.trim())));
    }
    // All that it may write went into thoughts, which stand elsewhere.
    let cut = matches!(reason, Some("length" | "model_length" | "max_tokens"));
    if silent && !cut {
        let calls = says_something(&message["tool_calls"]) || says_something(&message["function_call"]);
        let what = if calls { "a call of a tool, which it was not given, and no answer" } else { "an empty answer" };
        return none(Why::Empty, format!("the model gave {what} ({finished})"));
    }
    Ok(Reply { text, cut, usage, cached: cached(&response["usage"]), logprob: mean_logprob(&choice["logprobs"]["content"]) })
}

/// Whether a field is more than a way to say that there is nothing.
fn says_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(parts) => !parts.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        _ => true,
    }
}

/// The status that an error object names.
fn status_of(error: &Value) -> Option<u16> {
    let status = |name: &str| count(&error[name]).filter(|code| (400..600).contains(code));
    ["code", "status", "status_code"].into_iter().find_map(status).and_then(|code| u16::try_from(code).ok())
}

/// A text, or a list of parts of which those of text are put together.
fn said(content: &Value) -> Option<String> {
    let part = |part: &Value| match (part, part["type"].as_str()) {
        (Value::String(text), _) => Some(text.clone()),
        (_, None | Some("text" | "output_text")) => part["text"].as_str().map(str::to_owned),
        _ => None,
    };
    match content {
        Value::Array(parts) => Some(parts.iter().filter_map(part).collect()),
        other => other.as_str().map(str::to_owned),
    }
}

/// What stands in place of an answer, in a list of parts.
fn refused(content: &Value) -> Option<String> {
    let parts: String = content.as_array()?.iter().filter_map(|part| part["refusal"].as_str()).collect();
    (!parts.trim().is_empty()).then_some(parts)
}

/// What was counted. A prompt or an answer alone is no count, nor is nothing at all.
fn usage(counted: &Value) -> Option<Usage> {
    let [prompt, answer, total] = ["prompt_tokens", "completion_tokens", "total_tokens"].map(|name| count(&counted[name]));
    let both = prompt.is_some() && answer.is_some();
    let [prompt, answer, total] = [prompt, answer, total].map(Option::unwrap_or_default);
    let usage = Usage { prompt, answer, total };
    ((both || total > 0) && usage.cost() > 0).then_some(usage)
}

/// What was read from a cache or written to one, under all the names that endpoints have for it. More than there was does no harm: who asks wants to
/// know how large a prompt can have been.
fn cached(counted: &Value) -> u64 {
    let told = [
        &counted["prompt_tokens_details"]["cached_tokens"],
        &counted["input_tokens_details"]["cached_tokens"],
        &counted["prompt_cache_hit_tokens"],
        &counted["cache_read_input_tokens"],
        &counted["cache_creation_input_tokens"],
    ];
    told.into_iter().filter_map(count).fold(0, u64::saturating_add)
}

/// A whole number from 0, however it is written.
fn count(value: &Value) -> Option<u64> {
    // Above 2^53 a float is no count any more.
    let whole = |it: &f64| it.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(it);
    match value {
        Value::String(text) => text.trim().parse().ok(),
        _ => value.as_u64().or_else(|| value.as_f64().filter(whole).map(|it| it as u64)),
    }
}

/// The mean of the tokens' log-probabilities; none unless each has one.
fn mean_logprob(tokens: &Value) -> Option<f64> {
    let each: Vec<f64> = tokens.as_array()?.iter().map(|token| token["logprob"].as_f64()).collect::<Option<_>>()?;
    Some(each.iter().sum::<f64>() / each.len() as f64).filter(|it| it.is_finite())
}

/// The message of an error body, in whatever form it comes; short. `hide` takes secrets out of it once it is decoded, before it is cut.
pub(crate) fn error_message(body: &str, hide: impl Fn(&str) -> String) -> String {
    let text = serde_json::from_str::<Value>(body).ok().and_then(|value| {
        let error = value.get("error").unwrap_or(&value);
        let found =
            [error.get("message"), error.get("detail"), error.get("msg"), Some(error)].into_iter().flatten().find_map(Value::as_str);
        found.map(str::to_owned)
    });
    brief(&hide(&text.unwrap_or_else(|| body.to_owned())), 300)
}

/// A text as one line of so many characters at most. What terminals take for commands is left out.
pub(crate) fn brief(text: &str, characters: usize) -> String {
    let parts = text.split(|it: char| it.is_whitespace() || it.is_control()).filter(|part| !part.is_empty());
    let flat = parts.collect::<Vec<_>>().join(" ");
    match flat.char_indices().nth(characters) {
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

    fn reply(body: &str) -> Result<Reply, NoAnswer> {
        super::reply(body, str::to_owned)
    }

    #[test]
    fn a_response_is_taken_apart() {
        let body = r#"{"choices":[{"message":{"content":"a b"},"finish_reason":"length","logprobs":{"content":[{"logprob":-1},{"logprob":-2.0}]}}],
            "usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}"#;
        let usage = Some(Usage { prompt: 3, answer: 2, total: 5 });
        let expected = Reply { text: "a b".into(), cut: true, usage, cached: 0, logprob: Some(-1.5) };
        assert_eq!(reply(body).unwrap(), expected);
        let bare = reply(r#"{"choices":[{"message":{"content":"no"},"finish_reason":"max_tokens"}]}"#).unwrap();
        assert_eq!(bare, Reply { text: "no".into(), cut: true, usage: None, cached: 0, logprob: None });
        // A refusal is no answer: it would become a query or a passage.
        for message in [r#"{"content":null,"refusal":"I cannot."}"#, r#"{"content":[{"type":"refusal","refusal":"I cannot."}]}"#] {
            let refused = reply(&format!(r#"{{"choices":[{{"message":{message},"finish_reason":"stop"}}]}}"#)).unwrap_err();
            assert!(refused.why == Why::Filtered && refused.message.contains("I cannot."), "{}", refused.message);
        }
        assert_eq!(reply(r#"{"choices":[]}"#).unwrap_err().why, Why::Shape);
        assert!(reply("<html>").unwrap_err().message.contains("not that of"));
        assert_eq!(reply(r#"{"choices":[{"mess"#).unwrap_err().why, Why::BrokenOff);
        assert_eq!(reply("").unwrap_err().why, Why::Shape);
    }

    /// What stands beside an answer does not undo it.
    #[test]
    fn a_usable_answer_is_used_whatever_stands_beside_it() {
        let said = |body: Value| reply(&format!("\u{feff}{body}")).unwrap_or_else(|odd| panic!("{body}: {odd:?}"));
        let choice = |content: Value| json!({ "message": { "content": content }, "finish_reason": "stop" });
        for (counted, cost) in [
            (json!({ "prompt_tokens": -1, "completion_tokens": -1, "total_tokens": -1 }), None),
            (json!({ "prompt_tokens": 10.0, "completion_tokens": 2.0 }), Some(12)),
            (json!({ "prompt_tokens": "10", "completion_tokens": "2" }), Some(12)),
            (json!({ "prompt_tokens": 1.5, "completion_tokens": 2 }), None),
            (json!([1, 2]), None),
            (json!("many"), None),
        ] {
            let reply = said(json!({ "choices": [choice(json!("a"))], "usage": counted }));
            assert_eq!((reply.text.as_str(), reply.usage.map(Usage::cost)), ("a", cost), "{counted}");
        }
        for (logprobs, mean) in [
            (json!({ "content": [{ "logprob": -1.0 }, { "logprob": null }] }), None),
            (json!([{ "logprob": -1.0 }]), None),
            (json!({ "content": [] }), None),
            (json!({ "content": "none" }), None),
            (json!({ "content": [{ "logprob": -1 }] }), Some(-1.0)),
        ] {
            let mut choice = choice(json!("a"));
            choice["logprobs"] = logprobs.clone();
            let reply = said(json!({ "choices": [choice] }));
            assert_eq!((reply.text.as_str(), reply.logprob), ("a", mean), "{logprobs}");
        }
        let parts = json!([{ "type": "thinking", "thinking": "hm" }, { "type": "text", "text": "a " }, { "type": "text", "text": "b" }]);
        assert_eq!(said(json!({ "choices": [choice(parts)], "error": null })).text, "a b");
    }

    #[test]
    fn what_is_no_answer_says_why() {
        let odd = |body: Value| reply(&body.to_string()).unwrap_err();
        let choice = |reason: &str, message: Value| json!({ "choices": [{ "message": message, "finish_reason": reason }], "usage": { "total_tokens": 9 } });
        for (body, why, part) in [
            (json!({ "error": { "code": 429, "message": "slow down" } }), Why::Error(Some(429)), "slow down"),
            (json!({ "error": { "code": "503", "message": "busy" }, "choices": null }), Why::Error(Some(503)), "busy"),
            (json!({ "error": "bad model" }), Why::Error(None), "bad model"),
            (json!({ "error": { "code": "rate_limit", "message": "m" } }), Why::Error(None), "m"),
            (json!({ "choices": [{ "error": { "code": 502, "message": "upstream" } }] }), Why::ErrorAtWork(Some(502)), "upstream"),
            (choice("error", json!({ "content": "half of" })), Why::ErrorAtWork(None), "finish_reason error"),
            (choice("content_filter", json!({ "content": "" })), Why::Filtered, "finish_reason content_filter"),
            (choice("stop", json!({ "content": null })), Why::Empty, "finish_reason stop"),
            (choice("stop", json!({ "content": " \n" })), Why::Empty, "empty answer"),
            (choice("stop", json!({ "content": "<think>\nA fox.\n</think>\n\n" })), Why::Empty, "empty answer"),
            (choice("tool_calls", json!({ "content": null, "tool_calls": [{}] })), Why::Empty, "a call of a tool"),
            (json!({ "choices": [{ "text": "old" }] }), Why::Shape, "no message"),
            (json!([1]), Why::Shape, "no choices"),
        ] {
            let odd = odd(body.clone());
            assert!(odd.why == why && odd.message.contains(part), "{body}: {odd:?}");
        }
        assert_eq!(odd(choice("content_filter", json!({}))).usage.map(Usage::cost), Some(9));
        // A model that has thought for as long as it may.
        let thought = choice("length", json!({ "content": null, "reasoning_content": "let me see" }));
        assert!(reply(&thought.to_string()).unwrap().cut);
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

    /// It is told beside the count, and changes no cost.
    #[test]
    fn what_was_cached_is_read_under_every_name() {
        for (more, cached) in [
            (json!({}), 0),
            (json!({ "prompt_tokens_details": null }), 0),
            (json!({ "prompt_tokens_details": { "cached_tokens": 900, "audio_tokens": 0 } }), 900),
            (json!({ "input_tokens_details": { "cached_tokens": "900" } }), 900),
            (json!({ "prompt_cache_hit_tokens": 900, "prompt_cache_miss_tokens": 3 }), 900),
            (json!({ "cache_read_input_tokens": 900, "cache_creation_input_tokens": 50 }), 950),
            (json!({ "cache_read_input_tokens": -1, "prompt_tokens_details": [1] }), 0),
        ] {
            let mut usage = json!({ "prompt_tokens": 3, "completion_tokens": 2 });
            usage.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let reply = reply(&json!({ "choices": [{ "message": { "content": "a" } }], "usage": usage }).to_string()).unwrap();
            assert_eq!((reply.cached, reply.usage.map(Usage::cost)), (cached, Some(5)), "{more}");
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
        assert_eq!(brief("  \u{1b}[31mone\ttwo\r\n three ", 11), "[31mone two…");
        assert_eq!((brief("one two", 7), brief(" \n", 7)), ("one two".to_owned(), String::new()));
        assert_eq!(error_message(&"é".repeat(400)).chars().count(), 301);
    }
}
