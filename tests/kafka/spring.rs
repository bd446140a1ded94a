//! Spring's own request and reply, `ReplyingKafkaTemplate`, asks for verdicts.

use std::fs;

use serde_json::Value;

use super::{broker, distribution, fetched, languages::bounded, process::Setup, say, topics};

const SPRING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kafka/spring");

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn springs_template_gets_its_replies() {
    let pom = format!("{SPRING}/pom.xml");
    let jars = fetched::folder("spring", &fs::read(&pom).expect("the pom"), |folder| {
        say!("fetching Spring for Apache Kafka from Maven Central (once)");
        distribution::fetch(&pom, folder, "Spring for Apache Kafka")
    });
    let jars = jars.unwrap_or_else(|problem| panic!("{problem}"));
    let setup = Setup::new("spring", &broker::shared(), 1);
    let replies = format!("{}.replies", setup.names.group);
    topics::create(&setup.servers, &replies, 2, &[]);
    topics::await_known(&setup.servers, &replies, 2);
    let instance = setup.start("only", &["--set", &format!("topics.replies={replies}")]);

    let java = distribution::java_with(128, &jars);
    let mut ask = bounded(java.get_program());
    ask.args(java.get_args()).arg(format!("{SPRING}/Ask.java"));
    ask.args([&setup.servers, &setup.names.commands, &replies]);
    let output = ask.output().expect("java runs");
    let said = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    instance.stop();

    let lines: Vec<Vec<&str>> = said.lines().map(|line| line.splitn(3, ' ').collect()).collect();
    let wanted = ["-1", "-1", "0", "0", "1", "1"];
    assert_eq!(lines.len(), wanted.len(), "{said}");
    for (number, (line, wanted)) in lines.iter().zip(wanted).enumerate() {
        let [asked, came, value] = line[..] else { panic!("{said}") };
        assert!(asked == wanted && (asked == "-1" || asked == came), "{said}");
        let reply: Value = serde_json::from_str(value).expect("JSON");
        if number % 2 == 0 {
            assert!(reply["status"] == "accepted" && reply["id"].is_string(), "{said}");
        } else {
            assert!(reply["status"] == "rejected" && reply["problems"][0]["code"] == "empty", "{said}");
        }
    }
    say!("spring: {} replies", lines.len());
}
