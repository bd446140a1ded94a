//! A broker with TLS: login with SCRAM and PLAIN. Each kind of failure has its own message.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use super::{
    broker::{Cluster, Further},
    guard,
    load::Load,
    process::{PATIENCE, Setup},
    progress::Progress,
    seed,
};

const PASSWORD: &str = "changeit";
const COMMANDS: u32 = 200;

/// Keys and certificates in one folder, made by Java's keytool, by which the brokers read them.
struct Keys {
    folder: PathBuf,
}

impl Keys {
    fn keytool(&self, arguments: &[&str]) {
        let program = std::env::var_os("JAVA_HOME")
            .map_or_else(|| "keytool".into(), |home| Path::new(&home).join("bin/keytool"));
        let output = Command::new(program)
            .current_dir(&self.folder)
            .args(arguments)
            .args(["-storepass", PASSWORD])
            .stdin(Stdio::null())
            .output()
            .expect("keytool of Java");
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    }

    /// A CA, and its certificate as `NAME.pem`.
    fn ca(&self, name: &str) {
        let store = format!("{name}.p12");
        let subject = format!("CN={name}");
        self.keytool(&[
            "-genkeypair",
            "-alias",
            name,
            "-keystore",
            &store,
            "-dname",
            &subject,
            "-keyalg",
            "EC",
            "-ext",
            "bc:c",
        ]);
        self.keytool(&[
            "-exportcert",
            "-rfc",
            "-alias",
            name,
            "-keystore",
            &store,
            "-file",
            &format!("{name}.pem"),
        ]);
    }

