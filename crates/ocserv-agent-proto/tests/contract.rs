//! The committed descriptors equal the wire contract in `contract.txt`, in both directions.
#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

use std::collections::BTreeSet;

use ocserv_agent_proto::FILE_DESCRIPTOR_SET;
use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto};
use prost_types::{FileDescriptorSet, ServiceDescriptorProto};

const CONTRACT: &str = include_str!("contract.txt");

/// Every fact of the table with its file.
fn table(text: &str) -> BTreeSet<String> {
    let mut facts = BTreeSet::new();
    let mut file = "no file";
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(rest) = line.strip_prefix("file ") {
            file = rest.split(' ').next().unwrap();
        }
        assert!(
            facts.insert(format!("{file}: {line}")),
            "repeated in contract.txt: {line}"
        );
    }
    facts
}

/// The same facts from descriptors, without imported well-known types.
fn described(set: &FileDescriptorSet) -> BTreeSet<String> {
    let mut facts = BTreeSet::new();
    for file in set
        .file
        .iter()
        .filter(|file| !file.package().starts_with("google."))
    {
        let mut lines = vec![format!(
            "file {} {} {}",
            file.name(),
            file.package(),
            file.syntax()
        )];
        for service in &file.service {
            describe_service(service, file, &mut lines);
        }
        for item in &file.enum_type {
            describe_enum(item, "", &mut lines);
        }
        for message in &file.message_type {
            describe_message(message, "", file, &mut lines);
        }
        facts.extend(lines.into_iter().map(|line| format!("{}: {line}", file.name())));
    }
    facts
}

fn describe_service(service: &ServiceDescriptorProto, file: &FileDescriptorProto, lines: &mut Vec<String>) {
    for rpc in &service.method {
        let side = |streams: bool, name: &str| {
            format!(
                "{}{}",
                if streams { "stream " } else { "" },
                short(name, file.package())
            )
        };
        let request = side(rpc.client_streaming(), rpc.input_type());
        let response = side(rpc.server_streaming(), rpc.output_type());
        lines.push(format!(
            "rpc {} {} {request} -> {response}",
            service.name(),
            rpc.name()
        ));
    }
}

fn describe_enum(item: &EnumDescriptorProto, outer: &str, lines: &mut Vec<String>) {
    for value in &item.value {
        lines.push(format!(
            "enum {outer}{} {} {}",
            item.name(),
            value.number(),
            value.name()
        ));
    }
}

fn describe_message(
    message: &DescriptorProto,
    outer: &str,
    file: &FileDescriptorProto,
    lines: &mut Vec<String>,
) {
    let name = format!("{outer}{}", message.name());
    lines.push(format!("message {name}"));
    for field in &message.field {
        let kind = kind(field, message, file.package());
        let oneof = match field.oneof_index {
            Some(index) if !field.proto3_optional() => {
                format!(
                    " oneof {}",
                    message.oneof_decl[usize::try_from(index).unwrap()].name()
                )
            }
            _ => String::new(),
        };
        lines.push(format!(
            "field {name} {} {} {kind}{oneof}",
            field.number(),
            field.name()
        ));
    }
    for item in &message.enum_type {
        describe_enum(item, &format!("{name}."), lines);
    }
    for nested in message.nested_type.iter().filter(|nested| !is_map_entry(nested)) {
        describe_message(nested, &format!("{name}."), file, lines);
    }
}

fn is_map_entry(message: &DescriptorProto) -> bool {
    message
        .options
        .as_ref()
        .is_some_and(prost_types::MessageOptions::map_entry)
}

/// The field's type in the format of the table: `repeated string`, `map<string,string>`,
/// `google.protobuf.Timestamp`.
fn kind(field: &FieldDescriptorProto, message: &DescriptorProto, package: &str) -> String {
    let repeated = field.label() == Label::Repeated;
    if repeated && field.r#type() == Type::Message {
        let entry = field.type_name().rsplit('.').next().unwrap();
        let map = message
            .nested_type
            .iter()
            .find(|nested| is_map_entry(nested) && nested.name() == entry);
        if let Some(map) = map {
            let side = |index: usize| kind(&map.field[index], map, package);
            return format!("map<{},{}>", side(0), side(1));
        }
    }
    let base = match field.r#type() {
        Type::Message | Type::Enum => short(field.type_name(), package).to_owned(),
        scalar => scalar.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    };
    let label = match (repeated, field.proto3_optional()) {
        (true, _) => "repeated ",
        (false, true) => "optional ",
        (false, false) => "",
    };
    format!("{label}{base}")
}

