//! A component whose behaviour, good or bad, the request's path selects; for tests and measurements of the host.
#![forbid(unsafe_code)]
#![cfg(target_arch = "wasm32")]
#![allow(missing_docs, unreachable_pub, reason = "its only interface is HTTP")]

mod scripted_body;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use spin_sdk::http::body::IncomingBodyExt as _;
use spin_sdk::http::{BoxBody, FullBody, Request, Response, box_body};
use spin_sdk::http_service;
use spin_sdk::key_value::Store;
use spin_sdk::wasip3::http::types::Fields;
use std::sync::atomic::{AtomicU32, Ordering};

/// Calls to `/calls` of this instance.
static CALLS: AtomicU32 = AtomicU32::new(0);
/// Background tasks of this instance that have ended.
static ENDED_TASKS: AtomicU32 = AtomicU32::new(0);

#[http_service]
async fn respond(request: Request) -> Response<BoxBody> {
    let path = request.uri().path().to_owned();
    let argument = request.uri().query().unwrap_or_default().to_owned();
    let text = match path.as_str() {
        "/" => start().await,
        "/hello" => "hello".into(),
        "/calls" => CALLS.fetch_add(1, Ordering::Relaxed).to_string(),
        "/echo" => {
            let body = request.into_body();
            return Response::new(box_body(body));
        }
        "/parts" => return Response::new(box_body(scripted_body::ScriptedBody::new(&argument))),
        "/length" => match request.into_body().bytes().await {
            Ok(body) => body.len().to_string(),
            Err(error) => format!("{error:?}"),
        },
        "/header" => {
            let value = request.headers().get(argument.as_str());
            format!("{value:?}")
        }
        "/spin" => spin(),
        "/allocate" => allocate(),
        "/create-headers" => create_headers(&argument),
        "/grow-headers" => grow_headers(),
        "/panic" => panic!("panic requested"),
        "/wait" => wait().await,
        "/print" => {
            eprint!("{}", "print ".repeat(argument.parse().unwrap_or(0)));
            "printed".into()
        }
        "/background" => {
            spin_sdk::wit_bindgen::spawn(background(argument.parse().unwrap_or(0)));
            "started".into()
        }
        "/ended-tasks" => ENDED_TASKS.load(Ordering::Relaxed).to_string(),
        "/large" => "x".repeat(argument.parse().unwrap_or(0)),
        "/variable" => format!("{:?}", spin_sdk::variables::get(&argument).await),
        "/stored" => stored(&argument).await,
        "/keys" => keys().await,
        "/write" => write(&argument).await,
        "/fetch" => fetch(&argument).await,
        "/fetch-until-error" => fetch_until_error(&argument).await,
        "/report" => match request.into_body().bytes().await {
            Ok(body) => report(&argument, body).await,
            Err(error) => format!("{error:?}"),
        },
        other => format!("no behaviour at {other}"),
    };
    Response::new(box_body(FullBody::new(Bytes::from(text))))
}

/// The path of the host's smoke test.
async fn start() -> String {
    match spin_sdk::variables::get("greeting").await.as_deref() {
        Ok("panic at once") => panic!("panic requested"),
        Ok("spin at once") => spin(),
        _ => String::new(),
    }
}

fn spin() -> String {
    let mut number = 0_u64;
    loop {
        number = std::hint::black_box(number.wrapping_add(1));
    }
}

fn allocate() -> String {
    let mut all: Vec<Vec<u8>> = Vec::new();
    loop {
        all.push(std::hint::black_box(vec![1; 1 << 20]));
    }
}

/// Creates that many header resources, which the host keeps.
fn create_headers(number: &str) -> String {
    let number = number.parse().unwrap_or(0);
    let all: Vec<Fields> = (0..number).map(|_| Fields::new()).collect();
    all.len().to_string()
}

/// Appends to one header resource until the host refuses.
fn grow_headers() -> String {
    let fields = Fields::new();
    loop {
        if let Err(error) = fields.append("x-more", &[b'x'; 1_000]) {
            return format!("{error:?}");
        }
    }
}

/// Continues after the response is sent.
async fn background(milliseconds: u64) {
    spin_sdk::time::sleep(std::time::Duration::from_millis(milliseconds)).await;
    ENDED_TASKS.fetch_add(1, Ordering::Relaxed);
}

/// Waits for longer than the wall time of any call.
async fn wait() -> String {
    spin_sdk::time::sleep(std::time::Duration::from_secs(60)).await;
    String::new()
}

async fn stored(key: &str) -> String {
    match Store::open("facts").await {
        Ok(store) => match store.get(key).await {
            Ok(value) => format!(
                "{:?}",
                value.map(|it| String::from_utf8_lossy(&it).into_owned())
            ),
            Err(error) => format!("{error:?}"),
        },
        Err(error) => format!("{error:?}"),
    }
}

async fn keys() -> String {
    match Store::open("facts").await {
        Ok(store) => match store.get_keys().await.collect().await {
            Ok(keys) => keys.join(" "),
            Err(error) => format!("{error:?}"),
        },
        Err(error) => format!("{error:?}"),
    }
}

async fn write(key: &str) -> String {
    match Store::open("facts").await {
        Ok(store) => format!("{:?}", store.set(key, b"value").await),
        Err(error) => format!("{error:?}"),
    }
}

async fn fetch(url: &str) -> String {
    match spin_sdk::http::post(url, "question").await {
        Ok(response) => {
            let status = response.status();
            let body = response.into_body().collect().await;
            let body = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned());
            format!("{status} {body:?}")
        }
        Err(error) => format!("{error:?}"),
    }
}

/// Sends requests until one fails; returns the number of responses, and the error.
async fn fetch_until_error(url: &str) -> String {
    let mut responses = 0;
    loop {
        match spin_sdk::http::get(url).await {
            Ok(_) => responses += 1,
            Err(error) => return format!("{responses} {error:?}"),
        }
    }
}

/// Sends a message to the edge, with the token from its variables.
async fn report(path: &str, message: Bytes) -> String {
    let token = spin_sdk::variables::get("token").await.unwrap_or_default();
    let request = spin_sdk::http::Request::post(format!("http://tracker.internal{path}"))
        .header("authorization", format!("Bearer {token}"))
        .body(FullBody::new(message));
    let Ok(request) = request else {
        return "invalid request".into();
    };
    match spin_sdk::http::send(request).await {
        Ok(response) => response.status().as_u16().to_string(),
        Err(error) => format!("{error:?}"),
    }
}
