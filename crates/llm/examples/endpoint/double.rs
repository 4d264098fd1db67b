//! A stand-in for a language model's endpoint: an HTTP server on this machine that plays what endpoints do, well and badly, and remembers
//! everything it was asked. Tests use it, and `cargo run -p llm --example endpoint` serves it.
//!
//! It recognises the prompts of this crate by the form of answer that they ask for. Given labels it is an oracle: it knows which passages are
//! relevant and errs at a stated rate.

use std::{
    collections::{HashMap, HashSet},
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// What the endpoint does with one request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Play {
    /// Answers.
    Good,
    /// Answers after a while.
    Slow(Duration),
    /// Answers with a status, with `Retry-After` if given, and a body.
    Status(u16, Option<&'static str>, &'static str),
    /// Answers with another text than the one asked for.
    Says(&'static str),
    /// Stops in the middle of the body.
    Truncated,
    /// Closes the connection without a word.
    Reset,
    /// Answers, and does not say how many tokens that took.
    Uncounted,
    /// Answers, and says that the answer was cut off.
    Cut,
    /// Answers, and says that the answer took as many tokens as the request allows.
    Full,
    /// Answers, and counts so many tokens in the total that are neither of the prompt nor of the answer.
    CountsMore(u64),
    /// Refuses with a message that repeats the key, as some endpoints do.
    EchoesKey(u16),
    /// The same, with `/` and `+` escaped as JSON may have them.
    EchoesKeyEscaped(u16),
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) body: Value,
    pub(crate) authorization: Option<String>,
    /// Hash of the body.
    pub(crate) hash: String,
    /// How often this very request has come before.
    pub(crate) earlier: usize,
}

impl Request {
    /// Everything said, in one text.
    pub(crate) fn text(&self) -> String {
        let messages = self.body["messages"].as_array().cloned().unwrap_or_default();
        messages.iter().filter_map(|message| message["content"].as_str()).collect::<Vec<_>>().join("\n")
    }

    fn model(&self) -> &str {
        self.body["model"].as_str().unwrap_or_default()
    }
}

/// One request and what it came to.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) request: Request,
    pub(crate) played: Play,
    /// Tokens that the answer was said to take; 0 until it goes out.
    pub(crate) tokens: u64,
    /// Whether all of the answer went out, but for the last byte at least.
    pub(crate) sent: bool,
}

/// What the model knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Oracle {
    /// Query text to the texts of all that is relevant.
    pub(crate) relevant: HashMap<String, HashSet<String>>,
    /// Share of wrong verdicts by model; the entry `` is for all others.
    pub(crate) error_rates: Vec<(String, f64)>,
}

impl Oracle {
    /// Whether `model` finds a passage relevant: the truth, turned round for a share of the pairs, the same ones each time.
    fn finds(&self, model: &str, query: &str, passage: &str) -> bool {
        let truth = self.relevant.get(query).is_some_and(|texts| texts.contains(passage));
        let rate = self.error_rates.iter().find(|it| it.0 == model || it.0.is_empty()).map_or(0.0, |it| it.1);
        truth != (chance(&[model, query, passage]) < rate)
    }
}

/// A running endpoint. It ends with the process.
pub(crate) struct Double {
    /// The base URL.
    pub(crate) url: String,
    shared: Arc<Shared>,
}

