//! Readings of the API server's lanes while it runs.

use bedplate_apf::live::{METRICS, REQUESTS, Reading};
use http::Request;

use crate::{Cluster, Error};

/// A longer line is passed over: no metric and no request has one.
const MOST_BYTES: usize = 64 << 10;

impl Cluster {
    /// Reads the metrics of flow control and who has requests now. Answers are read as they come and not kept.
    ///
    /// # Errors
    /// No answer; no rights; a server without flow control.
    pub async fn reading(&self) -> Result<Reading, Error> {
        let mut reading = Reading::default();
        self.lines(METRICS, |line| reading.metric(line)).await?;
        if reading.levels.is_empty() {
            return Err(Error::NoSuchResource("flow control (API Priority and Fairness is switched off)".to_owned()));
        }
        self.lines(&format!("{REQUESTS}?includeRequestDetails=1"), |line| reading.request(line)).await?;
        Ok(reading)
    }

    /// Each line of an answer.
    pub(crate) async fn lines(&self, path: &str, mut each: impl FnMut(&str)) -> Result<(), Error> {
        let failed = |failure| Error::of_connection(&self.server, failure);
        let request = Request::get(path).body(Vec::new()).map_err(|error| Error::Request(error.to_string()))?;
        let mut body = self.answer(request).await.map_err(failed)?.into_body();
        let mut lines = Lines::default();
        while let Some(part) = self.more(&mut body).await.map_err(failed)? {
            lines.feed(&part, &mut each);
        }
        lines.feed(b"\n", &mut each);
        Ok(())
    }
}

/// Lines of bytes that come in parts.
#[derive(Default)]
struct Lines {
    line: Vec<u8>,
    too_long: bool,
}

impl Lines {
    fn feed(&mut self, bytes: &[u8], each: &mut impl FnMut(&str)) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.too_long |= self.line.len() + part.len() > MOST_BYTES;
            if !self.too_long {
                self.line.extend_from_slice(part);
            }
            if part.last() == Some(&b'\n') {
                if !self.too_long
                    && let Ok(line) = std::str::from_utf8(&self.line)
                {
                    each(line.trim_end_matches(['\r', '\n']));
                }
                self.line.clear();
                self.too_long = false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together_and_what_is_too_long_is_passed_over() {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        let long = vec![b'x'; MOST_BYTES];
        for part in [&b"on"[..], b"e\r\ntwo\nth", &long, &long, b"ree\n\xff\nfour", b"\n"] {
            lines.feed(part, &mut |line| seen.push(line.to_owned()));
        }
        assert_eq!(seen, ["one", "two", "four"]);
    }
}
