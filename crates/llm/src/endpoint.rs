//! One OpenAI-compatible endpoint over HTTP: a request, and what a failure means for the next one.

use std::{
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use crate::{
    chat::{self, Reply},
    error::LlmError,
    key::Key,
    retry,
};

/// Where a model answers.
#[derive(Debug)]
pub struct Endpoint {
    url: String,
    key: Option<Key>,
    agent: ureq::Agent,
    /// Before this moment nobody asks: the endpoint has said so to somebody.
    not_before: Mutex<Option<Instant>>,
}

/// Why a request has no answer.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The same request may succeed later.
    Passing {
        message: String,
        /// What the endpoint asked to wait.
        after: Option<Duration>,
        /// Whether the model may have worked for it, so that it counts as paid.
        charged: bool,
    },
    /// The endpoint does not take this request; others it may.
    Request { message: String },
    /// The key may not use the model, or a moderation refuses the request: which of the two, the next requests show.
    Forbidden { message: String },
    /// No request of this job will succeed.
    Fatal { message: String },
}

impl Endpoint {
    /// The endpoint below `base_url` (`…/v1`), each request with `timeout` for all of it.
    ///
    /// # Errors
    /// When the URL is none, or carries a user, a password or a query, where secrets would stand in files and logs.
    pub fn new(base_url: &str, key: Option<Key>, timeout: Duration) -> Result<Self, LlmError> {
        let base = base_url.trim().trim_end_matches('/');
        let fault = |given: &str, problem| Err(LlmError::Url { given: given.to_owned(), problem });
        let Some((scheme, rest)) = base.split_once("://") else { return fault(base, "has no scheme") };
        let host = rest.split('/').next().unwrap_or_default();
        if let Some((_, host)) = host.rsplit_once('@') {
            return fault(&format!("{scheme}://[hidden]@{host}"), "carries a user or a password; give the key in the environment");
        }
        if let Some((plain, _)) = base.split_once(['?', '#']) {
            return fault(&format!("{plain}?[hidden]"), "carries a query; give the key in the environment");
        }
        if !matches!(scheme, "http" | "https") || host.is_empty() {
            return fault(base, "is no http or https URL");
        }
        if timeout.is_zero() {
            return Err(LlmError::Setting("a time-out of 0 s: no answer can come in that time".into()));
        }
        let agent = ureq::AgentBuilder::new()
            .timeout(timeout)
            .timeout_connect(timeout.min(Duration::from_secs(20)))
            // A redirect would carry the key to another host.
            .redirects(0)
            .user_agent(concat!("dredge/", env!("CARGO_PKG_VERSION")))
            .build();
        let url = base.strip_suffix("/chat/completions").unwrap_or(base);
        Ok(Self { url: format!("{url}/chat/completions"), key, agent, not_before: Mutex::default() })
    }

    /// Where requests go.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether another endpoint is the same service: scheme, host and port.
    pub fn same_host(&self, other: &Self) -> bool {
        origin(&self.url).eq_ignore_ascii_case(origin(&other.url))
    }

    /// Whether the key goes unencrypted to another machine.
    pub fn key_is_readable_on_the_way(&self) -> bool {
        let host = origin(&self.url).trim_start_matches("http://");
        let host = host.rsplit_once(':').filter(|it| !it.1.ends_with(']')).map_or(host, |it| it.0).trim_matches(['[', ']']);
        let here = host == "localhost" || host.ends_with(".localhost") || host.parse::<IpAddr>().is_ok_and(|it| it.is_loopback());
        self.key.is_some() && self.url.starts_with("http://") && !here
    }

