//! A store that takes every PUT whatever its condition says: what a lake must not lie on. It holds nothing.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

pub struct Lenient {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Lenient {
    /// Serves until the test process ends.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("no free port");
        let port = listener.local_addr().expect("the port is known").port();
        let requests = Arc::new(Mutex::new(vec![]));
        let seen = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let seen = Arc::clone(&seen);
                std::thread::spawn(move || answer(&stream, &seen));
            }
        });
        Self { port, requests }
    }

    /// What a client needs in its environment.
    pub fn env(&self) -> Vec<(String, String)> {
        [
            ("AWS_ENDPOINT_URL", self.endpoint().as_str()),
            ("AWS_ACCESS_KEY_ID", "any"),
            ("AWS_SECRET_ACCESS_KEY", "any"),
            ("AWS_REGION", "us-east-1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The paths of all requests with a method, in order.
    pub fn asked(&self, method: &str) -> Vec<String> {
        let requests = self.requests.lock().expect("no request has failed");
        requests.iter().filter_map(|line| line.strip_prefix(method)?.split(' ').nth(1).map(str::to_owned)).collect()
    }
}

const EMPTY: &str = "<ListBucketResult><KeyCount>0</KeyCount><IsTruncated>false</IsTruncated></ListBucketResult>";

/// The answer to a DeleteObjects of one key.
fn deleted(request: &str) -> String {
    let key = request.split("<Key>").nth(1).and_then(|rest| rest.split("</Key>").next()).expect("a key to delete");
    format!("<DeleteResult><Deleted><Key>{key}</Key></Deleted></DeleteResult>")
}

/// One request to a connection.
fn answer(mut stream: &TcpStream, seen: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream);
    let (mut request, mut length) = (String::new(), 0);
    if reader.read_line(&mut request).is_err() || request.is_empty() {
        return;
    }
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).expect("a request has headers");
        if header.trim().is_empty() {
            break;
        }
        if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length is a number");
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a request has its body");
    seen.lock().expect("no request has failed").push(request.trim().to_owned());
    let (status, body) = match request.split(' ').next() {
        Some("PUT") => ("200 OK", String::new()),
        Some("POST") => ("200 OK", deleted(&String::from_utf8_lossy(&body))),
        Some("GET") if request.contains("list-type=2") => ("200 OK", EMPTY.to_owned()),
        _ => ("404 Not Found", String::new()),
    };
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\nETag: \"any\"\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
        .expect("the client waits for its answer");
}
