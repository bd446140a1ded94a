//! Which access rights are missing, and for which commands.

use std::collections::BTreeSet;

use clap::ValueEnum;
use kafka::{
    Settings,
    access::{Access, Allowed, Operation, Resource, Rights},
};

use super::finding::Finding;
use crate::config::{Config, Guarantee};
use Purpose::{Post, Rejections, Run, Tail, Verify};

/// A command that works with the brokers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Purpose {
    Run,
    Tail,
    Post,
    Verify,
    Rejections,
}

const ABOUT: &str = "rights";

/// A right that one or more commands need.
type Need = (Operation, &'static [Purpose]);

const COMMANDS: &[Need] = &[(Operation::Read, &[Run, Verify]), (Operation::Write, &[Post, Rejections])];
const NOTIFICATIONS: &[Need] = &[(Operation::Write, &[Run]), (Operation::Read, &[Tail, Verify])];
const REJECTIONS: &[Need] = &[
    (Operation::Write, &[Run]),
    (Operation::Read, &[Tail, Verify, Rejections]),
    (Operation::DescribeConfigs, &[Verify]),
];
const GROUP: &[Need] = &[(Operation::Read, &[Run]), (Operation::Describe, &[Verify])];

/// One finding for each right that is missing. `topics` are those that exist.
pub(super) fn check(
    config: &Config,
    kafka: &Settings,
    topics: &BTreeSet<&str>,
    wanted: &[Purpose],
) -> Vec<Finding> {
    let rights = match Rights::connect(kafka) {
        Ok(rights) => rights,
        Err(error) => return vec![unknown(&error.to_string())],
    };
    let mut checked = Checked {
        access: Access::of(kafka),
        wanted,
        findings: Vec::new(),
        is_reported: false,
        unreported: Vec::new(),
    };
    let names = &kafka.topics;
    for (topic, needs) in
        [(&names.commands, COMMANDS), (&names.notifications, NOTIFICATIONS), (&names.rejections, REJECTIONS)]
    {
        if topics.contains(topic.as_str()) {
            checked.judge(Resource::Topic(topic), needs, &rights.of_topic(topic));
        }
    }
    for topic in names.replies.names().filter(|topic| topics.contains(topic)) {
        checked.judge_reply_topic(topic, &rights.of_topic(topic));
    }
    checked.judge(Resource::Group(&kafka.group), GROUP, &rights.of_group(&kafka.group));
    if !checked.is_reported {
        checked.unreported.clear();
        checked.findings.push(unknown("the brokers do not report which this user has"));
    }
    for resource in std::mem::take(&mut checked.unreported) {
        checked
            .findings
            .push(unknown(&format!("the brokers do not report what this user may do with {resource}")));
    }
    if config.processor.guarantee == Guarantee::ExactlyOnce {
        let ids = format!("{}-{}-", config.processor.transactional_id_prefix, kafka.group);
        match rights.may_transact(&ids) {
            Ok(true) => {}
            Ok(false) => checked.lacks(Operation::Write, Resource::TransactionalIds(&ids), &[Run]),
            Err(error) => {
                let message = format!("whether 'run' may use transactions is not known: {error}");
                checked.findings.push(Finding::warning(ABOUT, message));
            }
        }
    }
    if checked.findings.is_empty() {
        checked.findings.push(Finding::ok(ABOUT, "this user has all that is needed"));
    }
    checked.findings
}

fn unknown(reason: &str) -> Finding {
    Finding::warning(ABOUT, format!("not checked: {reason}"))
}

struct Checked<'a> {
    access: Access,
    /// A missing right is a problem if one of these needs it.
    wanted: &'a [Purpose],
    findings: Vec<Finding>,
    /// The brokers reported the rights on a resource.
    is_reported: bool,
    /// Resources on which they do not report the rights.
    unreported: Vec<String>,
}

impl Checked<'_> {
    fn judge(&mut self, resource: Resource<'_>, needs: &[Need], allowed: &Allowed) {
        let Some(allowed) = allowed else {
            self.unreported.push(resource.to_string());
            return;
        };
        self.is_reported = true;
        for (operation, commands) in needs {
            if !allowed.contains(operation) {
                self.lacks(*operation, resource, commands);
            }
        }
    }

    /// Without the right to write, `run` leaves replies out; without the right to read, nobody gets them.
    fn judge_reply_topic(&mut self, topic: &str, allowed: &Allowed) {
        let Some(allowed) = allowed else { return };
        let resource = Resource::Topic(topic);
        if !allowed.contains(&Operation::Write) {
            self.lacks_for("replies, which 'run' leaves out", Operation::Write, resource, &[]);
        }
        if !allowed.contains(&Operation::Read) {
            self.lacks_for("post --wait", Operation::Read, resource, &[Post]);
        }
    }

    fn lacks(&mut self, operation: Operation, resource: Resource<'_>, commands: &[Purpose]) {
        let names = commands.iter().filter_map(ValueEnum::to_possible_value);
        let names: Vec<_> = names.map(|name| name.get_name().to_owned()).collect();
        self.lacks_for(&names.join(", "), operation, resource, commands);
    }

    /// A problem if one of the commands is wanted.
    fn lacks_for(&mut self, what: &str, operation: Operation, resource: Resource<'_>, commands: &[Purpose]) {
        let is_wanted = commands.iter().any(|command| self.wanted.contains(command));
        let finding = if is_wanted { Finding::problem } else { Finding::warning };
        self.findings.push(finding(ABOUT, format!("for {what}: {}", self.access.lacks(operation, resource))));
    }
}
