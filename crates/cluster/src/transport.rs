//! Requests and their answers: how long is waited, when is asked again, and what counts as no answer.

use std::time::Duration;

use http::{Method, Request, Response, header};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::Value;

use crate::error::{Failure, PLAIN};
use crate::{Asked, Cluster, Error};

/// How often a question is asked of a server that is busy, and how long is waited in between at first.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);

impl Cluster {
    pub(crate) async fn ask(&self, asked: Asked<'_>, request: http::Result<Request<Vec<u8>>>) -> Result<Value, Error> {
        let request = request.map_err(|error| Error::Request(error.to_string()))?;
        let answer = self.whole(request).await;
        answer.map_err(|failure| Error::of_request(&self.server, &self.user, asked, failure))
    }

    pub(crate) async fn read(&self, path: &str, accept: &str) -> Result<Value, Error> {
        let request = Request::get(path).header(header::ACCEPT, accept).body(Vec::new());
        let request = request.map_err(|error| Error::Request(error.to_string()))?;
        self.whole(request).await.map_err(|failure| Error::of_connection(&self.server, failure))
    }

    /// A question that changes nothing, though it is a POST.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, Error> {
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/json")
            .body(body.to_string().into_bytes())
            .map_err(|error| Error::Request(error.to_string()))?;
        self.whole(request).await.map_err(|failure| Error::of_connection(&self.server, failure))
    }

    /// An answer as a whole.
    async fn whole(&self, request: Request<Vec<u8>>) -> Result<Value, Failure> {
        let mut body = self.answer(request).await?.into_body();
        let mut text = Vec::new();
        while let Some(bytes) = self.more(&mut body).await? {
            text.extend_from_slice(&bytes);
        }
        serde_json::from_slice(&text).map_err(|error| Failure::Garbled(error.to_string()))
    }

    /// Sends a request once and waits for the head of an answer, good or not.
    pub(crate) async fn send(&self, request: Request<Vec<u8>>) -> Result<Response<Body>, Failure> {
        let sent = tokio::time::timeout(self.patience, self.client.send(request.map(Body::from))).await;
        sent.map_err(|_| Failure::Slow(self.patience))?.map_err(|error| Failure::Transport(Box::new(error)))
    }

    /// Sends a request and waits for the head of a good answer. A server that is busy is asked again, after the pause
    /// that it names; what it may have done already is never asked twice.
    pub(crate) async fn answer(&self, request: Request<Vec<u8>>) -> Result<Response<Body>, Failure> {
        let mut tries = 0;
        loop {
            let answer = self.send(request.clone()).await?;
            if answer.status().is_success() {
                return Ok(answer);
            }
            let status = self.status(answer).await?;
            tries += 1;
            // 429: it has not begun. 503 and 504: it may have.
            let harmless = status.code == 429 || (request.method() == Method::GET && matches!(status.code, 503 | 504));
            if !harmless || tries >= TRIES {
                return Err(Failure::Status(Box::new(status)));
            }
            let named = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
            let pause =
                if named > 0 { Duration::from_secs(u64::from(named.min(10))) } else { PAUSE * 2_u32.pow(tries - 1) };
            tokio::time::sleep(pause).await;
        }
    }

    async fn status(&self, answer: Response<Body>) -> Result<kube::core::Status, Failure> {
        let code = answer.status().as_u16();
        let (mut body, mut text) = (answer.into_body(), Vec::new());
        while let Some(bytes) = self.more(&mut body).await? {
            text.extend_from_slice(&bytes);
        }
        let read = serde_json::from_slice::<kube::core::Status>(&text);
        Ok(read
            .ok()
            .filter(|status| status.code != 0)
            .unwrap_or_else(|| kube::core::Status::failure(&String::from_utf8_lossy(&text), PLAIN).with_code(code)))
    }

    /// The next bytes of an answer.
    pub(crate) async fn more(&self, body: &mut Body) -> Result<Option<Vec<u8>>, Failure> {
        loop {
            let frame = tokio::time::timeout(self.patience, body.frame()).await;
            let Some(frame) = frame.map_err(|_| Failure::Slow(self.patience))? else { return Ok(None) };
            // Other frames are trailers.
            if let Ok(bytes) = frame.map_err(|error| Failure::Transport(Box::new(error)))?.into_data() {
                return Ok(Some(bytes.to_vec()));
            }
        }
    }
}
