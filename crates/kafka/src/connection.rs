//! Why no broker can be reached, in words: network, login, certificates, and their files.

use std::{
    io::{self, Read as _, Write as _},
    net::{TcpStream, ToSocketAddrs as _},
    path::Path,
    time::Duration,
};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use thiserror::Error;

use super::{Settings, client, native};

/// Properties that name a file.
const FILES: [&str; 5] = [
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.key.location",
    "ssl.keystore.location",
    "ssl.crl.location",
];

/// Why a broker can't be reached.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConnectionError {
    #[error("no broker answers at '{servers}': {reason}. Check kafka.bootstrap_servers and the network")]
    Unreachable { servers: String, reason: String },
    #[error("the broker at '{servers}' refuses the login: {reason}. Check the sasl.* and ssl.* properties")]
    LoginRefused { servers: String, reason: String },
    #[error(
        "the listener at '{servers}' expects TLS, and security.protocol is {protocol}. Name the port of a listener with \
         that protocol, or set it to the listener's: '-X security.protocol={wanted}'"
    )]
    ExpectsTls { servers: String, protocol: String, wanted: &'static str },
    #[error(
        "the listener at '{servers}' does not speak TLS: security.protocol is {protocol}. Name the port of a listener \
         with that protocol, or set it to the listener's: '-X security.protocol={wanted}'"
    )]
    WithoutTls { servers: String, protocol: String, wanted: &'static str },
    #[error(
        "the certificate of the broker at '{servers}' is not signed by a CA that this side trusts. Name the file with the \
         CA's certificate: '-X ssl.ca.location=FILE' (now: {ca})"
    )]
    UnknownCa { servers: String, ca: String },
    #[error(
        "the certificate of the broker at '{servers}' has expired, or is not valid yet. Compare the clocks, or renew it \
         there. Its dates: openssl s_client -connect {servers} </dev/null | openssl x509 -noout -dates"
    )]
    NotValidNow { servers: String },
    #[error(
        "the certificate of the broker at '{servers}' is for another host. Use a name that it holds in \
         kafka.bootstrap_servers and in the broker's advertised.listeners. Its names: openssl s_client -connect {servers} \
         </dev/null | openssl x509 -noout -ext subjectAltName"
    )]
    OtherHost { servers: String },
    #[error(
        "the certificate of the broker at '{servers}' is not accepted ({reason}). Check the ssl.* properties, and the \
         certificate: openssl s_client -connect {servers} </dev/null | openssl x509 -noout -text"
    )]
    Certificate { servers: String, reason: String },
    #[error(
        "the broker at '{servers}' wants a certificate of this side, and accepts none so far: {reason}. Name one that a CA \
         signed that the broker trusts: '-X ssl.certificate.location=FILE' and '-X ssl.key.location=FILE', or '-X \
         ssl.keystore.location=FILE'"
    )]
    WantsCertificate { servers: String, reason: String },
}

impl ConnectionError {
    /// From the last client-wide error or, without one, from that of the failed request.
    #[must_use]
    pub fn of(
        settings: &Settings,
        last: Option<(Option<RDKafkaErrorCode>, String)>,
        error: &KafkaError,
    ) -> Self {
        let servers = settings.bootstrap_servers.clone();
        let Some((code, reason)) = last else {
            return Self::Unreachable { servers, reason: error.to_string() };
        };
        let protocol = settings.properties.get("security.protocol").map_or("plaintext", String::as_str);
        let protocol = protocol.to_ascii_lowercase();
        let has_sasl = protocol.starts_with("sasl");
        let says = |text: &str| reason.contains(text);
        if code == Some(RDKafkaErrorCode::Authentication) {
            return Self::LoginRefused { servers, reason: essence(&reason).to_owned() };
        }
        if says("certificate verify failed") {
            return Self::certificate(settings, essence(&reason));
        }
        // Alerts with which a listener refuses a client's certificate, or the lack of one.
        if ["certificate required", "bad certificate", "unknown ca", "alert certificate"]
            .iter()
            .any(|alert| says(alert))
            || says("client SSL authentication might be required")
        {
            return Self::WantsCertificate { servers, reason: essence(&reason).to_owned() };
        }
        let is_tls = protocol.ends_with("ssl");
        if is_tls
            && ["PLAINTEXT broker listener", "wrong version number", "packet length too long"]
                .iter()
                .any(|text| says(text))
        {
            let wanted = if has_sasl { "sasl_plaintext" } else { "plaintext" };
            return Self::WithoutTls { servers, protocol, wanted };
        }
        // librdkafka reports a disconnect at most.
        if !is_tls && speaks_tls(&servers) {
            let wanted = if has_sasl { "sasl_ssl" } else { "ssl" };
            return Self::ExpectsTls { servers, protocol, wanted };
        }
        Self::Unreachable { servers, reason: essence(&reason).to_owned() }
    }