struct Shared {
    play: Box<dyn Fn(&Request) -> Play + Send + Sync>,
    oracle: Oracle,
    records: Mutex<Vec<Record>>,
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Double {
    /// An endpoint on any free port.
    pub(crate) fn start(play: impl Fn(&Request) -> Play + Send + Sync + 'static) -> Self {
        Self::on(0, Oracle::default(), play)
    }

    /// An endpoint on a port, with knowledge.
    pub(crate) fn on(port: u16, oracle: Oracle, play: impl Fn(&Request) -> Play + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        let url = format!("http://{}/v1", listener.local_addr().expect("it has an address"));
        let (records, now, most) = (Mutex::default(), AtomicUsize::new(0), AtomicUsize::new(0));
        let shared = Arc::new(Shared { play: Box::new(play), oracle, records, now, most });
        let server = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&server);
                // A client that goes away in the middle is part of the play.
                thread::spawn(move || drop(shared.serve(&stream)));
            }
        });
        Self { url, shared }
    }

    /// Everything that was asked until now, once no request is under way any more: clients that were killed or gave up leave some behind.
    pub(crate) fn records(&self) -> Vec<Record> {
        for _ in 0..2000 {
            if self.shared.now.load(Ordering::SeqCst) == 0 {
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        self.shared.records.lock().expect("no test panics in here").clone()
    }

    /// Requests until now.
    pub(crate) fn requests(&self) -> usize {
        self.shared.records.lock().expect("no test panics in here").len()
    }

    /// Requests that were under way at once, at most.
    pub(crate) fn most_at_once(&self) -> usize {
        self.shared.most.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn serve(&self, stream: &TcpStream) -> std::io::Result<()> {
        // Or the last byte of an answer waits for the client's acknowledgment.
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream);
        let (mut length, mut authorization, mut line) = (0, None, String::new());
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let Some((name, value)) = line.trim_end().split_once(": ") else { if line.trim_end().is_empty() { break } else { continue } };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().unwrap_or(0),
                "authorization" => authorization = Some(value.to_owned()),
                _ => {}
            }
        }
        let mut bytes = vec![0; length];
        reader.read_exact(&mut bytes)?;
        let body: Value = serde_json::from_slice(&bytes)?;
        let hash: String = Sha256::digest(&bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let (at, request, play) = {
            let under_way = self.now.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(under_way, Ordering::SeqCst);
            let mut records = self.records.lock().expect("no test panics in here");
            let earlier = records.iter().filter(|record| record.request.hash == hash).count();
            let request = Request { body, authorization, hash, earlier };
            let play = (self.play)(&request);
            records.push(Record { request: request.clone(), played: play.clone(), tokens: 0, sent: false });
            (records.len() - 1, request, play)
        };
        let (bytes, tokens) = self.response(&request, &play);
        let (last, most) = bytes.split_last().map_or((&[][..], &[][..]), |(last, most)| (std::slice::from_ref(last), most));
        let mut writer = stream;
        let outcome = writer.write_all(most);
        if outcome.is_ok() {
            let record = &mut self.records.lock().expect("no test panics in here")[at];
            (record.tokens, record.sent) = (tokens, true);
        }
        // Before the last byte: a client that has the whole answer may ask again at once, and is then not counted twice.
        self.now.fetch_sub(1, Ordering::SeqCst);
        outcome?;
        writer.write_all(last)?;
        // The client closes when it has everything: closing first could take back what is still on its way.
        stream.shutdown(std::net::Shutdown::Write)?;
        reader.read_to_end(&mut Vec::new())?;
        Ok(())
    }

    /// What goes out, and the tokens that it counts.
    fn response(&self, request: &Request, play: &Play) -> (Vec<u8>, u64) {
        let key = request.authorization.clone().unwrap_or_default();
        let (status, retry_after, body, tokens) = match play {
            Play::Reset => return (Vec::new(), 0),
            Play::Status(status, after, body) => (*status, *after, (*body).to_owned(), 0),
            Play::EchoesKey(status) => (
                *status,
                None,
                json!({ "error": { "message": format!("bad key {key}, that is {}", key.trim_start_matches("Bearer ")) } }).to_string(),
                0,
            ),
            Play::EchoesKeyEscaped(status) => {
                let escaped = key.replace('/', "\\/").replace('+', "\\u002B");
                (*status, None, format!("{{\"error\": {{\"message\": \"bad key {escaped}\"}}}}"), 0)
            }
            _ => {
                if let Play::Slow(time) = play {
                    thread::sleep(*time);
                }
                let text = if let Play::Says(text) = play { (*text).to_owned() } else { answer(request, &self.oracle) };
                let allowed = ["max_tokens", "max_completion_tokens"].into_iter().filter_map(|name| request.body[name].as_u64()).max();
                let written = if *play == Play::Full { allowed.unwrap_or(100_000) } else { text.len() as u64 / 4 + 1 };
                let prompt = request.text().len() as u64 / 3 + 20;
                let total = prompt + written + if let Play::CountsMore(more) = play { *more } else { 0 };
                let mut body = json!({
                    "object": "chat.completion", "model": request.model(),
                    "choices": [{ "index": 0, "message": { "role": "assistant", "content": text },
                                  "finish_reason": if *play == Play::Cut { "length" } else { "stop" } }],
                    "usage": { "prompt_tokens": prompt, "completion_tokens": written, "total_tokens": total },
                });
                if request.body["logprobs"] == true {
                    let each =
                        text.split_whitespace().map(|word| json!({ "token": word, "logprob": -chance(&[word]) })).collect::<Vec<_>>();
                    body["choices"][0]["logprobs"] = json!({ "content": each });
                }
                if *play == Play::Uncounted {
                    body["usage"] = Value::Null;
                }
                (200, None, body.to_string(), total)
            }
        };
        let after = retry_after.map(|value| format!("Retry-After: {value}\r\n")).unwrap_or_default();
        let head = format!(
            "HTTP/1.1 {status} -\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{after}Connection: close\r\n\r\n",
            body.len()
        );
        let sent = if *play == Play::Truncated { &body[..body.len() / 2] } else { &body };
        ([head.as_bytes(), sent.as_bytes()].concat(), tokens)
    }
}

