//! Downloads from a local server that plays the hub, with the headers that the client insists on.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use burn::tensor::Device;
use encoder::{Encoder, EncoderError, Hub};
use serde_json::json;

use crate::support::shared;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const ID: &str = "someone/tiny-bert";

/// Serves one folder as model [`ID`] and notes what was asked for.
struct Server {
    address: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(folder: PathBuf, extra: &'static [&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = requests.clone();
        // The thread lives as long as the test process; it holds nothing but a port.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = answer(stream.unwrap(), &folder, extra, &log);
            }
        });
        Self { address, requests }
    }

    fn files(&self) -> Vec<String> {
        let mut files: Vec<String> = self.requests.lock().unwrap().clone();
        files.sort();
        files.dedup();
        files
    }
}

fn answer(mut stream: TcpStream, folder: &Path, extra: &[&str], log: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let (mut start, mut authorised) = (0, false);
    let mut range = None;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let header = header.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(bytes) = header.strip_prefix("range: bytes=") {
            let (from, to) = bytes.split_once('-').unwrap();
            start = from.parse().unwrap();
            range = to.parse::<usize>().ok();
        }
        authorised |= header == "authorization: bearer secret";
    }
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut respond = |status: &str, headers: &str, body: &[u8]| {
        write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n", body.len())?;
        stream.write_all(body)
    };
    if !authorised {
        return respond("401 Unauthorized", "", b"");
    }
    if path == format!("/api/models/{ID}/revision/main") {
        let mut files: Vec<String> = list(folder, "");
        files.extend(extra.iter().map(|&file| file.to_owned()));
        let siblings: Vec<_> = files.iter().map(|file| json!({"rfilename": file})).collect();
        let body = json!({"siblings": siblings, "sha": COMMIT}).to_string();
        return respond("200 OK", "Content-Type: application/json\r\n", body.as_bytes());
    }
    let Some(file) = path.strip_prefix(&format!("/{ID}/resolve/{COMMIT}/")) else {
        return respond("404 Not Found", "", b"");
    };
    log.lock().unwrap().push(file.to_owned());
    let Ok(content) = std::fs::read(folder.join(file)) else { return respond("404 Not Found", "", b"") };
    let end = range.map_or(content.len(), |to| content.len().min(to + 1));
    let headers = format!(
        "ETag: \"{:x}\"\r\nX-Repo-Commit: {COMMIT}\r\nContent-Range: bytes {start}-{}/{}\r\n",
        // Any name that is unique to the content will do.
        content.iter().fold(file.len() as u64, |hash, &byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte))),
        end.saturating_sub(1),
        content.len()
    );
    respond("206 Partial Content", &headers, &content[start.min(end)..end])
}

fn list(folder: &Path, prefix: &str) -> Vec<String> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        if entry.path().is_dir() {
            files.extend(list(&entry.path(), &format!("{name}/")));
        } else {
            files.push(name);
        }
    }
    files
}

fn proxied() -> bool {
    let proxied = ["ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "http_proxy", "https_proxy"]
        .iter()
        .any(|name| std::env::var_os(name).is_some());
    if proxied {
        eprintln!("skipped: hub (a proxy is set, and the client would ask it for the local server)");
    }
    proxied
}

#[test]
fn a_model_is_downloaded_once_and_found_offline() {
    let Some(source) = shared("golden/tiny-bert") else { return };
    if proxied() {
        return;
    }
    let server = Server::start(source.clone(), &["onnx/model.onnx", "pytorch_model.bin", "README.md"]);
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub {
        endpoint: server.address.clone(),
        cache: cache.path().to_owned(),
        token: Some("secret".to_owned()),
        offline: false,
        progress: false,
    };
    let encoder = Encoder::download(ID, &hub, &Device::flex()).unwrap();
    let local = Encoder::load(source.to_str().unwrap(), &Device::flex()).unwrap();
    assert_eq!(encoder.fingerprint(), local.fingerprint());
    assert_eq!(encoder.card.base_model.as_deref(), Some(ID));
    assert_eq!(
        server.files(),
        [
            "1_Pooling/config.json",
            "config.json",
            "config_sentence_transformers.json",
            "model.safetensors",
            "modules.json",
            "sentence_bert_config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "vocab.txt"
        ],
        "what is needed and nothing else"
    );

    let asked = server.requests.lock().unwrap().len();
    Encoder::download(ID, &hub, &Device::flex()).unwrap();
    assert_eq!(server.requests.lock().unwrap().len(), asked, "the cache is used");

    let offline = Hub { offline: true, endpoint: "http://127.0.0.1:9".to_owned(), ..hub.clone() };
    assert_eq!(Encoder::download(ID, &offline, &Device::flex()).unwrap().fingerprint(), local.fingerprint());
    let unreachable = Hub { offline: false, ..offline.clone() };
    assert_eq!(Encoder::download(ID, &unreachable, &Device::flex()).unwrap().fingerprint(), local.fingerprint());

    let unknown = |hub: &Hub| Encoder::download("someone/else", hub, &Device::flex()).unwrap_err();
    assert!(matches!(unknown(&offline), EncoderError::Offline { .. }));
    let message = unknown(&hub).to_string();
    assert!(message.contains("someone/else") && message.contains("404"), "{message}");
    let anonymous = Hub { token: None, ..hub };
    let message = Encoder::download(ID, &anonymous, &Device::flex()).unwrap_err().to_string();
    assert!(message.contains("401"), "a refusal is not an outage: {message}");
}
