use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use super::*;

fn socket_path() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run/ipc.sock");
    (dir, path)
}

#[test]
fn the_socket_has_its_mode_and_a_directory_that_only_its_owner_can_write() {
    for mode in [0o600, 0o660, 0o666] {
        let (_dir, path) = socket_path();
        let _listener = IpcListener::bind(&path, mode).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, mode);
        assert_eq!(path.parent().unwrap().metadata().unwrap().mode() & 0o022, 0);
        UnixStream::connect(&path).unwrap();
        let names: Vec<_> = path
            .parent()
            .unwrap()
            .read_dir()
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(names.len(), 2, "the socket and its lock, nothing else: {names:?}");
    }
}

#[test]
fn a_stale_socket_is_replaced() {
    let (_dir, path) = socket_path();
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    drop(UnixListener::bind(&path).unwrap());
    assert!(UnixStream::connect(&path).is_err());
    let _listener = IpcListener::bind(&path, 0o600).unwrap();
    UnixStream::connect(&path).unwrap();
}

#[test]
fn a_socket_that_another_process_listens_on_is_not_replaced() {
    let (_dir, path) = socket_path();
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    let inode = path.metadata().unwrap().ino();
    let err = IpcListener::bind(&path, 0o600).unwrap_err();
    assert!(err.to_string().starts_with("another agent is running"), "{err}");
    assert_eq!(path.metadata().unwrap().ino(), inode);
    drop(other);
}

#[test]
fn a_second_agent_does_not_bind_while_the_first_holds_the_lock() {
    let (_dir, path) = socket_path();
    let first = IpcListener::bind(&path, 0o600).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(
        matches!(IpcListener::bind(&path, 0o600), Err(BindError::Running(_))),
        "even without the socket's file"
    );
    drop(first);
    IpcListener::bind(&path, 0o600).unwrap();
}

#[test]
fn a_file_that_is_not_a_socket_is_not_replaced() {
    let (_dir, path) = socket_path();
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    File::create(&path).unwrap();
    assert!(matches!(
        IpcListener::bind(&path, 0o600),
        Err(BindError::NotASocket(_))
    ));
    assert!(path.is_file());
}

#[test]
fn a_directory_that_other_users_can_write_is_rejected() {
    for mode in [0o777, 0o1777, 0o775] {
        let (_dir, path) = socket_path();
        let directory = path.parent().unwrap();
        std::fs::create_dir(directory).unwrap();
        std::fs::set_permissions(directory, PermissionsExt::from_mode(mode)).unwrap();
        assert!(
            matches!(
                IpcListener::bind(&path, 0o600),
                Err(BindError::UnsafeDirectory { .. })
            ),
            "{mode:o}"
        );
    }
}

#[test]
fn only_the_listeners_own_socket_is_unlinked() {
    let (_dir, path) = socket_path();
    let listener = IpcListener::bind(&path, 0o600).unwrap();
    std::fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    listener.unlink();
    assert!(path.exists(), "another process has replaced it");
    drop(other);

    let (_dir, path) = socket_path();
    let listener = IpcListener::bind(&path, 0o600).unwrap();
    listener.unlink();
    assert!(!path.exists());
}
