//! One OpenAI-compatible endpoint over HTTP: a request, and what a failure means for the next one.

use std::{
    io,
    net::IpAddr,
    time::{Duration, SystemTime},
};

use crate::{
    chat::{self, NoAnswer, Reply, Usage, Why},
    error::LlmError,
    key::Key,
    pace::Pace,
    retry,
};

/// Where a model answers.
#[derive(Debug)]
pub struct Endpoint {
    url: String,
    key: Option<Key>,
    agent: ureq::Agent,
    /// How many requests it takes.
    pub(crate) pace: Pace,
}

/// A request without an answer.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) trouble: Trouble,
    /// For people, without the key.
    pub(crate) message: String,
    pub(crate) charge: Charge,
    /// What the endpoint asked to wait.
    pub(crate) after: Option<Duration>,
}

/// What a failure means for the next request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The same request may succeed later.
    Passing,
    /// The endpoint has more to do than it takes: later, and fewer at once.
    SentAway,
    /// The response has no answer, without a word why: the next may have one, hardly the one after that.
    Odd,
    /// The endpoint does not take this request; others it may.
    Request,
    /// The key may not use the model, or a moderation refuses the request: which of the two, the next requests show.
    Forbidden,
    /// No request of this job will succeed.
    Fatal,
}

/// What a request without an answer counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Charge {
    Nothing,
    /// The model has worked for it.
    Counted(Usage),
    /// The model may have worked for it: all that was set aside.
    All,
}

