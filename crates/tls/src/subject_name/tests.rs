use super::*;

#[test]
fn text_is_a_name_of_the_type_before_it_or_a_dns_name() {
    for (text, name) in [
        (
            "portal.example.com",
            SubjectName::Dns("portal.example.com".to_owned()),
        ),
        (
            "dns:Portal.Example.com",
            SubjectName::Dns("portal.example.com".to_owned()),
        ),
        ("operator", SubjectName::Dns("operator".to_owned())),
        (
            "uri:spiffe://corp/Portal",
            SubjectName::Uri("spiffe://corp/Portal".to_owned()),
        ),
        ("ip:10.9.8.7", SubjectName::Ip([10, 9, 8, 7].into())),
        ("ip:2001:DB8::1", SubjectName::Ip("2001:db8::1".parse().unwrap())),
        (
            "email:Ops@example.com",
            SubjectName::Email("Ops@example.com".to_owned()),
        ),
    ] {
        assert_eq!(text.parse(), Ok(name.clone()), "{text}");
        assert_eq!(name.to_string().parse(), Ok(name), "{text}");
    }
}

#[test]
fn text_that_no_name_of_its_type_can_have_is_refused() {
    use SubjectNameError::{BareAddress, NotDns, NotEmail, NotIp, NotUri};
    for (text, error) in [
        ("10.9.8.7", BareAddress),
        ("2001:db8::1", BareAddress),
        ("", NotDns),
        ("dns:", NotDns),
        ("dns:10.9.8.7", NotDns),
        ("*.example.com", NotDns),
        ("spiffe://corp/portal", NotDns),
        ("ops@example.com", NotDns),
        ("DNS:portal.example.com", NotDns),
        ("CN=portal, O=x", NotDns),
        ("uri:", NotUri),
        ("uri:portal.example.com", NotUri),
        ("uri:spiffe://a b", NotUri),
        ("ip:portal", NotIp),
        ("email:ops", NotEmail),
        ("email:a b@example.com", NotEmail),
    ] {
        assert_eq!(text.parse::<SubjectName>(), Err(error), "{text}");
    }
}

#[test]
fn names_of_a_certificate_that_could_imitate_others_are_skipped() {
    for name in [
        GeneralName::DNSName("uri:spiffe://corp/portal"),
        GeneralName::DNSName("a\nb"),
        GeneralName::DNSName(""),
        GeneralName::URI("x:\u{7}"),
        GeneralName::URI(""),
        GeneralName::RFC822Name("a b@c"),
        GeneralName::IPAddress(&[10, 9, 8]),
        GeneralName::RegisteredID(x509_parser::oid_registry::OID_X509_COMMON_NAME),
    ] {
        assert_eq!(SubjectName::of(&name), None, "{name:?}");
    }
    let email = GeneralName::RFC822Name("Ops@example.com");
    assert_eq!(
        SubjectName::of(&email),
        Some(SubjectName::Email("Ops@example.com".to_owned()))
    );
    let address = GeneralName::IPAddress(&[10, 9, 8, 7]);
    assert_eq!(
        SubjectName::of(&address),
        Some(SubjectName::Ip([10, 9, 8, 7].into()))
    );
    let dns = GeneralName::DNSName("*.Example_1.com-");
    assert_eq!(
        SubjectName::of(&dns),
        Some(SubjectName::Dns("*.example_1.com-".to_owned()))
    );
}