    /// `NAME.p12` with a key, and with a certificate by the first CA that is valid for this.
    fn signed(&self, name: &str, valid_for: &str, dates: &[&str]) {
        let store = format!("{name}.p12");
        let (subject, request, certificate) =
            (format!("CN={name}"), format!("{name}.csr"), format!("{name}.crt"));
        self.keytool(&[
            "-genkeypair",
            "-alias",
            name,
            "-keystore",
            &store,
            "-dname",
            &subject,
            "-keyalg",
            "EC",
        ]);
        self.keytool(&["-certreq", "-alias", name, "-keystore", &store, "-file", &request]);
        let san = format!("san={valid_for}");
        let mut sign = vec!["-gencert", "-rfc", "-alias", "ca", "-keystore", "ca.p12", "-infile", &request];
        sign.extend(["-outfile", &certificate, "-ext", &san]);
        sign.extend(dates);
        self.keytool(&sign);
        self.keytool(&["-importcert", "-noprompt", "-alias", "ca", "-keystore", &store, "-file", "ca.pem"]);
        self.keytool(&["-importcert", "-alias", name, "-keystore", &store, "-file", &certificate]);
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// What `check` says with these properties, where it fails.
fn refused(setup: &Setup, address: &str, properties: &[(&str, &str)]) -> String {
    let mut check = setup.program(&["check", "-b", address]);
    for (name, value) in properties {
        check.args(["-X", &format!("{name}={value}")]);
    }
    let output = check.output().expect("check");
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let problems: Vec<_> = text.lines().filter(|line| line.starts_with("problem  ")).collect();
    assert_eq!(problems.len(), 1, "{text}");
    problems[0].to_owned()
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn tls_works_and_each_way_in_which_it_fails_has_its_own_sentence() {
    let folder = guard::folder("keys");
    let keys = Keys { folder: folder.path().to_owned() };
    keys.ca("ca");
    keys.ca("other");
    keys.signed("good", "ip:127.0.0.1,dns:localhost", &[]);
    keys.signed("expired", "ip:127.0.0.1", &["-startdate", "-10d", "-validity", "2"]);
    keys.signed("elsewhere", "dns:broker.example.org", &[]);
    let mut settings = vec![
        ("listener.name.good.sasl.enabled.mechanisms".to_owned(), "SCRAM-SHA-512,PLAIN".to_owned()),
        (
            "listener.name.good.scram-sha-512.sasl.jaas.config".to_owned(),
            "org.apache.kafka.common.security.scram.ScramLoginModule required;".to_owned(),
        ),
        (
            "listener.name.good.plain.sasl.jaas.config".to_owned(),
            "org.apache.kafka.common.security.plain.PlainLoginModule required user_paul=\"secret\" \
             user_mary=\"secret\";"
                .to_owned(),
        ),
        // Susan and Paul may do everything, Mary nothing; the open listener serves the tests' own clients.
        (
            "authorizer.class.name".to_owned(),
            "org.apache.kafka.metadata.authorizer.StandardAuthorizer".to_owned(),
        ),
        ("super.users".to_owned(), "User:ANONYMOUS;User:susan;User:paul".to_owned()),
        // Keys that brokers know anyway, and clients have to show there.
        ("listener.name.mutual.ssl.client.auth".to_owned(), "required".to_owned()),
        ("listener.name.mutual.ssl.truststore.location".to_owned(), keys.path("good.p12")),
        ("listener.name.mutual.ssl.truststore.password".to_owned(), PASSWORD.to_owned()),
    ];
    for (listener, name) in
        [("good", "good"), ("expired", "expired"), ("elsewhere", "elsewhere"), ("mutual", "good")]
    {
        let mut set = |what: &str, value: &str| {
            settings.push((format!("listener.name.{listener}.ssl.{what}"), value.to_owned()));
        };
        set("keystore.location", &keys.path(&format!("{name}.p12")));
        set("keystore.type", "PKCS12");
        set("keystore.password", PASSWORD);
        set("key.password", PASSWORD);
    }
    let settings: Vec<_> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let further = Further {
        listeners: &[("GOOD", "SASL_SSL"), ("EXPIRED", "SSL"), ("ELSEWHERE", "SSL"), ("MUTUAL", "SSL")],
        credentials: &[
            "SCRAM-SHA-512=[name=susan,password=secret]",
            "SCRAM-SHA-512=[name=mary,password=secret]",
        ],
    };
    let cluster = Cluster::guarded(&settings, &further);
    let setup = Setup::new("tls", &cluster.servers(), 1);
    let ca = keys.path("ca.pem");

    let load = Load { seed: seed("tls"), commands: COMMANDS };
    load.post(&cluster.servers(), &setup.names.commands, 0..COMMANDS).finish();
    let lacking =
        format!("user 'mary' lacks Read on the topic '{}'. Grant it: kafka-acls.sh", setup.names.commands);
    for (instance, mechanism, user) in [
        ("scram", "SCRAM-SHA-512", "susan"),
        ("plain", "PLAIN", "paul"),
        ("scram-mary", "SCRAM-SHA-512", "mary"),
        ("plain-mary", "PLAIN", "mary"),
    ] {
        let may_nothing = user == "mary";
        let good = cluster.address("GOOD");
        let (mechanism, user) = (format!("sasl.mechanism={mechanism}"), format!("sasl.username={user}"));
        let ca = format!("ssl.ca.location={ca}");
        let group = format!("kafka.group={}-{instance}", setup.names.group);
        let mut arguments = vec!["-b", &good, "--set", &group];
        for property in ["security.protocol=sasl_ssl", &mechanism, &user, "sasl.password=secret", &ca] {
            arguments.extend(["-X", property]);
        }
        if may_nothing {
            let check = setup.program(&["check"]).args(&arguments).output().expect("check");
            assert_eq!(check.status.code(), Some(1), "{}", said(&check));
            assert!(said(&check).contains(&lacking), "{}", said(&check));
            let refusal = setup.refusal(instance, &arguments);
            assert!(refusal.contains(&lacking), "{refusal}");
            continue;
        }
        let mut instance = setup.start(instance, &arguments);
        let names =
            super::topics::Names { group: group["kafka.group=".len()..].to_owned(), ..setup.names.clone() };
        Progress::new(&cluster.servers(), &names, 1)
            .await_published(COMMANDS.into(), PATIENCE, || instance.assert_running());
        instance.stop();
    }

    let tls = [("security.protocol", "ssl"), ("ssl.ca.location", ca.as_str())];
    let expect = |said: String, wanted: &[&str]| {
        assert!(wanted.iter().all(|wanted| said.contains(wanted)), "{wanted:?}: {said}");
    };
    let of = |listener: &str| cluster.address(listener);
    let good = of("GOOD");
    let user = [("security.protocol", "sasl_ssl"), ("sasl.mechanism", "PLAIN"), ("sasl.username", "paul")];
    let with = |more: &[(&'static str, &str)]| -> Vec<(String, String)> {
        user.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let login = |more: &[(&'static str, &str)]| {
        let properties = with(more);
        let properties: Vec<_> = properties.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        refused(&setup, &good, &properties)
    };
    let other = keys.path("other.pem");
    expect(
        login(&[("ssl.ca.location", &other), ("sasl.password", "secret")]),
        &["is not signed by a CA that this side trusts", "-X ssl.ca.location=FILE", &other],
    );
    expect(
        login(&[("ssl.ca.location", &ca), ("sasl.password", "wrong")]),
        &["refuses the login", "Check the sasl.* and ssl.* properties"],
    );
    let none = keys.path("none.pem");
    expect(
        login(&[("ssl.ca.location", &none), ("sasl.password", "secret")]),
        &["none.pem' does not exist. Set ssl.ca.location"],
    );
    expect(refused(&setup, &of("EXPIRED"), &tls), &["has expired", "-noout -dates"]);
    expect(refused(&setup, &of("ELSEWHERE"), &tls), &["is for another host", "subjectAltName"]);
    expect(
        refused(&setup, &of("MUTUAL"), &tls),
        &["wants a certificate of this side", "ssl.keystore.location"],
    );
    let keystore = keys.path("good.p12");
    let client = |password: &str| {
        let mutual = [("ssl.keystore.location", keystore.as_str()), ("ssl.keystore.password", password)];
        [&tls[..], &mutual]
            .concat()
            .into_iter()
            .map(|(n, v)| (n.to_owned(), v.to_owned()))
            .collect::<Vec<_>>()
    };
    let wrong = client("wrong");
    let wrong: Vec<_> = wrong.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    expect(refused(&setup, &of("MUTUAL"), &wrong), &["can't be decrypted", "ssl.keystore.password is wrong"]);
    expect(refused(&setup, &of("EXPIRED"), &[]), &["expects TLS", "-X security.protocol=ssl"]);
    expect(
        refused(&setup, &cluster.servers(), &tls),
        &["does not speak TLS", "-X security.protocol=plaintext"],
    );
}