impl Endpoint {
    /// The endpoint below `base_url` (`…/v1`), each request with `timeout` for all of it.
    ///
    /// # Errors
    /// When the URL is none, or carries a user, a password, a query or the key: secrets would stand in files and logs.
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
        if let Some(key) = key.as_ref().filter(|key| key.stands_in(base)) {
            let shown = if key.stands_in(host) { "[hidden]".to_owned() } else { format!("{host}/[hidden]") };
            return fault(&format!("{scheme}://{shown}"), "carries the key; that is sent in a header, from the environment");
        }
        if timeout.is_zero() {
            return Err(LlmError::Setting("a time-out of 0 s: no answer can come in that time".into()));
        }
        // The client reads HTTP(S)_PROXY and ALL_PROXY, and knows no exception.
        let named = name_of(host);
        let spared = ["NO_PROXY", "no_proxy"].into_iter().find_map(|name| std::env::var(name).ok()).unwrap_or_default();
        let agent = ureq::AgentBuilder::new()
            .timeout(timeout)
            .timeout_connect(timeout.min(Duration::from_secs(20)))
            // A redirect would carry the key to another host.
            .redirects(0)
            .try_proxy_from_env(!is_here(named) && !is_spared(named, &spared))
            .user_agent(concat!("dredge/", env!("CARGO_PKG_VERSION")))
            .build();
        let url = base.strip_suffix("/chat/completions").unwrap_or(base);
        Ok(Self { url: format!("{url}/chat/completions"), key, agent, pace: Pace::default() })
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
        self.key.is_some() && self.url.starts_with("http://") && !is_here(name_of(host))
    }

    /// Whether a text has the key in it, escaped as JSON may have it or not: what is written down must not. A word for a key may stand anywhere.
    pub fn key_stands_in(&self, text: &str) -> bool {
        self.key.as_ref().is_some_and(|key| key.hidden_in_answer(text) != text)
    }

    /// Sends one request and waits for its answer.
    pub(crate) fn ask(&self, body: &str) -> Result<Reply, Failure> {
        let mut request = self.agent.post(&self.url).set("Content-Type", "application/json").set("Accept", "application/json");
        if let Some(key) = &self.key {
            request = request.set("Authorization", &key.header());
        }
        let response = match request.send_string(body) {
            Ok(response) if (200..300).contains(&response.status()) => response,
            Ok(response) => return Err(self.refused(response)),
            Err(ureq::Error::Status(_, response)) => return Err(self.refused(response)),
            Err(ureq::Error::Transport(error)) => return Err(self.broken(&error)),
        };
        let (status, after) = (response.status(), asked_to_wait(&response));
        // What was cut off on the way may have been answered in full over there.
        let text = response.into_string().map_err(|error| {
            let message = self.hidden(&format!("the response broke off: {error}{}", remedy(Some(&error))));
            Failure { trouble: Trouble::Passing, message, charge: Charge::All, after: None }
        })?;
        let mut reply = chat::reply(&text, |text| self.hidden(text)).map_err(|odd| self.unanswered(status, after, odd))?;
        if let Some(key) = &self.key {
            reply.text = key.hidden_in_answer(&reply.text);
        }
        Ok(reply)
    }

    /// A response of a status that promises an answer, without one.
    fn unanswered(&self, status: u16, after: Option<Duration>, NoAnswer { why, message, usage }: NoAnswer) -> Failure {
        let charge = usage.map_or(Charge::All, Charge::Counted);
        let failure = |trouble, charge, message| Failure { trouble, message, charge, after: None };
        match why {
            Why::Shape => failure(Trouble::Odd, charge, format!("status {status}: {message}")),
            Why::Empty => failure(Trouble::Odd, charge, message),
            Why::BrokenOff => failure(Trouble::Passing, charge, message),
            Why::Filtered => failure(Trouble::Request, charge, message),
            // In the place of the whole response: nobody has worked, unless it counts what was.
            Why::Error(code) => {
                let charge = usage.map_or(Charge::Nothing, Charge::Counted);
                match code {
                    Some(code) => {
                        Failure { charge, ..self.failed(code, after, format!("status {status} with the error {code}: {message}")) }
                    }
                    None => failure(Trouble::Passing, charge, format!("status {status} with an error: {message}")),
                }
            }
            Why::ErrorAtWork(code) => {
                let worked = self.failed(code.unwrap_or(500), after, message);
                Failure { charge: usage.map_or(worked.charge, Charge::Counted), ..worked }
            }
        }
    }

    fn refused(&self, response: ureq::Response) -> Failure {
        let (status, after) = (response.status(), asked_to_wait(&response));
        let body = response.into_string().unwrap_or_default();
        self.failed(status, after, format!("status {status}: {}", chat::error_message(&body, |text| self.hidden(text))))
    }

    /// What a status means.
    fn failed(&self, status: u16, after: Option<Duration>, message: String) -> Failure {
        let fatal = |hint: &str| Failure { trouble: Trouble::Fatal, message: format!("{message}; {hint}"), charge: Charge::Nothing, after };
        let trouble = match status {
            401 => return fatal(self.key_hint()),
            402 => return fatal("the endpoint asks for payment"),
            300..=399 => return fatal("redirects are not followed, give the URL that it leads to"),
            404 | 405 => return fatal("check the base URL and the model's name"),
            403 => return Failure { trouble: Trouble::Forbidden, ..fatal(self.key_hint()) },
            429 => Trouble::SentAway,
            503 if after.is_some() => Trouble::SentAway,
            408 | 425 | 500.. => Trouble::Passing,
            _ => Trouble::Request,
        };
        // A 5xx may come after the model has worked; who is sent away has cost nothing.
        let worked = trouble == Trouble::Passing && !matches!(status, 425 | 503);
        Failure { trouble, message, charge: if worked { Charge::All } else { Charge::Nothing }, after }
    }

    fn key_hint(&self) -> &'static str {
        match self.key {
            Some(_) => "check the key in the environment",
            None => "no key was found in the environment",
        }
    }

    fn broken(&self, error: &ureq::Transport) -> Failure {
        use ureq::ErrorKind as Kind;
        let (trouble, charge) = match error.kind() {
            Kind::InvalidUrl | Kind::UnknownScheme | Kind::InvalidProxyUrl | Kind::ProxyUnauthorized => (Trouble::Fatal, Charge::Nothing),
            Kind::Dns | Kind::ConnectionFailed | Kind::ProxyConnect => (Trouble::Passing, Charge::Nothing),
            _ => (Trouble::Passing, Charge::All),
        };
        // A machine that does not take connections is not reached by waiting for it.
        let cause = std::error::Error::source(error).filter(|_| error.kind() == Kind::Io).and_then(|it| it.downcast_ref::<io::Error>());
        Failure { trouble, message: self.hidden(&format!("{error}{}", remedy(cause))), charge, after: None }
    }

    /// A message without the key.
    pub(crate) fn hidden(&self, text: &str) -> String {
        self.key.as_ref().map_or_else(|| text.to_owned(), |key| key.hidden_in(text))
    }
}