    /// librdkafka reports every refused certificate alike; OpenSSL's number says why.
    fn certificate(settings: &Settings, reason: &str) -> Self {
        let servers = settings.bootstrap_servers.clone();
        match native::certificate_error(&client::admin(settings)) {
            // From OpenSSL's x509_vfy.h: no trusted issuer, or self-signed; not yet valid, or expired; wrong host or
            // address.
            Some(2 | 18..=21) => {
                let ca = settings.properties.get("ssl.ca.location");
                let ca = ca.map_or("the system's".to_owned(), |file| format!("'{file}'"));
                Self::UnknownCa { servers, ca }
            }
            Some(9 | 10) => Self::NotValidNow { servers },
            Some(62 | 64) => Self::OtherHost { servers },
            Some(number) => Self::Certificate { servers, reason: format!("{reason}; X509 error {number}") },
            None => Self::Certificate { servers, reason: reason.to_owned() },
        }
    }
}

/// Whether one of the addresses answers the beginning of a TLS handshake with one, or with an alert.
fn speaks_tls(servers: &str) -> bool {
    const PATIENCE: Duration = Duration::from_secs(2);
    const ALERT: u8 = 0x15;
    const HANDSHAKE: u8 = 0x16;
    // A record with a ClientHello of TLS 1.2: version, 32 random bytes, no session, one cipher suite, no compression.
    let mut hello = vec![HANDSHAKE, 3, 1, 0, 45, 1, 0, 0, 41, 3, 3];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x2f, 1, 0]);
    let ask = |server: &str| -> io::Result<bool> {
        let address = server.to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&hello)?;
        let mut first = [0];
        stream.read_exact(&mut first)?;
        Ok(matches!(first[0], ALERT | HANDSHAKE))
    };
    let servers = servers.split(',').map(|server| server.rsplit('/').next().unwrap_or(server).trim());
    servers.into_iter().any(|server| ask(server).unwrap_or(false))
}

/// Why no Kafka client can be made with these properties.
#[must_use]
pub fn not_made(settings: &Settings, error: &KafkaError) -> String {
    let reason = match error {
        KafkaError::ClientCreation(reason) | KafkaError::ClientConfig(_, reason, _, _) => reason.clone(),
        other => other.to_string(),
    };
    let property = |name: &str| settings.properties.get(name);
    for name in FILES {
        let Some(file) = property(name) else { continue };
        if let Err(error) = std::fs::File::open(Path::new(file)).and_then(|file| file.metadata().map(drop)) {
            let what = match error.kind() {
                io::ErrorKind::NotFound => "does not exist".to_owned(),
                _ => format!("can't be read: {error}"),
            };
            return format!("the file '{file}' {what}. Set {name} to a file that this user may read");
        }
    }
    let says = |texts: &[&str]| texts.iter().any(|text| reason.contains(text));
    if says(&[
        "bad decrypt",
        "maybe wrong password",
        "mac verify failure",
        "bad password read",
        "BAD_DECRYPT",
    ]) {
        let (file, password) = match property("ssl.keystore.location") {
            Some(_) => ("ssl.keystore.location", "ssl.keystore.password"),
            None => ("ssl.key.location", "ssl.key.password"),
        };
        let name = property(file).map_or_else(String::new, |name| format!(" '{name}'"));
        return format!(
            "the private key in{name} ({file}) can't be decrypted: {password} is wrong, or not set. Set it"
        );
    }
    if says(&["not available at build time", "built with SSL support", "requires OpenSSL", "SASL_SCRAM"]) {
        return format!(
            "this program was built without TLS and SASL/SCRAM: {reason}. Build it with them: cargo build --release \
             --features ssl"
        );
    }
    format!("librdkafka refuses the properties together: {reason}")
}

