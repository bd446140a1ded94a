//! Health and metrics of an instance that listens.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use super::process::{Instance, PATIENCE};

pub const LISTEN: [&str; 2] = ["--set", "admin.listen=127.0.0.1:0"];

/// Where it answers; `None` before it does.
pub fn address(instance: &Instance) -> Option<String> {
    let said = instance.stderr();
    let (_, address) = said.split_once("health and metrics address=")?;
    Some(address.split_whitespace().next()?.to_owned())
}

/// Its answer, of which the first line has the status.
fn get(instance: &Instance, path: &str) -> String {
    let address = address(instance).expect("an address");
    let mut stream = TcpStream::connect(&address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").expect("asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// Why it is not ready; `None` where it is.
pub fn unready(instance: &Instance) -> Option<String> {
    let answer = get(instance, "/readyz");
    (!answer.starts_with("HTTP/1.1 200")).then_some(answer)
}

/// The sum of a metric over all partitions, and how many it has.
pub fn metric(instance: &Instance, name: &str) -> (i64, usize) {
    let page = get(instance, "/metrics");
    let name = format!("activity_stream_{name}{{");
    let values: Vec<i64> = page
        .lines()
        .filter(|line| line.starts_with(&name))
        .map(|line| line.rsplit(' ').next().expect("a value").parse().expect("a number"))
        .collect();
    (values.iter().sum(), values.len())
}