/// What helps where an answer did not come in time; nothing where something else failed.
fn remedy(error: Option<&io::Error>) -> &'static str {
    let late = error.is_some_and(|it| matches!(it.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock));
    if late { "; raise --timeout or lower --concurrency" } else { "" }
}

/// The wait that a response asks for.
fn asked_to_wait(response: &ureq::Response) -> Option<Duration> {
    response.header("Retry-After").and_then(|value| retry::retry_after(value, SystemTime::now()))
}

/// Scheme, host and port of a URL.
fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    url[host..].find('/').map_or(url, |at| &url[..host + at])
}

/// A host without its port and brackets.
fn name_of(host: &str) -> &str {
    host.rsplit_once(':').filter(|it| !it.1.ends_with(']')).map_or(host, |it| it.0).trim_matches(['[', ']'])
}

/// Whether a host is this machine.
fn is_here(host: &str) -> bool {
    host == "localhost" || host.ends_with(".localhost") || host.parse::<IpAddr>().is_ok_and(|it| it.is_loopback())
}

/// Whether `NO_PROXY` names a host: itself, a domain that it is in, or all.
fn is_spared(host: &str, spared: &str) -> bool {
    let inside = |domain: &str| host.eq_ignore_ascii_case(domain) || host.to_lowercase().ends_with(&format!(".{}", domain.to_lowercase()));
    spared.split(',').map(str::trim).any(|it| it == "*" || !it.is_empty() && inside(it.trim_start_matches("*.").trim_start_matches('.')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_and_what_is_spared_are_asked_without_a_proxy() {
        for host in ["localhost:11434", "127.0.0.1", "[::1]:8000", "a.localhost"] {
            assert!(is_here(name_of(host)), "{host}");
        }
        assert!(!is_here(name_of("api.example.com:443")));
        for spared in ["api.example.com", "other, .example.com", "example.com", "*.example.com", "*"] {
            assert!(is_spared("api.example.com", spared), "{spared}");
        }
        for spared in ["", "ample.com", "example.org", "x.api.example.com"] {
            assert!(!is_spared("api.example.com", spared), "{spared}");
        }
    }

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
        for given in ["https://host/proxy/sk-1234/56789ab/v1", "https://host/sk-1234%2F56789ab", "https://host/SK%2d1234%2f56789ab/v1"] {
            let key = Key::for_tests("sk-1234/56789ab");
            let message = Endpoint::new(given, Some(key), Duration::from_secs(1)).map(|_| ());
            match given.contains("SK") {
                // Another key than ours is no business of ours.
                true => assert!(message.is_ok()),
                false => {
                    let message = message.unwrap_err().to_string();
                    assert!(message.contains("https://host/[hidden]") && message.contains("carries the key"), "{message}");
                    assert!(!message.contains("56789ab"), "{message}");
                }
            }
        }
        let endpoint = |key: &str| Endpoint::new("http://localhost/v1", Some(Key::for_tests(key)), Duration::from_secs(1)).unwrap();
        for body in [r#"{"user":"sk-1234/56789ab"}"#, r#"{"user":"xsk-1234\/56789ab"}"#, r#"{"user":"\u0073k-1234/56789ab"}"#] {
            assert!(endpoint("sk-1234/56789ab").key_stands_in(body), "{body}");
        }
        assert!(
            !endpoint("sk-1234/56789ab").key_stands_in(r#"{"user":"sk-1234"}"#)
                && !endpoint("ollama").key_stands_in(r#"{"user":"ollama"}"#)
        );
        // A word for a key may stand in a path.
        assert!(Endpoint::new("http://localhost/ollama/v1", Some(Key::for_tests("ollama")), Duration::from_secs(1)).is_ok());
    }
}
