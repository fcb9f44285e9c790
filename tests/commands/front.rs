//! A door before the real API server: everything that passes is the real server's, but the door may answer something
//! itself, take a header away, or end whoever knocks. It serves one test, on loopback.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::sync::Arc;

use bedplate_tests::Harness;

/// A request as it came.
pub(crate) struct Knock {
    pub(crate) method: String,
    pub(crate) path: String,
    headers: Vec<String>,
    body: Vec<u8>,
}

/// What the door does with one.
pub(crate) enum Door {
    /// The server answers.
    Open,
    /// The server answers; it does not see this header.
    Without(&'static str),
    /// This is the answer: a status and JSON.
    Says(u16, String),
    /// No answer, ever.
    Silent,
}

/// A door that is open until it is dropped.
pub(crate) struct Front {
    pub(crate) address: SocketAddr,
    proxy: Child,
}

impl Front {
    /// A door whose keeper decides about each request, and hears when the server has answered one.
    pub(crate) fn new(
        c: &Harness,
        keeper: impl Fn(&Knock) -> Door + Send + Sync + 'static,
        answered: impl Fn(&Knock) + Send + Sync + 'static,
    ) -> Self {
        // Credentials and TLS are kubectl's.
        let mut proxy = c.cluster.kubectl().unwrap();
        let mut proxy = proxy.args(["proxy", "--port=0", "--reject-paths=^$"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(proxy.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let behind: SocketAddr = line.trim().rsplit(' ').next().unwrap().parse().unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (keeper, answered) = (Arc::new(keeper), Arc::new(answered));
        // Ends with the process of the test.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (keeper, answered) = (keeper.clone(), answered.clone());
                std::thread::spawn(move || {
                    let _ = serve(stream, behind, &*keeper, &*answered);
                });
            }
        });
        Self { address, proxy }
    }

    /// A kubeconfig's `cluster` for it.
    pub(crate) fn cluster(&self) -> serde_json::Value {
        serde_json::json!({ "server": format!("http://{}", self.address) })
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        let _ = self.proxy.kill();
        let _ = self.proxy.wait();
    }
}

/// One request a connection: both sides are told that it is closed then.
fn serve(
    mut client: TcpStream,
    behind: SocketAddr,
    keeper: &dyn Fn(&Knock) -> Door,
    answered: &dyn Fn(&Knock),
) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let (mut headers, mut length) = (Vec::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        if !lower.starts_with("connection:") && !lower.starts_with("host:") {
            headers.push(line);
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let mut knock = Knock { method, path, headers, body };
    match keeper(&knock) {
        Door::Silent => loop {
            std::thread::park();
        },
        Door::Says(status, text) => {
            return write!(
                client,
                "HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
                text.len()
            );
        }
        Door::Without(header) => {
            let header = format!("{header}:");
            knock.headers.retain(|line| !line.to_ascii_lowercase().starts_with(&header));
        }
        Door::Open => {}
    }
    let mut server = TcpStream::connect(behind)?;
    write!(server, "{} {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n", knock.method, knock.path)?;
    for line in &knock.headers {
        write!(server, "{line}\r\n")?;
    }
    write!(server, "\r\n")?;
    server.write_all(&knock.body)?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    answered(&knock);
    client.write_all(&answer)
}