/// librdkafka's text about a connection, without its name for the broker and its statistics.
fn essence(reason: &str) -> &str {
    let reason = reason.split_once("/bootstrap: ").map_or(reason, |(_, reason)| reason);
    reason.split_once(" (after ").map_or(reason, |(reason, _)| reason)
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    /// `reason` is librdkafka 2.12's text, with the broker's name before it and statistics after it.
    fn explained(servers: &str, protocol: &str, code: RDKafkaErrorCode, reason: &str) -> String {
        let settings = Settings::for_test(servers, &[("security.protocol", protocol)]);
        let failed = KafkaError::MetadataFetch(RDKafkaErrorCode::BrokerTransportFailure);
        ConnectionError::of(&settings, Some((Some(code), reason.to_owned())), &failed).to_string()
    }

    #[test]
    fn distinguishes_a_listener_with_another_protocol_from_an_absent_one() {
        use RDKafkaErrorCode as Code;
        let away = |servers: &str, protocol: &str| {
            explained(servers, protocol, Code::AllBrokersDown, "1/1 brokers are down")
        };
        // One that answers with an alert, and then one that closes the connection.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let answering = thread::spawn(move || {
            for answer in [&[0x15_u8, 3, 3, 0, 2][..], &[0x15, 3, 3], &[]] {
                let mut stream = listener.accept().unwrap().0;
                stream.read_exact(&mut [0; 50]).unwrap();
                stream.write_all(answer).unwrap();
            }
        });
        let said = away(&address, "plaintext");
        assert!(said.contains("expects TLS") && said.ends_with("'-X security.protocol=ssl'"), "{said}");
        let said = away(&address, "SASL_PLAINTEXT");
        assert!(said.ends_with("'-X security.protocol=sasl_ssl'"), "{said}");
        let said = away(&address, "plaintext");
        assert!(
            said.starts_with(&format!("no broker answers at '{address}': 1/1 brokers are down")),
            "{said}"
        );
        answering.join().unwrap();

        let handshake = "ssl://b:9092/bootstrap: SSL handshake failed: Disconnected: connecting to a PLAINTEXT broker \
                         listener? (after 3ms in state SSL_HANDSHAKE)";
        let said = explained("b:9092", "SASL_SSL", Code::BrokerTransportFailure, handshake);
        assert!(
            said.contains("does not speak TLS") && said.ends_with("'-X security.protocol=sasl_plaintext'"),
            "{said}"
        );
        let login = "b:9092/bootstrap: SASL authentication error: no";
        let said = explained("b:9092", "sasl_ssl", Code::Authentication, login);
        assert!(
            said.starts_with("the broker at 'b:9092' refuses the login: SASL authentication error: no"),
            "{said}"
        );
    }

    #[test]
    fn a_reason_is_without_what_only_librdkafka_wants_to_know() {
        let said = "127.0.0.1:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused (after 0ms in \
                    state CONNECT, 1 identical error(s) suppressed)";
        assert_eq!(essence(said), "Connect to ipv4#127.0.0.1:1 failed: Connection refused");
        assert_eq!(essence("no"), "no");
    }
}
