// SPDX-License-Identifier: Apache-2.0

//! An answer, as bytes.

use std::io::Write as _;

/// What is answered.
#[derive(Debug, Default)]
pub(crate) struct Response<'a> {
    pub(crate) status: u16,
    pub(crate) content_type: &'a str,
    /// Headers besides those every answer has.
    pub(crate) headers: &'a [(&'a str, &'a str)],
    pub(crate) body: &'a [u8],
}

/// How an answer is put on a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Framing {
    /// Whether the body is left out: its length is told, as a GET would have been told it.
    pub(crate) head_only: bool,
    pub(crate) keep_alive: bool,
    /// Whether the client speaks HTTP/1.0, and has to be told that the connection goes on.
    pub(crate) is_old: bool,
}

impl Framing {
    /// The last answer of a connection.
    pub(crate) const LAST: Self = Self { head_only: false, keep_alive: false, is_old: false };
}

impl Response<'_> {
    /// Appends it to `out`, with headers that are on every answer, each with its end of line. Returns the bytes of the body.
    pub(crate) fn write(&self, framing: Framing, always: &str, out: &mut Vec<u8>) -> usize {
        let connection = match (framing.keep_alive, framing.is_old) {
            (false, _) => "Connection: close\r\n",
            (true, true) => "Connection: keep-alive\r\n",
            (true, false) => "",
        };
        let mut head = format!(
            "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n{connection}{always}",
            self.status,
            reason(self.status),
            self.content_type,
            self.body.len(),
        );
        for (name, value) in self.headers {
            head.extend([name, ": ", value, "\r\n"]);
        }
        head.push_str("\r\n");
        out.extend_from_slice(head.as_bytes());
        let body = if framing.head_only { &[] } else { self.body };
        out.extend_from_slice(body);
        body.len()
    }
}

/// Compresses `body` into `packed`, for speed rather than size.
pub(crate) fn gzip(body: &[u8], packed: &mut Vec<u8>) {
    packed.clear();
    let mut encoder = flate2::write::GzEncoder::new(packed, flate2::Compression::fast());
    // Writing into memory does not fail.
    let _ = encoder.write_all(body).and_then(|()| encoder.try_finish());
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Refused",
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn written(framing: Framing) -> (String, usize) {
        let mut out = Vec::new();
        let headers = [("Allow", "GET")];
        let response = Response { status: 405, content_type: "text/plain", headers: &headers, body: b"No.\n" };
        let length = response.write(framing, "X-Frame-Options: deny\r\n", &mut out);
        (String::from_utf8(out).unwrap(), length)
    }

    #[test]
    fn an_answer_tells_its_length_and_whether_the_connection_goes_on() {
        let (last, length) = written(Framing::LAST);
        let head = "HTTP/1.1 405 Method Not Allowed\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n";
        assert_eq!(last, format!("{head}Connection: close\r\nX-Frame-Options: deny\r\nAllow: GET\r\n\r\nNo.\n"));
        assert_eq!(length, 4);

        let (kept, _) = written(Framing { head_only: false, keep_alive: true, is_old: false });
        assert_eq!(kept, format!("{head}X-Frame-Options: deny\r\nAllow: GET\r\n\r\nNo.\n"));

        let (without_body, length) = written(Framing { head_only: true, keep_alive: true, is_old: true });
        assert_eq!(
            without_body,
            format!("{head}Connection: keep-alive\r\nX-Frame-Options: deny\r\nAllow: GET\r\n\r\n")
        );
        assert_eq!(length, 0);
    }

    #[test]
    fn what_is_packed_can_be_unpacked() {
        let body = b"agent_tx_bytes_total 7\n".repeat(1000);
        let mut packed = b"of the scrape before".to_vec();
        gzip(&body, &mut packed);
        assert!(packed.len() < body.len() / 10, "{}", packed.len());
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked, body);
    }
}