    /// The moment before which no request is to be made.
    pub(crate) fn not_before(&self) -> Option<Instant> {
        *self.not_before.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends one request and waits for its answer.
    pub(crate) fn ask(&self, body: &str) -> Result<Reply, Trouble> {
        let mut request = self.agent.post(&self.url).set("Content-Type", "application/json").set("Accept", "application/json");
        if let Some(key) = &self.key {
            request = request.set("Authorization", &key.header());
        }
        let answer = request.send_string(body);
        let response = match answer {
            Ok(response) if response.status() == 200 => response,
            Ok(response) => return Err(self.refused(response.status(), response)),
            Err(ureq::Error::Status(status, response)) => return Err(self.refused(status, response)),
            Err(ureq::Error::Transport(error)) => return Err(self.broken(&error)),
        };
        // What was cut off on the way may have been answered in full over there.
        let text = response.into_string().map_err(|error| Trouble::Passing {
            message: self.hidden(&format!("the response broke off: {error}")),
            after: None,
            charged: true,
        })?;
        let mut reply =
            chat::reply(&text).map_err(|message| Trouble::Passing { message: self.hidden(&message), after: None, charged: true })?;
        if let Some(key) = &self.key {
            reply.text = key.hidden_in_answer(&reply.text);
        }
        Ok(reply)
    }

    fn refused(&self, status: u16, response: ureq::Response) -> Trouble {
        let after = response.header("Retry-After").and_then(|value| retry::retry_after(value, SystemTime::now()));
        let body = response.into_string().unwrap_or_default();
        let message = format!("status {status}: {}", chat::error_message(&body, |text| self.hidden(text)));
        match status {
            408 | 425 | 429 | 500.. => {
                if let Some(after) = after {
                    let until = Instant::now() + after;
                    let mut held = self.not_before.lock().unwrap_or_else(PoisonError::into_inner);
                    *held = Some(held.map_or(until, |known| known.max(until)));
                }
                // A 5xx may come after the model has worked; who is sent away has cost nothing.
                Trouble::Passing { message, after, charged: !matches!(status, 425 | 429 | 503) }
            }
            402 => Trouble::Fatal { message: format!("{message}; the endpoint asks for payment") },
            401 => Trouble::Fatal { message: format!("{message}; {}", self.key_hint()) },
            403 => Trouble::Forbidden { message: format!("{message}; {}", self.key_hint()) },
            300..=399 => Trouble::Fatal { message: format!("{message}; redirects are not followed, give the URL that it leads to") },
            404 | 405 => Trouble::Fatal { message: format!("{message}; check the base URL and the model's name") },
            _ => Trouble::Request { message },
        }
    }

    fn key_hint(&self) -> &'static str {
        match self.key {
            Some(_) => "check the key in the environment",
            None => "no key was found in the environment",
        }
    }

    fn broken(&self, error: &ureq::Transport) -> Trouble {
        use ureq::ErrorKind as Kind;
        let message = self.hidden(&error.to_string());
        match error.kind() {
            Kind::InvalidUrl | Kind::UnknownScheme | Kind::InvalidProxyUrl | Kind::ProxyUnauthorized => Trouble::Fatal { message },
            Kind::Dns | Kind::ConnectionFailed | Kind::ProxyConnect => Trouble::Passing { message, after: None, charged: false },
            _ => Trouble::Passing { message, after: None, charged: true },
        }
    }

    fn hidden(&self, text: &str) -> String {
        self.key.as_ref().map_or_else(|| text.to_owned(), |key| key.hidden_in(text))
    }
}

/// Scheme, host and port of a URL.
fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    url[host..].find('/').map_or(url, |at| &url[..host + at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_told_apart_and_an_open_way_is_seen() {
        let endpoint = |url: &str| Endpoint::new(url, Some(Key::for_tests("k")), Duration::from_secs(1)).unwrap();
        let one = endpoint("https://a.example/v1");
        assert!(one.same_host(&endpoint("https://A.example/other/v1")));
        for other in ["http://a.example/v1", "https://b.example/v1", "https://a.example:444/v1"] {
            assert!(!one.same_host(&endpoint(other)), "{other}");
        }
        for (url, open) in [
            ("https://a.example/v1", false),
            ("http://a.example/v1", true),
            ("http://10.0.0.1:8000/v1", true),
            ("http://[2001:db8::1]/v1", true),
            ("http://localhost:8080/v1", false),
            ("http://127.0.0.1/v1", false),
            ("http://[::1]:8080/v1", false),
        ] {
            assert_eq!(endpoint(url).key_is_readable_on_the_way(), open, "{url}");
        }
        assert!(!Endpoint::new("http://a.example/v1", None, Duration::from_secs(1)).unwrap().key_is_readable_on_the_way());
    }

    #[test]
    fn urls_are_completed_and_those_with_secrets_refused_without_showing_them() {
        let url = |given: &str| Endpoint::new(given, None, Duration::from_secs(1)).map(|it| it.url().to_owned());
        for given in ["http://localhost:8080/v1", "http://localhost:8080/v1/", "http://localhost:8080/v1/chat/completions"] {
            assert_eq!(url(given).unwrap(), "http://localhost:8080/v1/chat/completions");
        }
        for (given, part) in [
            ("localhost:8080", "no scheme"),
            ("ftp://a/v1", "no http"),
            ("https:///v1", "no http"),
            ("https://me:secret@host/v1", "a password"),
            ("https://host/v1?key=secret", "a query"),
        ] {
            let message = url(given).unwrap_err().to_string();
            assert!(message.contains(part) && !message.contains("secret"), "{message}");
        }
        assert!(Endpoint::new("http://a/v1", None, Duration::ZERO).is_err());
    }
}
