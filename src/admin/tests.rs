use super::*;

/// The real server on a port of its own.
struct Server {
    address: SocketAddr,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<io::Result<()>>>,
}

impl Server {
    fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("non-blocking");
        let address = listener.local_addr().expect("address");
        let (health, metrics) = (Arc::new(Health::new()), Arc::new(Metrics::new()));
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let served = (Arc::clone(&health), Arc::clone(&metrics));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener)?;
                serve(listener, served.0, served.1, async { stopped.await.unwrap_or(()) }).await
            })
        });
        Self { address, health, metrics, stop: Some(stop), thread: Some(thread) }
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.address).expect("connection");
        stream.set_read_timeout(Some(SOON)).expect("timeout");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answer");
        answer
    }

    fn stop(&mut self) {
        drop(self.stop.take());
        let served = self.thread.take().expect("running").join().expect("no panic");
        served.expect("served to the end");
    }
}

/// After this a test has failed, on a busy machine too.
const SOON: Duration = Duration::from_secs(180);

#[test]
fn readiness_follows_the_processor() {
    let mut server = Server::start();
    let answer = server.get("/readyz");
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("\r\n\r\nstarting\n"), "{answer}");
    let error = probe_ready(server.address, SOON).expect_err("not ready");
    assert_eq!(error.to_string(), "not ready: starting");

    server.health.set_ready();
    assert!(server.get("/readyz").starts_with("HTTP/1.1 200 "));
    probe_ready(server.address, SOON).expect("ready");
    server.health.set_unready("the disk is full");
    let error = probe_ready(server.address, SOON).expect_err("not ready");
    assert_eq!(error.to_string(), "not ready: the disk is full");

    server.stop();
    assert!(matches!(probe_ready(server.address, SOON), Err(NotReady::NoAnswer { .. })));
}

#[test]
fn liveness_is_a_matter_of_silence() {
    let mut server = Server::start();
    assert!(server.get("/livez").starts_with("HTTP/1.1 200 "));
    server.stop();

    let Some(started) = Instant::now().checked_sub(SILENCE * 2) else { return };
    let health = Health { started, ..Health::new() };
    assert!(health.silence() > SILENCE);
    health.beat();
    assert!(health.silence() < SILENCE);
}

#[test]
fn metrics_are_served_as_openmetrics() {
    let mut server = Server::start();
    server.metrics.batches.inc();
    let answer = server.get("/metrics");
    assert!(answer.contains("content-type: application/openmetrics-text; version=1.0.0"), "{answer}");
    assert!(answer.contains("activity_stream_batches_total 1\n"), "{answer}");
    assert!(server.get("/elsewhere").starts_with("HTTP/1.1 404 "));
    server.stop();
}

/// Something else may listen on the port.
#[test]
fn an_answer_that_is_not_http_is_not_ready() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("address");
    let other = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("connection");
        let mut request = [0; 256];
        let _ = stream.read(&mut request);
        stream.write_all(b"SSH-2.0-OpenSSH 200\r\n").expect("answer");
    });
    assert!(probe_ready(address, SOON).is_err());
    other.join().expect("no panic");
}

/// Not every system connects to "all addresses" as Linux does.
#[test]
fn all_addresses_are_asked_on_the_loopback() {
    let cases =
        [("0.0.0.0:9464", "127.0.0.1:9464"), ("[::]:9464", "[::1]:9464"), ("192.0.2.7:80", "192.0.2.7:80")];
    for (listen, asked) in cases {
        assert_eq!(reachable(listen.parse().expect("address")), asked.parse().expect("address"));
    }
}

/// Whether the other side has closed it, perhaps after an answer.
fn is_closed(mut stream: TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_secs(120))).expect("timeout");
    match stream.read_to_end(&mut Vec::new()) {
        Ok(_) => true,
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn many_connections_that_send_nothing_silence_nobody() {
    let mut server = Server::start();
    let mut idle = Vec::new();
    for count in 0..4 * listener::MOST {
        let mut stream = TcpStream::connect(server.address).expect("connection");
        if count % 2 == 1 {
            stream.write_all(b"GET /livez HTTP/1.1\r\nHost:").expect("half a request");
        }
        idle.push(stream);
        if count % listener::MOST == 0 {
            assert!(server.get("/livez").starts_with("HTTP/1.1 200 "), "{count}");
        }
    }
    assert!(server.get("/livez").starts_with("HTTP/1.1 200 "));
    // The oldest made room.
    assert!(is_closed(idle.remove(0)));
    // No connection is waited for without limit.
    server.stop();
}

#[test]
fn a_request_is_bounded() {
    let mut server = Server::start();
    let long = "x".repeat(64 * 1024);
    for request in [format!("GET /{long} HTTP/1.1\r\n"), format!("GET /livez HTTP/1.1\r\nx: {long}\r\n")] {
        let mut stream = TcpStream::connect(server.address).expect("connection");
        // It may be closed before everything is sent.
        let _ = stream.write_all(request.as_bytes());
        assert!(is_closed(stream));
    }
    // A request whose headers never end is not waited for.
    let mut stream = TcpStream::connect(server.address).expect("connection");
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n").expect("half a request");
    assert!(is_closed(stream));
    assert!(server.get("/livez").starts_with("HTTP/1.1 200 "));
    server.stop();
}