/// What a model that does as it is told writes: a function of the request alone.
fn answer(request: &Request, oracle: &Oracle) -> String {
    let text = request.text();
    let asks_for = |form: &str| text.contains(form);
    let (query, passages) = (line_after(&text, "Query: "), passages(&text));
    let relevant = |passage: &String| oracle.finds(request.model(), query, passage);
    let numbers = || passages.iter().enumerate().filter(|(_, passage)| relevant(passage)).map(|(at, _)| at + 1).collect::<Vec<_>>();
    if asks_for("{\"relevant\"") {
        json!({ "relevant": numbers(), "unsure": [] }).to_string()
    } else if asks_for("{\"answers\": [") {
        json!({ "answers": passages.iter().map(|it| relevant(it).then_some("an answer")).collect::<Vec<_>>() }).to_string()
    } else if asks_for("{\"ranking\"") {
        let mut order: Vec<usize> = (1..=passages.len()).collect();
        order.sort_by_key(|number| !relevant(&passages[number - 1]));
        json!({ "ranking": order }).to_string()
    } else if asks_for("{\"scores\"") {
        let shared = |passage: &String| query.split_whitespace().filter(|word| passage.contains(word)).count().min(10);
        json!({ "scores": passages.iter().map(shared).collect::<Vec<_>>() }).to_string()
    } else if asks_for("{\"negatives\"") {
        let count = text.split("Write ").nth(1).and_then(|it| it.split(' ').next()).and_then(|it| it.parse().ok()).unwrap_or(1);
        let one = |at: usize| json!({ "text": format!("Written text {at} has to do with {} and does not say it", query.split_whitespace().step_by(2).collect::<Vec<_>>().join(" ")), "why": "it does not say it", "answers": false });
        json!({ "negatives": (0..count).map(one).collect::<Vec<_>>() }).to_string()
    } else if asks_for("{\"query\": \"...\", \"positive\"") {
        let task = line_after(&text, "Task: ");
        let id = request.hash.as_str();
        json!({ "query": format!("what is said on {task} {id}"), "positive": format!("This is what is said on it: {id} yes"), "negative": format!("Something else is told here, {id} no") }).to_string()
    } else if asks_for("{\"task\"") {
        json!({ "task": "given a question, find a passage", "query": query_of(&text, request) }).to_string()
    } else if asks_for("JSON list of") {
        let count: usize =
            text.split("JSON list of ").nth(1).and_then(|it| it.split(' ').next()).and_then(|it| it.parse().ok()).unwrap_or(1);
        json!((0..count).map(|at| format!("Given {} number {at}, find what belongs to it", request.hash)).collect::<Vec<_>>()).to_string()
    } else {
        query_of(&text, request)
    }
}

/// A query out of a document's own words, every other of its first twelve, and the seed of the request.
fn query_of(text: &str, request: &Request) -> String {
    let document = text.rsplit("Document:\n").next().unwrap_or_default().lines().next().unwrap_or_default();
    let words: Vec<&str> = document.split_whitespace().take(12).step_by(2).collect();
    format!("what about {} {}", words.join(" "), request.body["seed"])
}

fn line_after<'t>(text: &'t str, head: &str) -> &'t str {
    text.lines().find_map(|line| line.strip_prefix(head)).unwrap_or_default()
}

/// The numbered passages to judge: those behind the last head that announces some.
fn passages(text: &str) -> Vec<String> {
    let part = text.rsplit_once("Passages to judge:\n").or_else(|| text.rsplit_once("Passages:\n")).map_or("", |it| it.1);
    part.lines().take_while(|line| line.starts_with('[')).filter_map(|line| line.split_once("] ")).map(|it| it.1.to_owned()).collect()
}

/// A number in [0, 1) that is a function of texts.
fn chance(texts: &[&str]) -> f64 {
    let hash = Sha256::digest(texts.join("\u{1f}").as_bytes());
    let bytes: [u8; 8] = hash[..8].try_into().expect("a hash is longer");
    (u64::from_le_bytes(bytes) >> 11) as f64 / (1u64 << 53) as f64
}
