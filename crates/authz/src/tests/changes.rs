//! Tests of the changes for the copy on disk.

use super::*;
use resilience::Changes;

#[tokio::test(start_paused = true)]
async fn after_a_failed_write_all_records_are_taken_again() {
    let rig = Rig::new(SETTINGS);
    for host in 0..200 {
        rig.decide(&login(&format!("user{host}"), host)).await;
    }
    rig.authorizer.changed().await;
    let taken = |changes: Changes| match changes {
        Changes::Partial { put, .. } => ("partial", put.decisions.len()),
        Changes::Full(records) => ("full", records.decisions.len()),
    };
    assert_eq!(taken(rig.authorizer.take_changes()), ("partial", 200));
    assert!(rig.authorizer.take_changes().is_empty());
    let nothing = tokio::time::timeout(SECOND, rig.authorizer.changed()).await;
    assert!(nothing.is_err(), "nothing changed since");
    rig.authorizer.mark_all_changed();
    assert_eq!(taken(rig.authorizer.take_changes()), ("full", 200));
    sleep(1_800 * SECOND).await;
    while rig.authorizer.sweep() {}
    rig.authorizer.changed().await;
    assert_eq!(rig.authorizer.stats().cache.size, 0);
}
