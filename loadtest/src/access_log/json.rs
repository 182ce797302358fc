//! nginx's log as JSON, one object per line, with the names of nginx's variables or common names for them.

use super::{LogLine, client, hour_of, method_and_target, present};
use serde_json::{Map, Value};
use std::net::IpAddr;

/// Behind a proxy the first of these is the visitor's address.
const ADDRESSES: [&str; 6] = [
    "http_x_forwarded_for",
    "x_forwarded_for",
    "remote_addr",
    "client_ip",
    "remote_ip",
    "client",
];
const TIMES: [&str; 5] = [
    "time_iso8601",
    "time_local",
    "@timestamp",
    "timestamp",
    "time",
];
const REFERRERS: [&str; 4] = ["http_referer", "http_referrer", "referer", "referrer"];
const AGENTS: [&str; 3] = ["http_user_agent", "user_agent", "agent"];
const TARGETS: [&str; 2] = ["request_uri", "uri"];
const METHODS: [&str; 2] = ["request_method", "method"];

pub(super) fn parse(line: &[u8]) -> Option<LogLine> {
    // nginx writes bytes of user agents and referrers that are not UTF-8 unchanged.
    let fields: Map<String, Value> = serde_json::from_str(&String::from_utf8_lossy(line)).ok()?;
    let (method, target) = request(&fields)?;
    Some(LogLine {
        address: address(&fields)?,
        hour: hour(&fields)?,
        method,
        target,
        referrer: text(&fields, &REFERRERS).and_then(|it| present(it.into())),
        agent: text(&fields, &AGENTS).and_then(|it| present(it.into())),
    })
}

fn text<'f>(fields: &'f Map<String, Value>, names: &[&str]) -> Option<&'f str> {
    names.iter().find_map(|name| fields.get(*name)?.as_str())
}

fn address(fields: &Map<String, Value>) -> Option<IpAddr> {
    let texts = ADDRESSES
        .iter()
        .filter_map(|name| fields.get(*name)?.as_str());
    texts.filter_map(client).next()
}

fn request(fields: &Map<String, Value>) -> Option<(String, Vec<u8>)> {
    if let Some(line) = text(fields, &["request"]) {
        return method_and_target(line.as_bytes());
    }
    let (method, target) = (text(fields, &METHODS)?, text(fields, &TARGETS)?);
    method_and_target(format!("{method} {target}").as_bytes())
}

/// The hour of `2015-05-17T10:05:03+00:00` or of the time in the combined format.
fn hour(fields: &Map<String, Value>) -> Option<String> {
    let time = text(fields, &TIMES)?;
    let is_iso = |hour: &&str| {
        let pattern = b"dddd-dd-ddTdd";
        let mut bytes = hour.bytes().zip(pattern);
        bytes.all(|(byte, expected)| match expected {
            b'd' => byte.is_ascii_digit(),
            _ => byte == *expected,
        })
    };
    time.get(..13)
        .filter(is_iso)
        .map(str::to_owned)
        .or_else(|| hour_of(time))
}

#[cfg(test)]
mod tests {
    use super::super::parse;

    #[test]
    fn only_complete_nginx_objects_are_parsed() {
        for (line, expected) in [
            (
                r#"{"time_iso8601":"2015-05-17T10:05:03+00:00","remote_addr":"83.149.9.216","request":"GET /a?b=1 HTTP/1.1","status":200,"http_referer":"-","http_user_agent":"Mozilla \"x\""}"#,
                "83.149.9.216 2015-05-17T10 GET /a?b=1 None Some(\"Mozilla \\\"x\\\"\")",
            ),
            (
                r#"{"time_local":"17/May/2015:10:05:03 +0000","remote_addr":"10.0.0.7","http_x_forwarded_for":"2001:db8::1, 10.0.0.8","request_method":"HEAD","request_uri":"/x","http_referer":"http://x/"}"#,
                "2001:db8::1 2015-05-17T10 HEAD /x Some(\"http://x/\") None",
            ),
            (
                r#"{"time":"2015-05-17T10:05:03Z","remote_addr":"10.0.0.7","http_x_forwarded_for":"-","request":"GET / HTTP/2.0"}"#,
                "10.0.0.7 2015-05-17T10 GET / None None",
            ),
            (
                r#"{"remote_addr":"10.0.0.7","request":"GET / HTTP/2.0"}"#,
                "",
            ),
            (
                r#"{"time":"2015-05-17T10:05:03Z","request":"GET / HTTP/2.0"}"#,
                "",
            ),
            (
                r#"{"time":"2015-05-17T10:05:03Z","remote_addr":"10.0.0.7","request":""}"#,
                "",
            ),
            (
                r#"{"time":"yesterday","remote_addr":"10.0.0.7","request":"GET / HTTP/2.0"}"#,
                "",
            ),
            (r#"{"remote_addr":"10.0.0.7","#, ""),
        ] {
            let read = parse(line.as_bytes()).map_or(String::new(), |it| {
                let shown = |text: Option<Vec<u8>>| {
                    text.map(|it| String::from_utf8_lossy(&it).into_owned())
                };
                let target = String::from_utf8_lossy(&it.target).into_owned();
                let (referrer, agent) = (shown(it.referrer), shown(it.agent));
                format!(
                    "{} {} {} {target} {referrer:?} {agent:?}",
                    it.address, it.hour, it.method
                )
            });
            assert_eq!(read, expected, "{line}");
        }
    }
}
