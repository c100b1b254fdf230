use super::*;

const LOGINS: MetricSpec = MetricSpec {
    name: "t_logins_total",
    kind: Kind::Counter,
    labels: &["source"],
    help: "Logins decided.",
};
const LIVE: MetricSpec = MetricSpec {
    name: "t_live",
    kind: Kind::Gauge,
    labels: &["server_id"],
    help: "Live sessions.",
};
const TIME: MetricSpec = MetricSpec {
    name: "t_seconds",
    kind: Kind::Histogram(&[0.1, 1.0]),
    labels: &[],
    help: "How long it took.",
};

#[test]
fn a_series_is_rendered_with_help_labels_and_value() {
    let registry = Registry::new(&[LOGINS, LIVE, TIME]).unwrap();
    registry.counter(&LOGINS, &["portal".into()]).increment(2);
    registry.gauge(&LIVE, &[LabelValue::server_id("vpn1")]).set(3.0);
    registry.histogram(&TIME, &[]).record(0.5);
    let text = registry.render();
    for line in [
        "# HELP t_logins_total Logins decided.",
        "# TYPE t_logins_total counter",
        "t_logins_total{source=\"portal\"} 2",
        "t_live{server_id=\"vpn1\"} 3",
        "t_seconds_bucket{le=\"0.1\"} 0",
        "t_seconds_bucket{le=\"1\"} 1",
        "t_seconds_count 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is missing in:\n{text}");
    }
}

#[test]
fn a_counter_is_rendered_as_zero_before_it_is_incremented() {
    let registry = Registry::new(&[LOGINS]).unwrap();
    let _series = registry.counter(&LOGINS, &["cache".into()]);
    assert!(registry.render().contains("t_logins_total{source=\"cache\"} 0"));
}

#[test]
fn a_repeated_name_is_an_error() {
    assert!(matches!(
        Registry::new(&[LOGINS, LOGINS]),
        Err(RegistryError::Duplicate("t_logins_total"))
    ));
}