/// A type's name without its own package.
fn short<'a>(name: &'a str, package: &str) -> &'a str {
    let name = name.strip_prefix('.').unwrap_or(name);
    name.strip_prefix(package)
        .and_then(|rest| rest.strip_prefix('.'))
        .unwrap_or(name)
}

fn descriptors() -> FileDescriptorSet {
    FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap()
}

/// Facts of the table that the descriptors lack, and the reverse.
fn differences(set: &FileDescriptorSet) -> (Vec<String>, Vec<String>) {
    let (contract, described) = (table(CONTRACT), described(set));
    let missing = contract.difference(&described).cloned().collect();
    let added = described.difference(&contract).cloned().collect();
    (missing, added)
}

#[test]
fn descriptors_equal_the_contract() {
    let (missing, added) = differences(&descriptors());
    assert!(
        missing.is_empty(),
        "changed or removed, which breaks deployed programs; restore:\n{}",
        missing.join("\n")
    );
    assert!(
        added.is_empty(),
        "not in the contract; if these are additions, add them to crates/ocserv-agent-proto/tests/contract.txt:\n{}",
        added.join("\n")
    );
}

#[test]
fn every_kind_of_change_is_detected() {
    type Change = fn(&mut FileDescriptorSet);
    fn auth(set: &mut FileDescriptorSet) -> &mut FileDescriptorProto {
        set.file
            .iter_mut()
            .find(|file| file.name() == "vpn/v1/auth.proto")
            .unwrap()
    }
    let changes: [(&str, Change); 10] = [
        ("field renamed", |set| {
            auth(set).message_type[0].field[0].name = Some("user".to_owned());
        }),
        ("field renumbered", |set| {
            auth(set).message_type[0].field[0].number = Some(70);
        }),
        ("field retyped", |set| {
            auth(set).message_type[0].field[0].set_type(Type::Bytes);
        }),
        ("field repeated", |set| {
            auth(set).message_type[0].field[0].set_label(Label::Repeated);
        }),
        ("presence changed", |set| {
            auth(set).message_type[0].field[0].proto3_optional = Some(true);
        }),
        ("field gone", |set| drop(auth(set).message_type[0].field.pop())),
        ("message added", |set| {
            auth(set).message_type.push(DescriptorProto::default());
        }),
        ("rpc became a stream", |set| {
            auth(set).service[0].method[0].server_streaming = Some(true);
        }),
        ("package moved", |set| {
            auth(set).package = Some("vpn.v2".to_owned());
        }),
        ("file gone", |set| {
            set.file.retain(|file| file.name() != "vpn/v1/auth.proto");
        }),
    ];
    for (change_name, change) in changes {
        let mut set = descriptors();
        change(&mut set);
        let (missing, added) = differences(&set);
        assert!(
            !missing.is_empty() || !added.is_empty(),
            "not detected: {change_name}"
        );
    }
}

#[test]
fn enum_values_and_oneofs_are_part_of_the_contract() {
    let mut set = descriptors();
    let agent = set
        .file
        .iter_mut()
        .find(|file| file.name() == "agent/v1/agent.proto")
        .unwrap();
    agent.enum_type[0].value[1].number = Some(9);
    let message = agent
        .message_type
        .iter_mut()
        .find(|message| message.name() == "AgentMessage")
        .unwrap();
    let heartbeat = message
        .field
        .iter_mut()
        .find(|field| field.name() == "heartbeat")
        .unwrap();
    heartbeat.oneof_index = None;
    let (missing, added) = differences(&set);
    assert_eq!((missing.len(), added.len()), (2, 2), "{missing:?} {added:?}");
}
