//! Finding the socket where the rest is broken.

use super::*;

fn found(text: &str, environment: &[(&str, &str)]) -> Result<PathBuf, String> {
    let dir = ConfigDir::new();
    let path = dir.write(text);
    let environment = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    ipc_socket(&path, environment).map_err(|err| err.to_string().replace(dir.path().to_str().unwrap(), "DIR"))
}

#[test]
fn the_socket_is_found_in_a_config_that_is_wrong_everywhere_else() {
    for text in [
        "[ipc]\nsocket = \"/s\"\ncolour = 1\n[portal]\naddress = 7\n",
        "ipc = { socket = \"/s\" }",
        "[portal\naddress =\n[ipc]\nsocket = \"/s\"\n[ipc]\ndeadline = \n",
    ] {
        assert_eq!(found(text, &[]), Ok("/s".into()), "{text}");
    }
    assert_eq!(found(MINIMAL, &[]), Ok(Ipc::default().socket));
    let variable = [("OCSERV_AGENT__IPC__SOCKET", "/e")];
    assert_eq!(found("[ipc]\nsocket = \"/s\"", &variable), Ok("/e".into()));
}

#[test]
fn a_socket_that_cannot_be_told_is_named_and_not_guessed() {
    insta::assert_snapshot!(
        found("agent_id = \"a\"\n[ipc]\nsocket = 7", &[]).unwrap_err(),
        @"DIR/config.toml:3: ipc.socket: expected a path"
    );
    let missing = PathBuf::from("/nonexistent/config.toml");
    assert!(
        ipc_socket(&missing, [])
            .unwrap_err()
            .to_string()
            .contains("cannot be read")
    );
    let variable = ("OCSERV_AGENT__IPC__SOCKET".to_owned(), "/e".to_owned());
    assert_eq!(ipc_socket(&missing, [variable]), Ok("/e".into()));
}
